//! The binary tree that a GeoIP file begins with: one node for each bit of an address, as far as addresses differ.
//!
//! A node has two records, for the next bit 0 and 1. A record is the number of another node; or the number of all nodes,
//! where nothing is known; or a larger one, which says where the data is. IPv4 is at `::/96` of a tree of IPv6.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The nodes of one file, with both of their records: each takes its 32 bits, so that a step costs a few nanoseconds.
pub(super) struct Tree {
    nodes: Vec<[u32; 2]>,
    /// The length of the addresses that it begins with.
    address_bits: u32,
    /// Where the addresses of IPv4 begin.
    ipv4: u32,
}

/// Addresses that begin like this are longer than addresses are: nodes lead to nodes.
#[derive(Debug)]
pub(super) struct TooDeep(pub IpAddr);

impl Tree {
    /// The first `count` nodes of a file, which must be there; of 24, 28 or 32 bits in each record.
    pub(super) fn new(file: &[u8], count: usize, record_bits: usize, is_ipv6: bool) -> Self {
        let size = record_bits / 4;
        let nodes = file[..count * size].chunks_exact(size).map(|node| records(node, record_bits)).collect();
        let mut tree = Self { nodes, address_bits: if is_ipv6 { 128 } else { 32 }, ipv4: 0 };
        if is_ipv6 {
            tree.ipv4 = tree.walk(0, 0, 96);
        }
        tree
    }

    /// The record that an address ends at; none if the tree has no addresses of its family.
    pub(super) fn end(&self, ip: IpAddr) -> Option<u32> {
        match ip {
            IpAddr::V4(ip) => Some(self.walk(self.ipv4, u128::from(ip.to_bits()) << 96, 32)),
            IpAddr::V6(ip) => (self.address_bits == 128).then(|| self.walk(0, ip.to_bits(), 128)),
        }
    }

    /// Visits each record that has data once, with an address that ends at it.
    pub(super) fn visit<E: From<TooDeep>>(&self, mut visit: impl FnMut(u32, IpAddr) -> Result<(), E>) -> Result<(), E> {
        let mut seen = vec![false; self.nodes.len()];
        let mut ends = HashSet::new();
        let mut left = vec![(0, 0_u128, 1)];
        while let Some((node, prefix, depth)) = left.pop() {
            let Some(records) = self.node(node) else { continue };
            if std::mem::replace(&mut seen[node as usize], true) {
                continue;
            }
            // The left one is on top: other places of a tree may lead to that of IPv4, which is on its far left.
            for side in [1, 0] {
                let prefix = prefix | (side as u128) << (128 - depth);
                let next = records[side];
                if self.node(next).is_none() {
                    if next as usize > self.nodes.len() && ends.insert(next) {
                        visit(next, self.address(prefix))?;
                    }
                } else if depth == self.address_bits {
                    return Err(TooDeep(self.address(prefix)).into());
                } else {
                    left.push((next, prefix, depth + 1));
                }
            }
        }
        Ok(())
    }

    /// Follows the first `length` bits, from the left, as long as they lead to nodes.
    fn walk(&self, mut at: u32, mut bits: u128, length: u32) -> u32 {
        for _ in 0..length {
            let Some(records) = self.node(at) else { break };
            at = records[(bits >> 127) as usize];
            bits <<= 1;
        }
        at
    }

    fn node(&self, number: u32) -> Option<&[u32; 2]> {
        self.nodes.get(number as usize)
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
    fn a_tree_that_leads_back_into_itself_is_refused() {
        // Two nodes that lead to each other, by records of 32 bits.
        let file = [[0_u8, 0, 0, 1, 0, 0, 0, 2], [0, 0, 0, 0, 0, 0, 0, 2]].concat();
        let visit = |tree: Tree| tree.visit::<TooDeep>(|_, _| Ok(()));
        let ring = Tree::new(&file, 2, 32, false);
        assert_eq!(ring.end([0, 0, 0, 0].into()), Some(0));
        assert!(visit(ring).is_ok(), "each node is visited once");
        let straight: Vec<u8> = (0..33_u32).flat_map(|node| [node + 1, 33]).flat_map(u32::to_be_bytes).collect();
        let TooDeep(ip) = visit(Tree::new(&straight, 33, 32, false)).unwrap_err();
        assert_eq!(ip.to_string(), "0.0.0.0");
    }

    #[test]
    fn each_end_is_visited_once_with_an_address_that_leads_there() {
        // 0.0.0.0/2 and 64.0.0.0/2 end at one record, 128.0.0.0/1 at another.
        let file: Vec<u8> = [[1_u32, 20], [30, 30]].into_iter().flatten().flat_map(u32::to_be_bytes).collect();
        let tree = Tree::new(&file, 2, 32, false);
        let mut visited = Vec::new();
        tree.visit::<TooDeep>(|end, ip| {
            visited.push((end, ip.to_string()));
            Ok(())
        })
        .unwrap();
        visited.sort();
        assert_eq!(visited, [(20, "128.0.0.0".to_owned()), (30, "64.0.0.0".to_owned())]);
    }
}
