//! Secrets of a service: hashed before the transaction, merged with what is stored inside it.

use meshgate_proto::{GroupId, Secret};

use crate::error::UseCaseError;
use crate::password::{PasswordHash, PasswordHasher};
use crate::services::input::AuthInput;
use crate::store::service_records::{BearerAuth, ServiceAuth, StoredHeader, StoredSecret};

/// Schemes whose new secrets are hashed; an empty hash stands for the one that is stored.
#[derive(Clone, Debug)]
pub(super) struct HashedAuth(ServiceAuth);

/// Hashes the secrets that were given. One that is the same as what is stored counts as left empty, so that its
/// sessions live on.
pub(super) async fn hash(
    passwords: &dyn PasswordHasher,
    auth: AuthInput,
    stored: &ServiceAuth,
) -> Result<HashedAuth, UseCaseError> {
    let mut hashed = ServiceAuth::default();
    if let Some(method) = auth.password_auth {
        hashed.password = Some(StoredSecret {
            enabled: method.enabled,
            hash: hash_one(passwords, method.password, hash_of(stored.password.as_ref())).await?,
        });
    }
    if let Some(method) = auth.pin_auth {
        hashed.pin = Some(StoredSecret {
            enabled: method.enabled,
            hash: hash_one(passwords, method.pin, hash_of(stored.pin.as_ref())).await?,
        });
    }
    hashed.bearer = auth.bearer_auth.map(|method| BearerAuth {
        enabled: method.enabled,
        groups: method.distribution_groups.into_iter().map(GroupId::new).collect(),
    });
    for method in auth.header_auths {
        let before = stored
            .headers
            .iter()
            .find(|other| other.header.eq_ignore_ascii_case(&method.header));
        let hash = hash_one(passwords, method.value, before.map_or("", |before| &before.hash)).await?;
        hashed.headers.push(StoredHeader {
            enabled: method.enabled,
            header: method.header,
            hash,
        });
    }
    Ok(HashedAuth(hashed))
}

fn hash_of(stored: Option<&StoredSecret>) -> &str {
    stored.map_or("", |stored| &stored.hash)
}

async fn hash_one(
    passwords: &dyn PasswordHasher,
    secret: Secret<String>,
    stored: &str,
) -> Result<String, UseCaseError> {
    if secret.expose().is_empty() {
        return Ok(String::new());
    }
    let same = passwords.matches(secret.clone(), PasswordHash::new(stored));
    if !stored.is_empty() && matches!(same.await, Ok(true)) {
        return Ok(String::new());
    }
    Ok(passwords.hash(secret).await?.into_string())
}

impl HashedAuth {
    /// Takes over stored hashes for secrets that were left empty; a scheme that counts must have one.
    pub(super) fn merge(self, stored: &ServiceAuth) -> Result<ServiceAuth, UseCaseError> {
        let mut auth = self.0;
        merge_secret("password", auth.password.as_mut(), stored.password.as_ref())?;
        merge_secret("pin", auth.pin.as_mut(), stored.pin.as_ref())?;
        for method in &mut auth.headers {
            if method.hash.is_empty() {
                let same = |other: &&StoredHeader| other.header.eq_ignore_ascii_case(&method.header);
                if let Some(before) = stored.headers.iter().find(same) {
                    method.hash.clone_from(&before.hash);
                }
            }
            if method.enabled && method.hash.is_empty() {
                let text = format!("header_auths: the value of {:?} is required", method.header);
                return Err(UseCaseError::Invalid(text));
            }
        }
        Ok(auth)
    }
}

fn merge_secret(
    name: &str,
    method: Option<&mut StoredSecret>,
    stored: Option<&StoredSecret>,
) -> Result<(), UseCaseError> {
    let Some(method) = method else { return Ok(()) };
    if method.hash.is_empty()
        && let Some(before) = stored
    {
        method.hash.clone_from(&before.hash);
    }
    if method.enabled && method.hash.is_empty() {
        return Err(UseCaseError::Invalid(format!(
            "{name} is required when {name}_auth is enabled"
        )));
    }
    Ok(())
}
