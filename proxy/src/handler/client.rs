//! Who the client is when other proxies stand in between, and what targets are told about it.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use meshgate_proto::Cidr;

/// Most entries of `X-Forwarded-For` that are looked at, from the nearest on.
const MAX_HOPS: usize = 32;

/// Whose word on the client counts, and what targets are told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forwarding {
    /// Proxies in front of this one.
    pub(crate) trusted: Vec<Cidr>,
    /// Scheme that targets are told.
    pub(crate) scheme: ForwardedScheme,
    /// Whether connections may begin with word of their client.
    pub(crate) proxy_protocol: ProxyProtocol,
}

/// Whether connections may begin with word of their client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ProxyProtocol {
    /// They begin with TLS.
    #[default]
    Off,
    /// Proxies in front send a PROXY header, version 1 or 2.
    On,
}

/// What is expected of whoever opens a connection, and what its word on the client is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Announcer {
    /// A trusted proxy: it must say who the client is, and is believed.
    Obliged,
    /// Anybody else when there are trusted proxies: it may say something, which does not count.
    Unheard,
    /// Nobody in particular is trusted: what is said is believed.
    Free,
}

/// Scheme that targets are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ForwardedScheme {
    /// What clients use at this edge.
    #[default]
    Https,
    /// For applications that would otherwise redirect.
    Http,
}

impl ForwardedScheme {
    /// The word in `X-Forwarded-Proto`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

/// The client as one request's target will see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientView {
    /// Address.
    pub(crate) address: IpAddr,
    /// Scheme.
    pub(crate) scheme: ForwardedScheme,
}

impl Forwarding {
    /// The client's address: that of the socket, or, behind trusted proxies, the nearest one that they name
    /// and that is not itself trusted.
    ///
    /// All header lines count, from the last entry to the first. An entry that is no address ends the walk
    /// at the proxy that wrote it, so that nothing to its left is believed.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.trusts(client) {
            return client;
        }
        let lines = headers.get_all("x-forwarded-for").iter().rev();
        let entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        for entry in entries.take(MAX_HOPS) {
            let Some(address) = parse_hop(entry) else {
                return client;
            };
            client = address;
            if !self.trusts(client) {
                return client;
            }
        }
        client
    }

    /// What the other end of a socket may say about its client.
    pub(crate) fn announcer(&self, peer: IpAddr) -> Announcer {
        if self.trusted.is_empty() {
            Announcer::Free
        } else if self.trusts(peer) {
            Announcer::Obliged
        } else {
            Announcer::Unheard
        }
    }

    /// True for a proxy in front of this one.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|range| range.contains(address))
    }
}

/// An address, perhaps with a port as some proxies write it.
fn parse_hop(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let address = bare.parse().ok();
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn client(peer: &str, lines: &[&str]) -> String {
        let forwarding = Forwarding {
            trusted: vec!["10.0.0.0/8".parse().unwrap()],
            ..Forwarding::default()
        };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", HeaderValue::from_str(line).unwrap());
        }
        forwarding.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        for (peer, lines, expected) in [
            ("192.0.2.1", &["203.0.113.9"][..], "192.0.2.1"),
            ("10.0.0.1", &[][..], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9"][..], "203.0.113.9"),
            ("::ffff:10.0.0.1", &["203.0.113.9, 10.2.3.4"][..], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.9"][..], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1", "203.0.113.9:4711"][..], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1, [2001:db8::1]:80"][..], "2001:db8::1"),
            ("10.0.0.1", &["1.1.1.1, junk, 10.9.9.9"][..], "10.9.9.9"),
            ("10.0.0.1", &["10.1.1.1, 10.2.2.2"][..], "10.1.1.1"),
        ] {
            assert_eq!(client(peer, lines), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn trusted_proxies_are_obliged_to_say_who_the_client_is() {
        let forwarding = Forwarding {
            trusted: vec!["10.0.0.0/8".parse().unwrap()],
            ..Forwarding::default()
        };
        for (peer, expected) in [
            ("10.1.2.3", Announcer::Obliged),
            ("::ffff:10.1.2.3", Announcer::Obliged),
            ("192.0.2.1", Announcer::Unheard),
        ] {
            assert_eq!(forwarding.announcer(peer.parse().unwrap()), expected, "{peer}");
        }
        let nobody = Forwarding::default();
        assert_eq!(nobody.announcer("10.1.2.3".parse().unwrap()), Announcer::Free);
    }

    proptest! {
        #[test]
        fn never_panics(line in "[ -~]{0,80}") {
            client("10.0.0.1", &[&line]);
        }
    }
}
