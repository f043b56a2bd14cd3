//! Tells a client how many bytes its uploads brought: what was written is not yet there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Answers every byte with the number of bytes so far.
pub(crate) async fn serve(at: SocketAddr, sunk: Arc<AtomicU64>) -> std::io::Result<()> {
    let listener = TcpListener::bind(at).await?;
    let mut asking = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        asking.spawn(answer(stream, Arc::clone(&sunk)));
        while asking.try_join_next().is_some() {}
    }
}

async fn answer(mut asking: TcpStream, sunk: Arc<AtomicU64>) -> std::io::Result<()> {
    asking.set_nodelay(true)?;
    loop {
        asking.read_u8().await?;
        asking.write_u64(sunk.load(Ordering::Relaxed)).await?;
    }
}

/// A connection to the server's counter, outside of the tunnel.
#[derive(Debug)]
pub(crate) struct Counter(TcpStream);

impl Counter {
    pub(crate) async fn open(at: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    pub(crate) async fn read(&mut self) -> std::io::Result<u64> {
        self.0.write_u8(0).await?;
        self.0.read_u64().await
    }
}
