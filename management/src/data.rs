//! The data directory: database and encryption key, opened together and checked against each other.

use std::path::{Path, PathBuf};

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
    make_private_dir(&config.data_dir).map_err(|source| OpenError::Directory {
        path: config.data_dir.clone(),
        source,
    })?;
    let at_rest = AtRest::open(&config.encryption_key_path())?;
    let store = Store::open(&config.store_path()).await?;
    let kept = if let Some(kept) = store.installation_value(KEY_CHECK).await? {
        kept
    } else {
        let mut tx = store.begin().await?;
        let check = at_rest.check_value();
        let kept = tx.keep_installation_value(KEY_CHECK, &check).await?;
        tx.commit().await?;
        kept
    };
    at_rest.check(&kept)?;
    Ok((store, at_rest))
}

/// Makes a directory that only its owner can look into; one that is there stays as it is.
fn make_private_dir(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path) -> Config {
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
