//! A small relay: tokens, presence, datagrams.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use meshgate_proto::relay::{Frame, PeerHash, RelayKey, RelayToken};
use meshgate_proto::{Clock, Secret, SystemClock};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

/// Everything the relay knows.
pub(crate) struct Hub {
    url: String,
    key: RelayKey,
    state: Mutex<State>,
    next: AtomicU64,
}

#[derive(Default)]
struct State {
    clients: HashMap<PeerHash, (u64, mpsc::Sender<Bytes>)>,
    /// Who waits for whom to come.
    awaited: HashMap<PeerHash, HashSet<PeerHash>>,
    /// Who wants to hear of whose going.
    watched: HashMap<PeerHash, HashSet<PeerHash>>,
    tokens: Vec<Bytes>,
    farewells: usize,
}

impl Hub {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            url: format!("rel://{address}"),
            key: RelayKey::new(&Secret::from("relay-secret")),
            state: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    pub(crate) fn token(key_secret: &str, seconds: i64) -> RelayToken {
        let now = SystemClock.now().as_secs();
        RelayKey::new(&Secret::from(key_secret)).mint(meshgate_proto::UnixTime::from_secs(now + seconds))
    }

    /// Tokens that clients showed, refused ones included.
    pub(crate) fn tokens(&self) -> Vec<Bytes> {
        self.state.lock().tokens.clone()
    }

    /// Clients that said Close.
    pub(crate) fn farewells(&self) -> usize {
        self.state.lock().farewells
    }

    /// The canonical name.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Puts a peer there without a connection; what it is sent comes out here.
    pub(crate) fn place(&self, hash: PeerHash) -> mpsc::Receiver<Bytes> {
        let (sender, receiver) = mpsc::channel(4096);
        self.enter(hash, sender);
        receiver
    }

    pub(crate) fn forget(&self) {
        let mut state = self.state.lock();
        state.clients.clear();
        state.awaited.clear();
        state.watched.clear();
    }

    fn enter(&self, hash: PeerHash, sender: mpsc::Sender<Bytes>) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        state.clients.insert(hash, (id, sender));
        for waiting in state.awaited.remove(&hash).unwrap_or_default() {
            state.tell(&waiting, &Frame::PeersOnline(vec![hash]));
        }
        id
    }

    fn leave(&self, hash: &PeerHash, id: u64) {
        let mut state = self.state.lock();
        if state.clients.get(hash).is_none_or(|(current, _)| *current != id) {
            return;
        }
        state.clients.remove(hash);
        for watcher in state.watched.get(hash).cloned().unwrap_or_default() {
            state.tell(&watcher, &Frame::PeersWentOffline(vec![*hash]));
        }
    }

    fn handle(&self, from: PeerHash, frame: Frame) {
        let mut state = self.state.lock();
        match frame {
            Frame::Transport { peer, datagram } => {
                let frame = Frame::Transport { peer: from, datagram };
                state.tell(&peer, &frame);
            }
            Frame::SubscribePeerState(peers) => {
                let mut online = Vec::new();
                for peer in peers {
                    state.watched.entry(peer).or_default().insert(from);
                    if state.clients.contains_key(&peer) {
                        online.push(peer);
                    } else {
                        state.awaited.entry(peer).or_default().insert(from);
                    }
                }
                if !online.is_empty() {
                    state.tell(&from, &Frame::PeersOnline(online));
                }
            }
            Frame::UnsubscribePeerState(peers) => {
                for peer in peers {
                    state.watched.entry(peer).or_default().remove(&from);
                    state.awaited.entry(peer).or_default().remove(&from);
                }
            }
            Frame::Close => state.farewells += 1,
            Frame::HealthCheck
            | Frame::Auth { .. }
            | Frame::AuthResponse { .. }
            | Frame::PeersOnline(_)
            | Frame::PeersWentOffline(_) => {}
        }
    }
}

impl State {
    fn tell(&self, to: &PeerHash, frame: &Frame) {
        if let Some((_, sender)) = self.clients.get(to) {
            let _ = sender.try_send(frame.encode());
        }
    }
}

pub(crate) async fn serve(listener: TcpListener, hub: Arc<Hub>) {
    while let Ok((tcp, _)) = listener.accept().await {
        let hub = Arc::clone(&hub);
        tokio::spawn(async move { client(tcp, &hub).await });
    }
}

async fn client(tcp: TcpStream, hub: &Hub) -> Option<()> {
    tcp.set_nodelay(true).ok()?;
    let mut socket = tokio_tungstenite::accept_async(tcp).await.ok()?;
    let Message::Binary(first) = socket.next().await?.ok()? else {
        return None;
    };
    let Ok(Frame::Auth { peer, token }) = Frame::parse(&first) else {
        return None;
    };
    hub.state.lock().tokens.push(token.clone());
    hub.key.check(&token, SystemClock.now()).ok()?;
    let answer = Frame::AuthResponse {
        instance_url: hub.url.clone(),
    };
    socket.send(Message::Binary(answer.encode())).await.ok()?;
    let (sender, mut queue) = mpsc::channel(4096);
    let id = hub.enter(peer, sender);
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) => hub.handle(peer, Frame::parse(&bytes).ok()?),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            },
            frame = queue.recv() => {
                let Some(frame) = frame else { break };
                if socket.send(Message::Binary(frame)).await.is_err() {
                    break;
                }
            }
        }
    }
    hub.leave(&peer, id);
    Some(())
}
