//! Session tokens: what a login on the edge is worth, signed with the key of its service.
//!
//! A token is a JSON Web Token with the algorithm `EdDSA`. Proxies check it offline with the public key that
//! travels in the mapping; management checks it again in [`SessionKey::verify`] where the user's state counts.
//! The claims and their order are those of NetBird, so its proxy takes our tokens.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use meshgate_proto::{DomainName, GroupId, Secret, SessionPublicKey, UnixTime, UserId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// How long a session lasts.
pub const SESSION_AGE: Duration = Duration::from_hours(24);
const ISSUER: &str = "netbird-management";
const HEADER: &str = r#"{"alg":"EdDSA","typ":"JWT"}"#;
/// Longest token that is looked at, in bytes.
const MAX_TOKEN_LEN: usize = 16 * 1024;
/// Clocks of proxies may be this far behind ours.
const LEEWAY: Duration = Duration::from_mins(1);

/// The key pair with which the sessions of one service are signed.
#[derive(Clone)]
pub struct SessionKey(SigningKey);

/// Stored text that is not a session key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a session key: expected standard base64 of 64 bytes, seed and public key")]
pub struct InvalidSessionKey;

/// How somebody logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoginMethod {
    /// The service's password.
    Password,
    /// The service's PIN.
    Pin,
    /// A secret in a header.
    Header,
    /// A user or a peer whose identity is known.
    Oidc,
}

impl LoginMethod {
    /// The subject of logins that name nobody.
    pub fn shared_subject(self) -> Option<UserId> {
        let subject = match self {
            Self::Password => "password-user",
            Self::Pin => "pin-user",
            Self::Header => "header-user",
            Self::Oidc => return None,
        };
        Some(UserId::new(subject))
    }
}

/// A group as a session names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionGroup {
    /// The group.
    pub id: GroupId,
    /// Its name at the time of the login.
    pub name: String,
}

/// Who logged in, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// User, peer, or the shared subject of the method.
    pub subject: UserId,
    /// How.
    pub method: LoginMethod,
    /// Address or name for display; empty when nobody is named.
    pub email: String,
    /// Groups at the time of the login.
    pub groups: Vec<SessionGroup>,
}

impl Session {
    /// A login with a secret that the service shares out.
    pub fn shared(method: LoginMethod) -> Option<Self> {
        let subject = method.shared_subject()?;
        Some(Self {
            subject,
            method,
            email: String::new(),
            groups: Vec::new(),
        })
    }
}

/// Why a token opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSession {
    /// Not three parts of base64url with the expected JSON, or too long.
    #[error("session token is malformed")]
    Form,
    /// Signed by another key or not at all.
    #[error("session token has a wrong signature")]
    Signature,
    /// For another service, or from another issuer.
    #[error("session token is for another service")]
    Audience,
    /// Past its end or before its start.
    #[error("session token is not valid at this time")]
    Time,
}

impl SessionKey {
    /// Makes a fresh pair.
    pub fn generate() -> Self {
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
        Self(SigningKey::from_bytes(&seed))
    }

    /// Reads what [`SessionKey::expose_text`] wrote.
    pub fn from_text(text: &Secret<String>) -> Result<Self, InvalidSessionKey> {
        let bytes = Zeroizing::new(STANDARD.decode(text.expose()).map_err(|_| InvalidSessionKey)?);
        let pair: &[u8; 64] = bytes.as_slice().try_into().map_err(|_| InvalidSessionKey)?;
        SigningKey::from_keypair_bytes(pair)
            .map(Self)
            .map_err(|_| InvalidSessionKey)
    }

    /// The pair as text for the store, where it is encrypted: standard base64 of seed and public key.
    pub fn expose_text(&self) -> Secret<String> {
        let pair = Zeroizing::new(self.0.to_keypair_bytes());
        STANDARD.encode(pair.as_slice()).into()
    }

    /// The half that proxies get.
    pub fn public(&self) -> SessionPublicKey {
        SessionPublicKey(self.0.verifying_key().to_bytes())
    }

    /// The public half as the store and the mappings write it.
    pub fn public_text(&self) -> String {
        STANDARD.encode(self.public().0)
    }

    /// Signs a session that begins now.
    pub fn sign(&self, session: &Session, domain: &DomainName, now: UnixTime) -> String {
        let claims = Claims::of(session, domain, now);
        let claims = serde_json::to_vec(&claims).expect("claims are plain text and numbers");
        let mut token = URL_SAFE_NO_PAD.encode(HEADER);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self.0.sign(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.to_bytes(), &mut token);
        token
    }

    /// Checks a token of this service.
    pub fn verify(&self, token: &str, domain: &DomainName, now: UnixTime) -> Result<Session, InvalidSession> {
        verify(self.public(), token, domain, now)
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(…)")
    }
}

/// Checks a token with the public half of a service's key.
pub fn verify(
    key: SessionPublicKey,
    token: &str,
    domain: &DomainName,
    now: UnixTime,
) -> Result<Session, InvalidSession> {
    if token.len() > MAX_TOKEN_LEN {
        return Err(InvalidSession::Form);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(InvalidSession::Form)?;
    let (header, claims) = signed.split_once('.').ok_or(InvalidSession::Form)?;
    let header: Header = part(header)?;
    if header.alg != "EdDSA" {
        return Err(InvalidSession::Signature);
    }
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| InvalidSession::Form)?;
    let signature = Signature::from_slice(&signature).map_err(|_| InvalidSession::Signature)?;
    let key = VerifyingKey::from_bytes(&key.0).map_err(|_| InvalidSession::Signature)?;
    key.verify_strict(signed.as_bytes(), &signature)
        .map_err(|_| InvalidSession::Signature)?;
    let claims: Claims = part(claims)?;
    claims.check(domain, now)?;
    claims.into_session()
}

fn part<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, InvalidSession> {
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidSession::Form)?;
    serde_json::from_slice(&json).map_err(|_| InvalidSession::Form)
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: UserId,
    aud: Vec<String>,
    exp: i64,
    nbf: i64,
    iat: i64,
    method: LoginMethod,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    email: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<GroupId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    group_names: Vec<String>,
}

impl Claims {
    fn of(session: &Session, domain: &DomainName, now: UnixTime) -> Self {
        Self {
            iss: ISSUER.to_owned(),
            sub: session.subject.clone(),
            aud: vec![domain.to_string()],
            exp: now.saturating_add(SESSION_AGE).as_secs(),
            nbf: now.as_secs(),
            iat: now.as_secs(),
            method: session.method,
            email: session.email.clone(),
            groups: session.groups.iter().map(|group| group.id.clone()).collect(),
            group_names: session.groups.iter().map(|group| group.name.clone()).collect(),
        }
    }

    fn check(&self, domain: &DomainName, now: UnixTime) -> Result<(), InvalidSession> {
        let for_us = self.iss == ISSUER && self.aud.iter().any(|name| name == domain.as_str());
        if !for_us || self.sub.is_empty() {
            return Err(InvalidSession::Audience);
        }
        let begun = self.nbf <= now.saturating_add(LEEWAY).as_secs();
        if !begun || self.exp <= now.as_secs() {
            return Err(InvalidSession::Time);
        }
        Ok(())
    }

    fn into_session(self) -> Result<Session, InvalidSession> {
        if self.groups.len() != self.group_names.len() {
            return Err(InvalidSession::Form);
        }
        let groups = self.groups.into_iter().zip(self.group_names);
        Ok(Session {
            subject: self.sub,
            method: self.method,
            email: self.email,
            groups: groups.map(|(id, name)| SessionGroup { id, name }).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
