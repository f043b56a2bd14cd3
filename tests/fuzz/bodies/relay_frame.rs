//! Frames of the relay: what is understood is written and understood again.

use bytes::Bytes;
use meshgate_proto::relay::{Frame, MAX_FRAME, RelayKey};
use meshgate_proto::{Secret, UnixTime};

/// The bytes are one message.
pub(crate) fn run(data: &[u8]) {
    let message = Bytes::copy_from_slice(data);
    let Ok(frame) = Frame::parse(&message) else {
        return;
    };
    let written = frame.encode();
    assert!(written.len() <= message.len().min(MAX_FRAME));
    assert_eq!(Frame::parse(&written), Ok(frame.clone()));
    if let Frame::Auth { token, .. } = frame {
        let key = RelayKey::new(&Secret::new("nobody's".to_owned()));
        assert!(key.check(&token, UnixTime::from_secs(0)).is_err());
    }
}
