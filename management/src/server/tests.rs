//! One port, told apart by content type and path.

use futures::{SinkExt as _, StreamExt as _};
use meshgate_proto::pb::management as pb;
use meshgate_proto::relay::{Frame, PeerHash, RelayToken};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

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
