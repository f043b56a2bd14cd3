//! Messages of management and signal: what the domain types take in, they write in a form that they take in
//! again without any further change.

use std::fmt::Debug;

use meshgate_proto::network_map::{LoginRequest, LoginResponse, SyncUpdate, SystemMeta};
use meshgate_proto::pb::{management as pb, signalexchange};
use meshgate_proto::signal::SignalBody;
use meshgate_proto::{AccessLog, MappingBatch, ProxyHello, StatusUpdate};
use prost::Message;

/// The first byte chooses the kind of message, the rest is one.
pub(crate) fn run(data: &[u8]) {
    let Some((&kind, bytes)) = data.split_first() else {
        return;
    };
    match kind % 9 {
        0 => settles::<pb::SyncMappingsResponse, MappingBatch>(bytes),
        1 => settles::<pb::SyncResponse, SyncUpdate>(bytes),
        2 => settles::<pb::LoginRequest, LoginRequest>(bytes),
        3 => settles::<pb::LoginResponse, LoginResponse>(bytes),
        4 => settles::<pb::SyncMappingsInit, ProxyHello>(bytes),
        5 => settles::<pb::SendStatusUpdateRequest, StatusUpdate>(bytes),
        6 => settles::<pb::AccessLog, AccessLog>(bytes),
        7 => settles::<pb::PeerSystemMeta, SystemMeta>(bytes),
        _ => settles::<signalexchange::Body, SignalBody>(bytes),
    }
}

fn settles<W, D>(bytes: &[u8])
where
    W: Message + Default + Clone + PartialEq + Debug + From<D>,
    D: TryFrom<W, Error: Debug>,
{
    let Ok(domain) = W::decode(bytes).map(D::try_from) else {
        return;
    };
    let Ok(domain) = domain else {
        return;
    };
    let once = W::from(domain);
    let same = once.clone();
    if once != same {
        // It holds a number that equals nothing.
        return;
    }
    let sent = W::decode(once.encode_to_vec().as_slice());
    assert!(sent.as_ref() == Ok(&once), "{once:?} does not survive the wire");
    match D::try_from(once.clone()) {
        Ok(domain) => {
            let twice = W::from(domain);
            assert!(once == twice, "{once:?} became {twice:?}");
        }
        Err(error) => panic!("{once:?} is refused: {error:?}"),
    }
}
