//! Real handshakes over a pipe in memory.

use std::time::Duration;

use meshgate_proto::{Clock, SystemClock};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, ClientConfig, Error as TlsError, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::authority::{Authority, AuthorityOptions};
use crate::bundle::Bundle;
use crate::pattern::NamePattern;
use crate::store::SourceName;
use crate::test_pki::{TestPair, TestPki};

#[tokio::test]
async fn known_names_get_their_own_certificate() {
    let pki = TestPki::new();
    let resolver = stored(&[pair(&pki, &["app.test"]), pair(&pki, &["*.wild.test"])]);

    for (name, expected) in [
        ("app.test", "app.test"),
        ("APP.test", "app.test"),
        ("one.wild.test", "*.wild.test"),
    ] {
        let seen = handshake(&resolver, Hello::to(name, pki.ca_der())).await.unwrap();
        assert_eq!(names(&seen), [expected], "{name}");
    }
}

#[tokio::test]
async fn unknown_names_end_with_an_alert() {
    let pki = TestPki::new();
    let resolver = stored(&[pair(&pki, &["app.test", "*.wild.test"])]);

    for name in ["other.test", "wild.test", "a.b.wild.test"] {
        let error = handshake(&resolver, Hello::to(name, pki.ca_der()))
            .await
            .unwrap_err();
        assert_eq!(
            error,
            TlsError::AlertReceived(AlertDescription::AccessDenied),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_hello_without_a_name_ends_with_an_alert() {
    let pki = TestPki::new();
    let resolver = stored(&[pair(&pki, &["app.test"])]);

    let error = handshake(&resolver, Hello::to("app.test", pki.ca_der()).without_name())
        .await
        .unwrap_err();

    assert_eq!(error, TlsError::AlertReceived(AlertDescription::AccessDenied));
}

#[tokio::test]
async fn the_authority_serves_names_under_its_domain_only() {
    let dir = tempfile::tempdir().unwrap();
    let base = DomainName::new("proxy.localhost").unwrap();
    let options = AuthorityOptions {
        permitted: vec![base.clone()],
    };
    let authority = Authority::open(dir.path(), &options, SystemClock.now()).unwrap();
    let ca = authority.certificate().clone();
    let on_demand = Arc::new(OnDemand::new(authority, vec![base], Arc::new(SystemClock)));
    let resolver = CertResolver::new(Arc::new(CertStore::new())).with_on_demand(on_demand);
    let resolver = Arc::new(resolver);

    let seen = handshake(&resolver, Hello::to("whoami.proxy.localhost", ca.clone()))
        .await
        .unwrap();
    let error = handshake(&resolver, Hello::to("example.com", ca))
        .await
        .unwrap_err();

    assert_eq!(names(&seen), ["whoami.proxy.localhost"]);
    assert_eq!(error, TlsError::AlertReceived(AlertDescription::AccessDenied));
}

#[tokio::test]
async fn clients_refuse_names_that_the_authority_may_not_vouch_for() {
    let dir = tempfile::tempdir().unwrap();
    let options = AuthorityOptions {
        permitted: vec![DomainName::new("proxy.localhost").unwrap()],
    };
    let authority = Authority::open(dir.path(), &options, SystemClock.now()).unwrap();
    let leaf = authority
        .issue(&[NamePattern::parse("bank.example").unwrap()], SystemClock.now())
        .unwrap();
    let store = CertStore::new();
    store.replace(&SourceName::new("test"), vec![Arc::new(leaf)]);
    let resolver = Arc::new(CertResolver::new(Arc::new(store)));

    let refused = handshake(
        &resolver,
        Hello::to("bank.example", authority.certificate().clone()),
    )
    .await;

    assert!(
        matches!(refused, Err(TlsError::InvalidCertificate(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn stored_certificates_come_before_the_authority() {
    let pki = TestPki::new();
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open(dir.path(), &AuthorityOptions::default(), SystemClock.now()).unwrap();
    let base = DomainName::new("test").unwrap();
    let on_demand = OnDemand::new(authority, vec![base], Arc::new(SystemClock));
    let store = store_of(&[pair(&pki, &["app.test"])]);
    let resolver = Arc::new(CertResolver::new(store).with_on_demand(Arc::new(on_demand)));

    assert!(
        handshake(&resolver, Hello::to("app.test", pki.ca_der()))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_domain_check_gets_its_challenge_and_never_the_ordinary_certificate() {
    let pki = TestPki::new();
    let store = store_of(&[pair(&pki, &["app.test", "other.test"])]);
    let challenge = Arc::new(bundle(&pair(&pki, &["app.test", "challenge.test"])));
    let challenges = Arc::new(OneChallenge {
        host: DomainName::new("app.test").unwrap(),
        bundle: challenge,
    });
    let with = Arc::new(CertResolver::new(Arc::clone(&store)).with_challenges(challenges));
    let without = Arc::new(CertResolver::new(store));
    let hello = |name| Hello::to(name, pki.ca_der()).with_alpn(b"acme-tls/1");

    let seen = handshake(&with, hello("app.test")).await.unwrap();

    assert_eq!(names(&seen), ["app.test", "challenge.test"]);
    assert!(handshake(&with, hello("other.test")).await.is_err());
    assert!(handshake(&without, hello("app.test")).await.is_err());
}

#[tokio::test]
async fn a_replaced_certificate_is_seen_by_the_next_handshake() {
    let pki = TestPki::new();
    let store = store_of(&[pair(&pki, &["app.test"])]);
    let resolver = Arc::new(CertResolver::new(Arc::clone(&store)));
    let before = handshake(&resolver, Hello::to("app.test", pki.ca_der()))
        .await
        .unwrap();

    let replacement = Arc::new(bundle(&pair(&pki, &["app.test"])));
    store.replace(&SourceName::new("test"), vec![replacement]);
    let after = handshake(&resolver, Hello::to("app.test", pki.ca_der()))
        .await
        .unwrap();

    assert_ne!(before, after);
}

#[derive(Debug)]
struct OneChallenge {
    host: DomainName,
    bundle: Arc<Bundle>,
}

impl ChallengeCertificates for OneChallenge {
    fn challenge_for(&self, host: &DomainName) -> Option<Arc<CertifiedKey>> {
        (*host == self.host).then(|| self.bundle.certified_key())
    }
}

/// What the client of a handshake says and trusts.
struct Hello {
    name: ServerName<'static>,
    config: ClientConfig,
}

impl Hello {
    fn to(name: &str, trusted: CertificateDer<'static>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(trusted).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            name: ServerName::try_from(name.to_owned()).unwrap(),
            config,
        }
    }

    fn without_name(mut self) -> Self {
        self.config.enable_sni = false;
        self
    }

    fn with_alpn(mut self, protocol: &[u8]) -> Self {
        self.config.alpn_protocols = vec![protocol.to_vec()];
        self
    }
}

/// Runs one handshake; gives the leaf that the client accepted, or the error that the client saw.
async fn handshake(resolver: &Arc<CertResolver>, hello: Hello) -> Result<CertificateDer<'static>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::<CertResolver>::clone(resolver));
    config.alpn_protocols.clone_from(&hello.config.alpn_protocols);
    let (near, far) = tokio::io::duplex(16 * 1024);

    let server = TlsAcceptor::from(Arc::new(config)).accept(far);
    let client = TlsConnector::from(Arc::new(hello.config)).connect(hello.name, near);
    let both = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(server, client) });
    let (_, client) = both.await.expect("a handshake ends");

    match client {
        Ok(stream) => Ok(stream.get_ref().1.peer_certificates().unwrap()[0].clone()),
        Err(error) => Err(error
            .into_inner()
            .unwrap()
            .downcast_ref::<TlsError>()
            .unwrap()
            .clone()),
    }
}

fn stored(pairs: &[TestPair]) -> Arc<CertResolver> {
    Arc::new(CertResolver::new(store_of(pairs)))
}

fn store_of(pairs: &[TestPair]) -> Arc<CertStore> {
    let store = CertStore::new();
    store.replace(
        &SourceName::new("test"),
        pairs.iter().map(|pair| Arc::new(bundle(pair))).collect(),
    );
    Arc::new(store)
}

/// Valid around the machine's clock, which the clients of these tests read.
fn pair(pki: &TestPki, names: &[&str]) -> TestPair {
    pki.pair_until(names, SystemClock.now().saturating_add(Duration::from_hours(24)))
}

fn bundle(pair: &TestPair) -> Bundle {
    Bundle::from_pem(pair.chain.as_bytes(), pair.key.as_bytes(), SystemClock.now()).unwrap()
}

fn names(leaf: &CertificateDer<'_>) -> Vec<String> {
    use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

    let (_, leaf) = X509Certificate::from_der(leaf).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    let names = names.value.general_names.iter().map(|name| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        other => panic!("unexpected name {other:?}"),
    });
    names.collect()
}
