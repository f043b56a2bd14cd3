//! The doors that peers use: management, signal and relay.

use meshgate_tests::Deployment;
use meshgate_tests::grpc::{self, Proto};
use meshgate_tests::websocket::Socket;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn peer_methods_take_sealed_messages_alone() {
    let deployment = Deployment::shared().await;
    let server = deployment
        .management_url()
        .replace("http://", "")
        .parse()
        .unwrap();
    let envelope = Proto::new().text(1, "not a key").text(2, [0_u8; 64]);
    let sealed_by_nobody = Proto::new()
        .text(1, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=")
        .text(2, [7_u8; 64]);
    for method in ["Login", "Sync", "SyncMeta", "Logout"] {
        for request in [&Proto::new(), &envelope, &sealed_by_nobody] {
            let path = format!("/management.ManagementService/{method}");
            let ended = grpc::call(server, &path, &[], request).await.unwrap();
            assert_eq!(ended.status, Some(3), "{path}: {ended:?}");
        }
    }
    for method in [
        "GetDeviceAuthorizationFlow",
        "GetPKCEAuthorizationFlow",
        "Job",
        "ExtendAuthSession",
        "CreateExpose",
        "RenewExpose",
        "StopExpose",
    ] {
        let path = format!("/management.ManagementService/{method}");
        let ended = grpc::call(server, &path, &[], &envelope).await.unwrap();
        assert!(matches!(ended.status, Some(3 | 5 | 12)), "{path}: {ended:?}");
    }
    for method in ["GetServerKey", "isHealthy"] {
        let path = format!("/management.ManagementService/{method}");
        let ended = grpc::call(server, &path, &[], &Proto::new()).await.unwrap();
        assert_eq!(ended.status, Some(0), "{path}: {ended:?}");
    }
}

#[tokio::test]
async fn signal_takes_known_peers_alone() {
    let deployment = Deployment::shared().await;
    let server = deployment
        .management_url()
        .replace("http://", "")
        .parse()
        .unwrap();
    let path = "/signalexchange.SignalExchange/ConnectStream";
    for metadata in [
        [].as_slice(),
        &[("x-wiretrustee-peer-id", "not a key")],
        &[(
            "x-wiretrustee-peer-id",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=",
        )],
    ] {
        let ended = grpc::call(server, path, metadata, &Proto::new()).await.unwrap();
        assert_eq!(ended.status, Some(9), "{metadata:?}: {ended:?}");
    }
    let sent = grpc::call(server, "/signalexchange.SignalExchange/Send", &[], &Proto::new())
        .await
        .unwrap();
    assert_eq!(
        sent.status,
        Some(0),
        "a message to nobody is passed over: {sent:?}"
    );
}

#[tokio::test]
async fn unknown_grpc_services_and_methods_are_unimplemented() {
    let deployment = Deployment::shared().await;
    let server = deployment
        .management_url()
        .replace("http://", "")
        .parse()
        .unwrap();
    for path in [
        "/management.ManagementService/Nothing",
        "/nothing.Nothing/Nothing",
    ] {
        let ended = grpc::call(server, path, &[], &Proto::new()).await.unwrap();
        assert_eq!(ended.status, Some(12), "{path}: {ended:?}");
    }
}

#[tokio::test]
async fn relay_takes_known_peers_alone() {
    let deployment = Deployment::shared().await;
    let url = format!("{}/relay", deployment.management_url());
    let plain = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .get(&url)
        .send()
        .await
        .unwrap();
    assert!(plain.status().is_client_error(), "{plain:?}");

    let mut forged = vec![1, 6, 0x21, 0x12, 0xa4, 0x42];
    forged.extend_from_slice(b"sha-");
    forged.extend_from_slice(&[9; 32]);
    forged.push(1);
    forged.extend_from_slice(&[0; 32]);
    forged.extend_from_slice(b"9999999999");
    for first in [
        vec![],
        vec![1, 3, 0],
        vec![9, 9, 9],
        vec![1, 6],
        forged,
        vec![0; 9000],
    ] {
        let mut socket = Socket::open_plain(&url.replace("http", "ws")).await.unwrap();
        let _ = socket.send(Message::binary(first.clone())).await;
        let ended = socket.receive().await;
        let closed = matches!(ended, Ok(None | Some(Message::Close(_))))
            || ended.as_ref().is_err_and(|e| e != "nothing came");
        assert!(closed, "{first:?}: {ended:?}");
    }
}
