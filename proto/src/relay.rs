//! Frames of the relay: how two peers without a direct path pass datagrams through a third party.
//!
//! One frame is one WebSocket binary message: `version(1) | type(1) | body`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use crate::{Secret, UnixTime, WgPublicKey};

/// The only version in use.
pub const VERSION: u8 = 1;
/// Longest frame of any kind.
pub const MAX_FRAME: usize = 8820;
/// Longest AUTH frame.
pub const MAX_AUTH_FRAME: usize = 212;
/// Most peers in one list frame.
pub const MAX_PEERS: usize = 244;
/// Bytes in front of the datagram of a TRANSPORT frame.
pub const TRANSPORT_HEADER: usize = 2 + PeerHash::LEN;

const AUTH_MAGIC: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const TOKEN_HMAC_SHA256: u8 = 1;

/// How the relay names a peer: `sha-` and the SHA-256 of the base64 text of its key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerHash([u8; 36]);

impl PeerHash {
    /// Length in bytes.
    pub const LEN: usize = 36;

    /// The relay's name of a peer.
    pub fn of(key: &WgPublicKey) -> Self {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(b"sha-");
        bytes[4..].copy_from_slice(&Sha256::digest(key.to_string().as_bytes()));
        Self(bytes)
    }

    /// Wraps the bytes of a frame.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes as they stand in a frame.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Debug for PeerHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerHash(")?;
        for byte in &self.0[4..8] {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("…)")
    }
}

/// One frame, borrowing its body from the message it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A datagram; towards the relay the peer is the receiver, from the relay it is the sender.
    Transport {
        /// The other end.
        peer: PeerHash,
        /// The WireGuard datagram.
        datagram: Bytes,
    },
    /// The sender leaves.
    Close,
    /// Sent by the relay every 25 s and echoed by the client.
    HealthCheck,
    /// First frame of a client.
    Auth {
        /// Who the client says it is.
        peer: PeerHash,
        /// Token as management handed it out.
        token: Bytes,
    },
    /// The relay's answer to AUTH: its instance URL.
    AuthResponse {
        /// Canonical URL of this relay, compared byte for byte by peers.
        instance_url: String,
    },
    /// Asks to be told when these peers come online.
    SubscribePeerState(Vec<PeerHash>),
    /// Takes the interest back.
    UnsubscribePeerState(Vec<PeerHash>),
    /// These peers are connected to the relay.
    PeersOnline(Vec<PeerHash>),
    /// These peers have left the relay.
    PeersWentOffline(Vec<PeerHash>),
}

/// Why a message is not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFrame {
    /// Longer than [`MAX_FRAME`], or an AUTH longer than [`MAX_AUTH_FRAME`].
    #[error("relay frame is too long")]
    TooLong,
    /// Fewer bytes than its kind needs.
    #[error("relay frame is cut short")]
    Truncated,
    /// A version other than 1.
    #[error("relay frame has unknown version {0}")]
    Version(u8),
    /// A kind that is not in use.
    #[error("relay frame has unknown type {0}")]
    Kind(u8),
    /// A list that is empty, not a multiple of 36 bytes or too long.
    #[error("relay frame has a malformed peer list")]
    PeerList,
    /// AUTH without its magic number.
    #[error("relay AUTH frame lacks its magic number")]
    Magic,
    /// An instance URL that is empty or not UTF-8.
    #[error("relay AUTH response has no usable instance URL")]
    InstanceUrl,
}

impl Frame {
    /// Parses one message without copying datagrams.
    pub fn parse(message: &Bytes) -> Result<Self, InvalidFrame> {
        if message.len() > MAX_FRAME {
            return Err(InvalidFrame::TooLong);
        }
        let (&version, rest) = message.split_first().ok_or(InvalidFrame::Truncated)?;
        if version != VERSION {
            return Err(InvalidFrame::Version(version));
        }
        let (&kind, body) = rest.split_first().ok_or(InvalidFrame::Truncated)?;
        Ok(match kind {
            3 => Self::Transport {
                peer: PeerHash(*body.first_chunk().ok_or(InvalidFrame::Truncated)?),
                datagram: message.slice(TRANSPORT_HEADER..),
            },
            4 => Self::Close,
            5 => Self::HealthCheck,
            6 => {
                if message.len() > MAX_AUTH_FRAME {
                    return Err(InvalidFrame::TooLong);
                }
                let (magic, rest) = body.split_first_chunk::<4>().ok_or(InvalidFrame::Truncated)?;
                if *magic != AUTH_MAGIC {
                    return Err(InvalidFrame::Magic);
                }
                let peer = PeerHash(*rest.first_chunk().ok_or(InvalidFrame::Truncated)?);
                Self::Auth {
                    peer,
                    token: message.slice(2 + 4 + PeerHash::LEN..),
                }
            }
            7 => match std::str::from_utf8(body) {
                Ok(url) if !url.is_empty() => Self::AuthResponse {
                    instance_url: url.to_owned(),
                },
                _ => return Err(InvalidFrame::InstanceUrl),
            },
            8 => Self::SubscribePeerState(parse_peers(body)?),
            9 => Self::UnsubscribePeerState(parse_peers(body)?),
            10 => Self::PeersOnline(parse_peers(body)?),
            11 => Self::PeersWentOffline(parse_peers(body)?),
            other => return Err(InvalidFrame::Kind(other)),
        })
    }

