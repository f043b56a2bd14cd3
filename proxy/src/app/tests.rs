use std::collections::HashMap;
use std::path::Path;

use meshgate_proto::SystemClock;
use meshgate_proto::pb::management as pb;
use meshgate_proto::token::{Token, TokenKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::config::CertificateSource;
use crate::control::tests::server::Server;

#[tokio::test]
async fn a_refused_token_is_a_start_error_that_says_where_and_why() {
    let server = Server::start(Vec::new()).await;
    let directory = tempfile::tempdir().unwrap();

    let error = Proxy::start(config(server.address, directory.path()), clock())
        .await
        .unwrap_err();

    assert_eq!(
        error.to_string(),
        format!(
            "management refused the proxy token in NB_PROXY_TOKEN: tried http://{}: Unauthenticated: token is invalid",
            server.address
        )
    );
}

#[tokio::test]
async fn a_token_never_goes_in_the_clear_over_a_network() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config("127.0.0.1:1".parse().unwrap(), directory.path());
    config.management = "http://192.0.2.1:80".parse().unwrap();

    let error = Proxy::start(config, clock()).await.unwrap_err();

    assert!(
        error.to_string().contains("NB_PROXY_ALLOW_INSECURE=true"),
        "{error}"
    );
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(address, directory.path());
    config.listen = address.into();

    let error = Proxy::start(config, clock()).await.unwrap_err();

    assert_eq!(error.to_string(), format!("cannot listen on {address}"));
}

#[tokio::test]
async fn it_starts_tells_its_health_and_stops() {
    let server = Server::start(vec![pb::SyncMappingsResponse {
        mapping: Vec::new(),
        initial_sync_complete: true,
    }])
    .await;
    let directory = tempfile::tempdir().unwrap();
    let config = config(server.address, directory.path());
    server.set_token(config.token.expose());

    let running = Proxy::start(config.clone(), clock()).await.unwrap();
    server.until(|seen| seen.acks == 1).await;
    let health = running.health_address().unwrap();

    assert!(running.is_synced());
    let (status, body) = get(health, "/healthz/startup").await;
    assert_eq!(status, 200, "{body}");
    assert!(body.ends_with(
        r#"{"status":"ok","checks":{"management_connected":true,"initial_sync_complete":true,"all_clients_healthy":true},"clients":{}}"#
    ));
    assert_eq!(get(health, "/healthz/live").await.0, 200);
    assert!(
        get(health, "/metrics")
            .await
            .1
            .contains("proxy_management_connected 1")
    );

    server.revoke_token();
    server.end_stream(tonic::Status::cancelled("revoked")).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    while get(health, "/healthz/ready").await.0 != 503 {
        ticks.tick().await;
    }

    assert_eq!(running.shutdown().await, Drained { cut: 0 });
    let name = server.seen().hellos[0].proxy_id.clone();
    server.set_token(config.token.expose());
    let again = Proxy::start(config, clock()).await.unwrap();
    let seen = server.until(|seen| seen.hellos.iter().filter(|hello| hello.proxy_id == name).count() == 2);
    seen.await;
    again.shutdown().await;
}

#[tokio::test]
async fn without_management_it_runs_and_keeps_trying() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let directory = tempfile::tempdir().unwrap();
    let config = config(address, directory.path());
    let token = config.token.clone();

    let running = Proxy::start(config, clock()).await.unwrap();
    assert_eq!(
        get(running.health_address().unwrap(), "/healthz/ready").await.0,
        503
    );

    let listener = TcpListener::bind(address).await.unwrap();
    let complete = pb::SyncMappingsResponse {
        mapping: Vec::new(),
        initial_sync_complete: true,
    };
    let server = Server::on(listener, vec![complete]);
    server.set_token(token.expose());
    server.until(|seen| seen.acks == 1).await;
    running.shutdown().await;
}

fn config(management: SocketAddr, directory: &Path) -> Config {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let token = Token::generate(TokenKind::Proxy);
    let address = management.to_string();
    let state = directory.join("state");
    let values = HashMap::from([
        ("NB_PROXY_MANAGEMENT_ADDRESS", address.as_str()),
        ("NB_PROXY_TOKEN", token.expose()),
        ("NB_PROXY_DOMAIN", "proxy.test"),
        ("NB_PROXY_ADDRESS", "127.0.0.1:0"),
        ("NB_PROXY_HEALTH_ADDRESS", "127.0.0.1:0"),
        ("NB_PROXY_STATE_DIRECTORY", state.to_str().unwrap()),
    ]);
    let mut config = Config::from_lookup(&|name| values.get(name).map(|value| (*value).to_owned())).unwrap();
    config.certificates = CertificateSource::Authority(directory.join("ca"));
    config
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}
