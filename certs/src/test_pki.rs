use std::sync::OnceLock;
use std::time::Duration;

use meshgate_proto::UnixTime;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

/// The present of the tests: 2025-07-11.
pub(crate) const NOW: UnixTime = UnixTime::from_secs(1_752_192_000);

const DAY: Duration = Duration::from_hours(24);

/// An outside authority whose leaves are valid from ten days before [`NOW`] to 399 days after.
pub(crate) struct TestPki {
    ca: CertifiedIssuer<'static, KeyPair>,
}

#[derive(Clone)]
pub(crate) struct TestPair {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl TestPki {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { ca }
    }

    pub(crate) fn ca_der(&self) -> rustls::pki_types::CertificateDer<'static> {
        self.ca.der().clone()
    }

    pub(crate) fn pair(&self, names: &[&str]) -> TestPair {
        self.pair_until(names, NOW.saturating_add(DAY * 399))
    }

    pub(crate) fn pair_until(&self, names: &[&str], not_after: UnixTime) -> TestPair {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names
            .iter()
            .map(|&name| SanType::DnsName(name.try_into().unwrap()))
            .collect();
        params.not_before = NOW.saturating_sub(DAY * 10).into();
        params.not_after = not_after.into();
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.ca).unwrap();
        TestPair {
            chain: format!("{}{}", leaf.pem(), self.ca.pem()),
            key: key.serialize_pem(),
        }
    }

    /// One pair for all cases of a property test.
    pub(crate) fn fixed_pair() -> &'static TestPair {
        static PAIR: OnceLock<TestPair> = OnceLock::new();
        PAIR.get_or_init(|| Self::new().pair(&["app.test"]))
    }
}
