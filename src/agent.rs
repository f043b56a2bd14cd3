//! The agent: a rootless peer that hands what arrives on its overlay address to services of its host.
//!
//! A connection to overlay port N goes to port N of the loopback address, when the port is on the allow list
//! and the firewall rules of the network map let the peer in. The agent decides nothing else.

mod allow;
mod forward;

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context as _;
use meshgate_mesh::{Inbound, ListenSpec, Mesh, MeshConfig, MeshInfo, NotReady};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

pub(crate) use self::allow::AllowedPorts;

/// Longest wait for open connections when the agent stops. Short, as the proxy keeps idle ones open and can tell
/// its visitors that we left only once we said so.
const DRAIN: Duration = Duration::from_millis(500);

/// What an agent is made of.
#[derive(Debug)]
pub(crate) struct AgentConfig {
    /// The mesh client.
    pub(crate) mesh: MeshConfig,
    /// Ports that may be reached.
    pub(crate) allowed: AllowedPorts,
    /// Where connections go.
    pub(crate) forward_to: IpAddr,
}

/// A running agent.
#[derive(Debug)]
pub(crate) struct Agent {
    mesh: Mesh,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Agent {
    /// Joins the mesh and begins to take connections.
    pub(crate) fn start(mut config: AgentConfig) -> anyhow::Result<Self> {
        config.mesh.inbound = Inbound::Firewall;
        let mesh = Mesh::start(config.mesh).context("cannot start the agent")?;
        let listener = mesh
            .listen(ListenSpec::AnyPort {
                filter: config.allowed.clone().into_filter(),
            })
            .context("cannot listen inside the mesh")?;
        let stop = CancellationToken::new();
        let tracker = TaskTracker::new();
        info!(allowed = %config.allowed, to = %config.forward_to, "Forwarding connections from the mesh");
        tracker.spawn(forward::run(
            listener,
            config.forward_to,
            tracker.clone(),
            stop.clone(),
        ));
        Ok(Self { mesh, stop, tracker })
    }

    /// Waits until the agent is in the mesh.
    pub(crate) async fn ready(&self, within: Duration) -> Result<MeshInfo, NotReady> {
        self.mesh.ready(within).await
    }

    /// Waits until the agent can do no more: management refused it for good.
    pub(crate) async fn failed(&self) -> anyhow::Error {
        let mut status = self.mesh.watch();
        loop {
            if let Some(failure) = status.borrow_and_update().permanent.clone() {
                return failure.into();
            }
            if status.changed().await.is_err() {
                return anyhow::anyhow!("the mesh client ended");
            }
        }
    }

    /// Leaves the mesh: peers learn at once, open connections get half a second.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(DRAIN, self.tracker.wait()).await.is_err() {
            info!(
                open = self.tracker.len(),
                "Cut connections that did not finish in time"
            );
        }
        self.mesh.stop().await;
    }
}
