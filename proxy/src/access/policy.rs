//! The access rules of one service, checked once when its mapping arrives.

use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use http::HeaderName;
use meshgate_proto::{Mapping, Restrictions, ServiceId};
use meshgate_web::LoginMethod;

/// How long a session cookie lives when the mapping does not say.
const DEFAULT_SESSION_AGE: Duration = Duration::from_hours(24);

/// The ways to log in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Schemes {
    /// One password for all.
    pub(crate) password: bool,
    /// One numeric code for all.
    pub(crate) pin: bool,
    /// Single sign-on.
    pub(crate) oidc: bool,
    /// Headers that may carry a secret.
    pub(crate) headers: Vec<HeaderName>,
}

impl Schemes {
    /// True when at least one guards the service.
    pub(crate) fn any(&self) -> bool {
        self.password || self.pin || self.oidc || !self.headers.is_empty()
    }

    /// True when a session that began by `method` may still be used: the word is the one in its token. Words that
    /// are not known never count.
    pub(crate) fn accept(&self, method: &str) -> bool {
        match method {
            "password" => self.password,
            "pin" => self.pin,
            "oidc" => self.oidc,
            "header" => !self.headers.is_empty(),
            _ => false,
        }
    }

    /// Those that have a form, in the order they are shown.
    pub(crate) fn forms(&self) -> Vec<LoginMethod> {
        let password = self.password.then_some(LoginMethod::Password);
        let pin = self.pin.then_some(LoginMethod::Pin);
        password.into_iter().chain(pin).collect()
    }
}

/// Access rules that cannot be kept, so that the service must stay closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPolicy {
    /// Schemes without the key that checks their sessions.
    #[error("the service has login schemes but no session key")]
    NoSessionKey,
    /// The session key is no Ed25519 key.
    #[error("the session key is not a usable Ed25519 public key")]
    SessionKey,
    /// A header secret under a name that cannot be sent.
    #[error("header {0:?} of a header login is not a header name")]
    Header(String),
}

/// The access rules of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccessPolicy {
    service_id: ServiceId,
    schemes: Schemes,
    session_key: Option<VerifyingKey>,
    max_session_age: Duration,
    restrictions: Restrictions,
    private: bool,
}

impl AccessPolicy {
    /// Takes the rules out of a mapping.
    pub(crate) fn new(mapping: &Mapping) -> Result<Self, InvalidPolicy> {
        let auth = &mapping.auth;
        let headers = auth.header_auths.iter().map(|auth| {
            HeaderName::from_bytes(auth.header.as_bytes())
                .map_err(|_| InvalidPolicy::Header(auth.header.clone()))
        });
        let schemes = Schemes {
            password: auth.password,
            pin: auth.pin,
            oidc: auth.oidc,
            headers: headers.collect::<Result<_, _>>()?,
        };
        let session_key = match &auth.session_key {
            Some(key) if schemes.any() => Some(verifying_key(key.0)?),
            None if schemes.any() => return Err(InvalidPolicy::NoSessionKey),
            Some(_) | None => None,
        };
        Ok(Self {
            service_id: mapping.id.clone(),
            schemes,
            session_key,
            max_session_age: Some(auth.max_session_age)
                .filter(|age| !age.is_zero())
                .unwrap_or(DEFAULT_SESSION_AGE),
            restrictions: mapping.restrictions.clone(),
            private: mapping.private,
        })
    }

    /// Rules that nobody meets, for a service that cannot be served.
    pub(crate) fn closed(service_id: ServiceId) -> Self {
        Self {
            service_id,
            schemes: Schemes::default(),
            session_key: None,
            max_session_age: DEFAULT_SESSION_AGE,
            restrictions: Restrictions::default(),
            private: true,
        }
    }

    /// The service they belong to.
    pub(crate) fn service_id(&self) -> &ServiceId {
        &self.service_id
    }

    /// The ways to log in.
    pub(crate) fn schemes(&self) -> &Schemes {
        &self.schemes
    }

    /// The key that checks sessions; present whenever there is a scheme.
    pub(crate) fn session_key(&self) -> Option<&VerifyingKey> {
        self.session_key.as_ref()
    }

    /// How long a session cookie lives.
    pub(crate) fn max_session_age(&self) -> Duration {
        self.max_session_age
    }

    /// Rules before schemes.
    pub(crate) fn restrictions(&self) -> &Restrictions {
        &self.restrictions
    }

    /// True when only peers of the mesh may pass.
    pub(crate) fn is_private(&self) -> bool {
        self.private
    }
}

fn verifying_key(bytes: [u8; 32]) -> Result<VerifyingKey, InvalidPolicy> {
    let key = VerifyingKey::from_bytes(&bytes).map_err(|_| InvalidPolicy::SessionKey)?;
    if key.is_weak() {
        return Err(InvalidPolicy::SessionKey);
    }
    Ok(key)
}
