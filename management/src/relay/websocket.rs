//! The server's side of WebSocket (RFC 6455), cut down to whole binary messages.
//!
//! Messages in pieces, text and extensions are refused: no relay client uses them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use sha1::{Digest, Sha1};

use meshgate_proto::relay::MAX_FRAME;

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const LEN_16: u8 = 126;
const MAX_CONTROL: usize = 125;
/// Room for a header in front of a message we send.
pub(super) const MAX_OUT_HEADER: usize = 4;

/// Code of an orderly end.
pub(super) const CLOSE_NORMAL: u16 = 1000;
/// Code of a breach of the protocol.
pub(super) const CLOSE_PROTOCOL: u16 = 1002;

/// One message of a client.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A binary message, unmasked, with at least [`MAX_OUT_HEADER`] bytes of room in front of it.
    Binary(Message),
    /// Wants an answer with the same bytes.
    Ping(BytesMut),
    /// An answer to a ping.
    Pong,
    /// The client ends the connection.
    Close,
}

/// A binary message in the buffer it arrived in.
#[derive(Debug)]
pub(super) struct Message {
    whole: BytesMut,
    payload: usize,
}

/// Why a client cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("message is not masked")]
    Unmasked,
    #[error("reserved bits are set")]
    Reserved,
    #[error("message comes in pieces")]
    Fragmented,
    #[error("message is too long")]
    TooLong,
    #[error("message is neither binary nor a control message")]
    Opcode,
}

impl Message {
    pub(super) fn payload(&self) -> &[u8] {
        &self.whole[self.payload..]
    }

    pub(super) fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.whole[self.payload..]
    }

    /// The payload alone.
    pub(super) fn into_payload(mut self) -> Bytes {
        self.whole.split_off(self.payload).freeze()
    }

    /// Puts a header of ours where the client's was; nothing is copied.
    pub(super) fn into_outgoing(mut self) -> Bytes {
        let len = self.whole.len() - self.payload;
        let (header, used) = binary_header(len);
        let start = self.payload - used;
        self.whole[start..self.payload].copy_from_slice(&header[..used]);
        self.whole.split_off(start).freeze()
    }
}

/// Takes the next whole message out of the buffer; `None` when more bytes are needed.
pub(super) fn next_message(buffer: &mut BytesMut) -> Result<Option<Incoming>, Violation> {
    let &[first, second, ..] = &buffer[..] else {
        return Ok(None);
    };
    if second & MASKED == 0 {
        return Err(Violation::Unmasked);
    }
    if first & 0x70 != 0 {
        return Err(Violation::Reserved);
    }
    if first & FIN == 0 {
        return Err(Violation::Fragmented);
    }
    let (len, extended) = match second & !MASKED {
        LEN_16 => match buffer.get(2..4) {
            Some(&[high, low]) => (usize::from(u16::from_be_bytes([high, low])), 2),
            _ => return Ok(None),
        },
        short if short < LEN_16 => (usize::from(short), 0),
        _ => return Err(Violation::TooLong),
    };
    let opcode = first & 0x0f;
    let limit = match opcode {
        2 => MAX_FRAME,
        8..=10 => MAX_CONTROL,
        0 => return Err(Violation::Fragmented),
        _ => return Err(Violation::Opcode),
    };
    if len > limit {
        return Err(Violation::TooLong);
    }
    let payload = 2 + extended + 4;
    if buffer.len() < payload + len {
        return Ok(None);
    }
    let mut whole = buffer.split_to(payload + len);
    let (head, body) = whole.split_at_mut(payload);
    if let Some(mask) = head.last_chunk::<4>() {
        unmask(body, *mask);
    }
    Ok(Some(match opcode {
        2 => Incoming::Binary(Message { whole, payload }),
        8 => Incoming::Close,
        9 => Incoming::Ping(whole.split_off(payload)),
        _ => Incoming::Pong,
    }))
}

/// A binary message of ours.
pub(super) fn binary(payload: &[u8]) -> Bytes {
    let (header, used) = binary_header(payload.len());
    let mut out = BytesMut::with_capacity(used + payload.len());
    out.put_slice(&header[..used]);
    out.put_slice(payload);
    out.freeze()
}

/// The answer to a ping.
pub(super) fn pong(payload: &[u8]) -> Bytes {
    control(10, payload)
}

/// The last message of a connection.
pub(super) fn close(code: u16) -> Bytes {
    control(8, &code.to_be_bytes())
}

