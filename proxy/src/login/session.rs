//! Session tokens: compact JWTs that management signs with the Ed25519 key of one service.
//!
//! The algorithm is pinned, the signature comes before any claim, and a verified token is remembered under
//! its hash together with the key and the host, so that a changed key or host never meets an old verdict.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, VerifyingKey};
use meshgate_proto::{DomainName, UnixTime, UserId};
use moka::sync::Cache;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::access::{AuthSession, User};
use crate::routing::Route;

/// Who signs session tokens.
const ISSUER: &str = "netbird-management";

/// Longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 4096;

/// Verified tokens that are remembered.
const REMEMBERED: u64 = 20_000;

/// How many signatures are checked for one request: other hosts of the domain can plant cookies.
const MAX_CHECKED: usize = 16;

/// How long a verdict is remembered without being asked for.
const IDLE: Duration = Duration::from_mins(10);

/// How far the clocks of proxy and management may differ.
const LEEWAY: Duration = Duration::from_secs(30);

/// Why a token is no session of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidSession {
    /// The service has no schemes, so it has no sessions.
    #[error("the service has no sessions")]
    NoKey,
    /// Not three parts of base64url with JSON in them, or too long.
    #[error("the token is malformed")]
    Malformed,
    /// Another algorithm than `EdDSA`.
    #[error("the token's algorithm is not EdDSA")]
    Algorithm,
    /// Signed by nobody or by another key.
    #[error("the token's signature is wrong")]
    Signature,
    /// Made by another issuer, for another host, or for nobody.
    #[error("the token was made for something else")]
    Claims,
    /// Not valid now.
    #[error("the token is not valid at this time")]
    Time,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: i64,
    #[serde(default)]
    nbf: Option<i64>,
    #[serde(default)]
    method: String,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    group_names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Verifies tokens and remembers which were good.
#[derive(Debug)]
pub(super) struct Sessions {
    verified: Cache<[u8; 32], AuthSession>,
}

impl Sessions {
    /// Remembers nothing.
    pub(super) fn new() -> Self {
        Self {
            verified: Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_idle(IDLE)
                .build(),
        }
    }

    /// The first good session among the tokens of a request.
    ///
    /// Remembered tokens come first, then those that claim to be what is wanted, up to a number: planted ones
    /// cost little and do not hide the real one.
    pub(super) fn find<'a>(
        &self,
        route: &Route,
        tokens: impl Iterator<Item = &'a str>,
        now: UnixTime,
    ) -> Option<AuthSession> {
        let key = route.policy.session_key()?;
        let tokens: Vec<&str> = tokens.collect();
        let remembered = tokens.iter().find_map(|token| {
            let session = self.verified.get(&fingerprint(route, key, token))?;
            in_time(session, now).ok()
        });
        remembered.or_else(|| {
            tokens
                .into_iter()
                .filter(|token| claims_to_count(route, token, now))
                .take(MAX_CHECKED)
                .find_map(|token| self.verify(route, token, now).ok())
        })
    }

    /// The session that a token proves for the service of `route`.
    pub(super) fn verify(
        &self,
        route: &Route,
        token: &str,
        now: UnixTime,
    ) -> Result<AuthSession, InvalidSession> {
        let key = route.policy.session_key().ok_or(InvalidSession::NoKey)?;
        if token.len() > MAX_TOKEN {
            return Err(InvalidSession::Malformed);
        }
        let hash = fingerprint(route, key, token);
        if let Some(session) = self.verified.get(&hash) {
            return in_time(session, now);
        }
        let session = open(route, key, token)?;
        self.verified.insert(hash, session.clone());
        in_time(session, now)
    }
}

fn fingerprint(route: &Route, key: &VerifyingKey, token: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(key.as_bytes());
    for part in [route.service_id.as_str(), route.domain.as_str()] {
        hash.update([0]);
        hash.update(part);
    }
    hash.update([0]);
    hash.update(token);
    hash.finalize().into()
}

fn in_time(session: AuthSession, now: UnixTime) -> Result<AuthSession, InvalidSession> {
    if session.not_before <= now && now < session.expires_at {
        Ok(session)
    } else {
        Err(InvalidSession::Time)
    }
}

/// What a token says of itself, before anybody looks at its signature. It proves nothing.
fn claims_to_count(route: &Route, token: &str, now: UnixTime) -> bool {
    let claims = token
        .split('.')
        .nth(1)
        .filter(|_| token.len() <= MAX_TOKEN)
        .and_then(|claims| json::<Claims>(claims).ok());
    claims
        .and_then(|claims| session(route, claims).ok())
        .is_some_and(|session| in_time(session, now).is_ok())
}

fn open(route: &Route, key: &VerifyingKey, token: &str) -> Result<AuthSession, InvalidSession> {
    let (signed, signature) = token.rsplit_once('.').ok_or(InvalidSession::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(InvalidSession::Malformed)?;
    let header: Header = json(header)?;
    if header.alg != "EdDSA" || header.crit.is_some() {
        return Err(InvalidSession::Algorithm);
    }
    let signature = Signature::from_slice(&decode(signature)?).map_err(|_| InvalidSession::Malformed)?;
    key.verify_strict(signed.as_bytes(), &signature)
        .map_err(|_| InvalidSession::Signature)?;
    let claims: Claims = json(claims)?;
    session(route, claims)
}

fn session(route: &Route, claims: Claims) -> Result<AuthSession, InvalidSession> {
    if claims.iss != ISSUER || claims.sub.is_empty() || !claims.aud.names(&route.domain) {
        return Err(InvalidSession::Claims);
    }
    let not_before = claims
        .nbf
        .map_or(UnixTime::EPOCH, UnixTime::from_secs)
        .saturating_sub(LEEWAY);
    let groups = claims.groups.iter().enumerate().map(|(position, id)| {
        claims
            .group_names
            .get(position)
            .filter(|name| !name.is_empty())
            .unwrap_or(id)
            .clone()
    });
    Ok(AuthSession {
        service_id: route.service_id.clone(),
        not_before,
        expires_at: UnixTime::from_secs(claims.exp),
        user: User {
            groups: groups.collect(),
            id: UserId::new(claims.sub),
            method: claims.method,
            email: claims.email.filter(|email| !email.is_empty()),
        },
    })
}

impl Audience {
    fn names(&self, domain: &DomainName) -> bool {
        let is_domain = |name: &String| name.eq_ignore_ascii_case(domain.as_str());
        match self {
            Self::One(name) => is_domain(name),
            Self::Many(names) => names.iter().any(is_domain),
        }
    }
}

fn json<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, InvalidSession> {
    serde_json::from_slice(&decode(part)?).map_err(|_| InvalidSession::Malformed)
}

fn decode(part: &str) -> Result<Vec<u8>, InvalidSession> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| InvalidSession::Malformed)
}

#[cfg(test)]
pub(super) mod tests;
