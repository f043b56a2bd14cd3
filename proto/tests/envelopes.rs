//! Recorded boxes: opened with the recorded keys they hold the recorded messages, and what we seal opens again.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::HashMap;

use meshgate_proto::envelope::Envelope;
use meshgate_proto::pb::{management, signalexchange};
use meshgate_proto::{WgPrivateKey, WgPublicKey};
use prost::Message;
use serde::Deserialize;

#[derive(Deserialize)]
struct Recording {
    keys: HashMap<String, Keys>,
    messages: Vec<Sealed>,
}

#[derive(Deserialize)]
struct Keys {
    private: Option<String>,
    public: String,
}

#[derive(Deserialize)]
struct Sealed {
    note: String,
    from: String,
    to: String,
    method: String,
    outer_hex: String,
    inner_hex: String,
}

#[test]
fn recorded_boxes_open_and_ours_open_again() {
    let recording: Recording = serde_json::from_str(include_str!("fixtures/envelopes.json")).unwrap();

    for sealed in &recording.messages {
        let (body, sender, receiver) = outer(sealed);
        let ends = [&sealed.from, &sealed.to].map(|name| recording.keys.get(name.as_str()));
        let private = ends
            .iter()
            .flatten()
            .find_map(|keys| keys.private.as_ref())
            .unwrap();
        let private: WgPrivateKey = private.parse().unwrap();
        let other = if private.public() == sender {
            receiver
        } else {
            Some(sender)
        };
        let other = other.unwrap_or_else(|| recording.keys["server"].public.parse().unwrap());
        let envelope = Envelope::new(&private, &other);

        let inner = envelope.open(&body).unwrap();

        assert_eq!(inner, unhex(&sealed.inner_hex), "{}", sealed.note);
        assert_eq!(
            envelope.open(&envelope.seal_with_nonce([7; 24], &inner)).unwrap(),
            inner
        );
    }
    assert_eq!(recording.messages.len(), 7);
}

fn outer(sealed: &Sealed) -> (Vec<u8>, WgPublicKey, Option<WgPublicKey>) {
    let bytes = unhex(&sealed.outer_hex);
    if sealed.method.starts_with("/signalexchange") {
        let message = signalexchange::EncryptedMessage::decode(bytes.as_slice()).unwrap();
        (
            message.body.to_vec(),
            message.key.parse().unwrap(),
            Some(message.remote_key.parse().unwrap()),
        )
    } else {
        let message = management::EncryptedMessage::decode(bytes.as_slice()).unwrap();
        (message.body.to_vec(), message.wg_pub_key.parse().unwrap(), None)
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}
