//! The binary tree that a GeoIP file begins with: one node for each bit of an address, as far as addresses differ.
//!
//! In the file, a node has two records, for the next bit 0 and 1: the number of another node; or the number of all nodes,
//! where nothing is known; or a larger one, which says where the data is. IPv4 is at `::/96` of a tree of IPv6.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A record that is no node. The other bits say where it ends; none of them: nothing is known.
const END: u32 = 1 << 31;

/// A node that was not come to; no node or end has this number.
const UNSEEN: u32 = u32::MAX;

/// The nodes of one file.
pub(super) struct Tree {
    nodes: Vec<[u32; 2]>,
    root: u32,
    /// Where the addresses of IPv4 begin.
    ipv4: u32,
    /// The length of the addresses that it begins with.
    address_bits: u32,
}

/// Addresses that begin like this are longer than addresses are: nodes lead to nodes.
#[derive(Debug)]
pub(super) struct TooDeep(pub IpAddr);

impl Tree {
    /// The first `count` nodes of a file, which must be there; of 24, 28 or 32 bits in each record.
    pub(super) fn new(file: &[u8], count: usize, record_bits: usize, is_ipv6: bool) -> Self {
        let size = record_bits / 4;
        let record = |number: u32| number.checked_sub(count as u32).map_or(number, |place| END | place);
        let nodes = file[..count * size].chunks_exact(size).map(|node| records(node, record_bits).map(record));
        let address_bits = if is_ipv6 { 128 } else { 32 };
        let mut tree = Self { nodes: nodes.collect(), root: record(0), ipv4: record(0), address_bits };
        if is_ipv6 {
            tree.ipv4 = tree.walk(tree.root, 0, 96);
        }
        tree
    }

    /// Where an address ends, 0 where nothing is known; none if the tree has no addresses of its family.
    pub(super) fn end(&self, ip: IpAddr) -> Option<u32> {
        let record = match ip {
            IpAddr::V4(ip) => self.walk(self.ipv4, u128::from(ip.to_bits()) << 96, 32),
            IpAddr::V6(ip) if self.address_bits == 128 => self.walk(self.root, ip.to_bits(), 128),
            IpAddr::V6(_) => return None,
        };
        Some(if record & END == 0 { 0 } else { record ^ END })
    }

    /// Visits each end once, with an address that leads there, and gives the tree in which it is the number that was said
    /// of it, above 0. Of nodes whose addresses all end alike nothing is left.
    pub(super) fn renumbered<E: From<TooDeep>>(&self, visit: impl FnMut(IpAddr) -> Result<u32, E>) -> Result<Self, E> {
        let known = HashMap::from([(END, END)]);
        let mut way = Way { old: self, done: vec![UNSEEN; self.nodes.len()], nodes: Vec::new(), known, visit };
        let root = way.record(self.root, 0, 0)?;
        // It was reached, by the way of all zeros.
        let ipv4 = if self.ipv4 & END == 0 { way.done[self.ipv4 as usize] } else { way.known[&self.ipv4] };
        way.nodes.shrink_to_fit();
        Ok(Self { nodes: way.nodes, root, ipv4, address_bits: self.address_bits })
    }

    /// Follows the first `length` bits, from the left, as long as they lead to nodes.
    fn walk(&self, mut at: u32, mut bits: u128, length: u32) -> u32 {
        for _ in 0..length {
            let Some(records) = self.nodes.get(at as usize) else { break };
            at = records[(bits >> 127) as usize];
            bits <<= 1;
        }
        at
    }

    /// With the IPv4 addresses of a tree of IPv6 as what they are.
    fn address(&self, bits: u128) -> IpAddr {
        match self.address_bits {
            32 => IpAddr::V4(Ipv4Addr::from_bits((bits >> 96) as u32)),
            _ if bits >> 32 == 0 => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
            _ => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        }
    }
}

/// From one tree to the next.
struct Way<'a, V> {
    old: &'a Tree,
    /// What became of its nodes.
    done: Vec<u32>,
    /// What became of its ends.
    known: HashMap<u32, u32>,
    nodes: Vec<[u32; 2]>,
    visit: V,
}

