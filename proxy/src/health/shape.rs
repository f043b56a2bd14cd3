//! The JSON of the health answers.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use meshgate_mesh::{PeerPath, PeerSummary};
use serde::Serialize;

use super::Health;
use crate::tunnels::{TunnelState, TunnelSummary};

/// A peer without a handshake for so long is degraded.
const DEGRADED: Duration = Duration::from_mins(5);

/// An answer. Parts that a path does not show are left out.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Answer {
    status: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<Checks>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clients: Option<BTreeMap<String, Client>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    Fail,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Checks {
    management_connected: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    initial_sync_complete: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    all_clients_healthy: Option<bool>,
}

/// The tunnel of one account.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Client {
    healthy: bool,
    /// The proxy's own overlay address, once the mesh has given one.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<Ipv4Addr>,
    management_connected: bool,
    signal_connected: bool,
    relays_connected: usize,
    relays_total: usize,
    peers_total: usize,
    peers_connected: usize,
    peers_p2p: usize,
    peers_relayed: usize,
    peers_degraded: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Answer {
    /// The process answers.
    pub(super) fn live() -> Self {
        Self {
            status: Verdict::Ok,
            checks: None,
            clients: None,
        }
    }

    /// New clients may come.
    pub(super) fn ready(health: &Health) -> Self {
        let checks = Checks {
            management_connected: health.is_connected(),
            initial_sync_complete: None,
            all_clients_healthy: None,
        };
        Self {
            status: verdict(health.is_ready()),
            checks: Some(checks),
            clients: None,
        }
    }

    /// Everything is up for the first time.
    pub(super) fn startup(health: &Health, tunnels: &[TunnelSummary]) -> Self {
        let all = Self::all(health, tunnels);
        let healthy = all.clients.iter().flatten().all(|(_, client)| client.healthy);
        Self {
            status: verdict(health.is_connected() && health.is_synced() && healthy),
            ..all
        }
    }

    /// All there is to know; new clients decide.
    pub(super) fn all(health: &Health, tunnels: &[TunnelSummary]) -> Self {
        let clients: BTreeMap<_, _> = tunnels
            .iter()
            .map(|tunnel| (tunnel.account.to_string(), client(tunnel)))
            .collect();
        let checks = Checks {
            management_connected: health.is_connected(),
            initial_sync_complete: Some(health.is_synced()),
            all_clients_healthy: Some(clients.values().all(|client| client.healthy)),
        };
        Self {
            status: verdict(health.is_ready()),
            checks: Some(checks),
            clients: Some(clients),
        }
    }

    /// Whether the status code is that of success.
    pub(super) fn is_ok(&self) -> bool {
        self.status == Verdict::Ok
    }
}

fn verdict(fine: bool) -> Verdict {
    if fine { Verdict::Ok } else { Verdict::Fail }
}

fn client(tunnel: &TunnelSummary) -> Client {
    let status = tunnel.status.as_ref();
    let management_connected = status.is_some_and(|status| status.management.is_up());
    let signal_connected = status.is_some_and(|status| status.signal.is_up());
    let relays_total = usize::from(status.is_some_and(|status| !status.relay.target.is_empty()));
    let relays_connected = usize::from(status.is_some_and(|status| status.relay.is_up()));
    let count = |test: fn(&PeerSummary) -> bool| tunnel.peers.iter().filter(|peer| test(peer)).count();
    Client {
        healthy: management_connected && signal_connected && (relays_total == 0 || relays_connected > 0),
        address: status
            .and_then(|status| status.info.as_ref())
            .map(|info| info.address),
        management_connected,
        signal_connected,
        relays_connected,
        relays_total,
        peers_total: tunnel.peers.len(),
        peers_connected: count(|peer| peer.connected),
        peers_p2p: count(|peer| peer.connected && matches!(peer.path, PeerPath::Direct(_))),
        peers_relayed: count(|peer| peer.connected && peer.path == PeerPath::Relay),
        peers_degraded: count(|peer| {
            peer.connected && peer.last_handshake_age.is_none_or(|age| age > DEGRADED)
        }),
        error: match &tunnel.state {
            TunnelState::Opening | TunnelState::Ready => None,
            TunnelState::Failed(reason) => Some(reason.clone()),
        },
    }
}

