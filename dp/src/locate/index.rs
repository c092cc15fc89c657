//! Where an address lies, among any number of boundaries: a binary search, nothing else.
//!
//! All boundaries together cut the addresses of a family into stretches within which every address is in the same
//! boundaries. The stretches are disjoint and sorted; equal answers are stored once. Built whole, never changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use super::boundary::{Boundary, number};

/// What is known of the place of an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Cell {
    /// Every group with a boundary around it, by number, sorted.
    pub groups: Vec<u32>,
    /// The narrowest subnet or prefix around it.
    pub subnet: Option<IpNet>,
}

/// Stretches of one family. Stretch `n` reaches from `starts[n]` to right before the next.
#[derive(Debug, Default)]
struct Family {
    starts: Vec<u128>,
    cells: Vec<u32>,
}

/// Every boundary, ready to be asked.
#[derive(Debug)]
pub struct Index {
    v4: Family,
    v6: Family,
    cells: Vec<Cell>,
}

impl Default for Index {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Index {
    /// The index of these boundaries, each with the numbers of the groups that it is in.
    pub fn new(boundaries: &[(Boundary, Vec<u32>)]) -> Self {
        let mut index = Self { v4: Family::default(), v6: Family::default(), cells: Vec::new() };
        let mut known = HashMap::from([(Cell::default(), 0)]);
        index.cells.push(Cell::default());
        for v4 in [true, false] {
            let family = boundaries.iter().filter(|(boundary, _)| boundary.ends().0.is_ipv4() == v4);
            let family = swept(family, &mut |cell| {
                *known.entry(cell).or_insert_with_key(|cell| {
                    index.cells.push(cell.clone());
                    index.cells.len() as u32 - 1
                })
            });
            if v4 { index.v4 = family } else { index.v6 = family }
        }
        index
    }

    /// Where `address` lies.
    pub fn find(&self, address: IpAddr) -> &Cell {
        let address = address.to_canonical();
        let family = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let number = number(address);
        let stretch = family.starts.partition_point(|start| *start <= number);
        // Before the first stretch there is nothing, which is what cell 0 says.
        let cell = stretch.checked_sub(1).map_or(0, |stretch| family.cells[stretch]);
        &self.cells[cell as usize]
    }

    /// How many stretches there are.
    #[cfg(test)]
    pub fn stretches(&self) -> usize {
        self.v4.starts.len() + self.v6.starts.len()
    }
}

/// What begins and what has ended at an address.
#[derive(Default)]
struct Edge {
    begins: Vec<usize>,
    ends: Vec<usize>,
}

/// Walks over all first and last addresses in order, and keeps account of what is open.
fn swept<'b>(
    boundaries: impl Iterator<Item = &'b (Boundary, Vec<u32>)>,
    cell: &mut dyn FnMut(Cell) -> u32,
) -> Family {
    let boundaries: Vec<_> = boundaries.collect();
    let mut edges: BTreeMap<u128, Edge> = BTreeMap::new();
    for (at, (boundary, _)) in boundaries.iter().enumerate() {
        let (first, last) = boundary.ends();
        edges.entry(number(first)).or_default().begins.push(at);
        // Behind the last address of all there is nothing to end.
        if let Some(behind) = number(last).checked_add(1) {
            edges.entry(behind).or_default().ends.push(at);
        }
    }
    let mut family = Family::default();
    let mut groups: BTreeMap<u32, usize> = BTreeMap::new();
    // By the length of the prefix: the narrowest is the last.
    let mut nets: BTreeSet<(u8, IpNet)> = BTreeSet::new();
    for (start, edge) in edges {
        for at in edge.ends {
            let (boundary, of) = boundaries[at];
            for group in of {
                if let Some(count) = groups.get_mut(group) {
                    *count -= 1;
                    if *count == 0 {
                        groups.remove(group);
                    }
                }
            }
            boundary.net().map(|net| nets.remove(&(net.prefix_len(), net)));
        }
        for at in edge.begins {
            let (boundary, of) = boundaries[at];
            for group in of {
                *groups.entry(*group).or_default() += 1;
            }
            boundary.net().map(|net| nets.insert((net.prefix_len(), net)));
        }
        let number =
            cell(Cell { groups: groups.keys().copied().collect(), subnet: nets.last().map(|(_, net)| *net) });
        if family.cells.last() != Some(&number) {
            family.starts.push(start);
            family.cells.push(number);
        }
    }
    family
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use super::*;

    /// What the index must say, found by looking at every boundary.
    fn scanned(boundaries: &[(Boundary, Vec<u32>)], address: IpAddr) -> Cell {
        let around = || boundaries.iter().filter(|(boundary, _)| boundary.contains(address));
        let groups: BTreeSet<u32> = around().flat_map(|(_, groups)| groups.iter().copied()).collect();
        let subnet = around().filter_map(|(boundary, _)| boundary.net()).max_by_key(IpNet::prefix_len);
        Cell { groups: groups.into_iter().collect(), subnet }
    }

    /// Crowded, so that boundaries nest, touch and coincide.
    fn boundary() -> impl Strategy<Value = Boundary> {
        let v4 = |low: u8| Ipv4Addr::new(10, 0, 0, low);
        prop_oneof![
            (any::<u8>(), 20u8..=32).prop_map(move |(low, length)| {
                Boundary::from(Ipv4Net::new(v4(low), length).expect("a length of IPv4"))
            }),
            (any::<u8>(), any::<u8>()).prop_map(move |(a, b)| {
                format!("{}-{}", v4(a.min(b)), v4(a.max(b))).parse().expect("a range")
            }),
            (any::<u8>(), 0u8..=128).prop_map(|(low, length)| {
                let address = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(low));
                Boundary::from(Ipv6Net::new(address, length).expect("a length of IPv6"))
            }),
            Just("0.0.0.0/0".parse().expect("everything")),
            Just("255.255.255.0-255.255.255.255".parse().expect("the end")),
        ]
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u8>().prop_map(|low| IpAddr::from([10, 0, 0, low])),
            any::<u8>().prop_map(|low| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(low)])),
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(IpAddr::from),
            Just(IpAddr::from([255; 4])),
            Just(IpAddr::from([255; 16])),
            Just(IpAddr::from([0; 4])),
        ]
    }

    proptest! {
        #[test]
        fn the_index_says_what_a_scan_of_all_boundaries_says(
            boundaries in proptest::collection::vec(
                (boundary(), proptest::collection::vec(0u32..6, 0..3)), 0..40),
            addresses in proptest::collection::vec(address(), 1..40),
        ) {
            // A boundary exists once; it may be in many groups.
            let unique: BTreeMap<Boundary, Vec<u32>> = boundaries.into_iter().collect();
            let boundaries: Vec<_> = unique.into_iter().collect();
            let index = Index::new(&boundaries);
            for address in addresses {
                prop_assert_eq!(index.find(address), &scanned(&boundaries, address), "{}", address);
            }
        }
    }

    #[test]
    fn no_boundaries_say_nothing() {
        let index = Index::default();
        assert_eq!(index.find("10.0.0.1".parse().unwrap()), &Cell::default());
        assert_eq!(index.stretches(), 0);
    }
}
