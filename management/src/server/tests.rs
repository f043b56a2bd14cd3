//! One port, told apart by content type and path.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{SinkExt as _, StreamExt as _};
use meshgate_proto::SystemClock;
use meshgate_proto::pb::management as pb;
use meshgate_proto::pb::management::management_service_client::ManagementServiceClient;
use meshgate_proto::relay::{Frame, PeerHash, RelayToken};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::app::{GRACE, Management};
use crate::config::{Config, TlsFiles};
use crate::grpc::test_peer::{TestPeer, TestServer};

#[tokio::test]
async fn grpc_relay_and_rest_share_the_port() {
    let server = TestServer::start().await;
    let mut peer = server.member("a").await;
    let login = peer.login(None).await.unwrap();
    let relay = login.netbird_config.unwrap().relay.unwrap();
    let url = relay.urls[0].replace("rel://", "ws://") + "/relay";

    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let token = RelayToken::from_parts(&relay.token_payload, &relay.token_signature).unwrap();
    let auth = Frame::Auth {
        peer: PeerHash::of(&peer.key()),
        token: token.to_bytes(),
    };
    socket.send(Message::Binary(auth.encode())).await.unwrap();
    let answer = socket.next().await.unwrap().unwrap().into_data();
    let rest = reqwest::get(format!("{}/api/nothing-here", server.url()))
        .await
        .unwrap();

    assert_eq!(
        Frame::parse(&answer).unwrap(),
        Frame::AuthResponse {
            instance_url: relay.urls[0].clone()
        }
    );
    assert_eq!(rest.status(), 404);
    assert_eq!(server.running.relay().stats().connected, 1);
}

#[tokio::test]
async fn a_relay_request_without_upgrade_is_a_bad_request() {
    let server = TestServer::start().await;

    let response = reqwest::get(format!("{}/relay", server.url())).await.unwrap();

    assert_eq!(response.status(), 400);
}

#[tokio::test]
async fn garbage_on_the_port_ends_that_connection_only() {
    let server = TestServer::start().await;
    let mut garbage = TcpStream::connect(server.running.local_addr()).await.unwrap();

    garbage.write_all(&[0xff; 4096]).await.unwrap();
    let mut answer = Vec::new();
    let _ = garbage.read_to_end(&mut answer).await;

    let mut peer = TestPeer::connect(&server).await;
    peer.client.is_healthy(pb::Empty {}).await.unwrap();
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_refused_and_the_connection_lives() {
    let server = TestServer::start().await;
    let mut peer = TestPeer::connect(&server).await;
    let mut sealed = peer.seal(&pb::Empty {});
    sealed.body = vec![0; 17 * 1024 * 1024].into();

    peer.client.login(sealed).await.unwrap_err();

    peer.client.is_healthy(pb::Empty {}).await.unwrap();
}

#[tokio::test]
async fn what_strangers_announce_is_refused_before_it_comes() {
    let server = TestServer::start().await;
    let paths = [
        ("management.ManagementService/Login", 16_000_000_u32),
        ("management.ManagementService/Sync", 300_000),
        ("signalexchange.SignalExchange/Send", 700_000),
    ];

    for (path, length) in paths {
        let mut stream = TcpStream::connect(server.running.local_addr()).await.unwrap();
        let head = format!(
            "POST /{path} HTTP/1.1\r\nhost: h\r\ncontent-type: application/grpc\r\nte: trailers\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n\0",
            length + 5
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&length.to_be_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;

        let answer = String::from_utf8_lossy(&answer).to_lowercase();
        assert!(answer.contains("grpc-status: 11"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn over_tls_the_port_speaks_both_versions_of_http() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = TlsFiles {
        cert: dir.path().join("tls.crt"),
        key: dir.path().join("tls.key"),
    };
    std::fs::write(&files.cert, signed.cert.pem()).unwrap();
    std::fs::write(&files.key, signed.signing_key.serialize_pem()).unwrap();
    let config = Config {
        tls: Some(files),
        ..Config::new(dir.path(), "https://localhost:0".parse().unwrap())
    };
    let running = Management::start(config, Arc::new(SystemClock)).await.unwrap();
    let url = running.exposed_address().clone();

    let endpoint = Endpoint::from_shared(url.to_string()).unwrap();
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(signed.cert.pem()));
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    let key = ManagementServiceClient::new(channel)
        .get_server_key(pb::Empty {})
        .await
        .unwrap();
    let https = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(signed.cert.pem().as_bytes()).unwrap()])
        .http1_only()
        .build()
        .unwrap();
    let rest = https
        .get(url.join("/api/nothing-here").unwrap())
        .send()
        .await
        .unwrap();

    assert_eq!(key.into_inner().key.len(), 44);
    assert_eq!(
        (rest.status().as_u16(), rest.version()),
        (404, http::Version::HTTP_11)
    );
    assert!(running.relay().instance_url().starts_with("rels://localhost:"));
    running.shutdown().await;
}

#[tokio::test]
async fn a_database_that_does_not_close_holds_up_the_end_for_the_grace_only() {
    let server = TestServer::start().await;
    let state = Arc::clone(server.running.state());
    let _endless = state.store.begin().await.unwrap();
    let start = Instant::now();

    server.running.shutdown().await;

    assert!(
        start.elapsed() < GRACE + Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}
