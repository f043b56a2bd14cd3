use proptest::prelude::*;

use super::*;
use crate::WgPrivateKey;

fn a() -> WgPublicKey {
    "AAIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eH2A="
        .parse::<WgPrivateKey>()
        .unwrap()
        .public()
}

fn b() -> WgPublicKey {
    "ICIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0A="
        .parse::<WgPrivateKey>()
        .unwrap()
        .public()
}

fn key() -> RelayKey {
    RelayKey::new(&Secret::from("e2e-relay-secret"))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

const ID_A: &str = "7368612d7d786321554dfcfa7947b2cdbb132ac20312654d4c2f6db43fd0e3f0aebb7ad5";
const ID_B: &str = "7368612da053d7655733492b71f49fe0c49e72436f3861d8eb9236491fdb53afbb794a25";
const TOKEN: &str = "0120748b8644ff1e87f33582430634a7332d27927f59436be8dcbd5514fe83d5a531383933343536303030";

#[test]
fn names_peers_by_the_hash_of_the_base64_text() {
    assert_eq!(hex(PeerHash::of(&a()).as_bytes()), ID_A);
    assert_eq!(hex(PeerHash::of(&b()).as_bytes()), ID_B);
}

#[test]
fn mints_the_golden_token() {
    let token = key().mint(UnixTime::from_secs(1_893_456_000));

    assert_eq!(
        token.signature_base64(),
        "IHSLhkT/HofzNYJDBjSnMy0nkn9ZQ2vo3L1VFP6D1aU="
    );
    assert_eq!(hex(&token.to_bytes()), TOKEN);
}

#[test]
fn mints_the_recorded_token() {
    let key = RelayKey::new(&Secret::from("c29tZXNlY3JldHNvbWVzZWNyZXRzb21lc2VjcmV0"));

    let token = key.mint(UnixTime::from_secs(1_795_310_288));

    assert_eq!(
        token.signature_base64(),
        "4OdacnVbxJ0s3DXXj2sGorGnE1p7xZzBAmioIWBua/g="
    );
}

#[test]
fn refuses_expired_forged_and_cut_tokens() {
    let expires = UnixTime::from_secs(1_893_456_000);
    let token = key().mint(expires).to_bytes();
    let other = RelayKey::new(&Secret::from("another")).mint(expires).to_bytes();

    assert_eq!(key().check(&token, expires), Ok(()));
    assert_eq!(
        key().check(&token, UnixTime::from_secs(1_893_456_001)),
        Err(InvalidToken::Expired)
    );
    assert_eq!(key().check(&other, expires), Err(InvalidToken::Forged));
    assert_eq!(key().check(&token[..20], expires), Err(InvalidToken::Malformed));
    assert_eq!(key().check(&[], expires), Err(InvalidToken::Malformed));
}

#[test]
fn writes_the_golden_frames() {
    let token = key().mint(UnixTime::from_secs(1_893_456_000)).to_bytes();
    let rows = [
        (
            Frame::Auth {
                peer: PeerHash::of(&a()),
                token,
            },
            format!("01062112a442{ID_A}{TOKEN}"),
        ),
        (
            Frame::AuthResponse {
                instance_url: "rel://10.0.0.1:8080".to_owned(),
            },
            "010772656c3a2f2f31302e302e302e313a38303830".to_owned(),
        ),
        (
            Frame::SubscribePeerState(vec![PeerHash::of(&b())]),
            format!("0108{ID_B}"),
        ),
        (
            Frame::PeersOnline(vec![PeerHash::of(&b())]),
            format!("010a{ID_B}"),
        ),
        (
            Frame::Transport {
                peer: PeerHash::of(&b()),
                datagram: Bytes::from_static(&[0xde, 0xad]),
            },
            format!("0103{ID_B}dead"),
        ),
        (Frame::HealthCheck, "0105".to_owned()),
        (Frame::Close, "0104".to_owned()),
    ];

    for (frame, expected) in rows {
        let encoded = frame.encode();
        assert_eq!(hex(&encoded), expected);
        assert_eq!(Frame::parse(&encoded), Ok(frame));
    }
}

#[test]
fn refuses_what_is_no_frame() {
    let rows: [(&'static [u8], InvalidFrame); 7] = [
        (&[], InvalidFrame::Truncated),
        (&[1], InvalidFrame::Truncated),
        (&[2, 5], InvalidFrame::Version(2)),
        (&[1, 1], InvalidFrame::Kind(1)),
        (&[1, 8, 0], InvalidFrame::PeerList),
        (&[1, 6, 0, 0, 0, 0], InvalidFrame::Magic),
        (&[1, 7], InvalidFrame::InstanceUrl),
    ];

    for (bytes, error) in rows {
        assert_eq!(Frame::parse(&Bytes::from_static(bytes)), Err(error));
    }
    assert_eq!(
        Frame::parse(&vec![1; MAX_FRAME + 1].into()),
        Err(InvalidFrame::TooLong)
    );
}

proptest! {
    #[test]
    fn parsing_never_panics_and_encodes_back(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u8..13) {
        let mut message = vec![1, kind];
        message.extend(&bytes);
        for candidate in [bytes, message] {
            let candidate = Bytes::from(candidate);
            if let Ok(frame) = Frame::parse(&candidate) {
                let encoded = frame.encode();
                prop_assert!(candidate.starts_with(&encoded));
            }
        }
    }
}
