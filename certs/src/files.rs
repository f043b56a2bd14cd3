//! Certificates from files: one pair, or every pair of a directory. The names in a certificate decide
//! what it serves, never the name of its file.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meshgate_proto::{Secret, UnixTime};
use sha2::{Digest, Sha256};

use crate::bundle::Bundle;
use crate::error::LoadError;

/// Larger files are refused: no chain and no key comes near it.
const MAX_FILE: u64 = 1024 * 1024;

/// At most this many entries of a directory are looked at.
const MAX_ENTRIES: usize = 10_000;

/// A chain and its key, each in a PEM file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PairFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The leaf's private key.
    pub key: PathBuf,
}

/// Where certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateFiles {
    /// One pair that must be there.
    Pair(PairFiles),
    /// Every `*.crt` with a `*.key` of the same name beside it.
    Directory(PathBuf),
}

/// What loading gave: the usable certificates, and what was wrong with the others.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The usable ones.
    pub bundles: Vec<Arc<Bundle>>,
    /// One error for each unusable pair.
    pub failures: Vec<LoadError>,
}

/// Both files as they were at one moment.
pub(crate) struct PairContent {
    chain: Vec<u8>,
    key: Secret<Vec<u8>>,
}

impl CertificateFiles {
    /// Loads everything once.
    ///
    /// # Errors
    ///
    /// A single pair must be usable; of a directory at least one pair.
    pub fn load(&self, now: UnixTime) -> Result<Loaded, LoadError> {
        let mut loaded = Loaded::default();
        for pair in self.pairs()? {
            match pair.load(now) {
                Ok(bundle) => loaded.bundles.push(Arc::new(bundle)),
                Err(error) => loaded.failures.push(error),
            }
        }
        if loaded.bundles.is_empty() {
            return Err(self.nothing_usable(loaded.failures.into_iter().next()));
        }
        Ok(loaded)
    }

    /// The pairs that are there now, in the order of their names.
    pub(crate) fn pairs(&self) -> Result<BTreeSet<PairFiles>, LoadError> {
        match self {
            Self::Pair(pair) => Ok(BTreeSet::from([pair.clone()])),
            Self::Directory(directory) => pairs_of(directory).map_err(|error| failed_read(directory, error)),
        }
    }

    /// The error that stands for a source without any usable certificate.
    pub(crate) fn nothing_usable(&self, first: Option<LoadError>) -> LoadError {
        match (self, first) {
            (Self::Pair(_), Some(error)) => error,
            (Self::Pair(pair), None) => LoadError::Missing {
                path: pair.certificate.clone(),
            },
            (Self::Directory(directory), first) => LoadError::NoPairs {
                directory: directory.clone(),
                source: first.map(Box::new),
            },
        }
    }
}

impl PairFiles {
    /// Reads and checks the pair.
    pub fn load(&self, now: UnixTime) -> Result<Bundle, LoadError> {
        self.check(&self.read()?, now)
    }

    pub(crate) fn read(&self) -> Result<PairContent, LoadError> {
        let chain = read_bounded(&self.certificate)?;
        let key = read_bounded(&self.key)?;
        Ok(PairContent {
            chain,
            key: Secret::new(key),
        })
    }

    pub(crate) fn check(&self, content: &PairContent, now: UnixTime) -> Result<Bundle, LoadError> {
        Bundle::from_pem(&content.chain, content.key.expose(), now).map_err(|source| LoadError::Unusable {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        })
    }

    /// Whether at least one of the two files is still there.
    pub(crate) fn is_present(&self) -> bool {
        self.certificate.exists() || self.key.exists()
    }
}

impl PairContent {
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.chain.len().to_be_bytes());
        hasher.update(&self.chain);
        hasher.update(self.key.expose());
        hasher.finalize().into()
    }
}

