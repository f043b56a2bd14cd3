//! Boxes around the bodies of peers.

use meshgate_proto::envelope::Envelope;
use meshgate_proto::pb::management as pb;
use meshgate_proto::{WgPrivateKey, WgPublicKey};
use prost::Message;
use tonic::Status;

/// Longest body of a peer: its meta data with all its addresses stays far below.
pub(super) const MAX_BODY: usize = 256 * 1024;

/// The server's half of all boxes, made anew by each process: peers ask for it before they log in.
#[derive(Debug)]
pub struct ServerKey {
    private: WgPrivateKey,
    public_text: String,
}

/// An opened body, and what it takes to answer.
pub(super) struct Opened<M> {
    /// Who sealed it.
    pub(super) key: WgPublicKey,
    pub(super) envelope: Envelope,
    pub(super) message: M,
}

impl ServerKey {
    /// A fresh key.
    pub fn generate() -> Self {
        let private = WgPrivateKey::generate();
        let public_text = private.public().to_string();
        Self { private, public_text }
    }

    /// The public half as text.
    pub fn public_text(&self) -> &str {
        &self.public_text
    }

    /// The boxes between the server and a peer.
    pub(super) fn envelope(&self, peer: &WgPublicKey) -> Envelope {
        Envelope::new(&self.private, peer)
    }

    /// Opens a body; malformed keys, boxes and messages are 3.
    pub(super) fn open<M: Message + Default>(
        &self,
        sealed: &pb::EncryptedMessage,
    ) -> Result<Opened<M>, Status> {
        if sealed.body.len() > MAX_BODY {
            return Err(Status::invalid_argument("message is too long"));
        }
        let key: WgPublicKey = sealed
            .wg_pub_key
            .parse()
            .map_err(|_| Status::invalid_argument("sender key is malformed"))?;
        if key.as_bytes() == &[0; 32] {
            return Err(Status::invalid_argument("sender key is malformed"));
        }
        let envelope = self.envelope(&key);
        let clear = envelope
            .open(&sealed.body)
            .map_err(|_| Status::invalid_argument("message cannot be opened"))?;
        let message =
            M::decode(clear.as_slice()).map_err(|_| Status::invalid_argument("message is malformed"))?;
        Ok(Opened {
            key,
            envelope,
            message,
        })
    }

    /// Seals an answer.
    pub(super) fn seal<M: Message>(&self, envelope: &Envelope, message: &M) -> pb::EncryptedMessage {
        self.seal_bytes(envelope, &message.encode_to_vec())
    }

    /// Seals an answer that is encoded already.
    pub(super) fn seal_bytes(&self, envelope: &Envelope, clear: &[u8]) -> pb::EncryptedMessage {
        pb::EncryptedMessage {
            wg_pub_key: self.public_text.clone(),
            body: envelope.seal(clear).into(),
            version: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use tonic::Code;

    use super::*;

    #[test]
    fn malformed_keys_and_boxes_are_invalid_arguments() {
        let server = ServerKey::generate();
        let peer = WgPrivateKey::generate();
        let zero = WgPublicKey::from_bytes([0; 32]).to_string();
        let good = peer.public().to_string();

        for (key, body) in [
            ("", vec![0; 40]),
            ("not a key", vec![0; 40]),
            (zero.as_str(), vec![0; 40]),
            (good.as_str(), vec![]),
            (good.as_str(), vec![0; 40]),
            (good.as_str(), vec![0; MAX_BODY + 1]),
        ] {
            let sealed = pb::EncryptedMessage {
                wg_pub_key: key.to_owned(),
                body: Bytes::from(body),
                version: 0,
            };

            let refused = server.open::<pb::LoginRequest>(&sealed).map(|_| ()).unwrap_err();

            assert_eq!(refused.code(), Code::InvalidArgument);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_in_a_good_box_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let server = ServerKey::generate();
            let peer = WgPrivateKey::generate();
            let envelope = Envelope::new(&peer, &server.private.public());
            let sealed = pb::EncryptedMessage {
                wg_pub_key: peer.public().to_string(),
                body: envelope.seal(&bytes).into(),
                version: 0,
            };

            if let Ok(opened) = server.open::<pb::LoginRequest>(&sealed) {
                let _ = meshgate_proto::network_map::LoginRequest::try_from(opened.message);
            }
            let _ = server.open::<pb::SyncRequest>(&sealed).map(|_| ());
        }
    }
}