impl<E: From<TooDeep>, V: FnMut(IpAddr) -> Result<u32, E>> Way<'_, V> {
    /// What becomes of a record to which the first `depth` bits lead.
    fn record(&mut self, old: u32, prefix: u128, depth: u32) -> Result<u32, E> {
        let address = || self.old.address(prefix);
        if old & END != 0 {
            if let Some(known) = self.known.get(&old) {
                return Ok(*known);
            }
            let end = END | (self.visit)(address())?;
            self.known.insert(old, end);
            return Ok(end);
        }
        if depth == self.old.address_bits {
            return Err(TooDeep(address()).into());
        }
        if self.done[old as usize] != UNSEEN {
            return Ok(self.done[old as usize]);
        }
        // Until it is known, so that a tree that leads back into itself ends there.
        self.done[old as usize] = END;
        let [zero, one] = self.old.nodes[old as usize];
        let zero = self.record(zero, prefix, depth + 1)?;
        let one = self.record(one, prefix | 1 << (127 - depth), depth + 1)?;
        let new = if zero == one && zero & END != 0 {
            zero
        } else {
            self.nodes.push([zero, one]);
            self.nodes.len() as u32 - 1
        };
        self.done[old as usize] = new;
        Ok(new)
    }
}

fn records(node: &[u8], record_bits: usize) -> [u32; 2] {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
    let (left, right) = node.split_at(record_bits / 8);
    match record_bits {
        // The byte in the middle has the highest four bits of both.
        28 => [u32::from(right[0] >> 4) << 24 | number(left), u32::from(right[0] & 15) << 24 | number(&right[1..])],
        _ => [number(left), number(right)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_each_size_are_read_whole() {
        assert_eq!(records(&[1, 2, 3, 4, 5, 6], 24), [0x01_0203, 0x04_0506]);
        assert_eq!(records(&[1, 2, 3, 0xab, 4, 5, 6], 28), [0x0a01_0203, 0x0b04_0506]);
        assert_eq!(records(&[1, 2, 3, 4, 0xf5, 6, 7, 8], 32), [0x0102_0304, 0xf506_0708]);
    }

    #[test]
    fn each_end_is_visited_once_and_nodes_that_end_alike_are_merged() {
        // 0.0.0.0/2 and 64.0.0.0/3 end at one place, 96.0.0.0/3 at another, and nothing is known of 128.0.0.0/1.
        let tree = tree(&[[1, 3], [30, 2], [30, 40]]);
        let mut visited = Vec::new();
        let apart = renumbered(&tree, |ip| {
            visited.push(ip.to_string());
            visited.len() as u32
        });
        assert_eq!(visited, ["0.0.0.0", "96.0.0.0"]);
        assert_eq!((apart.nodes.len(), ends(&apart)), (3, vec![1, 1, 2, 0, 0]));
        let alike = renumbered(&tree, |_| 7);
        assert_eq!((alike.nodes.len(), ends(&alike)), (1, vec![7, 7, 7, 0, 0]));
        let whole = renumbered(&self::tree(&[[20, 20]]), |_| 7);
        assert_eq!((whole.nodes.len(), ends(&whole)), (0, vec![7; 5]));
        let empty = renumbered(&self::tree(&[]), |_| 7);
        assert_eq!(ends(&empty), [0; 5]);
    }

    #[test]
    fn a_tree_that_leads_back_into_itself_ends_there() {
        let ring = tree(&[[1, 2], [0, 20]]);
        assert_eq!(ends(&ring), [0, 18, 18, 0, 0]);
        assert_eq!(ends(&renumbered(&ring, |_| 7)), [0, 7, 7, 0, 0]);
    }

    #[test]
    fn a_tree_that_is_deeper_than_addresses_are_long_is_refused() {
        let deep: Vec<[u32; 2]> = (0..33).map(|node| [node + 1, 33]).collect();
        let TooDeep(ip) = tree(&deep).renumbered::<TooDeep>(|_| Ok(1)).err().expect("it is refused");
        assert_eq!(ip.to_string(), "0.0.0.0");
        tree(&deep[..32]).renumbered::<TooDeep>(|_| Ok(1)).expect("each bit has a node");
    }

    /// A tree of IPv4 with these records.
    fn tree(nodes: &[[u32; 2]]) -> Tree {
        let file: Vec<u8> = nodes.iter().flatten().flat_map(|record| record.to_be_bytes()).collect();
        Tree::new(&file, nodes.len(), 32, false)
    }

    fn renumbered(tree: &Tree, mut number: impl FnMut(IpAddr) -> u32) -> Tree {
        tree.renumbered::<TooDeep>(|ip| Ok(number(ip))).expect("it is not too deep")
    }

    fn ends(tree: &Tree) -> Vec<u32> {
        let ips = ["0.0.0.0", "64.0.0.0", "96.0.0.0", "128.0.0.0", "255.255.255.255"];
        ips.iter().map(|ip| tree.end(ip.parse().unwrap()).expect("IPv4")).collect()
    }
}
