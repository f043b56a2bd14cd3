//! Encryption of what is stored, and the files in which the server's own secrets live.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use aes_gcm::aead::Aead as _;
use aes_gcm::{Aes256Gcm, Key, KeyInit as _, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use meshgate_proto::Secret;
use zeroize::Zeroizing;

const NONCE_LEN: usize = 12;

/// What the store keeps encrypted to recognise the right key.
const CHECK_TEXT: &str = "meshgate";

/// Why a secret of the server could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// A key file cannot be read or written.
    #[error("cannot use key file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A key file holds something else.
    #[error(
        "key file {path} does not hold standard base64 of 32 bytes (make one with: openssl rand -base64 32)"
    )]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// Another key was used to write the database.
    #[error("encryption key does not fit the database: put back the key file that was used to create it")]
    WrongKey,
    /// Stored text is cut or altered.
    #[error("stored secret cannot be decrypted")]
    Unreadable,
}

/// Encrypts what is stored: AES-256-GCM, standard base64 of nonce, text and tag. Empty stays empty.
#[derive(Clone)]
pub struct AtRest {
    cipher: Aes256Gcm,
}

impl std::fmt::Debug for AtRest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AtRest(…)")
    }
}

impl AtRest {
    /// Encryption with this key.
    pub fn new(key: &Secret<[u8; 32]>) -> Self {
        let key = Key::<Aes256Gcm>::from_slice(key.expose());
        Self {
            cipher: Aes256Gcm::new(key),
        }
    }

    /// Reads the key file, or makes one (mode 0600) where there is none.
    pub fn open(path: &Path) -> Result<Self, SecretsError> {
        let text = load_or_create(path)?;
        let bytes = Zeroizing::new(
            STANDARD
                .decode(text.expose().trim())
                .map_err(|_| SecretsError::Form { path: path.into() })?,
        );
        let key = bytes
            .as_slice()
            .try_into()
            .map_err(|_| SecretsError::Form { path: path.into() })?;
        Ok(Self::new(&Secret::new(key)))
    }

    /// Encrypts.
    pub fn seal(&self, plain: &str) -> String {
        if plain.is_empty() {
            return String::new();
        }
        let nonce: [u8; NONCE_LEN] = rand::random();
        let sealed = self
            .cipher
            .encrypt(Nonce::from_slice(&nonce), plain.as_bytes())
            .expect("text in memory is shorter than the cipher's limit of 64 GiB");
        let mut out = nonce.to_vec();
        out.extend_from_slice(&sealed);
        STANDARD.encode(out)
    }

    /// Decrypts.
    pub fn unseal(&self, stored: &str) -> Result<Secret<String>, SecretsError> {
        if stored.is_empty() {
            return Ok(Secret::default());
        }
        let bytes = STANDARD.decode(stored).map_err(|_| SecretsError::Unreadable)?;
        let (nonce, sealed) = bytes
            .split_at_checked(NONCE_LEN)
            .ok_or(SecretsError::Unreadable)?;
        let plain = self
            .cipher
            .decrypt(Nonce::from_slice(nonce), sealed)
            .map_err(|_| SecretsError::Unreadable)?;
        String::from_utf8(plain)
            .map(Secret::from)
            .map_err(|_| SecretsError::Unreadable)
    }

    /// What to store beside the data so that [`AtRest::check`] recognises this key.
    pub fn check_value(&self) -> String {
        self.seal(CHECK_TEXT)
    }

    /// Tells whether `stored` was made by [`AtRest::check_value`] with this key.
    pub fn check(&self, stored: &str) -> Result<(), SecretsError> {
        match self.unseal(stored) {
            Ok(text) if text.expose() == CHECK_TEXT => Ok(()),
            Ok(_) | Err(_) => Err(SecretsError::WrongKey),
        }
    }
}

/// Reads a secret from a file, or puts 32 random bytes (standard base64, mode 0600) there.
///
/// A crash in between leaves either no file or a whole one.
pub fn load_or_create(path: &Path) -> Result<Secret<String>, SecretsError> {
    let fault = |source| SecretsError::File {
        path: path.into(),
        source,
    };
    match fs::read_to_string(path) {
        Ok(text) => return Ok(text.into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(fault(error)),
    }
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(fault)?;
    }
    let text = Zeroizing::new(STANDARD.encode(rand::random::<[u8; 32]>()));
    let temporary = path.with_extension(format!("new-{:08x}", rand::random::<u32>()));
    write_private(&temporary, text.as_bytes()).map_err(fault)?;
    // Another process may be first: a hard link never replaces what is there.
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary).map_err(fault)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(fault(error)),
        Ok(()) | Err(_) => fs::read_to_string(path).map(Secret::from).map_err(fault),
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_read_back() {
        let at_rest = AtRest::new(&Secret::new([7; 32]));

        let sealed = at_rest.seal("private");

        assert_ne!(sealed, at_rest.seal("private"));
        assert_eq!(at_rest.unseal(&sealed).unwrap().expose(), "private");
        assert_eq!(at_rest.seal(""), "");
    }

    #[test]
    fn another_key_reads_nothing() {
        let sealed = AtRest::new(&Secret::new([7; 32])).check_value();
        let other = AtRest::new(&Secret::new([8; 32]));

        assert!(matches!(other.check(&sealed), Err(SecretsError::WrongKey)));
        assert!(matches!(other.unseal(&sealed), Err(SecretsError::Unreadable)));
    }

    #[test]
    fn altered_and_cut_text_is_refused() {
        let at_rest = AtRest::new(&Secret::new([7; 32]));

        for text in ["AAAA", "not base64!", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            assert!(at_rest.unseal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_file_is_made_once_and_only_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/encryption.key");

        let first = AtRest::open(&path).unwrap().check_value();
        AtRest::open(&path).unwrap().check(&first).unwrap();

        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_file_with_something_else_says_how_to_make_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("encryption.key");
        fs::write(&path, "short").unwrap();

        let error = AtRest::open(&path).unwrap_err().to_string();

        assert!(error.contains("openssl rand -base64 32"), "{error}");
    }
}
