use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::test_pki::NOW;

#[test]
fn survives_a_restart_unchanged() {
    let dir = tempfile::tempdir().unwrap();

    let first = open(&dir).unwrap();
    let second = open(&dir).unwrap();

    assert_eq!(first.certificate(), second.certificate());
    assert_eq!(first.not_after(), second.not_after());
    let names = [NamePattern::parse("a.test").unwrap()];
    let leaf = second.issue(&names, NOW).unwrap();
    assert!(is_signed_by(&leaf, &first));
}

#[test]
fn guards_the_key_and_shows_the_certificate() {
    let dir = tempfile::tempdir().unwrap();

    let authority = open(&dir).unwrap();

    assert_eq!(mode(&dir.path().join("ca.key")), 0o600);
    assert_eq!(mode(authority.ca_pem_path()), 0o644);
    assert!(
        fs::read_to_string(authority.ca_pem_path())
            .unwrap()
            .starts_with("-----BEGIN CERTIFICATE-----")
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn leaves_are_short_lived_and_never_outlive_the_authority() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(&dir).unwrap();
    let names = [
        NamePattern::parse("*.a.test").unwrap(),
        NamePattern::parse("a.test").unwrap(),
    ];

    let leaf = authority.issue(&names, NOW).unwrap();
    let late = authority
        .issue(&names, authority.not_after().saturating_sub(CLOCK_SKEW))
        .unwrap();

    assert_eq!(leaf.names(), names);
    assert_eq!(leaf.not_after(), NOW.saturating_add(LEAF_VALIDITY));
    assert_eq!(late.not_after(), authority.not_after());
}

#[test]
fn takes_up_a_key_whose_certificate_was_never_written() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir).unwrap();
    fs::remove_file(dir.path().join("ca.crt")).unwrap();
    let key = fs::read(dir.path().join("ca.key")).unwrap();

    open(&dir).unwrap();

    assert_eq!(fs::read(dir.path().join("ca.key")).unwrap(), key);
}

#[test]
fn says_what_is_wrong_and_changes_nothing() {
    let other = tempfile::tempdir().unwrap();
    open(&other).unwrap();
    let other_key = fs::read(other.path().join("ca.key")).unwrap();
    let leaf = crate::test_pki::TestPki::fixed_pair();

    let cases: [(&str, Option<&[u8]>, &str); 5] = [
        (
            "ca.key",
            None,
            "ca.key is missing; put it back, or remove the authority's certificate to begin a new authority",
        ),
        ("ca.key", Some(b"nonsense"), "ca.key does not hold a private key"),
        (
            "ca.key",
            Some(&other_key),
            "ca.key does not belong to the authority's certificate",
        ),
        (
            "ca.crt",
            Some(b"nonsense"),
            "ca.crt does not hold a CA certificate",
        ),
        (
            "ca.crt",
            Some(leaf.chain.as_bytes()),
            "ca.crt does not hold a CA certificate",
        ),
    ];
    for (file, content, message) in cases {
        let dir = tempfile::tempdir().unwrap();
        open(&dir).unwrap();
        let path = dir.path().join(file);
        fs::remove_file(&path).unwrap();
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }

        let error = open(&dir).unwrap_err().to_string();

        assert_eq!(error, format!("{}/{message}", dir.path().display()));
        assert_eq!(fs::read(&path).ok().as_deref(), content);
    }
}

#[test]
fn refuses_to_work_after_its_own_end() {
    let dir = tempfile::tempdir().unwrap();
    let end = open(&dir).unwrap().not_after();

    let late = Authority::open(
        dir.path(),
        &AuthorityOptions::default(),
        end.saturating_add(CLOCK_SKEW),
    );

    assert!(matches!(late, Err(AuthorityError::Expired { .. })));
}

#[test]
fn simultaneous_starts_end_with_one_authority() {
    let dir = tempfile::tempdir().unwrap();
    let barrier = Barrier::new(2);
    let start = || {
        barrier.wait();
        open(&dir).unwrap().certificate().clone()
    };

    let (one, two) = std::thread::scope(|scope| {
        let (one, two) = (scope.spawn(start), scope.spawn(start));
        (one.join().unwrap(), two.join().unwrap())
    });

    assert_eq!(one, two);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_in_the_files_never_panics(
        certificate in prop::collection::vec(any::<u8>(), 0..256),
        key in prop::collection::vec(any::<u8>(), 0..256),
    ) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.crt"), certificate).unwrap();
        fs::write(dir.path().join("ca.key"), key).unwrap();

        prop_assert!(open(&dir).is_err());
    }
}

fn open(dir: &TempDir) -> Result<Authority, AuthorityError> {
    Authority::open(dir.path(), &AuthorityOptions::default(), NOW)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn is_signed_by(leaf: &Bundle, authority: &Authority) -> bool {
    let leaf = leaf.certified_key();
    let (_, leaf) = X509Certificate::from_der(&leaf.cert[0]).unwrap();
    let (_, authority) = X509Certificate::from_der(authority.certificate()).unwrap();
    leaf.issuer() == authority.subject()
        && leaf.tbs_certificate.authority_key_id() == authority.tbs_certificate.subject_key_id()
}

/// Key identifiers as the two certificates state them.
trait KeyIds {
    fn authority_key_id(&self) -> Option<Vec<u8>>;
    fn subject_key_id(&self) -> Option<Vec<u8>>;
}

impl KeyIds for x509_parser::certificate::TbsCertificate<'_> {
    fn authority_key_id(&self) -> Option<Vec<u8>> {
        self.iter_extensions()
            .find_map(|extension| match extension.parsed_extension() {
                x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(id) => {
                    id.key_identifier.as_ref().map(|id| id.0.to_vec())
                }
                _ => None,
            })
    }

    fn subject_key_id(&self) -> Option<Vec<u8>> {
        self.iter_extensions()
            .find_map(|extension| match extension.parsed_extension() {
                x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            })
    }
}
