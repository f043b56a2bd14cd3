//! Which ports are open, and for whom.

use std::fmt;
use std::sync::Arc;

use rustc_hash::FxHashMap;

/// Says which ports a listener for all ports takes.
pub type PortFilter = Arc<dyn Fn(u16) -> bool + Send + Sync>;

/// A listener's number; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenerId(u64);

/// What a listener takes.
#[derive(Clone)]
pub enum ListenOn {
    /// One port.
    Port(u16),
    /// Every port that the filter allows and no other listener has.
    AnyPort(PortFilter),
}

impl fmt::Debug for ListenOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "Port({port})"),
            Self::AnyPort(_) => f.write_str("AnyPort"),
        }
    }
}

/// Another listener has the port already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another listener has this port")]
pub struct PortInUse;

#[derive(Default)]
pub(crate) struct Listeners {
    ports: FxHashMap<u16, ListenerId>,
    any: Option<(ListenerId, PortFilter)>,
    next: u64,
}

impl Listeners {
    pub(crate) fn add(&mut self, on: ListenOn) -> Result<ListenerId, PortInUse> {
        let id = ListenerId(self.next);
        match on {
            ListenOn::Port(port) if self.ports.contains_key(&port) => return Err(PortInUse),
            ListenOn::AnyPort(_) if self.any.is_some() => return Err(PortInUse),
            ListenOn::Port(port) => {
                self.ports.insert(port, id);
            }
            ListenOn::AnyPort(filter) => self.any = Some((id, filter)),
        }
        self.next += 1;
        Ok(id)
    }

    pub(crate) fn remove(&mut self, id: ListenerId) {
        self.ports.retain(|_, other| *other != id);
        self.any.take_if(|(other, _)| *other == id);
    }

    pub(crate) fn lookup(&self, port: u16) -> Option<ListenerId> {
        let any = || {
            self.any
                .as_ref()
                .filter(|(_, filter)| filter(port))
                .map(|(id, _)| *id)
        };
        self.ports.get(&port).copied().or_else(any)
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners")
            .field("ports", &self.ports)
            .field("any", &self.any.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_goes_to_its_own_listener_first() {
        let mut listeners = Listeners::default();
        let port = listeners.add(ListenOn::Port(80)).unwrap();
        let any = listeners
            .add(ListenOn::AnyPort(Arc::new(|port| port < 100)))
            .unwrap();

        assert_eq!(listeners.lookup(80), Some(port));
        assert_eq!(listeners.lookup(81), Some(any));
        assert_eq!(listeners.lookup(100), None);
        assert_eq!(listeners.add(ListenOn::Port(80)), Err(PortInUse));
    }

    #[test]
    fn a_removed_listener_frees_its_port() {
        let mut listeners = Listeners::default();
        let id = listeners.add(ListenOn::Port(80)).unwrap();

        listeners.remove(id);

        assert_eq!(listeners.lookup(80), None);
        assert!(listeners.add(ListenOn::Port(80)).is_ok());
    }
}
