//! What one client may take of something that all share.

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

/// One client gets no more than this part of the whole.
const PART: usize = 8;

/// What a client may have in any case, however small the whole is.
const LEAST: usize = 64;

/// Something that is there a limited number of times.
#[derive(Debug)]
pub(super) struct Shares {
    whole: usize,
    each: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_network: FxHashMap<Network, usize>,
}

/// What counts as one client: an address, or the network that one subscriber gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Network {
    V4(u32),
    V6(u64),
}

/// One piece; goes back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    shares: Arc<Shares>,
    network: Option<Network>,
}

impl Shares {
    /// `whole` pieces, of which one client gets a part.
    pub(super) fn new(whole: usize) -> Arc<Self> {
        Arc::new(Self {
            whole,
            each: (whole / PART).max(LEAST),
            taken: Mutex::default(),
        })
    }

    /// A piece for a client, unless it or all together have enough. Without an address only the whole counts.
    pub(super) fn take(self: &Arc<Self>, client: Option<IpAddr>) -> Option<Share> {
        let network = client.map(Network::of);
        let mut taken = self.taken.lock();
        if taken.all >= self.whole {
            return None;
        }
        if let Some(network) = network {
            let count = taken.by_network.entry(network).or_default();
            if *count >= self.each {
                return None;
            }
            *count += 1;
        }
        taken.all += 1;
        drop(taken);
        Some(Share {
            shares: Arc::clone(self),
            network,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.taken.lock();
        taken.all -= 1;
        let Some(network) = self.network else { return };
        if let Some(count) = taken.by_network.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                taken.by_network.remove(&network);
            }
        }
    }
}

impl Network {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                let prefix = [a, b, c, d]
                    .into_iter()
                    .fold(0, |bits, part| bits << 16 | u64::from(part));
                Self::V6(prefix)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_network_leaves_room_for_others() {
        let shares = Shares::new(1000);
        let greedy: Vec<Share> = (0..1000)
            .filter_map(|host| shares.take(Some(client(&format!("2001:db8::{host:x}")))))
            .collect();

        assert_eq!(greedy.len(), 125);
        assert!(shares.take(Some(client("2001:db8:0:1::1"))).is_some());
        assert!(shares.take(Some(client("::ffff:192.0.2.1"))).is_some());
        drop(greedy);
        assert!(shares.take(Some(client("2001:db8::1"))).is_some());
        assert!(shares.taken.lock().by_network.is_empty());
    }

    #[test]
    fn the_whole_is_a_limit_too() {
        let shares = Shares::new(2);
        let _first = shares.take(None).unwrap();
        let second = shares.take(Some(client("192.0.2.1")));

        assert!(second.is_some());
        assert!(shares.take(Some(client("192.0.2.2"))).is_none());
        drop(second);
        assert!(shares.take(Some(client("192.0.2.2"))).is_some());
    }
}
