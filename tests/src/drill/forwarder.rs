//! A TCP forwarder that can be cut and stalled.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Bytes read at a time.
const CHUNK: usize = 16 * 1024;

/// What becomes of bytes and connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// They go through.
    Open,
    /// Nothing is read; what the system has buffered stays where it is.
    Stalled,
    /// Connections are closed, new ones at once.
    Cut,
}

/// Leads connections to one address; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Forwarder {
    address: SocketAddr,
    flow: watch::Sender<Flow>,
    _tasks: JoinSet<()>,
}

impl Forwarder {
    /// Listens on a free port of loopback for connections to `target`.
    pub(super) async fn start(target: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (flow, changes) = watch::channel(Flow::Open);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, changes));
        Ok(Self {
            address,
            flow,
            _tasks: tasks,
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what becomes of bytes and connections.
    pub(super) fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, flow: watch::Receiver<Flow>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) if *flow.borrow() != Flow::Cut => {
                    connections.spawn(forward(client, target, flow.clone()));
                }
                Ok(_) => {}
                // Without descriptors nothing can be accepted; the next one that ends gives some back.
                Err(_) => tokio::task::yield_now().await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn forward(client: TcpStream, target: SocketAddr, flow: watch::Receiver<Flow>) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Whichever direction ends first takes the whole connection with it.
    tokio::select! {
        () = pump(from_client, to_server, flow.clone()) => {}
        () = pump(from_server, to_client, flow) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut flow: watch::Receiver<Flow>) {
    let mut chunk = vec![0; CHUNK];
    loop {
        let open = flow
            .wait_for(|flow| *flow != Flow::Stalled)
            .await
            .is_ok_and(|flow| *flow == Flow::Open);
        if !open {
            return;
        }
        // A read that loses is cancelled before it has taken anything.
        let read = tokio::select! {
            biased;
            _ = flow.changed() => continue,
            read = from.read(&mut chunk) => read,
        };
        let Some(bytes) = read
            .ok()
            .filter(|count| *count > 0)
            .and_then(|count| chunk.get(..count))
        else {
            let _ = to.shutdown().await;
            return;
        };
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventually;

    #[tokio::test]
    async fn cut_closes_connections_and_opening_lets_new_ones_through() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let forwarder = Forwarder::start(server.local_addr().unwrap()).await.unwrap();
        let mut client = TcpStream::connect(forwarder.address()).await.unwrap();
        let (mut end, _) = server.accept().await.unwrap();
        client.write_all(b"one").await.unwrap();
        let mut got = [0; 3];
        end.read_exact(&mut got).await.unwrap();

        forwarder.set(Flow::Cut);

        assert_eq!(end.read(&mut got).await.unwrap_or(0), 0);
        assert_eq!(client.read(&mut got).await.unwrap_or(0), 0);
        forwarder.set(Flow::Open);
        let _client = TcpStream::connect(forwarder.address()).await.unwrap();
        server.accept().await.unwrap();
    }

    #[tokio::test]
    async fn stalled_bytes_come_after_the_stall() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let forwarder = Forwarder::start(server.local_addr().unwrap()).await.unwrap();
        let mut client = TcpStream::connect(forwarder.address()).await.unwrap();
        let (end, _) = server.accept().await.unwrap();
        forwarder.set(Flow::Stalled);
        client.write_all(b"late").await.unwrap();
        let mut got = [0; 4];
        assert_eq!(
            end.try_read(&mut got).unwrap_err().kind(),
            std::io::ErrorKind::WouldBlock
        );

        forwarder.set(Flow::Open);

        eventually("the bytes come", async || match end.try_read(&mut got) {
            Ok(4) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        assert_eq!(&got, b"late");
    }
}
