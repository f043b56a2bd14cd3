//! Free overlay addresses.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rand::Rng as _;

use super::Refused;
use crate::actor::Scope;
use crate::store::Tx;
use crate::store::accounts::AccountRow;

/// Random tries before all addresses are looked through.
const TRIES: u32 = 32;

/// A free address of version 4, random as long as that finds one quickly.
pub(super) async fn free_v4(tx: &mut Tx, scope: &Scope, account: &AccountRow) -> Result<Ipv4Addr, Refused> {
    let IpAddr::V4(network) = account.network_v4.address() else {
        return Err(Refused::NoAddress);
    };
    let hosts = host_count(account.network_v4.prefix());
    if hosts == 0 {
        return Err(Refused::NoAddress);
    }
    for _ in 0..TRIES {
        let address = host(network, rand::rng().random_range(1..=hosts));
        if !tx.overlay_address_taken(scope, address.into()).await? {
            return Ok(address);
        }
    }
    let taken: HashSet<Ipv4Addr> = tx.overlay_addresses(scope).await?.into_iter().collect();
    (1..=hosts)
        .map(|number| host(network, number))
        .find(|address| !taken.contains(address))
        .ok_or(Refused::NoAddress)
}

/// A free address of version 6: 64 random bits below the account's prefix.
pub(super) async fn free_v6(tx: &mut Tx, scope: &Scope, account: &AccountRow) -> Result<Ipv6Addr, Refused> {
    let IpAddr::V6(network) = account.network_v6.address() else {
        return Err(Refused::NoAddress);
    };
    loop {
        let address = Ipv6Addr::from_bits(network.to_bits() | u128::from(rand::random_range(1..=u64::MAX)));
        if !tx.overlay_address_taken(scope, address.into()).await? {
            return Ok(address);
        }
    }
}

/// Addresses of a range that peers may have: not the network itself, not the broadcast address, and not the
/// last one before that, under which peers reach their own resolver.
fn host_count(prefix: u8) -> u32 {
    2u32.checked_pow(32u32.saturating_sub(u32::from(prefix)))
        .unwrap_or(u32::MAX)
        .saturating_sub(3)
}

fn host(network: Ipv4Addr, number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(network.to_bits() | number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_out_network_broadcast_and_resolver() {
        let last = host("100.64.0.0".parse().unwrap(), host_count(16));

        assert_eq!(last, Ipv4Addr::new(100, 64, 255, 253));
        assert_eq!(host_count(32), 0);
        assert_eq!(host_count(31), 0);
        assert_eq!(host_count(30), 1);
    }
}
