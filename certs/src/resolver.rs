//! Chooses the certificate of a handshake.

use std::fmt;
use std::sync::Arc;

use meshgate_proto::DomainName;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::on_demand::OnDemand;
use crate::store::CertStore;

/// The protocol name under which an authority checks a domain (RFC 8737).
const ACME_TLS: &[u8] = b"acme-tls/1";

/// Holds the short-lived certificates that answer an authority's check of a domain.
pub trait ChallengeCertificates: fmt::Debug + Send + Sync {
    /// The certificate for a check under way, if there is one.
    fn challenge_for(&self, host: &DomainName) -> Option<Arc<CertifiedKey>>;
}

/// Answers handshakes: a check of a domain gets its challenge; others the exact name, then a wildcard,
/// then the internal authority; everything else none, which ends the handshake with an alert.
#[derive(Debug)]
pub struct CertResolver {
    store: Arc<CertStore>,
    challenges: Option<Arc<dyn ChallengeCertificates>>,
    on_demand: Option<Arc<OnDemand>>,
}

impl CertResolver {
    /// Resolves from the store alone.
    pub fn new(store: Arc<CertStore>) -> Self {
        Self {
            store,
            challenges: None,
            on_demand: None,
        }
    }

    /// Answers checks of domains too.
    #[must_use]
    pub fn with_challenges(mut self, challenges: Arc<dyn ChallengeCertificates>) -> Self {
        self.challenges = Some(challenges);
        self
    }

    /// Lets the internal authority serve what the store does not hold.
    #[must_use]
    pub fn with_on_demand(mut self, on_demand: Arc<OnDemand>) -> Self {
        self.on_demand = Some(on_demand);
        self
    }

    /// Whether an ordinary handshake for this host gets a certificate.
    pub fn covers(&self, host: &DomainName) -> bool {
        self.store.covers(host)
            || self
                .on_demand
                .as_ref()
                .is_some_and(|on_demand| on_demand.covers(host))
    }

    /// The certificate for an ordinary handshake.
    pub fn certificate_for(&self, host: &DomainName) -> Option<Arc<CertifiedKey>> {
        let bundle = self
            .store
            .find(host)
            .or_else(|| self.on_demand.as_ref()?.certificate_for(host))?;
        Some(bundle.certified_key())
    }
}

impl ResolvesServerCert for CertResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = DomainName::new(hello.server_name()?).ok()?;
        if hello
            .alpn()
            .is_some_and(|mut protocols| protocols.any(|protocol| protocol == ACME_TLS))
        {
            return self.challenges.as_ref()?.challenge_for(&host);
        }
        self.certificate_for(&host)
    }
}

#[cfg(test)]
mod tests;
