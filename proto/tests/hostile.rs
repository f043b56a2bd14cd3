//! Whatever arrives is either understood or refused with a named field; nothing panics.

use meshgate_proto::network_map::{LoginRequest, LoginResponse, SyncUpdate};
use meshgate_proto::pb::{management as mgmt, signalexchange};
use meshgate_proto::signal::SignalBody;
use meshgate_proto::{AccessLog, MappingBatch, ProxyHello, StatusUpdate};
use proptest::prelude::*;
use prost::Message;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_messages_never_panic(
        at in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let lines: Vec<_> = include_str!("fixtures/wire_messages.jsonl").lines().collect();
        let recorded: serde_json::Value = serde_json::from_str(lines[at.index(lines.len())]).unwrap_or_default();
        let hex = recorded["hex"].as_str().unwrap_or_default();
        let mut bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap_or_default())
            .collect();
        if !bytes.is_empty() {
            for (position, value) in damage {
                let position = position.index(bytes.len());
                bytes[position] = value;
            }
            bytes.truncate(cut.index(bytes.len()) + 1);
        }

        convert_as_everything(&bytes);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        convert_as_everything(&bytes);
    }
}

fn convert_as_everything(bytes: &[u8]) {
    let _ = mgmt::LoginRequest::decode(bytes).map(LoginRequest::try_from);
    let _ = mgmt::LoginResponse::decode(bytes).map(LoginResponse::try_from);
    let _ = mgmt::SyncResponse::decode(bytes).map(SyncUpdate::try_from);
    let _ = mgmt::SyncMappingsResponse::decode(bytes).map(MappingBatch::from);
    let _ = mgmt::SyncMappingsInit::decode(bytes).map(ProxyHello::try_from);
    let _ = mgmt::SendStatusUpdateRequest::decode(bytes).map(StatusUpdate::try_from);
    let _ = mgmt::AccessLog::decode(bytes).map(AccessLog::try_from);
    let _ = signalexchange::Body::decode(bytes).map(SignalBody::try_from);
}
