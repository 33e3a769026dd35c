"""The search tree of a MaxMind DB file: read from a file or made of ranges, its neighbours merged, written to a file.

A tree is an array of nodes, each with a record for the address's next bit 0 and one for 1. A record is the number of
another node; EMPTY, where nothing is known; or LEAF less the number of what is known.
"""

import mmap
import pathlib
import time

import maxminddb
import numpy as np
from maxminddb.decoder import Decoder
from mmdb_writer import METADATA_MAGIC, Encoder

EMPTY = -1
LEAF = -2
# Between the nodes and the data.
SEPARATOR = bytes(16)


def read(path, simplify, known):
    """The tree of a file. A leaf is the number that `known` has, or gets, for what `simplify` makes of its record."""
    with maxminddb.open_database(path) as reader:
        meta = reader.metadata()
    count, width = meta.node_count, meta.record_size // 4
    raw = np.memmap(path, np.uint8, "r")[: count * width].reshape(count, width).astype(np.int32)
    high = {24: (0, 0), 28: (raw[:, 3] >> 4, raw[:, 3] & 15), 32: (raw[:, 0], raw[:, 4])}[meta.record_size]
    first = {24: (0, 3), 28: (0, 4), 32: (1, 5)}[meta.record_size]
    sides = [high[i] << 24 | raw[:, at] << 16 | raw[:, at + 1] << 8 | raw[:, at + 2] for i, at in enumerate(first)]
    tree = np.stack(sides, axis=1)
    is_leaf = tree > count
    offsets, which = np.unique(tree[is_leaf], return_inverse=True)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = count * width
        decoder = Decoder(data, start + len(SEPARATOR))
        records = (decoder.decode(start + int(offset) - count)[0] for offset in offsets)
        leaves = np.array([LEAF - known.setdefault(simplify(record), len(known)) for record in records], np.int32)
    tree[tree == count] = EMPTY
    tree[is_leaf] = leaves[which]
    return tree


def of_ranges(ranges, bits):
    """The tree of (first address, last address, leaf), as numbers; of ranges in one another the later one counts."""
    sides = [EMPTY], [EMPTY]
    for first, last, leaf in ranges:
        while first <= last:
            # The largest network that begins here and does not go beyond the end.
            size = min((first & -first).bit_length() - 1 if first else bits, (last - first + 1).bit_length() - 1)
            node = 0
            for bit in range(bits - 1, size, -1):
                side = sides[first >> bit & 1]
                if side[node] < 0:
                    # What was known of the whole is known of both halves.
                    sides[0].append(side[node])
                    sides[1].append(side[node])
                    side[node] = len(sides[0]) - 1
                node = side[node]
            sides[first >> size & 1][node] = leaf
            first += 1 << size
    return np.stack([np.array(side, np.int32) for side in sides], axis=1)


def merged(tree):
    """The same tree without nodes that know the same of both sides."""
    tree = tree.copy()
    parents = np.full(len(tree), -1, np.int32)
    sides = np.zeros(len(tree), np.int8)
    for side in (0, 1):
        inner = np.flatnonzero(tree[:, side] >= 0)
        parents[tree[inner, side]] = inner
        sides[tree[inner, side]] = side
    gone = np.zeros(len(tree), bool)
    found = np.arange(1, len(tree), dtype=np.int32)
    while len(found := found[(tree[found, 0] == tree[found, 1]) & (tree[found, 0] < 0)]):
        gone[found] = True
        above = parents[found]
        tree[above, sides[found]] = tree[found, 0]
        found = np.unique(above[above > 0])
    numbers = np.cumsum(~gone, dtype=np.int32) - 1
    tree = tree[~gone]
    return np.where(tree >= 0, numbers[np.maximum(tree, 0)], tree)


def joined(ipv6, ipv4):
    """The IPv6 tree with the IPv4 tree at ::/96, where readers look for it."""
    node, depth = 0, 1
    while ipv6[node, 0] >= 0:
        node, depth = ipv6[node, 0], depth + 1
    if ipv6[node, 0] != EMPTY or depth > 96:
        raise ValueError("the IPv6 tree has something of its own where IPv4 belongs")
    way = np.full((96 - depth, 2), EMPTY, np.int32)
    way[:, 0] = np.arange(len(ipv6) + 1, len(ipv6) + 1 + len(way))
    whole = np.concatenate([ipv6, way, np.where(ipv4 >= 0, ipv4 + len(ipv6) + len(way), ipv4)])
    whole[node, 0] = len(ipv6)
    return whole


def write(path, tree, records, kind, description):
    """Writes a database of the type `kind`, IPv6 with IPv4 in it; leaf LEAF - i is records[i]. Gives its size."""
    encoder = Encoder()
    offsets = np.array([encoder.encode(record, return_offset=True) for record in records], np.int64)
    data = b"".join(encoder.data_list)
    count = len(tree)
    record_size = next(size for size in (24, 28, 32) if count + len(SEPARATOR) + len(data) < 1 << size)
    values = np.where(tree >= 0, tree, count)
    is_leaf = tree <= LEAF
    values[is_leaf] = count + len(SEPARATOR) + offsets[LEAF - tree[is_leaf]]
    left, right = values[:, 0].astype(">u4"), values[:, 1].astype(">u4")
    left, right = left.view(np.uint8).reshape(count, 4), right.view(np.uint8).reshape(count, 4)
    if record_size == 28:
        nodes = np.hstack([left[:, 1:], left[:, :1] << 4 | right[:, :1], right[:, 1:]])
    else:
        skip = 4 - record_size // 8
        nodes = np.hstack([left[:, skip:], right[:, skip:]])
    meta = {
        "node_count": count,
        "record_size": record_size,
        "ip_version": 6,
        "database_type": kind,
        "languages": ["en"],
        "binary_format_major_version": 2,
        "binary_format_minor_version": 0,
        "description": {"en": description},
        "build_epoch": int(time.time()),
    }
    fresh = pathlib.Path(path).with_suffix(".new")
    fresh.write_bytes(nodes.tobytes() + SEPARATOR + data + METADATA_MAGIC + Encoder(cache=False).encode_meta(meta))
    fresh.replace(path)
    return pathlib.Path(path).stat().st_size
