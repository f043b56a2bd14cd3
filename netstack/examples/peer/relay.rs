//! A path with delay and loss: UDP datagrams between a client and one server.
//!
//! Datagrams travel in the batches that they came in, less those that are lost, so that the relay itself is not the
//! narrow place. Losses come from a seeded generator.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Largest batch of datagrams.
const BATCH: usize = 64 << 10;
/// Kernel buffers we ask for.
const SOCKET_BUFFER: usize = 4 << 20;
/// Bytes under way beyond which datagrams are dropped.
const CAPACITY: usize = 64 << 20;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where the client sends to.
    #[arg(long)]
    listen: SocketAddr,
    /// Where its datagrams go.
    #[arg(long)]
    target: SocketAddr,
    /// Milliseconds that a datagram is under way, each way.
    #[arg(long)]
    delay: u64,
    /// Percent of the datagrams that are lost, each way.
    #[arg(long)]
    loss: f64,
    /// Seed of the losses.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// One direction of the path.
#[derive(Debug)]
struct Way {
    from: Port,
    waiting: VecDeque<Batch>,
    bytes: usize,
}

/// A socket with offload.
#[derive(Debug)]
struct Port {
    socket: UdpSocket,
    state: UdpSocketState,
}

/// Neighbouring datagrams, all of `stride` bytes but the last.
#[derive(Debug)]
struct Batch {
    due: Instant,
    stride: usize,
    contents: Vec<u8>,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut out = Way::new(arguments.listen).await?;
    let mut back = Way::new("0.0.0.0:0".parse()?).await?;
    let mut client = None;
    let mut rng = StdRng::seed_from_u64(arguments.seed);
    let delay = Duration::from_millis(arguments.delay);
    let loss = arguments.loss / 100.0;
    let mut memory = vec![0; BATCH];
    loop {
        let next = [&out, &back].into_iter().filter_map(Way::due).min();
        tokio::select! {
            ready = out.from.socket.readable() => ready?,
            ready = back.from.socket.readable() => ready?,
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {}
        }
        client = out.take(&mut memory, delay, loss, &mut rng)?.or(client);
        back.take(&mut memory, delay, loss, &mut rng)?;
        out.pass(&back.from, arguments.target);
        if let Some(client) = client {
            back.pass(&out.from, client);
        }
    }
}

impl Way {
    async fn new(at: SocketAddr) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind(at).await.context("the relay's port is taken")?;
        let _ = SockRef::from(&socket).set_recv_buffer_size(SOCKET_BUFFER);
        let _ = SockRef::from(&socket).set_send_buffer_size(SOCKET_BUFFER);
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        Ok(Self {
            from: Port { socket, state },
            waiting: VecDeque::new(),
            bytes: 0,
        })
    }

    fn due(&self) -> Option<Instant> {
        self.waiting.front().map(|batch| batch.due)
    }

    /// Takes what arrived; says who sent it.
    fn take(
        &mut self,
        memory: &mut [u8],
        delay: Duration,
        loss: f64,
        rng: &mut StdRng,
    ) -> io::Result<Option<SocketAddr>> {
        let mut sender = None;
        while let Some(meta) = self.from.receive(memory)? {
            sender = Some(meta.addr);
            let due = Instant::now() + delay;
            let mut contents = Vec::with_capacity(meta.len);
            let stride = meta.stride.max(1);
            for datagram in memory[..meta.len].chunks(stride) {
                if rng.random::<f64>() >= loss {
                    contents.extend_from_slice(datagram);
                }
            }
            if !contents.is_empty() && self.bytes + contents.len() <= CAPACITY {
                self.bytes += contents.len();
                self.waiting.push_back(Batch {
                    due,
                    stride,
                    contents,
                });
            }
        }
        Ok(sender)
    }

    /// Sends what has been under way for long enough.
    fn pass(&mut self, through: &Port, to: SocketAddr) {
        let now = Instant::now();
        while let Some(batch) = self.waiting.pop_front_if(|batch| batch.due <= now) {
            self.bytes -= batch.contents.len();
            // A full socket loses the batch, as a full queue on a path would.
            let _ = through.send(to, &batch);
        }
    }
}

impl Port {
    fn receive(&self, memory: &mut [u8]) -> io::Result<Option<RecvMeta>> {
        let mut meta = [RecvMeta::default()];
        let received = self.socket.try_io(Interest::READABLE, || {
            let mut slots = [IoSliceMut::new(memory)];
            self.state
                .recv(UdpSockRef::from(&self.socket), &mut slots, &mut meta)
        });
        match received {
            Ok(_) => Ok(Some(meta[0])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // The other end has gone for a moment.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn send(&self, to: SocketAddr, batch: &Batch) -> io::Result<()> {
        let most = self.state.max_gso_segments().max(1).saturating_mul(batch.stride);
        for contents in batch.contents.chunks(most) {
            let transmit = Transmit {
                destination: to,
                ecn: None,
                contents,
                segment_size: (contents.len() > batch.stride).then_some(batch.stride),
                src_ip: None,
            };
            self.state.try_send(UdpSockRef::from(&self.socket), &transmit)?;
        }
        Ok(())
    }
}
