//! The few calls of the REST API that the demo needs.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use meshgate_proto::Secret;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A caller with the demo's token.
#[derive(Debug)]
pub(super) struct Api {
    client: reqwest::Client,
    base: String,
    token: Secret<String>,
}

/// Something that was refused, with what the server said.
#[derive(Debug, thiserror::Error)]
#[error("{method} {path} answered {status}: {message}")]
pub(super) struct Refused {
    method: Method,
    path: String,
    /// Status code.
    pub(super) status: StatusCode,
    message: String,
}

impl Api {
    /// A caller of the API at `base`.
    pub(super) fn new(base: &str, token: &Secret<String>) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        Ok(Self {
            client,
            base: base.to_owned(),
            token: token.clone(),
        })
    }

    /// A one-off setup key.
    pub(super) async fn create_setup_key(&self) -> anyhow::Result<Secret<String>> {
        let body = json!({"name": "demo", "type": "one-off", "expires_in": 3600, "auto_groups": [], "usage_limit": 1});
        let key = self.call(Method::POST, "/api/setup-keys", Some(body)).await?;
        let key = key["key"]
            .as_str()
            .context("the setup key's answer holds no key")?;
        Ok(key.into())
    }

    /// Id of the peer with that overlay address.
    pub(super) async fn peer_with_address(&self, address: Ipv4Addr) -> anyhow::Result<String> {
        let peers = self
            .call(Method::GET, &format!("/api/peers?ip={address}"), None)
            .await?;
        let id = peers[0]["id"].as_str();
        Ok(id
            .with_context(|| format!("no peer has the address {address}"))?
            .to_owned())
    }

    /// Every service.
    pub(super) async fn services(&self) -> anyhow::Result<Vec<Value>> {
        match self
            .call(Method::GET, "/api/reverse-proxies/services", None)
            .await?
        {
            Value::Array(services) => Ok(services),
            _ => bail!("the list of services is no list"),
        }
    }

    /// Publishes a service, or changes the one with that id.
    pub(super) async fn put_service(&self, id: Option<&str>, body: Value) -> anyhow::Result<Value> {
        match id {
            Some(id) => {
                let path = format!("/api/reverse-proxies/services/{id}");
                self.call(Method::PUT, &path, Some(body)).await
            }
            None => {
                self.call(Method::POST, "/api/reverse-proxies/services", Some(body))
                    .await
            }
        }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.base);
        let token = format!("Token {}", self.token.expose());
        let mut request = self
            .client
            .request(method.clone(), url)
            .header("Authorization", token);
        if let Some(body) = &body {
            request = request.json(body);
        }
        let answer = request
            .send()
            .await
            .with_context(|| format!("{method} {path} got no answer"))?;
        let status = answer.status();
        let value: Value = answer.json().await.unwrap_or_default();
        if !status.is_success() {
            let message = value["message"].as_str().unwrap_or_default().to_owned();
            return Err(Refused {
                method,
                path: path.to_owned(),
                status,
                message,
            }
            .into());
        }
        Ok(value)
    }
}
