use std::time::Duration;

use meshgate_proto::pb::signalexchange::signal_exchange_client::SignalExchangeClient;
use meshgate_proto::{WgPrivateKey, WgPublicKey};
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::Channel;

use super::*;
use crate::changes::Change;
use crate::grpc::test_peer::{TestPeer, TestServer};

type Client = SignalExchangeClient<Channel>;

#[tokio::test]
async fn a_peer_is_told_at_once_that_it_is_registered() {
    let (server, peer, mut client) = start().await;

    let response = client.connect_stream(registration(&peer.key())).await.unwrap();

    assert_eq!(response.metadata().get(REGISTERED).unwrap(), "1");
    drop(server);
}

#[tokio::test]
async fn a_message_to_oneself_comes_back() {
    let (_server, peer, mut client) = start().await;
    let mut stream = connect(&mut client, &peer.key()).await;

    let answer = client
        .send(message(&peer.key(), &peer.key(), b"beat"))
        .await
        .unwrap();

    assert_eq!(answer.into_inner(), EncryptedMessage::default());
    assert_eq!(next(&mut stream).await.unwrap().unwrap().body.as_ref(), b"beat");
}

#[tokio::test]
async fn messages_reach_the_peer_they_are_for() {
    let (server, one, mut client) = start().await;
    let other = server.member("b").await;
    let mut stream = connect(&mut client, &other.key()).await;

    client
        .send(message(&one.key(), &other.key(), b"offer"))
        .await
        .unwrap();

    let received = next(&mut stream).await.unwrap().unwrap();
    assert_eq!(received.key, one.key().to_string());
    assert_eq!(received.body.as_ref(), b"offer");
}

#[tokio::test]
async fn absent_and_malformed_receivers_are_passed_over() {
    let (_server, peer, mut client) = start().await;
    let absent = WgPrivateKey::generate().public();

    client.send(message(&peer.key(), &absent, b"x")).await.unwrap();
    client.send(EncryptedMessage::default()).await.unwrap();
}

#[tokio::test]
async fn a_second_registration_ends_the_first() {
    let (_server, peer, mut client) = start().await;
    let mut first = connect(&mut client, &peer.key()).await;
    let mut second = connect(&mut client, &peer.key()).await;

    client
        .send(message(&peer.key(), &peer.key(), b"x"))
        .await
        .unwrap();

    assert_eq!(next(&mut first).await.unwrap_err().code(), Code::Aborted);
    assert!(next(&mut second).await.unwrap().is_some());
}

#[tokio::test]
async fn who_is_not_known_is_not_registered() {
    let (_server, _peer, mut client) = start().await;
    let stranger = WgPrivateKey::generate().public();

    let unknown = client.connect_stream(registration(&stranger)).await.unwrap_err();
    let nameless = client
        .connect_stream(stream::pending::<EncryptedMessage>())
        .await
        .unwrap_err();

    assert_eq!(unknown.code(), Code::FailedPrecondition);
    assert_eq!(nameless.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_deleted_peer_loses_its_stream() {
    let (_server, mut peer, mut client) = start().await;
    let mut stream = connect(&mut client, &peer.key()).await;

    peer.logout().await.unwrap();

    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::Aborted);
}

#[tokio::test]
async fn a_deleted_peer_loses_its_stream_although_the_news_was_lost() {
    let (server, peer, mut client) = start().await;
    let other = server.member("b").await;
    let mut stream = connect(&mut client, &peer.key()).await;
    let mut staying = connect(&mut client, &other.key()).await;
    let state = server.running.state();
    let row = state
        .store
        .peer_by_key_anywhere(&peer.key())
        .await
        .unwrap()
        .unwrap();
    let mut tx = state.store.begin().await.unwrap();
    assert!(tx.delete_peer(&server.scope, &row.id).await.unwrap());
    tx.commit().await.unwrap();

    for _ in 0..10_000 {
        state.changes.publish(Change::Account {
            account: server.scope.account().clone(),
        });
    }

    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::Aborted);
    client
        .send(message(&peer.key(), &other.key(), b"hello"))
        .await
        .unwrap();
    assert!(next(&mut staying).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_takes_nothing_is_dropped_after_ten_seconds() {
    let hub = SignalHub::default();
    let (slow, sender) = (WgPublicKey::from_bytes([1; 32]), WgPublicKey::from_bytes([2; 32]));
    let registered = hub.register(slow);
    let big = vec![0; MAX_MESSAGE / 2];
    let start = tokio::time::Instant::now();

    for _ in 0..8 {
        hub.send(&slow, message(&sender, &slow, &big)).await;
    }

    assert!(registered.closed.is_cancelled());
    assert_eq!(start.elapsed().as_secs(), SEND_TIMEOUT.as_secs());
}

async fn start() -> (TestServer, TestPeer, Client) {
    let server = TestServer::start().await;
    let peer = server.member("a").await;
    let client = Client::connect(server.url()).await.unwrap();
    (server, peer, client)
}

async fn connect(client: &mut Client, key: &WgPublicKey) -> Streaming<EncryptedMessage> {
    client
        .connect_stream(registration(key))
        .await
        .unwrap()
        .into_inner()
}

fn registration(key: &WgPublicKey) -> Request<stream::Pending<EncryptedMessage>> {
    let mut request = Request::new(stream::pending());
    request
        .metadata_mut()
        .insert(PEER_ID, key.to_string().parse().unwrap());
    request
}

async fn next(stream: &mut Streaming<EncryptedMessage>) -> Result<Option<EncryptedMessage>, Status> {
    timeout(Duration::from_secs(20), stream.message())
        .await
        .expect("a message in time")
}

fn message(from: &WgPublicKey, to: &WgPublicKey, body: &[u8]) -> EncryptedMessage {
    EncryptedMessage {
        key: from.to_string(),
        remote_key: to.to_string(),
        body: body.to_vec().into(),
    }
}
