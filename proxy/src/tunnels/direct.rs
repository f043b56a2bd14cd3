//! Which addresses a target may have that is reached without a tunnel: never the operator's own by chance.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use meshgate_proto::Cidr;

/// True unless an address is special and not among those that the operator allows.
pub(super) fn may_dial(address: IpAddr, allowed: &[Cidr]) -> bool {
    let address = address.to_canonical();
    let special = match address {
        IpAddr::V4(v4) => is_special(v4),
        IpAddr::V6(v6) => is_special_v6(v6),
    };
    !special || allowed.iter().any(|range| range.contains(address))
}

/// This machine, the link with its metadata services, groups, and the overlay network.
fn is_special(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    let overlay = first == 100 && second & 0xc0 == 64;
    first == 0
        || overlay
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
}

fn is_special_v6(address: Ipv6Addr) -> bool {
    address.is_loopback()
        || address.is_unspecified()
        || address.is_unicast_link_local()
        || address.is_multicast()
        || embedded(address).is_some_and(is_special)
}

/// The address that a translator would make of it (RFC 4291, 3056 and 6052).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Some(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_operator_are_refused_unless_named() {
        for address in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert!(!may_dial(address, &[]), "{address}");
            assert!(
                may_dial(address, &[address.to_canonical().to_string().parse().unwrap()]),
                "{address}"
            );
        }
    }

    #[test]
    fn networks_of_the_operator_and_the_internet_are_reached() {
        for address in [
            "10.0.0.1",
            "192.168.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "192.0.2.1",
            "fd00::1",
            "2001:db8::1",
            "64:ff9b::c000:201",
        ] {
            assert!(may_dial(address.parse().unwrap(), &[]), "{address}");
        }
    }
}
