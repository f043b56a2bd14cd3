//! The data directory: database and encryption key, opened together and checked against each other.

use std::path::PathBuf;

use crate::config::Config;
use crate::secrets::{AtRest, SecretsError};
use crate::store::{Store, StoreError};

/// Under which name the database keeps the check value of the encryption key.
const KEY_CHECK: &str = "encryption_key_check";

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made.
    #[error("cannot make data directory {path}; choose another or correct its permissions")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// The key cannot be had or is another one.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Opens the database and the key that its secrets are encrypted with.
///
/// The first one to open a data directory makes both. Several processes may have it open.
pub async fn open(config: &Config) -> Result<(Store, AtRest), OpenError> {
    std::fs::create_dir_all(&config.data_dir).map_err(|source| OpenError::Directory {
        path: config.data_dir.clone(),
        source,
    })?;
    let at_rest = AtRest::open(&config.encryption_key_path())?;
    let store = Store::open(&config.store_path()).await?;
    let kept = match store.installation_value(KEY_CHECK).await? {
        Some(kept) => kept,
        None => {
            let mut tx = store.begin().await?;
            let kept = tx
                .keep_installation_value(KEY_CHECK, &at_rest.check_value())
                .await?;
            tx.commit().await?;
            kept
        }
    };
    at_rest.check(&kept)?;
    Ok((store, at_rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &std::path::Path) -> Config {
        Config::new(dir, "http://127.0.0.1:1".parse().unwrap())
    }

    #[tokio::test]
    async fn opens_again_with_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let (store, at_rest) = open(&config).await.unwrap();
        let sealed = at_rest.seal("private");
        store.close().await;

        let (_store, again) = open(&config).await.unwrap();

        assert_eq!(again.unseal(&sealed).unwrap().expose(), "private");
    }

    #[tokio::test]
    async fn a_lost_key_is_noticed_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        open(&config).await.unwrap().0.close().await;
        std::fs::remove_file(config.encryption_key_path()).unwrap();

        let error = open(&config).await.unwrap_err();

        assert!(
            matches!(error, OpenError::Secrets(SecretsError::WrongKey)),
            "{error}"
        );
    }
}
