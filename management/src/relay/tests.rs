use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use meshgate_proto::relay::{Frame, MAX_FRAME, PeerHash, RelayKey};
use meshgate_proto::{Clock, ManualClock, Secret, UnixTime};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, timeout};

use super::Relay;
use super::session::run;

const URL: &str = "rel://10.0.0.1:8080";
const A: PeerHash = PeerHash::from_bytes([1; 36]);
const B: PeerHash = PeerHash::from_bytes([2; 36]);
const C: PeerHash = PeerHash::from_bytes([3; 36]);

#[tokio::test]
async fn a_good_token_is_answered_with_the_instance_url() {
    let (relay, clock) = relay();
    let mut client = Client::raw(&relay);

    client.send(&auth(A, clock.now())).await;

    assert_eq!(
        client.receive().await,
        Some(Frame::AuthResponse {
            instance_url: URL.to_owned()
        })
    );
}

#[tokio::test]
async fn bad_tokens_and_other_first_words_are_hung_up_on() {
    let (relay, clock) = relay();
    let expired = auth(A, clock.now().saturating_sub(Duration::from_hours(13)));
    let forged = Frame::Auth {
        peer: A,
        token: key("other").mint(clock.now()).to_bytes(),
    };
    let long = Frame::Auth {
        peer: A,
        token: Bytes::from(vec![1; 300]),
    };
    for frame in [expired, forged, long, Frame::HealthCheck, transport(B, b"x")] {
        let mut client = Client::raw(&relay);

        client.send(&frame).await;

        assert_eq!(client.receive().await, None, "{frame:?}");
    }
    assert_eq!(relay.stats().connected, 0);
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_hung_up_on_after_ten_seconds() {
    let (relay, _) = relay();
    let start = Instant::now();
    let mut client = Client::raw(&relay);

    assert_eq!(client.receive().await, None);
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn datagrams_arrive_with_the_name_of_their_sender() {
    let (relay, clock) = relay();
    let mut a = Client::join(&relay, &clock, A).await;
    let mut b = Client::join(&relay, &clock, B).await;

    for len in [0, 1, 86, 87, 88, 125, 126, 1452, MAX_FRAME - 38] {
        let datagram = vec![0x5a; len];
        a.send(&transport(B, &datagram)).await;
        assert_eq!(b.receive().await, Some(transport(A, &datagram)));
    }
    a.send(&transport(A, b"self")).await;
    assert_eq!(a.receive().await, Some(transport(A, b"self")));
}

#[tokio::test]
async fn datagrams_to_nobody_are_dropped_in_silence() {
    let (relay, clock) = relay();
    let mut a = Client::join(&relay, &clock, A).await;
    let mut b = Client::join(&relay, &clock, B).await;

    a.send(&transport(C, b"lost")).await;
    a.send(&transport(B, b"kept")).await;

    assert_eq!(b.receive().await, Some(transport(A, b"kept")));
}

#[tokio::test]
async fn presence_is_told_at_once_and_once_and_loss_until_nobody_cares() {
    let (relay, clock) = relay();
    let mut a = Client::join(&relay, &clock, A).await;
    let b = Client::join(&relay, &clock, B).await;

    a.send(&Frame::SubscribePeerState(vec![B, C])).await;
    assert_eq!(a.receive().await, Some(Frame::PeersOnline(vec![B])));
    let c = Client::join(&relay, &clock, C).await;
    assert_eq!(a.receive().await, Some(Frame::PeersOnline(vec![C])));
    drop(b);
    assert_eq!(a.receive().await, Some(Frame::PeersWentOffline(vec![B])));

    a.send(&Frame::UnsubscribePeerState(vec![C])).await;
    a.send(&Frame::SubscribePeerState(vec![A])).await;
    assert_eq!(a.receive().await, Some(Frame::PeersOnline(vec![A])));
    drop(c);
    let mut b = Client::join(&relay, &clock, B).await;
    b.send(&transport(A, b"after")).await;
    assert_eq!(
        a.receive().await,
        Some(transport(B, b"after")),
        "no news in between"
    );
}

#[tokio::test]
async fn a_second_connection_takes_the_place_of_the_first() {
    let (relay, clock) = relay();
    let mut watcher = Client::join(&relay, &clock, B).await;
    let mut first = Client::join(&relay, &clock, A).await;
    watcher.send(&Frame::SubscribePeerState(vec![A])).await;
    watcher.receive().await;

    let mut second = Client::join(&relay, &clock, A).await;

    assert_eq!(first.receive().await, None);
    watcher.send(&transport(A, b"x")).await;
    assert_eq!(second.receive().await, Some(transport(B, b"x")));
    second.send(&transport(B, b"y")).await;
    assert_eq!(
        watcher.receive().await,
        Some(transport(A, b"y")),
        "it never went offline"
    );
}

#[tokio::test(start_paused = true)]
async fn clients_are_asked_every_25_seconds_and_given_up_after_45_silent_ones() {
    let (relay, clock) = relay();
    let mut client = Client::join(&relay, &clock, A).await;
    let start = Instant::now();

    for round in 1..=4 {
        assert_eq!(client.receive().await, Some(Frame::HealthCheck));
        assert_eq!(start.elapsed().as_secs(), 25 * round);
        client.send(&Frame::HealthCheck).await;
    }
    assert_eq!(client.receive().await, Some(Frame::HealthCheck));
    assert_eq!(client.receive().await, None);
    assert!(
        (145..=150).contains(&start.elapsed().as_secs()),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(relay.stats().connected, 0);
}

#[tokio::test]
async fn a_slow_receiver_loses_its_own_datagrams_and_nobody_elses() {
    let (relay, clock) = relay();
    let mut a = Client::join(&relay, &clock, A).await;
    let _slow = Client::join(&relay, &clock, B).await;
    let mut c = Client::join(&relay, &clock, C).await;

    for _ in 0..3000 {
        a.send(&transport(B, &[0; 1200])).await;
    }
    a.send(&transport(C, b"through")).await;

    assert_eq!(c.receive().await, Some(transport(A, b"through")));
    assert!(relay.stats().lost > 1000, "{:?}", relay.stats());
}

#[tokio::test]
async fn at_the_end_everybody_is_told() {
    let (relay, clock) = relay();
    let mut a = Client::join(&relay, &clock, A).await;
    let _b = Client::join(&relay, &clock, B).await;
    a.send(&Frame::SubscribePeerState(vec![B])).await;
    a.receive().await;

    let ending = relay.clone();
    let ended = tokio::spawn(async move { ending.shutdown().await });

    assert_eq!(a.receive().await, Some(Frame::PeersWentOffline(vec![B])));
    loop {
        match a.receive().await {
            Some(Frame::PeersWentOffline(_)) => {}
            other => {
                assert_eq!(other, Some(Frame::Close));
                break;
            }
        }
    }
    ended.await.unwrap();
}

#[tokio::test]
async fn a_deleted_peer_is_disconnected() {
    let (relay, clock) = relay();
    let mut a = Client::join(&relay, &clock, A).await;

    relay.disconnect(&A);

    assert_eq!(a.receive().await, None);
}

#[tokio::test]
async fn broken_frames_are_skipped_and_broken_messages_end_the_connection() {
    let (relay, clock) = relay();
    let mut a = Client::join(&relay, &clock, A).await;
    for frame in [
        &[1][..],
        &[1, 3],
        &[1, 3, 0],
        &[1, 8, 1],
        &[1, 99],
        &[1, 6],
        &[1, 10],
    ] {
        a.send_bytes(frame).await;
    }
    a.send(&transport(A, b"alive")).await;
    assert_eq!(a.receive().await, Some(transport(A, b"alive")));

    a.io.write_all(&[0x81, 0x80, 0, 0, 0, 0]).await.unwrap();
    assert_eq!(a.receive().await, None, "text");
    let mut b = Client::join(&relay, &clock, B).await;
    b.send_bytes(&[2, 3]).await;
    assert_eq!(b.receive().await, None, "another version");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn hostile_bytes_never_hurt_others(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (relay, clock) = relay();
            let mut hostile = Client::join(&relay, &clock, C).await;
            let mut a = Client::join(&relay, &clock, A).await;

            let _ = hostile.io.write_all(&bytes).await;
            drop(hostile);
            a.send(&transport(A, b"alive")).await;

            assert_eq!(a.receive().await, Some(transport(A, b"alive")));
        });
    }
}

fn relay() -> (Relay, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(UnixTime::from_secs(1_767_225_600)));
    (
        Relay::new(
            key("secret"),
            URL.to_owned(),
            Arc::clone(&clock) as Arc<dyn Clock>,
        ),
        clock,
    )
}

