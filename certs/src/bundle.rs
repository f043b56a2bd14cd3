//! A certificate chain with its key, checked once so that a handshake can rely on it.

use std::sync::Arc;
use std::time::Duration;

use meshgate_proto::UnixTime;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::BundleError;
use crate::pattern::NamePattern;

/// At most this many certificates of a chain are read.
const MAX_CHAIN: usize = 16;

/// A usable certificate: chain, key, the names it covers and its time.
#[derive(Debug)]
pub struct Bundle {
    key: Arc<CertifiedKey>,
    names: Vec<NamePattern>,
    not_before: UnixTime,
    not_after: UnixTime,
}

impl Bundle {
    /// Reads a chain (leaf first) and its key from PEM text and checks both.
    pub fn from_pem(chain: &[u8], key: &[u8], now: UnixTime) -> Result<Self, BundleError> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .take(MAX_CHAIN)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| BundleError::CertificateNotPem)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
            pem::Error::NoItemsFound => BundleError::NoKey,
            _ => BundleError::KeyNotPem,
        })?;
        Self::from_der(chain, &key, now)
    }

    /// Checks a chain (leaf first) and its key.
    ///
    /// A certificate whose time has not begun is taken: clocks differ, and its time will come.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'_>,
        now: UnixTime,
    ) -> Result<Self, BundleError> {
        let leaf = Leaf::read(chain.first().ok_or(BundleError::NoCertificate)?)?;
        let key = any_supported_type(key).map_err(|_| BundleError::UnsupportedKey)?;
        let key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            Ok(()) => {}
            Err(TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                return Err(BundleError::KeyMismatch);
            }
            Err(TlsError::InconsistentKeys(_)) => return Err(BundleError::UnsupportedKey),
            Err(_) => return Err(BundleError::Malformed),
        }
        if leaf.names.is_empty() {
            return Err(BundleError::NoNames);
        }
        if leaf.not_after < now {
            let on = time::OffsetDateTime::from(leaf.not_after).date().to_string();
            return Err(BundleError::Expired { on });
        }

        Ok(Self {
            key: Arc::new(key),
            names: leaf.names,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
        })
    }

    /// Chain and key as a handshake takes them.
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }

    /// The names that the leaf covers, at least one.
    pub fn names(&self) -> &[NamePattern] {
        &self.names
    }

    /// Begin of the leaf's time.
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// End of the leaf's time.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// Whether the last third of the leaf's time has begun, the moment to get a new one.
    pub fn needs_renewal(&self, now: UnixTime) -> bool {
        let lifetime = self.not_after.since(self.not_before);
        self.not_after.since(now) <= lifetime / 3
    }

    /// What is left of the leaf's time.
    pub fn remaining(&self, now: UnixTime) -> Duration {
        self.not_after.since(now)
    }
}

/// What is read from the leaf itself.
struct Leaf {
    names: Vec<NamePattern>,
    not_before: UnixTime,
    not_after: UnixTime,
}

