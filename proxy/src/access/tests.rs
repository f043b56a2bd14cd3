use std::time::Duration;

use ed25519_dalek::SigningKey;
use meshgate_proto::{CountryCode, HeaderAuth, Mapping, SessionPublicKey};
use proptest::prelude::*;

use super::*;
use crate::routing::tests::mapping;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

#[test]
fn a_service_without_schemes_asks_nobody() {
    let Decision::Permit(permitted) = decide(&policy(|_| {}), &facts(None)) else {
        panic!("must permit");
    };

    assert_eq!(permitted.identity(), &Identity::Anyone);
    assert_eq!(permitted.mechanism(), "");
}

#[test]
fn a_scheme_challenges_until_a_session_is_shown() {
    let policy = policy(|mapping| mapping.auth.pin = true);

    let Decision::Challenge(challenge) = decide(&policy, &facts(None)) else {
        panic!("must challenge");
    };
    let Decision::Permit(permitted) = decide(&policy, &facts(Some(session("s1", 60)))) else {
        panic!("must permit");
    };

    assert_eq!(challenge.forms, [LoginMethod::Pin]);
    assert!(!challenge.expired);
    assert_eq!(permitted.mechanism(), "pin");
}

#[test]
fn an_ended_session_and_one_of_another_service_challenge() {
    let policy = policy(|mapping| mapping.auth.pin = true);

    for session in [session("s1", 0), session("s2", 60)] {
        let Decision::Challenge(challenge) = decide(&policy, &facts(Some(session))) else {
            panic!("must challenge");
        };
        assert!(challenge.expired);
    }
}

#[test]
fn a_session_ends_with_the_scheme_that_began_it() {
    let all = policy(|mapping| {
        mapping.auth.password = true;
        mapping.auth.pin = true;
        mapping.auth.oidc = true;
        mapping.auth.header_auths = vec![header_auth()];
    });
    let password = policy(|mapping| mapping.auth.password = true);

    for (method, of_all, of_password) in [
        ("password", true, true),
        ("pin", true, false),
        ("oidc", true, false),
        ("header", true, false),
        ("", false, false),
        ("PIN", false, false),
        ("magic", false, false),
    ] {
        let mut session = session("s1", 60);
        session.user.method = method.into();
        let permits = |policy| matches!(decide(policy, &facts(Some(session.clone()))), Decision::Permit(_));

        assert_eq!(
            (permits(&all), permits(&password)),
            (of_all, of_password),
            "{method}"
        );
    }
}

#[test]
fn single_sign_on_alone_has_no_form_and_stays_closed() {
    let policy = policy(|mapping| mapping.auth.oidc = true);

    let Decision::Challenge(challenge) = decide(&policy, &facts(None)) else {
        panic!("must challenge");
    };

    assert!(challenge.forms.is_empty());
    assert!(!challenge.headers);
}

#[test]
fn ranges_allow_and_block() {
    let policy = policy(|mapping| {
        mapping.restrictions.allowed_cidrs = vec!["192.0.2.0/24".parse().unwrap()];
        mapping.restrictions.blocked_cidrs = vec!["192.0.2.7/32".parse().unwrap()];
    });

    for (client, passes) in [
        ("192.0.2.1", true),
        ("::ffff:192.0.2.1", true),
        ("192.0.2.7", false),
        ("198.51.100.1", false),
        ("2001:db8::1", false),
    ] {
        let decision = decide(
            &policy,
            &Facts {
                client_ip: client.parse().unwrap(),
                ..facts(None)
            },
        );
        assert_eq!(matches!(decision, Decision::Permit(_)), passes, "{client}");
    }
}

#[test]
fn what_cannot_be_looked_up_is_denied() {
    let country =
        policy(|mapping| mapping.restrictions.blocked_countries = vec![CountryCode::new("DE").unwrap()]);
    let reputation = policy(|mapping| mapping.restrictions.crowdsec = CrowdsecMode::Enforce);
    let observed = policy(|mapping| mapping.restrictions.crowdsec = CrowdsecMode::Observe);

    assert!(matches!(
        decide(&country, &facts(None)),
        Decision::Deny(Denial::CountryUnknown)
    ));
    assert!(matches!(
        decide(&reputation, &facts(None)),
        Decision::Deny(Denial::ReputationUnknown)
    ));
    assert!(matches!(decide(&observed, &facts(None)), Decision::Permit(_)));
}

#[test]
fn private_services_and_closed_policies_let_nobody_in() {
    let private = policy(|mapping| mapping.private = true);
    let closed = AccessPolicy::closed(ServiceId::new("s1"));

    for policy in [private, closed] {
        let decision = decide(&policy, &facts(Some(session("s1", 60))));
        assert!(matches!(decision, Decision::Deny(Denial::Private)));
    }
}

#[test]
fn schemes_need_a_usable_session_key() {
    let mut mapping = mapping("s1", "app.test");
    mapping.auth.pin = true;

    mapping.auth.session_key = None;
    assert_eq!(AccessPolicy::new(&mapping), Err(InvalidPolicy::NoSessionKey));

    mapping.auth.session_key = Some(SessionPublicKey([0; 32]));
    assert_eq!(AccessPolicy::new(&mapping), Err(InvalidPolicy::SessionKey));
}

proptest! {
    #[test]
    fn schemes_never_permit_without_a_lasting_session_of_the_service(
        (password, pin, oidc, header) in any::<(bool, bool, bool, bool)>(),
        private in any::<bool>(),
        session in proptest::option::of(("s[12]", -5i64..5, -5i64..5)),
    ) {
        let policy = policy(|mapping| {
            mapping.auth.password = password;
            mapping.auth.pin = pin;
            mapping.auth.oidc = oidc;
            mapping.private = private;
            if header {
                mapping.auth.header_auths = vec![header_auth()];
            }
        });
        let session = session.map(|(service, starts, ends)| AuthSession {
            not_before: UnixTime::from_secs(NOW.as_secs() + starts),
            expires_at: UnixTime::from_secs(NOW.as_secs() + ends),
            ..self::session(&service, 0)
        });
        let lasting = session.as_ref().is_some_and(|session| {
            session.service_id.as_str() == "s1" && session.not_before <= NOW && session.expires_at > NOW
        });
        let guarded = password || pin || oidc || header;

        let permitted = matches!(decide(&policy, &facts(session)), Decision::Permit(_));

        prop_assert_eq!(permitted, !private && (!guarded || (lasting && pin)));
    }
}

fn policy(change: impl FnOnce(&mut Mapping)) -> AccessPolicy {
    let mut mapping = mapping("s1", "app.test");
    let key = SigningKey::from_bytes(&[7; 32]).verifying_key();
    mapping.auth.session_key = Some(SessionPublicKey(key.to_bytes()));
    change(&mut mapping);
    AccessPolicy::new(&mapping).unwrap()
}

fn header_auth() -> HeaderAuth {
    HeaderAuth {
        header: "x-key".into(),
        hashed_value: String::new(),
    }
}

fn facts(session: Option<AuthSession>) -> Facts {
    Facts {
        now: NOW,
        client_ip: "192.0.2.1".parse().unwrap(),
        session,
        arrival: Arrival::Public,
    }
}

fn session(service: &str, lasts_secs: u64) -> AuthSession {
    AuthSession {
        service_id: ServiceId::new(service),
        not_before: NOW,
        expires_at: NOW.saturating_add(Duration::from_secs(lasts_secs)),
        user: User {
            id: UserId::new("pin-user"),
            method: "pin".into(),
            email: None,
            groups: Vec::new(),
        },
    }
}