fn key(secret: &str) -> RelayKey {
    RelayKey::new(&Secret::from(secret))
}

fn auth(peer: PeerHash, now: UnixTime) -> Frame {
    Frame::Auth {
        peer,
        token: key("secret")
            .mint(now.saturating_add(Duration::from_hours(12)))
            .to_bytes(),
    }
}

fn transport(peer: PeerHash, datagram: &[u8]) -> Frame {
    Frame::Transport {
        peer,
        datagram: Bytes::copy_from_slice(datagram),
    }
}

/// A client on the other end of a pipe.
struct Client {
    io: DuplexStream,
    buffer: BytesMut,
}

impl Client {
    fn raw(relay: &Relay) -> Self {
        let (io, theirs) = tokio::io::duplex(64 * 1024);
        relay.tracker().spawn(run(relay.clone(), theirs));
        Self {
            io,
            buffer: BytesMut::new(),
        }
    }

    async fn join(relay: &Relay, clock: &ManualClock, peer: PeerHash) -> Self {
        let mut client = Self::raw(relay);
        client.send(&auth(peer, clock.now())).await;
        assert!(matches!(client.receive().await, Some(Frame::AuthResponse { .. })));
        client
    }

    async fn send(&mut self, frame: &Frame) {
        self.send_bytes(&frame.encode()).await;
    }

    async fn send_bytes(&mut self, payload: &[u8]) {
        let mut message = vec![0x82];
        match u8::try_from(payload.len()) {
            Ok(len) if len < 126 => message.push(0x80 | len),
            _ => {
                message.push(0xfe);
                message.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
            }
        }
        message.extend([0; 4]);
        message.extend(payload);
        self.io.write_all(&message).await.unwrap();
    }

    /// The next frame; `None` at the end of the connection.
    async fn receive(&mut self) -> Option<Frame> {
        loop {
            if let Some((first, payload)) = self.next_message() {
                // A close message is the end as well.
                return (first == 0x82).then(|| Frame::parse(&payload).unwrap());
            }
            let read = timeout(Duration::from_mins(10), self.io.read_buf(&mut self.buffer)).await;
            if read.expect("something in time").unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// First byte and payload of a message that is there whole.
    fn next_message(&mut self) -> Option<(u8, Bytes)> {
        let &[first, second, ..] = &self.buffer[..] else {
            return None;
        };
        let (len, head) = match second {
            126 => (
                usize::from(u16::from_be_bytes(self.buffer.get(2..4)?.try_into().unwrap())),
                4,
            ),
            short => (usize::from(short), 2),
        };
        if self.buffer.len() < head + len {
            return None;
        }
        let message = self.buffer.split_to(head + len).freeze().slice(head..);
        Some((first, message))
    }
}
