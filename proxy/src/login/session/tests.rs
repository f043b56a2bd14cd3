use ed25519_dalek::{Signer as _, SigningKey};
use meshgate_proto::SessionPublicKey;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::routing::tests::{NoNetwork, mapping};

const NOW: i64 = 1_800_000_000;

#[test]
fn a_token_of_this_service_is_a_session() {
    let session = verify(&token(&claims("app.test"))).unwrap();

    assert_eq!(session.service_id.as_str(), "s1");
    assert_eq!(session.user.id.as_str(), "u1");
    assert_eq!(session.user.method, "pin");
    assert_eq!(session.user.groups, ["Admins", "g2"]);
    assert_eq!(session.expires_at, UnixTime::from_secs(NOW + 60));
}

#[test]
fn an_audience_may_be_a_single_text() {
    let mut claims = claims("app.test");
    claims["aud"] = json!("app.test");

    assert!(verify(&token(&claims)).is_ok());
}

#[test]
fn tokens_of_other_keys_and_altered_ones_are_refused() {
    let foreign = sign(
        &SigningKey::from_bytes(&[9; 32]),
        &header("EdDSA"),
        &claims("app.test"),
    );
    let mine = token(&claims("app.test"));
    let theirs = token(&claims("other.test"));
    let (_, signature) = mine.rsplit_once('.').unwrap();
    let (signed, _) = theirs.rsplit_once('.').unwrap();

    assert_eq!(verify(&foreign), Err(InvalidSession::Signature));
    assert_eq!(
        verify(&format!("{signed}.{signature}")),
        Err(InvalidSession::Signature)
    );
}

#[test]
fn only_the_pinned_algorithm_is_taken() {
    for alg in ["none", "HS256", "RS256", "Ed25519", "eddsa", ""] {
        let token = sign(&key(), &header(alg), &claims("app.test"));
        assert_eq!(verify(&token), Err(InvalidSession::Algorithm), "{alg}");
    }
    let critical = sign(
        &key(),
        &json!({"alg": "EdDSA", "crit": ["x"]}),
        &claims("app.test"),
    );
    assert_eq!(verify(&critical), Err(InvalidSession::Algorithm));
    let unsigned = token(&claims("app.test"));
    let (signed, _) = unsigned.rsplit_once('.').unwrap();
    assert_eq!(verify(&format!("{signed}.")), Err(InvalidSession::Malformed));
}

#[test]
fn other_issuers_hosts_and_nobody_are_refused() {
    for (field, value) in [
        ("iss", json!("other")),
        ("aud", json!(["other.test"])),
        ("aud", json!([])),
        ("sub", json!("")),
    ] {
        let mut claims = claims("app.test");
        claims[field] = value;
        assert_eq!(verify(&token(&claims)), Err(InvalidSession::Claims), "{field}");
    }
}

#[test]
fn tokens_count_from_their_begin_to_their_end() {
    let mut early = claims("app.test");
    early["nbf"] = json!(NOW + 31);
    let mut ended = claims("app.test");
    ended["exp"] = json!(NOW);
    let mut endless = claims("app.test");
    endless.as_object_mut().unwrap().remove("exp");

    assert_eq!(verify(&token(&early)), Err(InvalidSession::Time));
    assert_eq!(verify(&token(&ended)), Err(InvalidSession::Time));
    assert_eq!(verify(&token(&endless)), Err(InvalidSession::Malformed));
}

#[test]
fn a_remembered_token_still_ends_and_a_new_key_forgets_it() {
    let sessions = Sessions::new();
    let token = token(&claims("app.test"));
    let route = guarded_route(&key());

    assert!(sessions.verify(&route, &token, UnixTime::from_secs(NOW)).is_ok());
    assert_eq!(
        sessions.verify(&route, &token, UnixTime::from_secs(NOW + 60)),
        Err(InvalidSession::Time)
    );
    let rekeyed = guarded_route(&SigningKey::from_bytes(&[8; 32]));
    assert_eq!(
        sessions.verify(&rekeyed, &token, UnixTime::from_secs(NOW)),
        Err(InvalidSession::Signature)
    );
}