#[cfg(test)]
mod tests {
    use meshgate_mesh::{LinkState, LinkStatus, MeshInfo, MeshStatus};
    use meshgate_proto::{AccountId, WgPrivateKey};
    use serde_json::json;

    use super::*;

    fn up() -> LinkStatus {
        LinkStatus {
            state: LinkState::Up,
            target: "http://mesh:80".into(),
            last_error: None,
        }
    }

    fn tunnel(signal: LinkStatus) -> TunnelSummary {
        let peer = PeerSummary {
            key: WgPrivateKey::from_bytes([1; 32]).public(),
            fqdn: "agent.mesh".into(),
            addresses: vec!["100.64.0.1".parse().unwrap()],
            connected: true,
            path: PeerPath::Relay,
            last_handshake_age: Some(Duration::from_secs(301)),
            rx: 1,
            tx: 2,
        };
        TunnelSummary {
            account: AccountId::new("a1"),
            state: TunnelState::Ready,
            status: Some(MeshStatus {
                management: up(),
                sync: up(),
                signal,
                relay: up(),
                ..MeshStatus::default()
            }),
            peers: vec![peer],
        }
    }

    #[test]
    fn readiness_follows_management_and_draining() {
        let health = Health::default();
        let json = |health: &Health| serde_json::to_value(Answer::ready(health)).unwrap();

        assert_eq!(
            json(&health),
            json!({"status": "fail", "checks": {"management_connected": false}})
        );
        health.set_connected(true);
        assert_eq!(
            json(&health),
            json!({"status": "ok", "checks": {"management_connected": true}})
        );
        health.set_draining();
        assert_eq!(
            json(&health),
            json!({"status": "fail", "checks": {"management_connected": true}})
        );
    }

    #[test]
    fn startup_wants_the_snapshot_and_every_tunnel() {
        let health = Health::default();
        health.set_connected(true);
        assert!(!Answer::startup(&health, &[]).is_ok());

        health.set_synced();
        assert!(Answer::startup(&health, &[tunnel(up())]).is_ok());
        assert!(!Answer::startup(&health, &[tunnel(LinkStatus::default())]).is_ok());
        assert!(Answer::all(&health, &[tunnel(LinkStatus::default())]).is_ok());
    }

    #[test]
    fn clients_are_counted() {
        let answer = serde_json::to_value(Answer::all(&Health::default(), &[tunnel(up())])).unwrap();

        assert_eq!(
            answer["clients"]["a1"],
            json!({
                "healthy": true, "management_connected": true, "signal_connected": true,
                "relays_connected": 1, "relays_total": 1, "peers_total": 1, "peers_connected": 1,
                "peers_p2p": 0, "peers_relayed": 1, "peers_degraded": 1,
            })
        );
    }

    #[test]
    fn a_client_in_the_mesh_tells_its_own_address() {
        let mut tunnel = tunnel(up());
        tunnel.status.as_mut().unwrap().info = Some(MeshInfo {
            key: WgPrivateKey::from_bytes([2; 32]).public(),
            address: "100.64.0.7".parse().unwrap(),
            prefix: 16,
            address_v6: None,
            fqdn: "proxy.mesh".into(),
        });

        let answer = serde_json::to_value(Answer::all(&Health::default(), &[tunnel])).unwrap();

        assert_eq!(answer["clients"]["a1"]["address"], "100.64.0.7");
    }

    #[test]
    fn liveness_says_nothing_else() {
        assert_eq!(
            serde_json::to_value(Answer::live()).unwrap(),
            json!({"status": "ok"})
        );
    }
}
