//! What the demo publishes.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use super::api::{Api, Refused};
use super::data::DemoData;

/// Longest wait until the proxy has made its cluster known.
const CLUSTER_TIMEOUT: Duration = Duration::from_secs(20);
const CLUSTER_POLL: Duration = Duration::from_millis(50);

/// Everything that another program needs to use the demo.
#[derive(Serialize)]
pub(super) struct Published {
    pub(super) base_domain: String,
    pub(super) https_port: u16,
    pub(super) ca_file: String,
    pub(super) management_url: String,
    pub(super) api_token: String,
    pub(super) services: Vec<Service>,
}

/// One published service.
#[derive(Serialize)]
pub(super) struct Service {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) domain: String,
    pub(super) auth: Auth,
    pub(super) secret: Option<String>,
}

/// Who may pass.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Auth {
    None,
    Pin,
    Password,
}

/// Publishes the three services; those of an earlier start are led to the present agent and origin.
pub(super) async fn services(
    api: &Api,
    data: &DemoData,
    base_domain: &str,
    peer: &str,
    port: u16,
) -> anyhow::Result<Vec<Service>> {
    let wanted = [
        ("whoami", Auth::None, None),
        ("pin", Auth::Pin, Some(data.pin())),
        ("secret", Auth::Password, Some(data.password())),
    ];
    let present = api.services().await?;
    let mut services = Vec::with_capacity(wanted.len());
    for (name, auth, secret) in wanted {
        let domain = format!("{name}.{base_domain}");
        let id = present
            .iter()
            .find(|service| service["domain"] == domain.as_str());
        let id = id.and_then(|service| service["id"].as_str());
        let body = json!({
            "name": name,
            "domain": domain,
            "enabled": true,
            "targets": [{
                "target_id": peer, "target_type": "peer", "protocol": "http", "port": port, "enabled": true,
            }],
            "auth": auth_body(auth, secret),
        });
        let stored = once_cluster_is_known(api, id, body).await?;
        services.push(Service {
            id: stored["id"].as_str().unwrap_or_default().to_owned(),
            name: name.to_owned(),
            domain,
            auth,
            secret: secret.map(str::to_owned),
        });
    }
    Ok(services)
}

/// A service needs a cluster for its domain, which is there once the proxy has connected.
async fn once_cluster_is_known(api: &Api, id: Option<&str>, body: Value) -> anyhow::Result<Value> {
    let deadline = tokio::time::Instant::now() + CLUSTER_TIMEOUT;
    loop {
        match api.put_service(id, body.clone()).await {
            Err(error) if is_precondition(&error) && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(CLUSTER_POLL).await;
            }
            other => return other,
        }
    }
}

fn is_precondition(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Refused>();
    refused.is_some_and(|refused| refused.status == StatusCode::PRECONDITION_FAILED)
}

fn auth_body(auth: Auth, secret: Option<&str>) -> Value {
    match auth {
        Auth::None => json!({}),
        Auth::Pin => json!({"pin_auth": {"enabled": true, "pin": secret}}),
        Auth::Password => json!({"password_auth": {"enabled": true, "password": secret}}),
    }
}
