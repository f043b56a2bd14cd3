//! What a stored service opens.

use meshgate_proto::network_map::RuleProtocol;
use meshgate_proto::{PeerId, ServiceMode};

use crate::network_map::{PeerTarget, PrivateAccess, ServiceAccess};
use crate::store::service_records::{ServiceRecord, TargetProtocol, TargetRow, TargetType};

/// What a service opens; `None` when it is not to be served.
pub(super) fn service_access(record: ServiceRecord) -> Option<ServiceAccess> {
    let ServiceRecord { service, targets } = record;
    if !service.enabled || service.terminated {
        return None;
    }
    let targets = targets
        .into_iter()
        .filter(|target| {
            target.enabled && target.target_type == TargetType::Peer && !target.options.direct_upstream
        })
        .map(|target| peer_target(service.mode, target))
        .collect();
    let private = service.private.then(|| PrivateAccess {
        domain: service.domain.as_str().to_owned(),
        groups: service.access_groups,
    });
    Some(ServiceAccess {
        id: service.id,
        cluster: service.proxy_cluster,
        protocol: match service.mode {
            ServiceMode::Udp => RuleProtocol::Udp,
            ServiceMode::Http | ServiceMode::Tcp | ServiceMode::Tls => RuleProtocol::Tcp,
        },
        targets,
        private,
    })
}

fn peer_target(mode: ServiceMode, target: TargetRow) -> PeerTarget {
    let port = match (target.port, target.protocol) {
        (0, TargetProtocol::Http) => 80,
        (0, TargetProtocol::Https) => 443,
        (port, _) => port,
    };
    let path = if mode == ServiceMode::Http && target.path.is_empty() {
        "/".to_owned()
    } else {
        target.path
    };
    PeerTarget {
        peer: PeerId::new(target.target_id),
        port,
        path,
    }
}
