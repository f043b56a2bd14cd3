//! Messages recorded between real programs: each decodes with nothing left over, encodes back to the same
//! bytes, and survives the way through the domain types where these have a word for all of it.

#![expect(clippy::unwrap_used, reason = "a test")]

use meshgate_proto::network_map::{LoginRequest, LoginResponse, SyncUpdate, SystemMeta};
use meshgate_proto::pb::{management as mgmt, signalexchange};
use meshgate_proto::relay::Frame;
use meshgate_proto::signal::SignalBody;
use meshgate_proto::{AccessLog, MappingBatch, MappingChange, ProxyHello, StatusUpdate};
use prost::Message;
use serde::Deserialize;

#[derive(Deserialize)]
struct Recorded {
    scenario: String,
    seq: u32,
    #[serde(rename = "type")]
    kind: String,
    hex: String,
}

#[derive(Deserialize)]
struct RecordedFrame {
    kind: String,
    hex: String,
}

#[test]
fn every_recorded_message_encodes_back_to_its_bytes() {
    let messages = messages();

    for message in &messages {
        let bytes = unhex(&message.hex);
        assert_eq!(
            again(&message.kind, &bytes),
            bytes,
            "{} {} {}",
            message.scenario,
            message.seq,
            message.kind
        );
    }
    assert_eq!(messages.len(), 557);
}

#[test]
fn recorded_messages_survive_the_domain_types() {
    let mut through = 0;
    let mut without_words = Vec::new();
    for message in messages() {
        let bytes = unhex(&message.hex);
        let Some(encoded) = through_domain(&message.kind, &bytes) else {
            continue;
        };
        if encoded == bytes {
            through += 1;
        } else {
            without_words.push(format!("{} {}", message.scenario, message.seq));
        }
    }

    // What these leave out: SSH users and token issuers, the targets of a removed service, legacy fields.
    insta_like(&without_words, include_str!("fixtures/without_words.txt"));
    assert!(through > 300, "{through} messages went through the domain types");
}

#[test]
fn every_recorded_relay_frame_encodes_back_to_its_bytes() {
    let mut count = 0;
    for line in include_str!("fixtures/relay_frames.jsonl").lines() {
        let recorded: RecordedFrame = serde_json::from_str(line).unwrap();
        let bytes = bytes::Bytes::from(unhex(&recorded.hex));

        let frame = Frame::parse(&bytes).unwrap();

        assert!(
            format!("{frame:?}").starts_with(&recorded.kind),
            "{frame:?} is {}",
            recorded.kind
        );
        assert_eq!(frame.encode(), bytes);
        count += 1;
    }
    assert!(count > 80);
}

