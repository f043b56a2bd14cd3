//! How many connections there may be, together and from one network.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::throttle::source_network;

/// Connections at a time; further ones are closed at once.
pub(super) const MAX_CONNECTIONS: usize = 20_000;
/// Of these from one public network.
const MAX_PER_SOURCE: usize = MAX_CONNECTIONS / 10;

/// Counts connections. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    sources: HashMap<IpAddr, usize>,
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Slots,
    source: Option<IpAddr>,
}

impl Slots {
    /// Takes a place, if there is one.
    pub(super) fn take(&self, address: IpAddr) -> Option<Slot> {
        let source = shared(address).map(source_network);
        let mut counts = self.0.lock();
        if counts.total >= MAX_CONNECTIONS {
            return None;
        }
        if let Some(source) = source {
            let taken = counts.sources.entry(source).or_default();
            if *taken >= MAX_PER_SOURCE {
                return None;
            }
            *taken += 1;
        }
        counts.total += 1;
        Some(Slot {
            slots: self.clone(),
            source,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.slots.0.lock();
        counts.total -= 1;
        let Some(source) = self.source else { return };
        if let Some(taken) = counts.sources.get_mut(&source) {
            *taken -= 1;
            if *taken == 0 {
                counts.sources.remove(&source);
            }
        }
    }
}

/// The address, unless it is near: behind a reverse proxy everybody has the same one, which is loopback or
/// private.
fn shared(address: IpAddr) -> Option<IpAddr> {
    let address = address.to_canonical();
    let near = match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    };
    (!near).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_takes_its_share_only_and_gives_it_back() {
        let slots = Slots::default();
        let greedy: IpAddr = "192.0.2.1".parse().unwrap();
        let taken: Vec<_> = (0..MAX_PER_SOURCE).map_while(|_| slots.take(greedy)).collect();

        assert_eq!(taken.len(), MAX_PER_SOURCE);
        assert!(slots.take(greedy).is_none());
        assert!(slots.take("::ffff:192.0.2.1".parse().unwrap()).is_none());
        assert!(slots.take("198.51.100.1".parse().unwrap()).is_some());
        drop(taken);
        assert!(slots.take(greedy).is_some());
        assert!(slots.0.lock().sources.is_empty());
    }

    #[test]
    fn a_reverse_proxy_beside_us_may_take_all_there_are() {
        let slots = Slots::default();
        let near: IpAddr = "127.0.0.1".parse().unwrap();
        let taken: Vec<_> = (0..MAX_CONNECTIONS).map_while(|_| slots.take(near)).collect();

        assert_eq!(taken.len(), MAX_CONNECTIONS);
        assert!(slots.take(near).is_none());
    }
}
