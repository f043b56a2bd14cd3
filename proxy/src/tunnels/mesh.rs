//! The mesh client as a tunnel.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use meshgate_mesh::{
    ConnectError, Inbound, ManagementUrl, Mesh, MeshConfig, MeshStatus, MetaFlags, PeerSummary, PresharedKey,
};
use meshgate_proto::{ProxyId, WgPrivateKey};
use tokio::sync::watch;

use super::{Tunnel, TunnelStarter};
use crate::upstream::{DialError, Io};
use crate::workers::{Place, Workers};

/// What the mesh clients of all accounts have in common.
#[derive(Clone, Debug)]
pub(crate) struct MeshSettings {
    /// Where the mesh is joined.
    pub(crate) management: ManagementUrl,
    /// Further certificate authorities.
    pub(crate) root_ca: Option<PathBuf>,
    /// Names the peer.
    pub(crate) proxy_id: ProxyId,
    /// UDP port; 0 chooses.
    pub(crate) wg_port: u16,
    /// A key that every peer was given beside management.
    pub(crate) preshared_key: Option<PresharedKey>,
}

/// Starts mesh clients that take no connections.
#[derive(Debug)]
pub(crate) struct MeshStarter {
    settings: MeshSettings,
    workers: Workers,
}

/// A mesh client with the place that it runs at.
#[derive(Debug)]
struct PlacedMesh {
    mesh: Mesh,
    _place: Place,
}

impl MeshStarter {
    /// All mesh clients run on `workers`, each on one of them.
    pub(crate) fn new(settings: MeshSettings, workers: Workers) -> Self {
        Self { settings, workers }
    }
}

impl TunnelStarter for MeshStarter {
    fn start(&self, key: WgPrivateKey) -> Result<Arc<dyn Tunnel>, String> {
        let settings = &self.settings;
        let hostname = format!("ingress-proxy-{}", settings.proxy_id);
        let config = MeshConfig {
            extra_root_ca: settings.root_ca.clone(),
            preshared_key: settings.preshared_key.clone(),
            wg_port: Some(settings.wg_port).filter(|port| *port != 0),
            direct_paths: true,
            inbound: Inbound::DenyAll,
            flags: MetaFlags {
                disable_server_routes: true,
                block_lan_access: true,
                block_inbound: true,
                ..MetaFlags::default()
            },
            ..MeshConfig::new(settings.management.clone(), key, hostname)
        };
        let place = self.workers.place();
        let mesh = {
            let _inside = place.runtime().enter();
            Mesh::start(config).map_err(|error| with_sources(&error))?
        };
        Ok(Arc::new(PlacedMesh { mesh, _place: place }))
    }
}

#[async_trait]
impl Tunnel for PlacedMesh {
    async fn connect(&self, to: SocketAddr, within: Duration) -> Result<Box<dyn Io>, DialError> {
        match self.mesh.connect(to, within).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(dial_error(error)),
        }
    }

    fn status(&self) -> watch::Receiver<MeshStatus> {
        self.mesh.watch()
    }

    fn peers(&self) -> Vec<PeerSummary> {
        self.mesh.peers()
    }

    async fn stop(&self) {
        self.mesh.stop().await;
    }
}

fn dial_error(error: ConnectError) -> DialError {
    match error {
        ConnectError::NoPeer => DialError::NoRoute,
        ConnectError::PeerOffline | ConnectError::Closed => DialError::PeerNotConnected,
        ConnectError::TimedOut => DialError::TimedOut,
        ConnectError::Refused => DialError::Refused,
        ConnectError::Reset => DialError::Reset,
        ConnectError::PortsExhausted => DialError::Io(std::io::Error::other(error)),
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
