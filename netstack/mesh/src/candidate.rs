//! Addresses of a UDP socket as one-line ICE candidates. Pure.

use std::net::{IpAddr, SocketAddr};

/// Priority that ICE gives the first host candidate of the first component.
const HOST_PRIORITY: u32 = 2_130_706_431;
/// Longer lines are not looked at.
const MAX_LINE: usize = 512;

/// Writes a host candidate.
pub(crate) fn format(address: SocketAddr) -> String {
    format!(
        "1 1 udp {HOST_PRIORITY} {} {} typ host",
        address.ip(),
        address.port()
    )
}

/// Reads a UDP host candidate of an address that a peer can really have.
///
/// Everything else is `None`: other kinds need ICE. Loopback is taken only when `ours` is loopback too, so
/// that a peer elsewhere cannot make us talk to services of this machine.
pub(crate) fn parse(line: &str, ours: IpAddr) -> Option<SocketAddr> {
    if line.len() > MAX_LINE {
        return None;
    }
    let line = line.strip_prefix("candidate:").unwrap_or(line);
    let mut words = line.split_ascii_whitespace();
    let (_foundation, component) = (words.next()?, words.next()?);
    let (transport, _priority) = (words.next()?, words.next()?);
    let (ip, port) = (words.next()?, words.next()?);
    let (typ, kind) = (words.next()?, words.next()?);
    if component != "1" || !transport.eq_ignore_ascii_case("udp") || typ != "typ" || kind != "host" {
        return None;
    }
    let ip: IpAddr = ip.parse().ok()?;
    let port: u16 = port.parse().ok()?;
    let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    let nobody = ip.is_unspecified() || ip.is_multicast() || is_broadcast || port == 0;
    let other_machine_means_us = ip.is_loopback() && !ours.is_loopback();
    let same_family = ip.is_ipv4() == ours.is_ipv4();
    (!nobody && !other_machine_means_us && same_family).then(|| SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OURS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    #[test]
    fn reads_what_it_writes_and_what_go_peers_write() {
        let address: SocketAddr = "10.99.6.2:51821".parse().unwrap();
        let go = "3753322402 1 udp 2130706431 10.99.6.2 51821 typ host ufrag CZETRHZTRWrKKduH cid hUcB2dE4";

        assert_eq!(parse(&format(address), OURS), Some(address));
        assert_eq!(parse(go, OURS), Some(address));
        assert_eq!(parse(&format!("candidate:{go}"), OURS), Some(address));
    }

    #[test]
    fn refuses_what_is_no_host_on_the_network() {
        for line in [
            "",
            "1 1 tcp 1 10.0.0.2 80 typ host",
            "1 2 udp 1 10.0.0.2 80 typ host",
            "1 1 udp 1 10.0.0.2 80 typ srflx raddr 0.0.0.0 rport 1",
            "1 1 udp 1 127.0.0.1 80 typ host",
            "1 1 udp 1 0.0.0.0 80 typ host",
            "1 1 udp 1 224.0.0.1 80 typ host",
            "1 1 udp 1 255.255.255.255 80 typ host",
            "1 1 udp 1 10.0.0.2 0 typ host",
            "1 1 udp 1 fe80::1 80 typ host",
        ] {
            assert_eq!(parse(line, OURS), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(line in "\\PC{0,80}", words in "(1 ){2}udp 1 [0-9.:a-f]{1,20} [0-9]{1,7} typ host") {
            let _ = parse(&line, OURS);
            let _ = parse(&words, OURS);
        }
    }
}
