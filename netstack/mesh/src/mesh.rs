//! The handle that applications hold.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use meshgate_netstack::{ConnectError, ListenSpec, TcpListener, TcpStream};
use meshgate_proto::WgPublicKey;
use tokio::sync::watch;

use crate::{MeshConfig, MeshInfo, MeshStatus, NotReady, PeerSummary, StartError};

/// A running mesh client. Clones share it; when the last one goes, it stops without a farewell.
#[derive(Debug, Clone)]
pub struct Mesh {
    status: watch::Receiver<MeshStatus>,
}

impl Mesh {
    /// Starts a client on the current tokio runtime.
    ///
    /// It never gives up on what may heal: unreachable servers, restarts, changed addresses. It gives up when
    /// management says that this peer is not welcome; see [`MeshStatus::permanent`].
    pub fn start(config: MeshConfig) -> Result<Self, StartError> {
        let _ = config;
        todo!()
    }

    /// Our public key.
    pub fn public_key(&self) -> WgPublicKey {
        todo!()
    }

    /// Waits until a map is in force and signal and relay are up.
    pub async fn ready(&self, within: Duration) -> Result<MeshInfo, NotReady> {
        let _ = within;
        todo!()
    }

    /// The connections at this moment.
    pub fn status(&self) -> MeshStatus {
        self.status.borrow().clone()
    }

    /// Changes of [`Mesh::status`].
    pub fn watch(&self) -> watch::Receiver<MeshStatus> {
        self.status.clone()
    }

    /// Opens a connection to an overlay address, waking the peer's connection when it sleeps.
    ///
    /// # Errors
    /// [`ConnectError::NoPeer`] for an address of nobody and [`ConnectError::PeerOffline`] for a peer that left
    /// come as soon as that is known, [`ConnectError::TimedOut`] after `within`.
    pub async fn connect(&self, to: SocketAddr, within: Duration) -> Result<TcpStream, ConnectError> {
        let _ = (to, within);
        todo!()
    }

    /// Takes connections that peers open, as far as [`MeshConfig::inbound`] and the map's rules allow.
    pub fn listen(&self, spec: ListenSpec) -> io::Result<TcpListener> {
        let _ = spec;
        todo!()
    }

    /// The peers of the map in force, in the order of their names.
    pub fn peers(&self) -> Vec<PeerSummary> {
        todo!()
    }

    /// Our overlay address; `None` before the first map.
    pub fn overlay_ip(&self) -> Option<Ipv4Addr> {
        self.status.borrow().info.as_ref().map(|info| info.address)
    }

    /// Says farewell to the relay and ends every task; peers learn at once that we left.
    pub async fn stop(&self) {
        todo!()
    }
}
