//! Carries one connection from the mesh to the host, many times over.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use meshgate_mesh::{Carried, Incoming, TcpListener, copy_both};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

/// Most connections at a time; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 16_384;
/// Longest wait for a service of the host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Accepts until told to stop.
pub(super) async fn run(
    mut listener: TcpListener,
    forward_to: IpAddr,
    tracker: TaskTracker,
    stop: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let permit = tokio::select! {
            () = stop.cancelled() => return,
            permit = Arc::clone(&permits).acquire_owned() => permit,
        };
        let Ok(permit) = permit else { return };
        let incoming = tokio::select! {
            () = stop.cancelled() => return,
            incoming = listener.accept() => incoming,
        };
        let incoming = match incoming {
            Ok(incoming) => incoming,
            Err(error) => {
                warn!(%error, "Stopped taking connections from the mesh");
                return;
            }
        };
        tracker.spawn(async move {
            forward(incoming, forward_to).await;
            drop(permit);
        });
    }
}

async fn forward(incoming: Incoming, forward_to: IpAddr) {
    let Incoming {
        mut stream,
        remote,
        local,
        ..
    } = incoming;
    let to = SocketAddr::new(forward_to, local.port());
    let mut service = match connect(to).await {
        Ok(service) => service,
        Err(error) => {
            debug!(%remote, %to, %error, "Refused a connection: the service did not answer");
            stream.abort();
            return;
        }
    };
    match copy_both(&mut stream, &mut service, &mut Carried::default()).await {
        Ok(()) => {}
        Err(error) => {
            debug!(%remote, %to, %error, "Cut a connection");
            stream.abort();
        }
    }
}

async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let service = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(to)).await??;
    service.set_nodelay(true)?;
    Ok(service)
}
