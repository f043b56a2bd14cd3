//! Messages recorded between real programs, for tests.

use std::path::PathBuf;

use meshgate_proto::pb::management as pb;
use prost::Message;

/// One message of a recording.
pub(crate) fn recorded<M: Message + Default>(file: &str, seq: u64) -> M {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/wire")
        .join(format!("{file}.json"));
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let row = rows.iter().find(|row| row["seq"] == seq).unwrap();
    let hex = row["hex"].as_str().unwrap();
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    M::decode(bytes.as_slice()).unwrap()
}

/// One message of a recorded sync stream.
pub(crate) fn recorded_sync(file: &str, seq: u64) -> pb::SyncResponse {
    recorded(file, seq)
}

/// Lists whose order means nothing, in one order.
pub(crate) fn sorted(mut message: pb::SyncResponse) -> pb::SyncResponse {
    if let Some(map) = &mut message.network_map {
        map.remote_peers.sort_by(|a, b| a.wg_pub_key.cmp(&b.wg_pub_key));
        map.firewall_rules.sort_by_key(|rule| format!("{rule:?}"));
        for zone in map.dns_config.iter_mut().flat_map(|dns| &mut dns.custom_zones) {
            zone.records.sort_by_key(|record| format!("{record:?}"));
        }
    }
    message
}