#[test]
fn planted_cookies_do_not_hide_the_session() {
    let sessions = Sessions::new();
    let route = guarded_route(&key());
    let now = UnixTime::from_secs(NOW);
    let good = token(&claims("app.test"));
    let foreign = sign(&key(), &header("EdDSA"), &claims("other.test"));
    let junk: Vec<String> = (0..200)
        .map(|number| format!("a{number}"))
        .chain(std::iter::repeat_n(foreign, 50))
        .collect();
    let forged: Vec<String> = (0..=MAX_CHECKED)
        .map(|number| {
            let mut claims = claims("app.test");
            claims["jti"] = json!(number);
            sign(&SigningKey::from_bytes(&[9; 32]), &header("EdDSA"), &claims)
        })
        .collect();
    let find = |sessions: &Sessions, planted: &[String]| {
        let tokens = planted.iter().chain([&good]).map(String::as_str);
        sessions.find(&route, tokens, now)
    };

    assert!(find(&sessions, &forged).is_none());
    assert!(find(&sessions, &junk).is_some());
    assert!(find(&sessions, &forged).is_some());
}

#[test]
fn oversized_tokens_are_not_looked_at() {
    let mut long = claims("app.test");
    long["email"] = json!("x".repeat(MAX_TOKEN));

    assert_eq!(verify(&token(&long)), Err(InvalidSession::Malformed));
}

proptest! {
    #[test]
    fn never_panics(token in "\\PC{0,80}", parts in proptest::collection::vec("[A-Za-z0-9_-]{0,30}", 0..5)) {
        prop_assert!(verify(&token).is_err());
        prop_assert!(verify(&parts.join(".")).is_err());
    }

    #[test]
    fn one_changed_byte_is_refused(position in any::<prop::sample::Index>(), letter in "[A-Za-z0-9_.-]") {
        let good = token(&claims("app.test"));
        let position = position.index(good.len());
        let mut changed = good.clone();
        changed.replace_range(position..=position, &letter);

        prop_assert_eq!(verify(&changed).is_ok(), changed == good);
    }
}

fn verify(token: &str) -> Result<AuthSession, InvalidSession> {
    Sessions::new().verify(&guarded_route(&key()), token, UnixTime::from_secs(NOW))
}

fn claims(domain: &str) -> serde_json::Value {
    claims_at(domain, NOW)
}

/// Claims of a token that lasts a minute.
pub(in crate::login) fn claims_at(domain: &str, now: i64) -> serde_json::Value {
    json!({
        "iss": ISSUER, "sub": "u1", "aud": [domain], "iat": now, "nbf": now, "exp": now + 60, "method": "pin",
        "groups": ["g1", "g2"], "group_names": ["Admins"],
    })
}

/// Signs claims with the key of [`guarded_route`]'s service.
pub(in crate::login) fn token(claims: &serde_json::Value) -> String {
    sign(&key(), &header("EdDSA"), claims)
}

/// The key that signs sessions in tests.
pub(in crate::login) fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// A route with a PIN whose sessions are checked with `key`.
pub(in crate::login) fn guarded_route(key: &SigningKey) -> Route {
    let mut mapping = mapping("s1", "app.test");
    mapping.auth.pin = true;
    mapping.auth.session_key = Some(SessionPublicKey(key.verifying_key().to_bytes()));
    crate::routing::compile(&mapping, 1, &NoNetwork).unwrap()
}

fn header(alg: &str) -> serde_json::Value {
    json!({"alg": alg, "typ": "JWT"})
}

fn sign(key: &SigningKey, header: &serde_json::Value, claims: &serde_json::Value) -> String {
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = key.sign(signed.as_bytes()).to_bytes();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
