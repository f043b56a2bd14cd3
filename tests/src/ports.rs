//! Ports for processes that must come back on the same one.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports below the range from which the system takes the local ports of outgoing connections: a port that
/// lies in that range may be gone when its owner comes back.
const FIRST: u16 = 12_000;
const LAST: u16 = 31_999;

/// A port of the loopback address that nobody uses and that no other caller in this process gets.
///
/// # Panics
/// When all are taken.
pub fn reserve() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = LAST - FIRST + 1;
    // Processes that run at the same time begin at different places.
    let start = u16::try_from(std::process::id().wrapping_mul(251) % u32::from(count)).unwrap_or(0);
    for _ in 0..count {
        let offset = (u32::from(start) + u32::from(NEXT.fetch_add(1, Ordering::Relaxed))) % u32::from(count);
        let port = FIRST + u16::try_from(offset).unwrap_or(0);
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if free && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("twenty thousand ports are in use");
}
