//! The seam behind which a WireGuard protocol implementation sits.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use x25519_dalek::StaticSecret;

use crate::{PresharedKey, PrivateKey, PublicKey};

/// Handshake messages a second above which initiators must prove their address with a cookie. Each initiation is
/// counted twice: once before its peer is known and once by the peer's own tunnel.
const HANDSHAKES_PER_SECOND: u64 = 2 * 100;
/// Largest handshake message.
pub(crate) const HANDSHAKE_LEN: usize = 148;
const COOKIE_LEN: usize = 64;

/// Keys, sessions and protocol timers of one peer.
pub(crate) trait Noise: Send + fmt::Debug {
    /// Encrypts an inner packet, or an empty one as a keepalive.
    fn seal(&mut self, packet: &[u8], out: &mut [u8]) -> Sealed;

    /// Encrypts the next packet that waited for a session.
    fn seal_queued(&mut self, out: &mut [u8]) -> Option<usize>;

    /// Handles a datagram that names this peer.
    fn open<'a>(&mut self, source: IpAddr, datagram: &[u8], out: &'a mut [u8]) -> Opened<'a>;

    /// Writes a fresh handshake initiation, whether or not one is under way.
    fn initiate(&mut self, out: &mut [u8]) -> Option<usize>;

    /// Runs the protocol's timers; wants to be called at least every 250 ms.
    fn tick(&mut self, out: &mut [u8]) -> Option<usize>;
}

/// Outcome of [`Noise::seal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sealed {
    /// The packet is encrypted; so many bytes.
    Data(usize),
    /// The packet waits for a session; a handshake initiation of so many bytes asks for it.
    Initiation(usize),
    /// The packet waits for a session that is already being made.
    Queued,
}

/// Outcome of [`Noise::open`].
#[derive(Debug)]
pub(crate) enum Opened<'a> {
    /// An authenticated inner packet.
    Packet(usize),
    /// An authenticated empty packet.
    Keepalive,
    /// An authenticated initiation, and our response to it.
    Initiated(&'a [u8]),
    /// An authenticated response to our initiation, and the first packet of the new session.
    Responded(&'a [u8]),
    /// Not authenticated: a cookie challenge to send back to the source.
    Challenge(&'a [u8]),
    /// A cookie for us. It proves nothing about the sender's address.
    Cookie,
    /// Nothing for us.
    Rejected,
}

/// Kind of a WireGuard message, from its first bytes and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    Initiation,
    Response { receiver: u32 },
    CookieReply { receiver: u32 },
    Data { receiver: u32 },
}

impl Message {
    pub(crate) fn parse(datagram: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(datagram.get(at..at + 4)?.try_into().ok()?));
        match (word(0)?, datagram.len()) {
            (1, HANDSHAKE_LEN) => Some(Self::Initiation),
            (2, 92) => Some(Self::Response { receiver: word(8)? }),
            (3, COOKIE_LEN) => Some(Self::CookieReply { receiver: word(4)? }),
            (4, 32..) => Some(Self::Data { receiver: word(4)? }),
            _ => None,
        }
    }
}

/// Our static identity: finds out who sent an initiation, and limits how many are looked at.
pub(crate) struct Identity {
    secret: StaticSecret,
    public: x25519_dalek::PublicKey,
    limiter: Arc<RateLimiter>,
}

/// Outcome of [`Identity::identify`].
#[derive(Debug)]
pub(crate) enum Identified {
    /// The initiation claims this key; the peer's tunnel proves it.
    Peer(PublicKey),
    /// Under load: send this cookie challenge back.
    Challenge(usize),
    /// Not for us, or too many of them.
    Refused,
}

impl Identity {
    pub(crate) fn new(key: &PrivateKey) -> Self {
        let secret = key.to_static_secret();
        let public = x25519_dalek::PublicKey::from(&secret);
        let limiter = Arc::new(RateLimiter::new(&public, HANDSHAKES_PER_SECOND));
        Self {
            secret,
            public,
            limiter,
        }
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        PublicKey::from_bytes(self.public.to_bytes())
    }

