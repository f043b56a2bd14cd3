//! What a proxy is known by over restarts: its name and the directory of its keys.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use meshgate_proto::ProxyId;
use tokio::time::Instant;
use uuid::Uuid;

/// Between two looks whether it has gone.
const LOOK: Duration = Duration::from_millis(50);
/// Longest name that is read back, in bytes.
const MAX_NAME: u64 = 128;

/// The name and the state directory, which no other process can use meanwhile.
#[derive(Debug)]
pub(super) struct Identity {
    proxy_id: ProxyId,
    directory: PathBuf,
    _lock: File,
}

impl Identity {
    /// Opens the state directory once nobody else uses it, making it and a fresh name when there is none. A proxy
    /// that is on its way out may take as long as `patience`.
    ///
    /// Reads and writes files: call it before serving.
    pub(super) async fn open(directory: &Path, patience: Duration) -> io::Result<Self> {
        let deadline = Instant::now() + patience;
        let mut waits = false;
        loop {
            match Self::try_open(directory) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {}
                opened => return opened,
            }
            if !waits {
                waits = true;
                tracing::info!(directory = %directory.display(), "Waiting for the proxy before this one to end");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn try_open(directory: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(directory.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::WouldBlock, "another proxy is using it")
            }
            TryLockError::Error(error) => error,
        })?;
        let proxy_id = name(&directory.join("proxy-id"))?;
        Ok(Self {
            proxy_id,
            directory: directory.to_owned(),
            _lock: lock,
        })
    }

    /// The name under which management knows this proxy.
    pub(super) fn proxy_id(&self) -> &ProxyId {
        &self.proxy_id
    }

    /// Where the WireGuard keys of the accounts are kept.
    pub(super) fn key_dir(&self) -> PathBuf {
        self.directory.join("accounts")
    }
}

fn name(path: &Path) -> io::Result<ProxyId> {
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => file.take(MAX_NAME).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return fresh(path),
        Err(error) => return Err(error),
    };
    let text = text.trim();
    let fine = !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if fine {
        Ok(ProxyId::new(text))
    } else {
        let reason = format!("{} does not hold the name of a proxy", path.display());
        Err(io::Error::new(io::ErrorKind::InvalidData, reason))
    }
}

/// Writes a fresh name, whole or not at all.
fn fresh(path: &Path) -> io::Result<ProxyId> {
    let id = format!("meshgate-proxy-{}", Uuid::new_v4());
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    Ok(ProxyId::new(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test(start_paused = true)]
    async fn the_name_outlives_a_restart_and_the_directory_has_one_user() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");

        let first = Identity::open(&state, PATIENCE).await.unwrap();
        let name = first.proxy_id().clone();
        let second = Identity::open(&state, PATIENCE).await.unwrap_err();
        drop(first);

        assert_eq!(second.to_string(), "another proxy is using it");
        assert_eq!(*Identity::open(&state, PATIENCE).await.unwrap().proxy_id(), name);
    }

    #[tokio::test(start_paused = true)]
    async fn a_successor_waits_for_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let first = Identity::open(directory.path(), PATIENCE).await.unwrap();
        let leaves = async {
            tokio::time::sleep(Duration::from_secs(15)).await;
            drop(first);
        };

        let (second, ()) = tokio::join!(Identity::open(directory.path(), PATIENCE), leaves);

        second.unwrap();
    }

    #[tokio::test]
    async fn a_damaged_name_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("proxy-id"), "\0\0\0").unwrap();

        assert_eq!(
            Identity::open(directory.path(), PATIENCE)
                .await
                .unwrap_err()
                .kind(),
            io::ErrorKind::InvalidData
        );
    }
}
