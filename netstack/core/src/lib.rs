//! Pure WireGuard device and TCP/IP stack: bytes and time in, bytes and events out.
