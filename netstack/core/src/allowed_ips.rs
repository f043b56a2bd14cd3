//! Which peer owns which inner address.

use std::net::IpAddr;

use rustc_hash::FxHashMap;

use crate::Cidr;
use crate::cidr::{truncate, width};

/// A longest-prefix table from inner addresses to peers.
///
/// One hash table, asked once for every prefix length in use, longest first: a mesh uses two or three lengths, so a
/// look-up is two or three probes however many peers there are.
#[derive(Debug, Clone)]
pub(crate) struct AllowedIps<T> {
    owners: FxHashMap<Cidr, T>,
    v4: Lengths,
    v6: Lengths,
}

impl<T: Copy + PartialEq> AllowedIps<T> {
    pub(crate) fn new() -> Self {
        Self {
            owners: FxHashMap::default(),
            v4: Lengths::new(32),
            v6: Lengths::new(128),
        }
    }

    /// Gives the prefix to `owner`; as in WireGuard it is taken from whoever had it.
    pub(crate) fn insert(&mut self, cidr: Cidr, owner: T) {
        if self.owners.insert(cidr, owner).is_none() {
            self.lengths(cidr.address()).add(cidr.prefix());
        }
    }

    /// Takes every prefix of `owner`.
    pub(crate) fn remove_owner(&mut self, owner: T) {
        let gone: Vec<Cidr> = self
            .owners
            .iter()
            .filter(|(_, candidate)| **candidate == owner)
            .map(|(cidr, _)| *cidr)
            .collect();
        for cidr in gone {
            self.owners.remove(&cidr);
            self.lengths(cidr.address()).remove(cidr.prefix());
        }
    }

    /// The owner of the longest prefix that holds `address`.
    pub(crate) fn lookup(&self, address: IpAddr) -> Option<T> {
        let lengths = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        lengths.longest_first.iter().find_map(|&prefix| {
            let cidr = Cidr::new(truncate(address, prefix), prefix).ok()?;
            self.owners.get(&cidr).copied()
        })
    }

    fn lengths(&mut self, address: IpAddr) -> &mut Lengths {
        if width(address) == 32 {
            &mut self.v4
        } else {
            &mut self.v6
        }
    }
}

/// How many prefixes of each length there are.
#[derive(Debug, Clone)]
struct Lengths {
    counts: Vec<usize>,
    longest_first: Vec<u8>,
}

impl Lengths {
    fn new(width: usize) -> Self {
        Self {
            counts: vec![0; width + 1],
            longest_first: Vec::new(),
        }
    }

    fn add(&mut self, prefix: u8) {
        self.counts[usize::from(prefix)] += 1;
        self.rebuild();
    }

    fn remove(&mut self, prefix: u8) {
        self.counts[usize::from(prefix)] -= 1;
        self.rebuild();
    }

    fn rebuild(&mut self) {
        self.longest_first = (0..=u8::MAX)
            .zip(&self.counts)
            .filter(|(_, count)| **count > 0)
            .map(|(len, _)| len)
            .collect();
        self.longest_first.reverse();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn longest_prefix_wins() {
        let mut table = AllowedIps::new();
        table.insert("0.0.0.0/0".parse().unwrap(), 1);
        table.insert("10.0.0.0/8".parse().unwrap(), 2);
        table.insert("10.1.2.3/32".parse().unwrap(), 3);

        assert_eq!(table.lookup("10.1.2.3".parse().unwrap()), Some(3));
        assert_eq!(table.lookup("10.1.2.4".parse().unwrap()), Some(2));
        assert_eq!(table.lookup("1.1.1.1".parse().unwrap()), Some(1));
        assert_eq!(table.lookup("::1".parse().unwrap()), None);
    }

    proptest! {
        #[test]
        fn agrees_with_a_naive_model(steps in prop::collection::vec(step(), 1..60), probes in prop::collection::vec(address(), 1..40)) {
            let mut table = AllowedIps::new();
            let mut model: Vec<(Cidr, u8)> = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(cidr, owner) => {
                        table.insert(cidr, owner);
                        model.retain(|(other, _)| *other != cidr);
                        model.push((cidr, owner));
                    }
                    Step::Remove(owner) => {
                        table.remove_owner(owner);
                        model.retain(|(_, other)| *other != owner);
                    }
                }
            }

            for address in probes {
                let expected = model.iter().filter(|(cidr, _)| cidr.contains(address)).max_by_key(|(cidr, _)| cidr.prefix());
                prop_assert_eq!(table.lookup(address), expected.map(|(_, owner)| *owner));
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(Cidr, u8),
        Remove(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (address(), 0..=128u8, 0..6u8).prop_map(|(address, prefix, owner)| {
                let prefix = prefix.min(width(address));
                Step::Insert(Cidr::new(address, prefix).unwrap(), owner)
            }),
            1 => (0..6u8).prop_map(Step::Remove),
        ]
    }

    /// Few distinct bits, so that prefixes overlap often.
    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            prop::array::uniform4(0..3u8).prop_map(|octets| IpAddr::V4(Ipv4Addr::from(octets))),
            prop::array::uniform4(0..3u16)
                .prop_map(|[a, b, c, d]| IpAddr::V6(Ipv6Addr::new(a, 0, b, 0, 0, c, 0, d))),
        ]
    }
}
