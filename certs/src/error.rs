//! What can be wrong with certificates, one type for each thing a caller can act on.

use std::io;
use std::path::PathBuf;

/// Why a chain and a key do not make a usable certificate.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The chain text is damaged PEM.
    #[error("certificate is not valid PEM")]
    CertificateNotPem,
    /// The chain text holds no certificate.
    #[error("no certificate found in the PEM text")]
    NoCertificate,
    /// The key text is damaged PEM.
    #[error("private key is not valid PEM")]
    KeyNotPem,
    /// The key text holds no private key.
    #[error("no private key found in the PEM text")]
    NoKey,
    /// The leaf does not parse as X.509.
    #[error("certificate is not valid X.509")]
    Malformed,
    /// The key is of a kind that cannot sign handshakes here.
    #[error("private key is of an unsupported kind")]
    UnsupportedKey,
    /// The key belongs to another certificate.
    #[error("private key does not belong to the certificate")]
    KeyMismatch,
    /// The leaf names no DNS name as subject alternative name.
    #[error("certificate names no domain as subject alternative name")]
    NoNames,
    /// The leaf's time is over.
    #[error("certificate expired on {on}")]
    Expired {
        /// The day of its end (UTC), as `YYYY-MM-DD`.
        on: String,
    },
}

/// Why certificate files could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or directory is not there.
    #[error("{} does not exist", .path.display())]
    Missing {
        /// What was looked for.
        path: PathBuf,
    },
    /// A file or directory cannot be read.
    #[error("cannot read {}", .path.display())]
    Unreadable {
        /// What was read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is larger than any certificate or key.
    #[error("{} is larger than 1 MiB", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Both files were read, but they do not make a certificate.
    #[error("{} with key {} is not usable", .certificate.display(), .key.display())]
    Unusable {
        /// The chain's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        source: BundleError,
    },
    /// A directory holds no usable pair.
    #[error("no usable *.crt with a *.key beside it in {}", .directory.display())]
    NoPairs {
        /// The directory.
        directory: PathBuf,
        /// What was wrong with the first pair, if there was any.
        source: Option<Box<LoadError>>,
    },
}

/// Why the internal authority cannot work.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or the directory cannot be written.
    #[error("cannot write {}", .path.display())]
    Unwritable {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate is there but its key is gone.
    #[error("{} is missing; put it back, or remove the authority's certificate to begin a new authority", .path.display())]
    KeyMissing {
        /// Where the key should be.
        path: PathBuf,
    },
    /// A file does not hold what it should.
    #[error("{} does not hold a {expected}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// The key belongs to another certificate.
    #[error("{} does not belong to the authority's certificate", .path.display())]
    KeyMismatch {
        /// The key's file.
        path: PathBuf,
    },
    /// The authority's own time is over.
    #[error("{} expired; remove it to begin a new authority", .path.display())]
    Expired {
        /// The certificate's file.
        path: PathBuf,
    },
    /// Making a key or a signature failed.
    #[error("cannot make a certificate")]
    Generate(#[from] rcgen::Error),
    /// What was made does not pass our own checks.
    #[error("issued certificate is not usable")]
    Issued(#[from] BundleError),
}