    /// Reads the claimed key of an initiation.
    pub(crate) fn identify(&self, source: IpAddr, datagram: &[u8], out: &mut [u8]) -> Identified {
        match self.limiter.verify_packet(Some(source), datagram, out) {
            Ok(Packet::HandshakeInit(initiation)) => {
                match parse_handshake_anon(&self.secret, &self.public, &initiation) {
                    Ok(half) => Identified::Peer(PublicKey::from_bytes(half.peer_static_public)),
                    Err(_) => Identified::Refused,
                }
            }
            Err(TunnResult::WriteToNetwork(cookie)) => Identified::Challenge(cookie.len()),
            Ok(_) | Err(_) => Identified::Refused,
        }
    }

    /// Must be called every second: a shared limiter is never reset by the tunnels.
    pub(crate) fn reset_limit(&self) {
        self.limiter.reset_count();
    }

    /// Makes a peer's tunnel; `index` (24 bits) is the upper part of its session indices.
    pub(crate) fn tunnel(
        &self,
        peer: &PublicKey,
        preshared: Option<&PresharedKey>,
        index: u32,
    ) -> Box<dyn Noise> {
        Box::new(BoringTunnel(Tunn::new(
            self.secret.clone(),
            x25519_dalek::PublicKey::from(*peer.as_bytes()),
            preshared.map(|key| *key.expose_bytes()),
            None,
            index,
            Some(Arc::clone(&self.limiter)),
        )))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("public", &self.public_key())
            .finish_non_exhaustive()
    }
}

/// boringtun's tunnel.
struct BoringTunnel(Tunn);

impl Noise for BoringTunnel {
    fn seal(&mut self, packet: &[u8], out: &mut [u8]) -> Sealed {
        match self.0.encapsulate(packet, out) {
            TunnResult::WriteToNetwork(datagram) => match Message::parse(datagram) {
                Some(Message::Data { .. }) => Sealed::Data(datagram.len()),
                _ => Sealed::Initiation(datagram.len()),
            },
            _ => Sealed::Queued,
        }
    }

    fn seal_queued(&mut self, out: &mut [u8]) -> Option<usize> {
        written(&self.0.decapsulate(None, &[], out))
    }

    fn open<'a>(&mut self, source: IpAddr, datagram: &[u8], out: &'a mut [u8]) -> Opened<'a> {
        let message = Message::parse(datagram);
        match (self.0.decapsulate(Some(source), datagram, out), message) {
            (TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _), _) => {
                Opened::Packet(packet.len())
            }
            (TunnResult::Done, Some(Message::Data { .. })) => Opened::Keepalive,
            (TunnResult::Done, Some(Message::CookieReply { .. })) => Opened::Cookie,
            (TunnResult::WriteToNetwork(reply), message) => match (Message::parse(reply), message) {
                (Some(Message::Response { .. }), Some(Message::Initiation)) => Opened::Initiated(reply),
                (Some(Message::Data { .. }), Some(Message::Response { .. })) => Opened::Responded(reply),
                (Some(Message::CookieReply { .. }), _) => Opened::Challenge(reply),
                _ => Opened::Rejected,
            },
            (TunnResult::Done | TunnResult::Err(_), _) => Opened::Rejected,
        }
    }

    fn initiate(&mut self, out: &mut [u8]) -> Option<usize> {
        written(&self.0.format_handshake_initiation(out, true))
    }

    fn tick(&mut self, out: &mut [u8]) -> Option<usize> {
        written(&self.0.update_timers(out))
    }
}

impl fmt::Debug for BoringTunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoringTunnel")
    }
}

fn written(result: &TunnResult<'_>) -> Option<usize> {
    match result {
        TunnResult::WriteToNetwork(datagram) => Some(datagram.len()),
        _ => None,
    }
}
