//! What the two ends say to each other: the first byte of a connection names the load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::link::Connection;

/// Bytes of one read or write of a transfer.
const CHUNK: usize = 64 << 10;
/// Bytes of a small request and of its answer.
const REQUEST: usize = 64;
const ANSWER: usize = 128;

/// A kind of load, as the client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Load {
    /// The server sends all the time.
    Down,
    /// The client sends all the time.
    Up,
    /// Small requests, one after the other on each connection.
    Requests,
}

/// What a client's connections did so far.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) bytes: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) stop: AtomicBool,
    /// Microseconds that requests took.
    pub(crate) latencies: Mutex<Vec<u32>>,
}

impl Load {
    fn code(self) -> u8 {
        match self {
            Self::Down => b'd',
            Self::Up => b'u',
            Self::Requests => b'r',
        }
    }

    /// Runs the client's end until it is told to stop; pauses `pace` between requests.
    pub(crate) async fn drive(
        self,
        mut connection: Box<dyn Connection>,
        progress: Arc<Progress>,
        pace: Duration,
    ) {
        let connection = connection.as_mut();
        let outcome = match connection.write_all(&[self.code()]).await {
            Ok(()) => match self {
                Self::Down => drain(connection, &progress).await,
                Self::Up => fill(connection, &progress).await,
                Self::Requests => ask(connection, &progress, pace).await,
            },
            Err(error) => Err(error),
        };
        if outcome.is_err() && !progress.stop.load(Ordering::Relaxed) {
            progress.errors.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Runs the server's end of whatever the client asks for.
pub(crate) async fn answer(mut connection: Box<dyn Connection>, sunk: &AtomicU64) -> std::io::Result<()> {
    match connection.read_u8().await? {
        b'd' => {
            let chunk = vec![7; CHUNK];
            loop {
                connection.write_all(&chunk).await?;
            }
        }
        b'u' => {
            let mut chunk = vec![0; CHUNK];
            loop {
                let len = connection.read(&mut chunk).await?;
                if len == 0 {
                    return Ok(());
                }
                sunk.fetch_add(len as u64, Ordering::Relaxed);
            }
        }
        _ => {
            let (mut request, reply) = ([0; REQUEST], [7; ANSWER]);
            loop {
                connection.read_exact(&mut request).await?;
                connection.write_all(&reply).await?;
            }
        }
    }
}

async fn drain(connection: &mut dyn Connection, progress: &Progress) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    while !progress.stop.load(Ordering::Relaxed) {
        let len = connection.read(&mut chunk).await?;
        if len == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        progress.bytes.fetch_add(len as u64, Ordering::Relaxed);
    }
    Ok(())
}

async fn fill(connection: &mut dyn Connection, progress: &Progress) -> std::io::Result<()> {
    let chunk = vec![7; CHUNK];
    while !progress.stop.load(Ordering::Relaxed) {
        connection.write_all(&chunk).await?;
    }
    Ok(())
}

async fn ask(connection: &mut dyn Connection, progress: &Progress, pace: Duration) -> std::io::Result<()> {
    let (request, mut reply) = ([7; REQUEST], [0; ANSWER]);
    while !progress.stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        connection.write_all(&request).await?;
        connection.read_exact(&mut reply).await?;
        let micros = u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX);
        progress.latencies.lock().push(micros);
        progress.requests.fetch_add(1, Ordering::Relaxed);
        if !pace.is_zero() {
            tokio::time::sleep(pace).await;
        }
    }
    Ok(())
}
