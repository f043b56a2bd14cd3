//! An authority of our own, for the demo and for names that no public authority knows.
//!
//! Its directory holds `ca.crt` (for everybody) and `ca.key` (for the owner only). Both are written once
//! and never changed: who trusted the authority before a restart trusts it after.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, fs};

use meshgate_proto::{DomainName, Secret, UnixTime};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::atomic_file;
use crate::bundle::Bundle;
use crate::error::AuthorityError;
use crate::pattern::NamePattern;

/// How long the authority itself is valid: ten years.
const AUTHORITY_VALIDITY: Duration = Duration::from_hours(3650 * 24);

/// How long a leaf is valid: thirty days, renewed after twenty.
const LEAF_VALIDITY: Duration = Duration::from_hours(30 * 24);

/// Certificates begin this much in the past, for clients whose clock is behind.
const CLOCK_SKEW: Duration = Duration::from_hours(1);

/// How a new authority is made; an existing one keeps what it was made with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorityOptions {
    /// Domains that the authority can vouch for, with everything below them; empty for no limit.
    ///
    /// The limit stands in the certificate, so whoever trusts it risks no other name.
    pub permitted: Vec<DomainName>,
}

/// A certificate authority that lives in a directory.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    not_after: UnixTime,
    certificate: CertificateDer<'static>,
    certificate_path: PathBuf,
}

impl Authority {
    /// Loads the authority in `directory`, or makes one where there is none.
    ///
    /// Reads and writes files: call it before serving. Two processes that start at once end up with the
    /// same authority. A certificate without its key is an error and never replaced in silence.
    pub fn open(directory: &Path, options: &AuthorityOptions, now: UnixTime) -> Result<Self, AuthorityError> {
        let files = Files {
            certificate: directory.join("ca.crt"),
            key: directory.join("ca.key"),
        };
        if !exists(&files.certificate)? {
            fs::create_dir_all(directory).map_err(|source| AuthorityError::Unwritable {
                path: directory.to_owned(),
                source,
            })?;
            files.create(options, now)?;
        }
        files.load(now)
    }

    /// Makes a certificate with a key of its own for the given names, valid for thirty days from `now`.
    pub fn issue(&self, names: &[NamePattern], now: UnixTime) -> Result<Bundle, AuthorityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "Meshgate service");
        for name in names {
            params
                .subject_alt_names
                .push(SanType::DnsName(name.to_string().try_into()?));
        }
        params.not_before = now.saturating_sub(CLOCK_SKEW).into();
        params.not_after = now.saturating_add(LEAF_VALIDITY).min(self.not_after).into();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;

        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::from(rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Bundle::from_der(vec![leaf.der().clone()], &key, now)?)
    }

    /// The authority's certificate, for trust stores of our own clients.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Where the authority's certificate stands as PEM, for `curl --cacert` and the like.
    pub fn ca_pem_path(&self) -> &Path {
        &self.certificate_path
    }

    /// End of the authority's own time.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("certificate_path", &self.certificate_path)
            .finish_non_exhaustive()
    }
}

/// The two files of an authority.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    /// Writes the key first: a key without certificate can be taken up, a certificate without key cannot.
    fn create(&self, options: &AuthorityOptions, now: UnixTime) -> Result<(), AuthorityError> {
        if !exists(&self.key)? {
            let pem = Secret::new(KeyPair::generate()?.serialize_pem());
            create_once(&self.key, pem.expose().as_bytes(), 0o600)?;
        }
        let key = self.load_key()?;
        let certificate = authority_params(options, &key, now).self_signed(&key)?;
        create_once(&self.certificate, certificate.pem().as_bytes(), 0o644)
    }

    fn load(self, now: UnixTime) -> Result<Authority, AuthorityError> {
        let malformed = || AuthorityError::Malformed {
            path: self.certificate.clone(),
            expected: "CA certificate",
        };
        let pem = fs::read(&self.certificate).map_err(|source| AuthorityError::Unreadable {
            path: self.certificate.clone(),
            source,
        })?;
        let der = CertificateDer::from_pem_slice(&pem).map_err(|_| malformed())?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| malformed())?;
        if !parsed.is_ca() {
            return Err(malformed());
        }
        let not_after = UnixTime::from_secs(parsed.validity().not_after.timestamp());
        if not_after < now {
            return Err(AuthorityError::Expired {
                path: self.certificate,
            });
        }
        if !exists(&self.key)? {
            return Err(AuthorityError::KeyMissing { path: self.key });
        }
        let key = self.load_key()?;
        if key.subject_public_key_info() != parsed.public_key().raw {
            return Err(AuthorityError::KeyMismatch { path: self.key });
        }

        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|_| malformed())?;
        Ok(Authority {
            issuer,
            not_after,
            certificate: der,
            certificate_path: self.certificate,
        })
    }

    fn load_key(&self) -> Result<KeyPair, AuthorityError> {
        let malformed = || AuthorityError::Malformed {
            path: self.key.clone(),
            expected: "private key",
        };
        let pem = fs::read_to_string(&self.key)
            .map(Secret::new)
            .map_err(|source| match source.kind() {
                io::ErrorKind::InvalidData => malformed(),
                _ => AuthorityError::Unreadable {
                    path: self.key.clone(),
                    source,
                },
            })?;
        KeyPair::from_pem(pem.expose()).map_err(|_| malformed())
    }
}

/// The authority's own certificate: named after its key, so that two authorities look different.
fn authority_params(options: &AuthorityOptions, key: &KeyPair, now: UnixTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    let id = params
        .key_identifier(key)
        .iter()
        .take(4)
        .fold(0u32, |id, &byte| id << 8 | u32::from(byte));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(
        DnType::CommonName,
        format!("Meshgate internal authority {id:08x}"),
    );
    params.not_before = now.saturating_sub(CLOCK_SKEW).into();
    params.not_after = now.saturating_add(AUTHORITY_VALIDITY).into();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    if !options.permitted.is_empty() {
        let subtrees = options
            .permitted
            .iter()
            .map(|domain| GeneralSubtree::DnsName(domain.to_string()));
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: subtrees.collect(),
            excluded_subtrees: Vec::new(),
        });
    }
    params
}

/// Creates the file, or leaves the one that another process made in the meantime.
fn create_once(path: &Path, content: &[u8], mode: u32) -> Result<(), AuthorityError> {
    match atomic_file::create(path, content, mode) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => Err(AuthorityError::Unwritable {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

fn exists(path: &Path) -> Result<bool, AuthorityError> {
    path.try_exists().map_err(|source| AuthorityError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
