//! The UDP socket: batches in and out, with segmentation offload where the kernel has it.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Kernel buffers we ask for; the kernel may give less.
const SOCKET_BUFFER: usize = 4 << 20;
/// Received packets taken by one system call, each up to 64 KiB of coalesced datagrams.
const RECEIVE_SLOTS: usize = 8;
const SLOT_LEN: usize = 64 << 10;
/// How long a full socket may hold the driver before what it has is dropped.
const WRITABLE_TIMEOUT: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct UdpTransport {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
}

impl UdpTransport {
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
            socket.set_only_v6(false)?;
        }
        // Best effort: the limits are the administrator's, and a small buffer only costs speed.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let local = socket.local_addr()?;
        Ok(Self { socket, state, local })
    }

    pub(crate) fn port(&self) -> u16 {
        self.local.port()
    }

    pub(crate) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Fills `received`, with nothing when nothing was waiting.
    pub(crate) fn try_receive(&self, received: &mut Received) -> io::Result<()> {
        received.count = 0;
        let mut slots = received.memory.chunks_mut(SLOT_LEN).map(IoSliceMut::new);
        let mut slots: [IoSliceMut<'_>; RECEIVE_SLOTS] =
            std::array::from_fn(|_| slots.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
        let metas = &mut received.metas;
        let outcome = self.socket.try_io(Interest::READABLE, || {
            self.state.recv(UdpSockRef::from(&self.socket), &mut slots, metas)
        });
        received.count = match outcome {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            outcome => outcome?,
        };
        Ok(())
    }

    /// Sends datagrams of `segment_size` (the last may be shorter), waiting a little while the socket is full.
    pub(crate) async fn send(&self, to: SocketAddr, segment_size: usize, contents: &[u8]) -> io::Result<()> {
        let most = self.state.max_gso_segments().max(1).saturating_mul(segment_size);
        for chunk in contents.chunks(most) {
            match self.send_chunk(to, segment_size, chunk).await {
                Ok(()) => {}
                // Offload refused by the device: quinn-udp has turned it off, this chunk goes out one by one.
                Err(_) if chunk.len() > segment_size => {
                    for datagram in chunk.chunks(segment_size) {
                        self.send_chunk(to, segment_size, datagram).await?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends one datagram if the socket has room now.
    pub(crate) fn try_send(&self, to: SocketAddr, payload: &[u8]) -> io::Result<()> {
        // Straight to the socket: tokio knows of its readiness only after the driver once waited for it.
        SockRef::from(&self.socket)
            .send_to(payload, &self.mapped(to).into())
            .map(|_| ())
    }

    async fn send_chunk(&self, to: SocketAddr, segment_size: usize, contents: &[u8]) -> io::Result<()> {
        let transmit = Transmit {
            destination: self.mapped(to),
            ecn: None,
            contents,
            segment_size: (contents.len() > segment_size).then_some(segment_size),
            src_ip: None,
        };
        loop {
            let outcome = self.socket.try_io(Interest::WRITABLE, || {
                self.state.try_send(UdpSockRef::from(&self.socket), &transmit)
            });
            match outcome {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::timeout(WRITABLE_TIMEOUT, self.socket.writable()).await??;
                }
                outcome => return outcome,
            }
        }
    }

    /// The form of an address that this socket's family takes.
    fn mapped(&self, to: SocketAddr) -> SocketAddr {
        match (self.local, to) {
            (SocketAddr::V6(_), SocketAddr::V4(v4)) => {
                SocketAddr::V6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0))
            }
            _ => to,
        }
    }
}

/// Datagrams of one system call.
#[derive(Debug)]
pub(crate) struct Received {
    memory: Vec<u8>,
    metas: [RecvMeta; RECEIVE_SLOTS],
    count: usize,
}

impl Received {
    pub(crate) fn new() -> Self {
        Self {
            memory: vec![0; RECEIVE_SLOTS * SLOT_LEN],
            metas: [RecvMeta::default(); RECEIVE_SLOTS],
            count: 0,
        }
    }

    /// The datagrams one by one, with their sources.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let slots = self.memory.chunks(SLOT_LEN).zip(&self.metas).take(self.count);
        slots.flat_map(|(slot, meta)| {
            let source = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
            let contents = slot.get(..meta.len).unwrap_or_default();
            contents
                .chunks(meta.stride.max(1))
                .map(move |datagram| (source, datagram))
        })
    }
}

/// Says whether a UDP datagram is a WireGuard message, as the mesh tells it from STUN.
pub(crate) fn is_wireguard(datagram: &[u8]) -> bool {
    datagram.len() >= 32
        && datagram
            .first_chunk::<4>()
            .is_some_and(|head| (1..=4).contains(&u32::from_le_bytes(*head)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_wireguard_from_stun() {
        let mut datagram = [0; 40];
        datagram[0] = 4;
        assert!(is_wireguard(&datagram));
        assert!(!is_wireguard(&datagram[..31]));

        datagram[..4].copy_from_slice(&[0, 1, 0, 0]);

        assert!(!is_wireguard(&datagram));
        assert!(!is_wireguard(b"nb"));
    }
}