/// The value of `Sec-WebSocket-Accept`, when the request is a handshake.
pub(super) fn accept(headers: &HeaderMap) -> Option<HeaderValue> {
    let has = |name: header::HeaderName, wanted: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|word| word.trim().eq_ignore_ascii_case(wanted))
    };
    if !has(header::CONNECTION, "upgrade")
        || !has(header::UPGRADE, "websocket")
        || !has(header::SEC_WEBSOCKET_VERSION, "13")
    {
        return None;
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
    let digest = Sha1::new()
        .chain_update(key.as_bytes())
        .chain_update(GUID)
        .finalize();
    HeaderValue::from_str(&STANDARD.encode(digest)).ok()
}

fn control(opcode: u8, payload: &[u8]) -> Bytes {
    let payload = &payload[..payload.len().min(MAX_CONTROL)];
    let mut out = BytesMut::with_capacity(2 + payload.len());
    out.put_u8(FIN | opcode);
    out.put_u8(u8::try_from(payload.len()).expect("cut to 125 bytes"));
    out.put_slice(payload);
    out.freeze()
}

/// A header and how many of its bytes count. Messages are far below 64 KiB.
fn binary_header(len: usize) -> ([u8; MAX_OUT_HEADER], usize) {
    let len = u16::try_from(len).expect("frames are at most MAX_FRAME bytes long");
    let [high, low] = len.to_be_bytes();
    if len < u16::from(LEN_16) {
        ([FIN | 2, low, 0, 0], 2)
    } else {
        ([FIN | 2, LEN_16, high, low], 4)
    }
}

fn unmask(body: &mut [u8], mask: [u8; 4]) {
    let (words, rest) = body.as_chunks_mut::<8>();
    let wide = u64::from_ne_bytes([
        mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3],
    ]);
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masked(opcode: u8, payload: &[u8], mask: [u8; 4]) -> BytesMut {
        let mut out = BytesMut::new();
        out.put_u8(FIN | opcode);
        let len = u16::try_from(payload.len()).unwrap();
        if len < 126 {
            out.put_u8(MASKED | u8::try_from(len).unwrap());
        } else {
            out.put_u8(MASKED | LEN_16);
            out.put_u16(len);
        }
        out.put_slice(&mask);
        out.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, key)| byte ^ key),
        );
        out
    }

    #[test]
    fn accepts_the_handshake_of_the_rfc() {
        let mut headers = HeaderMap::new();
        headers.insert("connection", HeaderValue::from_static("keep-alive, Upgrade"));
        headers.insert("upgrade", HeaderValue::from_static("websocket"));
        headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
        headers.insert(
            "sec-websocket-key",
            HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="),
        );

        assert_eq!(accept(&headers).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        headers.remove("upgrade");
        assert_eq!(accept(&headers), None);
    }

    #[test]
    fn refuses_what_no_relay_client_sends() {
        for (bytes, wanted) in [
            (&[0x82, 0x05][..], Violation::Unmasked),
            (&[0xc2, 0x85], Violation::Reserved),
            (&[0x02, 0x85], Violation::Fragmented),
            (&[0x80, 0x85], Violation::Fragmented),
            (&[0x81, 0x85], Violation::Opcode),
            (&[0x82, 0xff], Violation::TooLong),
            (&[0x82, 0xfe, 0xff, 0xff], Violation::TooLong),
            (&[0x89, 0xfe, 0x00, 0x7e], Violation::TooLong),
        ] {
            assert_eq!(
                next_message(&mut bytes.into()).unwrap_err(),
                wanted,
                "{bytes:02x?}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_message_passes_on_unchanged(
            payload in proptest::collection::vec(any::<u8>(), 0..2000),
            mask: [u8; 4],
        ) {
            let mut buffer = masked(2, &payload, mask);
            buffer.put_slice(b"rest");

            let Some(Incoming::Binary(message)) = next_message(&mut buffer).unwrap() else {
                return Err(TestCaseError::fail("no message"));
            };

            prop_assert_eq!(message.payload(), &payload[..]);
            prop_assert_eq!(message.into_outgoing(), binary(&payload));
            prop_assert_eq!(&buffer[..], b"rest");
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut buffer = BytesMut::from(&bytes[..]);

            while let Ok(Some(message)) = next_message(&mut buffer) {
                if let Incoming::Binary(message) = message {
                    message.into_outgoing();
                }
            }
        }
    }
}
