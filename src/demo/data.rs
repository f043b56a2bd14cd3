//! What the demo keeps: its directory and the secrets it made at its first start.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use meshgate_management::accounts::NewOwner;
use meshgate_management::admin::TokenReach;
use meshgate_management::config::DEFAULT_DNS_DOMAIN;
use meshgate_management::tokens::NewProxyToken;
use meshgate_proto::Secret;
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::admin::{FIRST_TOKEN_DAYS, open_dir};
use crate::ready_file;

/// The demo's directory. A temporary one goes when this value does.
#[derive(Debug)]
pub(super) struct DemoData {
    path: PathBuf,
    _temporary: Option<TempDir>,
    secrets: Secrets,
}

/// Tokens of the demo.
#[derive(Debug)]
pub(super) struct Tokens {
    /// For the REST API.
    pub(super) api: Secret<String>,
    /// For the proxy.
    pub(super) proxy: Secret<String>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Secrets {
    pin: String,
    password: String,
    api_token: Option<String>,
    proxy_token: Option<String>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(…)")
    }
}

impl DemoData {
    /// Opens a directory, made when it is not there; a temporary one when none is named.
    pub(super) fn open(dir: Option<&Path>) -> anyhow::Result<Self> {
        let (path, temporary) = if let Some(dir) = dir {
            (std::path::absolute(dir)?, None)
        } else {
            let temporary = tempfile::Builder::new().prefix("meshgate-demo-").tempdir()?;
            (temporary.path().to_owned(), Some(temporary))
        };
        for part in ["management", "agent", "proxy"] {
            let part = path.join(part);
            std::fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        }
        let secrets = read_secrets(&path)?.unwrap_or_else(Secrets::generate);
        Ok(Self {
            path,
            _temporary: temporary,
            secrets,
        })
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// PIN of the service `pin`.
    pub(super) fn pin(&self) -> &str {
        &self.secrets.pin
    }

    /// Password of the service `secret`.
    pub(super) fn password(&self) -> &str {
        &self.secrets.password
    }

    /// The tokens, made at the first start over the management server's data.
    pub(super) async fn tokens(&self, management_dir: &Path) -> anyhow::Result<Tokens> {
        let mut secrets = self.secrets.clone();
        let admin = open_dir(management_dir).await?;
        let api = if let Some(token) = secrets.api_token.take() {
            token
        } else {
            let owner = NewOwner {
                name: "Demo".to_owned(),
                email: "admin@demo.localhost".to_owned(),
            };
            let first = admin
                .create_first_admin(DEFAULT_DNS_DOMAIN, &owner, FIRST_TOKEN_DAYS)
                .await?;
            first.token.expose().to_owned()
        };
        secrets.api_token = Some(api.clone());
        ready_file::write(&secrets_path(&self.path), &secrets)?;
        let proxy = if let Some(token) = secrets.proxy_token.take() {
            token
        } else {
            let new = NewProxyToken {
                name: "demo".to_owned(),
                expires_in: 0,
            };
            admin
                .create_proxy_token(TokenReach::Everywhere, new)
                .await?
                .token
                .expose()
                .to_owned()
        };
        secrets.proxy_token = Some(proxy.clone());
        ready_file::write(&secrets_path(&self.path), &secrets)?;
        Ok(Tokens {
            api: api.into(),
            proxy: proxy.into(),
        })
    }
}

impl Secrets {
    fn generate() -> Self {
        const LETTERS: &[u8] = b"abcdefghjkmnpqrstuvwxyz23456789";
        let mut rng = rand::rng();
        Self {
            pin: format!("{:06}", rng.random_range(0..1_000_000)),
            password: (0..12)
                .map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())]))
                .collect(),
            api_token: None,
            proxy_token: None,
        }
    }
}

fn secrets_path(dir: &Path) -> PathBuf {
    dir.join("demo.json")
}

fn read_secrets(dir: &Path) -> anyhow::Result<Option<Secrets>> {
    let path = secrets_path(dir);
    match std::fs::read(&path) {
        Ok(text) => {
            let secrets = serde_json::from_slice(&text);
            let hint = || {
                format!(
                    "{} is damaged; remove {} to begin anew",
                    path.display(),
                    dir.display()
                )
            };
            secrets.with_context(hint).map(Some)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
