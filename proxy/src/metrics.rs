//! Counters of the proxy and their text for Prometheus.

use std::fmt::Write as _;
use std::sync::Arc;

use arc_swap::ArcSwap;
use meshgate_mesh::PeerSummary;

use crate::access_log::AccessLogSink;
use crate::login::Login;
use crate::routing::Snapshot;
use crate::tunnels::TunnelSummary;

/// What counters are read from.
#[derive(Debug)]
pub(crate) struct Metrics {
    snapshot: Arc<ArcSwap<Snapshot>>,
    access_log: AccessLogSink,
    login: Arc<Login>,
}

/// What is looked up at the moment of a scrape.
#[derive(Debug)]
pub(crate) struct Scrape<'a> {
    /// The mapping stream is open.
    pub(crate) connected: bool,
    /// Connections of clients that are open.
    pub(crate) connections: usize,
    /// All tunnels.
    pub(crate) tunnels: &'a [TunnelSummary],
}

impl Metrics {
    /// Reads from these.
    pub(crate) fn new(
        snapshot: Arc<ArcSwap<Snapshot>>,
        access_log: AccessLogSink,
        login: Arc<Login>,
    ) -> Self {
        Self {
            snapshot,
            access_log,
            login,
        }
    }

    /// The text format of Prometheus.
    pub(crate) fn render(&self, scrape: &Scrape<'_>) -> String {
        let snapshot = self.snapshot.load();
        let paths: usize = snapshot.routes().map(|route| route.paths.values().count()).sum();
        let mut text = Text(String::new());
        text.family(
            "proxy_http_request_counter_total",
            "counter",
            "Requests to known services.",
        );
        text.value("proxy_http_request_counter_total", "", self.login.requests());
        text.family(
            "proxy_client_connections",
            "gauge",
            "Connections of clients that are open.",
        );
        text.value("proxy_client_connections", "", scrape.connections);
        text.family("proxy_domains_count", "gauge", "Hosts that are served.");
        text.value("proxy_domains_count", "", snapshot.routes().count());
        text.family("proxy_paths_count", "gauge", "Targets that are served.");
        text.value("proxy_paths_count", "", paths);
        text.family("proxy_snapshot_revision", "counter", "Changes of the routes.");
        text.value("proxy_snapshot_revision", "", snapshot.revision());
        text.family(
            "proxy_management_connected",
            "gauge",
            "1 while the mapping stream is open.",
        );
        text.value("proxy_management_connected", "", u8::from(scrape.connected));
        text.family(
            "proxy_access_log_dropped_total",
            "counter",
            "Access log lines that were dropped.",
        );
        text.value("proxy_access_log_dropped_total", "", self.access_log.dropped());
        text.tunnels(scrape.tunnels);
        text.0
    }
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn tunnels(&mut self, tunnels: &[TunnelSummary]) {
        let families = [
            Family {
                name: "proxy_tunnel_receive_bytes_total",
                kind: "counter",
                help: "Bytes received from peers.",
                of_peer: |peer| peer.rx,
            },
            Family {
                name: "proxy_tunnel_transmit_bytes_total",
                kind: "counter",
                help: "Bytes sent to peers.",
                of_peer: |peer| peer.tx,
            },
            Family {
                name: "proxy_tunnel_peers_connected",
                kind: "gauge",
                help: "Peers with a handshake in force.",
                of_peer: |peer| u64::from(peer.connected),
            },
        ];
        for family in families {
            self.family(family.name, family.kind, family.help);
            for tunnel in tunnels {
                let labels = format!("{{account_id=\"{}\"}}", escaped(tunnel.account.as_str()));
                let sum: u64 = tunnel.peers.iter().map(family.of_peer).sum();
                self.value(family.name, &labels, sum);
            }
        }
    }
}

/// A number of each tunnel that adds up over its peers.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    of_peer: fn(&PeerSummary) -> u64,
}

fn escaped(label: &str) -> String {
    label
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use meshgate_proto::{AccountId, SystemClock};

    use super::*;
    use crate::login::tests::Nobody;
    use crate::tunnels::TunnelState;

    #[test]
    fn names_what_it_counts() {
        let (sink, _lines) = AccessLogSink::new();
        let login = Login::new(Arc::new(Nobody), Arc::new(SystemClock));
        let metrics = Metrics::new(Arc::default(), sink, Arc::new(login));
        let tunnel = TunnelSummary {
            account: AccountId::new("a\"1"),
            state: TunnelState::Ready,
            status: None,
            peers: Vec::new(),
        };

        let text = metrics.render(&Scrape {
            connected: true,
            connections: 3,
            tunnels: &[tunnel],
        });

        assert!(text.contains("\nproxy_http_request_counter_total 0\n"));
        assert!(text.contains("\nproxy_client_connections 3\n"));
        assert!(text.contains("\nproxy_management_connected 1\n"));
        assert!(text.contains("proxy_tunnel_receive_bytes_total{account_id=\"a\\\"1\"} 0\n"));
    }
}