/// Hidden entries are passed over: mounted secrets keep their generations in `..data` and the like.
fn pairs_of(directory: &Path) -> io::Result<BTreeSet<PairFiles>> {
    let mut pairs = BTreeSet::new();
    for entry in fs::read_dir(directory)?.take(MAX_ENTRIES) {
        let certificate = entry?.path();
        let hidden = certificate
            .file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let key = certificate.with_extension("key");
        if !hidden && certificate.extension().is_some_and(|end| end == "crt") && key.exists() {
            pairs.insert(PairFiles { certificate, key });
        }
    }
    Ok(pairs)
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, LoadError> {
    let mut content = Vec::new();
    let read = || {
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut content)
    };
    let length = { read }().map_err(|error| failed_read(path, error))?;
    if length as u64 > MAX_FILE {
        return Err(LoadError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(content)
}

fn failed_read(path: &Path, source: io::Error) -> LoadError {
    match source.kind() {
        io::ErrorKind::NotFound => LoadError::Missing {
            path: path.to_owned(),
        },
        _ => LoadError::Unreadable {
            path: path.to_owned(),
            source,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::test_pki::{NOW, TestPki};

    #[test]
    fn a_pair_serves_the_names_in_its_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let files = write(dir.path(), "tls", &["app.test", "*.app.test"]);

        let loaded = CertificateFiles::Pair(files).load(NOW).unwrap();

        let names: Vec<_> = loaded.bundles[0]
            .names()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(names, ["app.test", "*.app.test"]);
    }

    #[test]
    fn a_directory_gives_every_usable_pair() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "one", &["*.one.test"]);
        write(dir.path(), "two", &["two.test"]);
        write(dir.path(), ".hidden", &["hidden.test"]);
        write(dir.path(), "lonely", &["lonely.test"]);
        fs::remove_file(dir.path().join("lonely.key")).unwrap();
        fs::write(dir.path().join("broken.crt"), "x").unwrap();
        fs::write(dir.path().join("broken.key"), "x").unwrap();
        fs::write(dir.path().join("README.txt"), "x").unwrap();

        let loaded = CertificateFiles::Directory(dir.path().to_owned())
            .load(NOW)
            .unwrap();

        let names: Vec<_> = loaded
            .bundles
            .iter()
            .map(|bundle| bundle.names()[0].to_string())
            .collect();
        assert_eq!(names, ["*.one.test", "two.test"]);
        assert_eq!(loaded.failures.len(), 1);
        assert!(
            loaded.failures[0].to_string().contains("broken.crt"),
            "{:?}",
            loaded.failures
        );
    }

    #[test]
    fn errors_name_the_file_and_the_fault() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let one = write(dir.path(), "one", &["one.test"]);
        let two = write(dir.path(), "two", &["two.test"]);
        fs::write(path("big"), vec![b'x'; 1024 * 1024 + 1]).unwrap();

        let load = |certificate: &Path, key: &Path| {
            let files = PairFiles {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            };
            let error = CertificateFiles::Pair(files).load(NOW).unwrap_err();
            let text = error
                .source()
                .map_or(error.to_string(), |source| format!("{error}: {source}"));
            text.replace(&format!("{}/", dir.path().display()), "")
        };

        assert_eq!(load(&path("gone.crt"), &one.key), "gone.crt does not exist");
        assert_eq!(
            load(&one.certificate, &path("gone.key")),
            "gone.key does not exist"
        );
        assert_eq!(
            load(&one.certificate, &two.key),
            "one.crt with key two.key is not usable: private key does not belong to the certificate"
        );
        assert_eq!(
            load(&one.key, &one.key),
            "one.key with key one.key is not usable: no certificate found in the PEM text"
        );
        assert_eq!(load(&path("big"), &one.key), "big is larger than 1 MiB");
        assert!(load(dir.path(), &one.key).starts_with("cannot read "));
    }

    #[test]
    fn a_directory_without_a_usable_pair_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let files = CertificateFiles::Directory(dir.path().to_owned());

        assert!(matches!(
            files.load(NOW),
            Err(LoadError::NoPairs { source: None, .. })
        ));

        fs::write(dir.path().join("broken.crt"), "x").unwrap();
        fs::write(dir.path().join("broken.key"), "x").unwrap();
        assert!(matches!(
            files.load(NOW),
            Err(LoadError::NoPairs { source: Some(_), .. })
        ));

        let gone = CertificateFiles::Directory(dir.path().join("gone"));
        assert!(matches!(gone.load(NOW), Err(LoadError::Missing { .. })));
    }

    fn write(directory: &Path, name: &str, names: &[&str]) -> PairFiles {
        let pair = TestPki::new().pair(names);
        let file = |end: &str| directory.join(format!("{name}.{end}"));
        fs::write(file("crt"), pair.chain).unwrap();
        fs::write(file("key"), pair.key).unwrap();
        PairFiles {
            certificate: file("crt"),
            key: file("key"),
        }
    }
}
