//! The file that keeps a peer's identity from one start to the next.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use meshgate_proto::WgPrivateKey;
use zeroize::Zeroizing;

/// More than a key with surrounding blanks needs.
const MAX_KEY_FILE: u64 = 256;

/// Reads the private key of `path`, or writes a fresh one there (mode 0600, all or nothing).
///
/// # Errors
/// `InvalidData` when the file is there and holds no key: it is never overwritten.
pub fn load_or_create_key(path: &Path) -> io::Result<WgPrivateKey> {
    match load(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path),
        result => result,
    }
}

fn load(path: &Path) -> io::Result<WgPrivateKey> {
    let mut text = Zeroizing::new(String::new());
    File::open(path)?.take(MAX_KEY_FILE).read_to_string(&mut text)?;
    text.trim()
        .parse()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display())))
}

/// A hard link refuses to replace, so two starts at once agree on one key.
fn create(path: &Path) -> io::Result<WgPrivateKey> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let key = WgPrivateKey::generate();
    let temporary = temporary_name(path);
    let written = write_private(&temporary, &key).and_then(|()| fs::hard_link(&temporary, path));
    let removed = fs::remove_file(&temporary);
    match written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => load(path),
        Err(error) => Err(error),
        Ok(()) => removed.map(|()| key),
    }
}

fn write_private(path: &Path, key: &WgPrivateKey) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(key.expose_text().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{:016x}.tmp", rand::random::<u64>()));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keeps_the_key_and_hides_it_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state").join("peer.key");

        let created = load_or_create_key(&path).unwrap();
        let loaded = load_or_create_key(&path).unwrap();

        assert_eq!(created, loaded);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn never_overwrites_a_broken_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peer.key");
        fs::write(&path, "not a key").unwrap();

        let error = load_or_create_key(&path).unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(fs::read_to_string(&path).unwrap(), "not a key");
    }
}
