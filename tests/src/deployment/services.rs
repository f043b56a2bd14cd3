//! Publishing the origin.

use serde_json::{Value, json};

use super::{CLUSTER, Deployment};
use crate::{HttpVersion, eventually};

/// Who may open a service.
#[derive(Clone, Copy, Debug)]
pub enum Access<'a> {
    /// Everybody.
    Open,
    /// Who knows the PIN.
    Pin(&'a str),
    /// Who knows the password.
    Password(&'a str),
}

/// A published service.
#[derive(Clone, Debug)]
pub struct Published {
    /// Identifier.
    pub id: String,
    /// Host.
    pub domain: String,
}

impl Deployment {
    /// Publishes the origin under `NAME.proxy.test` and waits until the edge knows it.
    ///
    /// # Panics
    /// When it does not answer in time.
    pub async fn publish(&self, name: &str, access: Access<'_>) -> Published {
        let service = self.create(name, access).await;
        let service = service.unwrap_or_else(|error| panic!("{name} is not published: {error}"));
        let client = self.client(HttpVersion::H1);
        let status = match access {
            Access::Open => 200,
            Access::Pin(_) | Access::Password(_) => 401,
        };
        eventually(&format!("{name} answers"), async || {
            client.expect(&service.domain, "/", status).await
        })
        .await;
        service
    }

    /// Creates a service in front of the origin without waiting for it.
    ///
    /// # Errors
    /// What the API answered instead.
    pub async fn create(&self, name: &str, access: Access<'_>) -> Result<Published, String> {
        let request = self.service_request(name, access).await;
        let answer = self
            .rest()
            .post("/api/reverse-proxies/services", &request)
            .await?;
        let text = |field: &str| {
            answer[field]
                .as_str()
                .map(str::to_owned)
                .ok_or(format!("no {field} in {answer}"))
        };
        Ok(Published {
            id: text("id")?,
            domain: text("domain")?,
        })
    }

    /// The request that creates a service in front of the origin.
    pub async fn service_request(&self, name: &str, access: Access<'_>) -> Value {
        let auth = match access {
            Access::Open => json!({}),
            Access::Pin(pin) => json!({ "pin_auth": { "enabled": true, "pin": pin } }),
            Access::Password(password) => {
                json!({ "password_auth": { "enabled": true, "password": password } })
            }
        };
        let target = json!({
            "target_id": self.agent_peer().await["id"], "target_type": "peer", "protocol": "http",
            "port": self.origin.address().port(), "enabled": true,
        });
        json!({
            "name": name, "domain": format!("{name}.{CLUSTER}"), "mode": "http", "enabled": true,
            "targets": [target], "auth": auth,
        })
    }
}
