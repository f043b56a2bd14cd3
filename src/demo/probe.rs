//! Asks each published service through the edge until it answers as it should.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Certificate, StatusCode};

use super::publish::{Auth, Service};

const TIMEOUT: Duration = Duration::from_secs(20);
const INTERVAL: Duration = Duration::from_millis(30);

/// Returns once every service answers: the open one from its origin, the others with their login page.
pub(super) async fn until_served(
    ca_file: &Path,
    edge: SocketAddr,
    services: &[Service],
) -> anyhow::Result<()> {
    let pem = std::fs::read(ca_file).with_context(|| format!("cannot read {}", ca_file.display()))?;
    let mut client = reqwest::Client::builder()
        .tls_certs_only([Certificate::from_pem(&pem)?])
        .no_proxy();
    for service in services {
        client = client.resolve(&service.domain, edge);
    }
    let client = client.timeout(Duration::from_secs(5)).build()?;
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    for service in services {
        let url = format!("https://{}:{}/", service.domain, edge.port());
        let wanted = if service.auth == Auth::None {
            StatusCode::OK
        } else {
            StatusCode::UNAUTHORIZED
        };
        loop {
            let found = match client.get(&url).send().await {
                Ok(answer) if answer.status() == wanted => break,
                Ok(answer) => format!("status {}", answer.status()),
                Err(error) => format!("{:#}", anyhow::Error::from(error)),
            };
            if tokio::time::Instant::now() >= deadline {
                bail!("{url} did not come up; last seen: {found}");
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
    Ok(())
}