impl Leaf {
    fn read(der: &[u8]) -> Result<Self, BundleError> {
        let (_, leaf) = X509Certificate::from_der(der).map_err(|_| BundleError::Malformed)?;
        let alternatives = leaf
            .subject_alternative_name()
            .map_err(|_| BundleError::Malformed)?;
        let names = alternatives
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => NamePattern::parse(name).ok(),
                _ => None,
            })
            .collect();

        Ok(Self {
            names,
            not_before: UnixTime::from_secs(leaf.validity().not_before.timestamp()),
            not_after: UnixTime::from_secs(leaf.validity().not_after.timestamp()),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_pki::{NOW, TestPki};

    #[test]
    fn reads_names_and_time_from_the_leaf() {
        let pair = TestPki::new().pair(&["app.test", "*.Wild.test"]);

        let bundle = Bundle::from_pem(pair.chain.as_bytes(), pair.key.as_bytes(), NOW).unwrap();

        let names: Vec<_> = bundle.names().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["app.test", "*.wild.test"]);
        assert!(bundle.not_before() < NOW && NOW < bundle.not_after());
    }

    #[test]
    fn asks_for_renewal_in_the_last_third() {
        let pair = TestPki::new().pair(&["app.test"]);
        let bundle = Bundle::from_pem(pair.chain.as_bytes(), pair.key.as_bytes(), NOW).unwrap();
        let third = bundle.not_after().since(bundle.not_before()) / 3;

        assert!(!bundle.needs_renewal(bundle.not_before()));
        assert!(
            !bundle.needs_renewal(
                bundle
                    .not_before()
                    .saturating_add(third.saturating_mul(2).saturating_sub(Duration::from_secs(1)))
            )
        );
        assert!(bundle.needs_renewal(bundle.not_before().saturating_add(third * 2)));
        assert!(bundle.needs_renewal(bundle.not_after().saturating_add(third)));
    }

    #[test]
    fn says_what_is_wrong() {
        let pki = TestPki::new();
        let good = pki.pair(&["app.test"]);
        let other = pki.pair(&["other.test"]);
        let nameless = pki.pair(&[]);
        let late = NOW.saturating_add(Duration::from_hours(400 * 24));

        let cases = [
            (
                good.chain.as_str(),
                other.key.as_str(),
                NOW,
                "private key does not belong to the certificate",
            ),
            ("", good.key.as_str(), NOW, "no certificate found in the PEM text"),
            (
                good.key.as_str(),
                good.key.as_str(),
                NOW,
                "no certificate found in the PEM text",
            ),
            (
                good.chain.as_str(),
                good.chain.as_str(),
                NOW,
                "no private key found in the PEM text",
            ),
            (
                good.chain.as_str(),
                "",
                NOW,
                "no private key found in the PEM text",
            ),
            (
                &good.chain[..200],
                good.key.as_str(),
                NOW,
                "certificate is not valid PEM",
            ),
            (
                good.chain.as_str(),
                &good.key[..60],
                NOW,
                "private key is not valid PEM",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                good.key.as_str(),
                NOW,
                "certificate is not valid X.509",
            ),
            (
                good.chain.as_str(),
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                NOW,
                "private key is of an unsupported kind",
            ),
            (
                nameless.chain.as_str(),
                nameless.key.as_str(),
                NOW,
                "certificate names no domain as subject alternative name",
            ),
            (
                good.chain.as_str(),
                good.key.as_str(),
                late,
                "certificate expired on 2026-08-14",
            ),
        ];
        for (chain, key, now, message) in cases {
            let error = Bundle::from_pem(chain.as_bytes(), key.as_bytes(), now).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(chain in prop::collection::vec(any::<u8>(), 0..512), key in any::<Vec<u8>>()) {
            prop_assert!(Bundle::from_pem(&chain, &key, NOW).is_err());
        }

        #[test]
        fn damaged_pairs_never_panic(
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let pair = TestPki::fixed_pair();
            let mut chain = pair.chain.clone().into_bytes();
            let mut key = pair.key.clone().into_bytes();
            let place = at.index(chain.len());
            chain[place] = byte;
            key.truncate(cut.index(key.len()));

            let _ = Bundle::from_pem(&chain, pair.key.as_bytes(), NOW);
            let _ = Bundle::from_pem(pair.chain.as_bytes(), &key, NOW);
        }

        #[test]
        fn garbage_in_pem_armour_never_panics(body in prop::collection::vec(any::<u8>(), 0..256)) {
            let armour = |tag: &str| {
                let text = base64(&body);
                format!("-----BEGIN {tag}-----\n{text}\n-----END {tag}-----\n")
            };
            let pair = TestPki::fixed_pair();

            let _ = Bundle::from_pem(armour("CERTIFICATE").as_bytes(), pair.key.as_bytes(), NOW);
            for tag in ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"] {
                let _ = Bundle::from_pem(pair.chain.as_bytes(), armour(tag).as_bytes(), NOW);
            }
        }
    }

    fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let word = chunk.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte));
            let word = word << (8 * (3 - chunk.len()));
            for place in 0..4 {
                let digit = DIGITS[(word >> (18 - 6 * place) & 63) as usize];
                text.push(if place <= chunk.len() { digit as char } else { '=' });
            }
        }
        text
    }
}