fn messages() -> Vec<Recorded> {
    include_str!("fixtures/wire_messages.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn again(kind: &str, bytes: &[u8]) -> Vec<u8> {
    macro_rules! by_name {
        ($($package:ident :: $name:ident $(as $wire:literal)?),+ $(,)?) => {
            match kind {
                $(k if k == [$($wire,)? stringify!($name)][0] => {
                    $package::$name::decode(bytes).unwrap().encode_to_vec()
                })+
                other => panic!("no message type {other}"),
            }
        };
    }
    by_name!(
        mgmt::Empty,
        mgmt::ServerKeyResponse,
        mgmt::LoginRequest,
        mgmt::LoginResponse,
        mgmt::SyncRequest,
        mgmt::SyncResponse,
        mgmt::SyncMetaRequest,
        mgmt::JobRequest,
        mgmt::ExtendAuthSessionRequest,
        mgmt::ExtendAuthSessionResponse,
        mgmt::PkceAuthorizationFlowRequest as "PKCEAuthorizationFlowRequest",
        mgmt::PkceAuthorizationFlow as "PKCEAuthorizationFlow",
        mgmt::DeviceAuthorizationFlowRequest,
        mgmt::DeviceAuthorizationFlow,
        mgmt::ExposeServiceRequest,
        mgmt::ExposeServiceResponse,
        mgmt::RenewExposeRequest,
        mgmt::RenewExposeResponse,
        mgmt::StopExposeRequest,
        mgmt::StopExposeResponse,
        mgmt::SyncMappingsRequest,
        mgmt::SyncMappingsResponse,
        mgmt::GetMappingUpdateRequest,
        mgmt::GetMappingUpdateResponse,
        mgmt::SendAccessLogRequest,
        mgmt::SendAccessLogResponse,
        mgmt::AuthenticateRequest,
        mgmt::AuthenticateResponse,
        mgmt::GetOidcurlRequest as "GetOIDCURLRequest",
        mgmt::GetOidcurlResponse as "GetOIDCURLResponse",
        mgmt::ValidateSessionRequest,
        mgmt::ValidateSessionResponse,
        mgmt::ValidateTunnelPeerRequest,
        mgmt::ValidateTunnelPeerResponse,
        mgmt::CreateProxyPeerRequest,
        mgmt::CreateProxyPeerResponse,
        mgmt::SendStatusUpdateRequest,
        mgmt::SendStatusUpdateResponse,
        signalexchange::Body,
    )
}

fn through_domain(kind: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    Some(match kind {
        "LoginRequest" => {
            let domain = LoginRequest::try_from(mgmt::LoginRequest::decode(bytes).unwrap()).unwrap();
            mgmt::LoginRequest::from(domain).encode_to_vec()
        }
        "LoginResponse" => {
            let domain = LoginResponse::try_from(mgmt::LoginResponse::decode(bytes).unwrap()).unwrap();
            mgmt::LoginResponse::from(domain).encode_to_vec()
        }
        "SyncRequest" => {
            let meta = SystemMeta::from(mgmt::SyncRequest::decode(bytes).unwrap().meta.unwrap());
            mgmt::SyncRequest {
                meta: Some(meta.into()),
            }
            .encode_to_vec()
        }
        "SyncMetaRequest" => {
            let meta = SystemMeta::from(mgmt::SyncMetaRequest::decode(bytes).unwrap().meta.unwrap());
            mgmt::SyncMetaRequest {
                meta: Some(meta.into()),
            }
            .encode_to_vec()
        }
        "SyncResponse" => {
            let domain = SyncUpdate::try_from(mgmt::SyncResponse::decode(bytes).unwrap()).unwrap();
            assert_eq!(domain.map.iter().flat_map(|map| &map.skipped).count(), 0);
            mgmt::SyncResponse::from(domain).encode_to_vec()
        }
        "SyncMappingsResponse" => {
            let batch = MappingBatch::from(mgmt::SyncMappingsResponse::decode(bytes).unwrap());
            assert!(batch.broken.is_empty(), "{:?}", batch.broken);
            mgmt::SyncMappingsResponse::from(batch).encode_to_vec()
        }
        "GetMappingUpdateResponse" => {
            let batch = MappingBatch::from(mgmt::GetMappingUpdateResponse::decode(bytes).unwrap());
            assert!(batch.broken.is_empty(), "{:?}", batch.broken);
            mgmt::GetMappingUpdateResponse::from(batch).encode_to_vec()
        }
        "SyncMappingsRequest" => {
            let message = mgmt::SyncMappingsRequest::decode(bytes).unwrap();
            let Some(mgmt::sync_mappings_request::Msg::Init(init)) = message.msg else {
                return None;
            };
            let Ok(hello) = ProxyHello::try_from(init) else {
                return None;
            };
            let msg = Some(mgmt::sync_mappings_request::Msg::Init(hello.into()));
            mgmt::SyncMappingsRequest { msg }.encode_to_vec()
        }
        "SendStatusUpdateRequest" => {
            let domain =
                StatusUpdate::try_from(mgmt::SendStatusUpdateRequest::decode(bytes).unwrap()).ok()?;
            mgmt::SendStatusUpdateRequest::from(domain).encode_to_vec()
        }
        "SendAccessLogRequest" => {
            let log = mgmt::SendAccessLogRequest::decode(bytes).unwrap().log?;
            let domain = AccessLog::try_from(log).ok()?;
            mgmt::SendAccessLogRequest {
                log: Some(domain.into()),
            }
            .encode_to_vec()
        }
        "Body" => {
            let domain = SignalBody::try_from(signalexchange::Body::decode(bytes).unwrap()).unwrap();
            signalexchange::Body::from(domain).encode_to_vec()
        }
        _ => return None,
    })
}

#[test]
fn removals_are_read_by_id_alone() {
    let mut removals = 0;
    for message in messages()
        .iter()
        .filter(|message| message.kind == "SyncMappingsResponse")
    {
        let batch = MappingBatch::from(mgmt::SyncMappingsResponse::decode(&*unhex(&message.hex)).unwrap());
        removals += batch
            .changes
            .iter()
            .filter(|change| matches!(change, MappingChange::Removed(_)))
            .count();
    }
    assert!(removals > 0);
}

fn insta_like(found: &[String], expected: &str) {
    let expected: Vec<_> = expected.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(found, expected, "messages that lose something on the way changed");
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}
