//! The only loop: datagrams in, the node's turn, datagrams out, sleep.
//!
//! One turn takes at most two receive batches and what the relay queue holds, gives the node's connections one pass,
//! and yields to the runtime. It decides nothing; the node does.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use meshgate_netstack_core::{Destination, Fullness, Progress, PublicKey, Source, TxBatch};
use rustc_hash::FxHashMap;
use tokio::time::Sleep;

use crate::shared::{Relayed, Shared};
use crate::udp::{Received, is_wireguard};
use crate::{Datagram, Incoming, TcpStream};

/// Receive batches taken before the node's connections get their turn.
const RECEIVES_PER_TURN: usize = 2;
/// Pause before a full relay transport is tried again, if it does not call first.
const RELAY_RETRY: Duration = Duration::from_millis(1);
/// Pause after the socket failed, so that a lasting fault does not spin.
const RECEIVE_PAUSE: Duration = Duration::from_millis(100);
/// Datagrams kept for a full relay transport. Connections stop first, so only handshakes and replies add to it.
const RELAY_BACKLOG: usize = 1024;

#[derive(Debug)]
pub(crate) struct Driver {
    shared: Arc<Shared>,
    batch: TxBatch,
    received: Option<Received>,
    relayed: VecDeque<Relayed>,
    backlogs: FxHashMap<PublicKey, VecDeque<Bytes>>,
    sleep: Pin<Box<Sleep>>,
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let received = shared.socket.is_some().then(Received::new);
        Self {
            shared,
            batch: TxBatch::new(),
            received,
            relayed: VecDeque::new(),
            backlogs: FxHashMap::default(),
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    /// Runs until the netstack stops; every connection is reset on the way out.
    pub(crate) async fn run(mut self) {
        while !self.shared.is_stopping() {
            let mut worked = false;
            for _ in 0..RECEIVES_PER_TURN {
                worked |= self.receive_udp().await;
            }
            worked |= self.receive_relayed().await;
            self.retry_relays();
            self.turn().await;
            self.forget_removed();
            self.deliver();
            if worked {
                tokio::task::yield_now().await;
            } else {
                self.wait().await;
            }
        }
        self.shared.node.lock().abort_all();
        self.turn().await;
    }

    async fn receive_udp(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let (Some(socket), Some(mut received)) = (shared.socket.as_ref(), self.received.take()) else {
            return false;
        };
        if let Err(error) = socket.try_receive(&mut received) {
            tracing::warn!(%error, "Receiving datagrams failed");
            tokio::time::sleep(RECEIVE_PAUSE).await;
        }
        let total = received.datagrams().count();
        let mut handled = 0;
        while handled < total {
            handled += self.ingest(&received, handled);
            self.flush().await;
        }
        self.received = Some(received);
        total > 0
    }

    /// Hands datagrams to the node from the `skip`th on, as long as its answers find room; says how many.
    fn ingest(&mut self, received: &Received, skip: usize) -> usize {
        let now = Instant::now();
        let mut handled = 0;
        let mut node = self.shared.node.lock();
        for (source, datagram) in received.datagrams().skip(skip) {
            if !self.batch.has_room() {
                break;
            }
            handled += 1;
            if is_wireguard(datagram) {
                node.handle_datagram(now, Source::Direct(source), datagram, &mut self.batch);
            } else {
                let others = self.shared.others.lock();
                let datagram = Datagram {
                    source,
                    payload: Bytes::copy_from_slice(datagram),
                };
                if others
                    .as_ref()
                    .is_none_or(|others| others.try_send(datagram).is_err())
                {
                    self.shared.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        handled
    }

    async fn receive_relayed(&mut self) -> bool {
        self.relayed = self.shared.take_relayed();
        let any = !self.relayed.is_empty();
        while !self.relayed.is_empty() {
            let now = Instant::now();
            {
                let mut node = self.shared.node.lock();
                while self.batch.has_room()
                    && let Some(relayed) = self.relayed.pop_front()
                {
                    node.handle_datagram(
                        now,
                        Source::Relay(relayed.peer),
                        &relayed.datagram,
                        &mut self.batch,
                    );
                }
            }
            self.flush().await;
        }
        any
    }

    /// Runs the node's timers and sends what it has.
    async fn turn(&mut self) {
        self.shared
            .node
            .lock()
            .handle_timeout(Instant::now(), &mut self.batch);
        loop {
            let progress = self
                .shared
                .node
                .lock()
                .poll_transmit(Instant::now(), &mut self.batch);
            self.flush().await;
            match progress {
                Progress::Done => return,
                Progress::BatchFull => tokio::task::consume_budget().await,
            }
        }
    }

    /// Lets go of the relay transports of peers that were removed, once their resets are out.
    fn forget_removed(&mut self) {
        for peer in self.shared.take_removed() {
            if self.shared.node.lock().peer_stats(&peer).is_none() {
                self.shared.sinks.lock().remove(&peer);
                self.backlogs.remove(&peer);
            }
        }
    }

    async fn flush(&mut self) {
        for run in self.batch.transmits() {
            match run.destination {
                Destination::Direct(to) => {
                    let Some(socket) = &self.shared.socket else {
                        continue;
                    };
                    if let Err(error) = socket.send(to, run.segment_size, run.contents).await {
                        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
                        tracing::trace!(%to, %error, "Datagrams were dropped");
                    }
                }
                Destination::Relay(peer) => {
                    for datagram in run.datagrams() {
                        relay(&self.shared, &mut self.backlogs, peer, datagram);
                    }
                }
            }
        }
        self.batch.clear();
    }

    fn retry_relays(&mut self) {
        let mut drained = Vec::new();
        for (peer, backlog) in &mut self.backlogs {
            let sink = self.shared.sinks.lock().get(peer).cloned();
            while backlog
                .front()
                .is_some_and(|datagram| sink.as_ref().is_none_or(|sink| sink.try_send(datagram)))
            {
                backlog.pop_front();
            }
            if backlog.is_empty() {
                drained.push(*peer);
            }
        }
        for peer in drained {
            self.backlogs.remove(&peer);
            self.shared.node.lock().set_path_full(&peer, Fullness::HasRoom);
        }
    }

    /// Passes on news and accepted connections.
    fn deliver(&mut self) {
        loop {
            let (event, accepted) = {
                let mut node = self.shared.node.lock();
                (node.poll_event(), node.poll_accept())
            };
            if event.is_none() && accepted.is_none() {
                return;
            }
            if let Some(event) = event {
                // Nobody listening is fine.
                let _ = self.shared.events.send(event);
            }
            let Some((listener, stream)) = accepted else {
                continue;
            };
            let acceptor = self.shared.acceptors.lock().get(&listener).cloned();
            let incoming = Incoming::new(TcpStream::new(stream));
            let Some(acceptor) = acceptor else {
                incoming.stream.abort();
                continue;
            };
            if let Err(refused) = acceptor.try_send(incoming) {
                refused.into_inner().stream.abort();
            }
        }
    }

    async fn wait(&mut self) {
        let timeout = self.shared.node.lock().poll_timeout();
        let retry = (!self.backlogs.is_empty()).then(|| Instant::now() + RELAY_RETRY);
        let deadline = [timeout, retry].into_iter().flatten().min();
        if let Some(deadline) = deadline {
            self.sleep.as_mut().reset(deadline.into());
        }
        poll_fn(|cx| self.poll_wake(cx, deadline.is_some())).await;
    }

    fn poll_wake(&mut self, cx: &mut Context<'_>, timed: bool) -> Poll<()> {
        if self.shared.kick.take_kick(cx.waker()) {
            return Poll::Ready(());
        }
        if let Some(socket) = &self.shared.socket
            && socket.socket().poll_recv_ready(cx).is_ready()
        {
            return Poll::Ready(());
        }
        if timed {
            self.sleep.as_mut().poll(cx)
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Driver {
    /// However the driver ends, nobody may wait for it any longer.
    fn drop(&mut self) {
        self.shared.stop();
        self.shared.node.lock().abort_all();
        self.shared.acceptors.lock().clear();
        self.shared.done.cancel();
    }
}

/// Hands a datagram to the peer's relay transport, or keeps it while that is full.
fn relay(
    shared: &Shared,
    backlogs: &mut FxHashMap<PublicKey, VecDeque<Bytes>>,
    peer: PublicKey,
    datagram: &[u8],
) {
    if let Some(backlog) = backlogs.get_mut(&peer) {
        if backlog.len() < RELAY_BACKLOG {
            backlog.push_back(Bytes::copy_from_slice(datagram));
        } else {
            shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
        // A new path may have let the connections go on before the old one's queue was through.
        shared.node.lock().set_path_full(&peer, Fullness::Full);
        return;
    }
    let sink = shared.sinks.lock().get(&peer).cloned();
    if sink.is_some_and(|sink| !sink.try_send(datagram)) {
        backlogs.insert(peer, VecDeque::from([Bytes::copy_from_slice(datagram)]));
        shared.node.lock().set_path_full(&peer, Fullness::Full);
    }
}
