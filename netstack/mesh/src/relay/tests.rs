use futures::{SinkExt, StreamExt};
use meshgate_netstack::RelayTransport;
use meshgate_proto::relay::MAX_PEERS;
use proptest::prelude::*;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use super::connection::Target;
use super::*;

#[test]
fn reads_relay_addresses() {
    let table = [
        (
            "rel://10.0.0.1:8080",
            false,
            "10.0.0.1",
            8080,
            "ws://10.0.0.1:8080/relay",
        ),
        (
            "rels://mesh.example.com",
            true,
            "mesh.example.com",
            443,
            "wss://mesh.example.com:443/relay",
        ),
        ("rel://[::1]:81", false, "::1", 81, "ws://[::1]:81/relay"),
    ];

    for (text, tls, host, port, request) in table {
        let target = Target::parse(text).unwrap();
        assert_eq!((target.tls, target.host.as_str(), target.port), (tls, host, port));
        assert_eq!(target.request, request);
    }
}

#[test]
fn refuses_what_is_no_relay_address() {
    for text in [
        "",
        "ws://a:1",
        "rel://",
        "rel://a:0",
        "rel://a/relay",
        "rel://u@a:1",
        "rels://a?b",
    ] {
        assert_eq!(Target::parse(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn reading_addresses_never_panics(text in "\\PC{0,40}") {
        let _ = Target::parse(&text);
        let _ = Target::parse(&format!("rel://{text}"));
    }
}

#[test]
fn long_lists_of_peers_are_split() {
    let peers: Vec<_> = (0..=MAX_PEERS).map(|_| hash()).collect();

    let frames: Vec<_> = subscriptions(&peers).collect();

    let lengths: Vec<_> = frames
        .iter()
        .map(|frame| match Frame::parse(frame) {
            Ok(Frame::SubscribePeerState(peers)) => peers.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lengths, [MAX_PEERS, 1]);
}

#[test]
fn a_full_queue_holds_back_and_a_closed_one_forgets() {
    let outgoing = Arc::new(Outgoing::default());
    let transport = PeerTransport::open(hash(), Arc::clone(&outgoing));
    assert!(transport.try_send(b"nobody listens"));

    let mut drain = outgoing.open();
    let mut taken = 0;
    while transport.try_send(b"packet") {
        taken += 1;
    }
    assert!(taken > 100);
    assert!(outgoing.take_starved());
    assert!(!outgoing.take_starved());

    assert!(drain.datagrams.try_recv().is_ok());
    assert!(transport.try_send(b"packet"));
    outgoing.close();
    assert!(transport.try_send(b"nobody listens"));
}

#[test]
fn a_datagram_becomes_one_transport_frame() {
    let outgoing = Arc::new(Outgoing::default());
    let mut drain = outgoing.open();
    let peer = hash();

    PeerTransport::open(peer, outgoing).try_send(b"packet");

    let frame = Frame::parse(&drain.datagrams.try_recv().unwrap()).unwrap();
    let datagram = Bytes::from_static(b"packet");
    assert_eq!(frame, Frame::Transport { peer, datagram });
}

#[tokio::test]
async fn a_parked_peer_is_woken_by_content_and_not_by_keepalives() {
    let outgoing = Arc::new(Outgoing::default());
    let mut drain = outgoing.open();
    let wakes = Arc::new(Wakes::default());
    let key = WgPrivateKey::generate().public();
    let transport = PeerTransport::parked(key, outgoing, Arc::clone(&wakes));

    transport.try_send(&[4; 32]);
    let idle = tokio::time::timeout(Duration::from_millis(10), wakes.next()).await;
    transport.try_send(&[4; 96]);
    transport.try_send(&[4; 96]);

    assert!(idle.is_err());
    assert_eq!(wakes.next().await, [key]);
    assert!(drain.datagrams.try_recv().is_err());
}

#[tokio::test]
async fn health_checks_are_echoed_and_garbage_is_skipped() {
    let mut server = Server::start(Answer::Url).await;
    let connection = server.connect().await.unwrap();
    let client = tokio::spawn(run(connection));
    let mut socket = server.socket().await;

    for bytes in [&b"\x01\x09"[..], b"", b"\x02\x05", b"\x01\x63", b"\x01\x05"] {
        socket.send(Message::Binary(bytes.to_vec().into())).await.unwrap();
    }

    let echoed = socket.next().await.unwrap().unwrap();
    assert_eq!(echoed, Message::Binary(Frame::HealthCheck.encode()));
    socket.close(None).await.unwrap();
    assert!(matches!(client.await.unwrap(), Err(RelayError::Ended)));
}

#[tokio::test]
async fn a_relay_that_says_nothing_is_given_up() {
    let mut server = Server::start(Answer::Url).await;
    let connection = server.connect().await.unwrap();
    let _socket = server.socket().await;

    tokio::time::pause();
    let before = tokio::time::Instant::now();
    let result = run(connection).await;

    assert!(matches!(result, Err(RelayError::Dead)), "{result:?}");
    assert_eq!(before.elapsed().as_secs(), 35);
}

#[tokio::test]
async fn a_refused_token_is_told_as_such() {
    let server = Server::start(Answer::Silence).await;

    let error = server.connect().await.unwrap_err();

    assert!(matches!(error, RelayError::TokenRefused), "{error:?}");
}

#[tokio::test]
async fn the_golden_auth_frame_is_sent_and_the_url_kept_byte_for_byte() {
    let mut server = Server::start(Answer::Url).await;

    let connection = server.connect().await.unwrap();

    assert_eq!(connection.instance_url(), "rel://10.0.0.1:8080");
    assert_eq!(connection.ip(), [127, 0, 0, 1]);
    let sent = server.auth().await;
    let golden = "01062112a442\
                  7368612d7d786321554dfcfa7947b2cdbb132ac20312654d4c2f6db43fd0e3f0aebb7ad5\
                  0120748b8644ff1e87f33582430634a7332d27927f59436be8dcbd5514fe83d5a531383933343536303030";
    let golden: Vec<_> = (0..golden.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&golden[at..at + 2], 16).unwrap())
        .collect();
    assert_eq!(sent, golden);
}

/// What the server does with the token.
#[derive(Clone, Copy)]
enum Answer {
    Url,
    Silence,
}

type Socket = tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>;

struct Server {
    url: String,
    accepted: mpsc::Receiver<(Bytes, Socket)>,
    ready: Option<(Bytes, Socket)>,
}

impl Server {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("rel://{}", listener.local_addr().unwrap());
        let (sender, accepted) = mpsc::channel(1);
        tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
            let auth = socket.next().await.unwrap().unwrap().into_data();
            if let Answer::Url = answer {
                let instance_url = "rel://10.0.0.1:8080".to_owned();
                let frame = Frame::AuthResponse { instance_url };
                socket.send(Message::Binary(frame.encode())).await.unwrap();
                let _ = sender.send((auth, socket)).await;
            }
        });
        Self {
            url,
            accepted,
            ready: None,
        }
    }

    /// Peer a of the golden vectors, with their token.
    async fn connect(&self) -> Result<Connection, RelayError> {
        let key: WgPrivateKey = "AAIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eH2A=".parse().unwrap();
        let signature = "IHSLhkT/HofzNYJDBjSnMy0nkn9ZQ2vo3L1VFP6D1aU=";
        let token = meshgate_proto::relay::RelayToken::from_parts("1893456000", signature).unwrap();
        Connection::open(&self.url, &Trust::default(), &key.public(), &token).await
    }

    async fn auth(&mut self) -> Bytes {
        self.ready = self.accepted.recv().await;
        self.ready.as_ref().unwrap().0.clone()
    }

    async fn socket(&mut self) -> Socket {
        self.accepted.recv().await.unwrap().1
    }
}

async fn run(connection: Connection) -> Result<(), RelayError> {
    let config =
        meshgate_netstack::Config::new(meshgate_netstack::PrivateKey::from_bytes([7; 32]), Vec::new());
    let netstack = Netstack::start(config).unwrap();
    let outgoing = Outgoing::default();
    let drain = outgoing.open();
    let (events, _news) = mpsc::channel(16);
    let handlers = Handlers {
        netstack: &netstack,
        directory: &Directory::default(),
        outgoing: &outgoing,
        events: &events,
    };
    connection.run(drain, &handlers, &CancellationToken::new()).await
}

fn hash() -> PeerHash {
    PeerHash::of(&WgPrivateKey::generate().public())
}
