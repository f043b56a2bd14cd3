use proptest::prelude::*;

use super::*;

/// Public key of the recorded service `pin.proxy.test`, and a token that NetBird's management signed for it.
const RECORDED_KEY: &str = "DgxjLKZacIqist8N9kvdbz0SGfXclhcWRdG8TpKjYY0=";
const RECORDED_TOKEN: &str = concat!(
    "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.",
    "eyJpc3MiOiJuZXRiaXJkLW1hbmFnZW1lbnQiLCJzdWIiOiJwaW4tdXNlciIsImF1ZCI6WyJwaW4ucHJveHkudGVzdCJdLCJleHAiOjE3OTUz",
    "NTQyMjAsIm5iZiI6MTc5NTI2NzgyMCwiaWF0IjoxNzk1MjY3ODIwLCJtZXRob2QiOiJwaW4ifQ.",
    "aJOh3zStHz6gNP8-6CQRCj8Z8-9W_wLU45fUF3Oait2TI578QiAtiGUqLTtu2Z-Q0G7oiSKsjPGJZDYqDjC0Ag"
);
const RECORDED_AT: i64 = 1_795_267_820;

fn recorded_key() -> SessionPublicKey {
    SessionPublicKey(STANDARD.decode(RECORDED_KEY).unwrap().try_into().unwrap())
}

fn domain(text: &str) -> DomainName {
    DomainName::new(text).unwrap()
}

fn now() -> UnixTime {
    UnixTime::from_secs(RECORDED_AT)
}

#[test]
fn takes_a_token_that_netbird_signed() {
    let session = verify(recorded_key(), RECORDED_TOKEN, &domain("pin.proxy.test"), now()).unwrap();

    assert_eq!(session, Session::shared(LoginMethod::Pin).unwrap());
}

#[test]
fn writes_the_same_header_and_claims_as_netbird() {
    let session = Session::shared(LoginMethod::Pin).unwrap();

    let token = SessionKey::generate().sign(&session, &domain("pin.proxy.test"), now());

    let (ours, _) = token.rsplit_once('.').unwrap();
    let (recorded, _) = RECORDED_TOKEN.rsplit_once('.').unwrap();
    assert_eq!(ours, recorded);
}

#[test]
fn groups_and_mail_come_back() {
    let key = SessionKey::generate();
    let session = Session {
        subject: UserId::new("peer"),
        method: LoginMethod::Oidc,
        email: "peer1".to_owned(),
        groups: vec![SessionGroup {
            id: GroupId::new("g"),
            name: "All".to_owned(),
        }],
    };

    let token = key.sign(&session, &domain("a.test"), now());

    assert_eq!(key.verify(&token, &domain("a.test"), now()), Ok(session));
}

#[test]
fn refuses_other_services_keys_and_times() {
    let key = SessionKey::generate();
    let token = key.sign(
        &Session::shared(LoginMethod::Password).unwrap(),
        &domain("a.test"),
        now(),
    );
    let after = |seconds| UnixTime::from_secs(RECORDED_AT + seconds);

    assert_eq!(
        key.verify(&token, &domain("b.test"), now()),
        Err(InvalidSession::Audience)
    );
    assert_eq!(
        SessionKey::generate().verify(&token, &domain("a.test"), now()),
        Err(InvalidSession::Signature)
    );
    assert_eq!(
        key.verify(&token, &domain("a.test"), after(86_400)),
        Err(InvalidSession::Time)
    );
    assert_eq!(
        key.verify(&token, &domain("a.test"), after(-120)),
        Err(InvalidSession::Time)
    );
    assert!(key.verify(&token, &domain("a.test"), after(86_399)).is_ok());
}

#[test]
fn refuses_unsigned_and_altered_tokens() {
    let key = SessionKey::generate();
    let token = key.sign(
        &Session::shared(LoginMethod::Password).unwrap(),
        &domain("a.test"),
        now(),
    );
    let parts: Vec<&str> = token.split('.').collect();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);

    for forged in [
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}A.{}", parts[0], parts[1], parts[2]),
        parts[1].to_owned(),
        String::new(),
        "a".repeat(20_000),
    ] {
        assert!(key.verify(&forged, &domain("a.test"), now()).is_err(), "{forged}");
    }
}

#[test]
fn a_key_survives_its_text() {
    let key = SessionKey::generate();
    let again = SessionKey::from_text(&key.expose_text()).unwrap();

    assert_eq!(again.public(), key.public());
    assert_eq!(STANDARD.decode(key.public_text()).unwrap(), key.public().0);
    for text in ["", "AAAA", &STANDARD.encode([1; 64])] {
        assert!(SessionKey::from_text(&text.into()).is_err());
    }
}

proptest! {
    #[test]
    fn verifying_never_panics(token in "[A-Za-z0-9_.-]{0,200}", tail in "\\PC{0,40}") {
        let _ = verify(recorded_key(), &token, &domain("pin.proxy.test"), now());
        let _ = verify(recorded_key(), &format!("{RECORDED_TOKEN}{tail}"), &domain("pin.proxy.test"), now());
    }
}
