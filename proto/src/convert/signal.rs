//! Signal messages, sealed and clear.

use bytes::Bytes;
use prost::Message as _;

use super::InvalidMessage;
use crate::envelope::{Envelope, Unsealable};
use crate::pb::signalexchange as pb;
use crate::signal::{Connectivity, IceCredentials, SignalBody, SignalMessage};
use crate::{WgPrivateKey, WgPublicKey};

/// Why a signal message is dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSignal {
    /// Not for us, or not what it should be.
    #[error(transparent)]
    Message(#[from] InvalidMessage),
    /// Sealed with other keys.
    #[error(transparent)]
    Unsealable(#[from] Unsealable),
}

impl SignalMessage {
    /// Seals the message for its receiver.
    pub fn seal(self, ours: &WgPrivateKey) -> pb::EncryptedMessage {
        let clear = pb::Body::from(self.body).encode_to_vec();
        pb::EncryptedMessage {
            key: self.from.to_string(),
            remote_key: self.to.to_string(),
            body: Bytes::from(Envelope::new(ours, &self.to).seal(&clear)),
        }
    }

    /// Opens a message that came for us.
    ///
    /// # Errors
    /// [`InvalidSignal`] when it is for somebody else, sealed with other keys or malformed.
    pub fn open(message: &pb::EncryptedMessage, ours: &WgPrivateKey) -> Result<Self, InvalidSignal> {
        let from: WgPublicKey = message
            .key
            .parse()
            .map_err(|e| InvalidMessage::because("key", e))?;
        let to: WgPublicKey = message
            .remote_key
            .parse()
            .map_err(|e| InvalidMessage::because("remoteKey", e))?;
        if to != ours.public() {
            return Err(InvalidMessage::new("remoteKey", "is not ours").into());
        }
        let clear = Envelope::new(ours, &from).open(&message.body)?;
        let body = pb::Body::decode(clear.as_slice()).map_err(|e| InvalidMessage::because("body", e))?;
        Ok(Self {
            from,
            to,
            body: body.try_into()?,
        })
    }
}

impl TryFrom<pb::Body> for SignalBody {
    type Error = InvalidMessage;

    fn try_from(body: pb::Body) -> Result<Self, InvalidMessage> {
        match pb::body::Type::try_from(body.r#type) {
            Ok(pb::body::Type::Offer) => connectivity(body).map(Self::Offer),
            Ok(pb::body::Type::Answer) => connectivity(body).map(Self::Answer),
            Ok(pb::body::Type::Candidate) => Ok(Self::Candidate(body.payload)),
            Ok(pb::body::Type::Mode) => Ok(Self::Mode),
            Ok(pb::body::Type::GoIdle) => Ok(Self::GoIdle),
            Ok(pb::body::Type::Heartbeat) => Ok(Self::Heartbeat),
            Err(_) => Err(InvalidMessage::new(
                "body.type",
                format!("unknown type {}", body.r#type),
            )),
        }
    }
}

impl From<SignalBody> for pb::Body {
    fn from(body: SignalBody) -> Self {
        let bare = |kind: pb::body::Type| Self {
            r#type: kind.into(),
            ..Self::default()
        };
        match body {
            SignalBody::Offer(connectivity) => pb_connectivity(connectivity, pb::body::Type::Offer),
            SignalBody::Answer(connectivity) => pb_connectivity(connectivity, pb::body::Type::Answer),
            SignalBody::Candidate(payload) => Self {
                payload,
                ..bare(pb::body::Type::Candidate)
            },
            SignalBody::Mode => bare(pb::body::Type::Mode),
            SignalBody::GoIdle => bare(pb::body::Type::GoIdle),
            SignalBody::Heartbeat => bare(pb::body::Type::Heartbeat),
        }
    }
}

fn connectivity(body: pb::Body) -> Result<Connectivity, InvalidMessage> {
    let rosenpass = body.rosenpass_config.unwrap_or_default();
    Ok(Connectivity {
        ice: ice(&body.payload)?,
        wg_listen_port: u16::try_from(body.wg_listen_port)
            .map_err(|_| InvalidMessage::new("body.wgListenPort", "is not a port"))?,
        version: body.net_bird_version,
        relay_address: body.relay_server_address,
        relay_ip: body.relay_server_ip,
        session_id: body.session_id,
        rosenpass_key: rosenpass.rosenpass_pub_key,
        rosenpass_address: rosenpass.rosenpass_server_addr,
    })
}

fn pb_connectivity(connectivity: Connectivity, kind: pb::body::Type) -> pb::Body {
    let payload = match connectivity.ice {
        Some(ice) => format!("{}:{}", ice.ufrag, ice.password),
        None => ":".to_owned(),
    };
    pb::Body {
        r#type: kind.into(),
        payload,
        wg_listen_port: u32::from(connectivity.wg_listen_port),
        net_bird_version: connectivity.version,
        rosenpass_config: Some(pb::RosenpassConfig {
            rosenpass_pub_key: connectivity.rosenpass_key,
            rosenpass_server_addr: connectivity.rosenpass_address,
        }),
        relay_server_address: connectivity.relay_address,
        session_id: connectivity.session_id,
        relay_server_ip: connectivity.relay_ip,
        ..pb::Body::default()
    }
}

/// Reads `ufrag:pwd`; `:` alone means that the sender has no ICE.
fn ice(payload: &str) -> Result<Option<IceCredentials>, InvalidMessage> {
    let wrong = || InvalidMessage::new("body.payload", "is not of the form ufrag:pwd");
    let (ufrag, password) = payload.split_once(':').ok_or_else(wrong)?;
    if password.contains(':') || ufrag.is_empty() != password.is_empty() {
        return Err(wrong());
    }
    if ufrag.is_empty() {
        return Ok(None);
    }
    Ok(Some(IceCredentials {
        ufrag: ufrag.to_owned(),
        password: password.to_owned(),
    }))
}