    /// Writes the frame as one message.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(VERSION);
        match self {
            Self::Transport { peer, datagram } => {
                out.reserve(TRANSPORT_HEADER + datagram.len());
                out.put_u8(3);
                out.put_slice(peer.as_bytes());
                out.put_slice(datagram);
            }
            Self::Close => out.put_u8(4),
            Self::HealthCheck => out.put_u8(5),
            Self::Auth { peer, token } => {
                out.put_u8(6);
                out.put_slice(&AUTH_MAGIC);
                out.put_slice(peer.as_bytes());
                out.put_slice(token);
            }
            Self::AuthResponse { instance_url } => {
                out.put_u8(7);
                out.put_slice(instance_url.as_bytes());
            }
            Self::SubscribePeerState(peers) => put_peers(&mut out, 8, peers),
            Self::UnsubscribePeerState(peers) => put_peers(&mut out, 9, peers),
            Self::PeersOnline(peers) => put_peers(&mut out, 10, peers),
            Self::PeersWentOffline(peers) => put_peers(&mut out, 11, peers),
        }
        out.freeze()
    }
}

/// The relay's key: whoever has it can mint and check tokens.
#[derive(Clone)]
pub struct RelayKey(Secret<[u8; 32]>);

impl RelayKey {
    /// Derives the key from the configured secret, taken as text.
    pub fn new(auth_secret: &Secret<String>) -> Self {
        Self(Secret::new(
            Sha256::digest(auth_secret.expose().as_bytes()).into(),
        ))
    }

    /// Mints a token that holds until `expires`.
    pub fn mint(&self, expires: UnixTime) -> RelayToken {
        let payload = expires.as_secs().to_string();
        let signature = self.mac(payload.as_bytes()).finalize().into_bytes().into();
        RelayToken { payload, signature }
    }

    /// Checks a token as it stands in an AUTH frame.
    ///
    /// # Errors
    /// [`InvalidToken`] when it is malformed, forged or expired.
    pub fn check(&self, token: &[u8], now: UnixTime) -> Result<(), InvalidToken> {
        let (&algorithm, rest) = token.split_first().ok_or(InvalidToken::Malformed)?;
        if algorithm != TOKEN_HMAC_SHA256 {
            return Err(InvalidToken::Malformed);
        }
        let (signature, payload) = rest.split_first_chunk::<32>().ok_or(InvalidToken::Malformed)?;
        self.mac(payload)
            .verify_slice(signature)
            .map_err(|_| InvalidToken::Forged)?;
        let expires: i64 = std::str::from_utf8(payload)
            .ok()
            .filter(|text| text.len() >= 10)
            .and_then(|text| text.parse().ok())
            .ok_or(InvalidToken::Malformed)?;
        if now.as_secs() > expires {
            Err(InvalidToken::Expired)
        } else {
            Ok(())
        }
    }

    fn mac(&self, payload: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose()).expect("HMAC takes keys of any length");
        mac.update(payload);
        mac
    }
}

impl fmt::Debug for RelayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelayKey(…)")
    }
}

/// Why a relay token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Not of the known form.
    #[error("relay token is malformed")]
    Malformed,
    /// Signed with another key.
    #[error("relay token has a wrong signature")]
    Forged,
    /// Past its time.
    #[error("relay token has expired")]
    Expired,
}

/// A token in the two parts that management hands out.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayToken {
    payload: String,
    signature: [u8; 32],
}

impl RelayToken {
    /// Puts a token together from a management answer.
    pub fn from_parts(payload: &str, signature_base64: &str) -> Option<Self> {
        let signature = STANDARD.decode(signature_base64).ok()?.try_into().ok()?;
        (payload.len() <= 128).then(|| Self {
            payload: payload.to_owned(),
            signature,
        })
    }

    /// Decimal expiry in Unix seconds.
    pub fn payload(&self) -> &str {
        &self.payload
    }

    /// Standard base64 of the signature.
    pub fn signature_base64(&self) -> String {
        STANDARD.encode(self.signature)
    }

    /// The token as it stands in an AUTH frame.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(33 + self.payload.len());
        out.put_u8(TOKEN_HMAC_SHA256);
        out.put_slice(&self.signature);
        out.put_slice(self.payload.as_bytes());
        out.freeze()
    }
}

impl fmt::Debug for RelayToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelayToken(until {})", self.payload)
    }
}

fn parse_peers(body: &[u8]) -> Result<Vec<PeerHash>, InvalidFrame> {
    let (peers, rest) = body.as_chunks::<{ PeerHash::LEN }>();
    if !rest.is_empty() || peers.is_empty() || peers.len() > MAX_PEERS {
        return Err(InvalidFrame::PeerList);
    }
    Ok(peers.iter().map(|bytes| PeerHash(*bytes)).collect())
}

fn put_peers(out: &mut BytesMut, kind: u8, peers: &[PeerHash]) {
    out.reserve(1 + peers.len() * PeerHash::LEN);
    out.put_u8(kind);
    for peer in peers {
        out.put_slice(peer.as_bytes());
    }
}

#[cfg(test)]
mod tests;
