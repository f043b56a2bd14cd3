//! One-time tokens with which a proxy registers its peer.
//!
//! A fresh one travels with each mapping. It lives five minutes, opens once, and only for the service, the
//! tenant and the proxy token it was made for. Kept in memory as hashes: after a restart proxies reconnect
//! and get new ones. When too many are out, the oldest are forgotten; whoever held one has to resync.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use meshgate_proto::{AccountId, Secret, ServiceId, TokenId, UnixTime};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

/// How long a token opens.
pub const LIFETIME: Duration = Duration::from_mins(5);
const CAPACITY: usize = 100_000;

/// What a token opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The service of the mapping.
    pub service: ServiceId,
    /// Its tenant.
    pub account: AccountId,
    /// The proxy token of the stream that the mapping went to.
    pub proxy_token: TokenId,
    /// The cluster of the proxy that it went to.
    pub cluster: String,
}

/// The tokens that are out.
#[derive(Debug)]
pub struct OneTimeTokens {
    capacity: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    grants: HashMap<Hash, Issued>,
    by_age: VecDeque<Hash>,
}

type Hash = [u8; 32];

#[derive(Debug)]
struct Issued {
    grant: Grant,
    expires_at: UnixTime,
}

impl Default for OneTimeTokens {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl OneTimeTokens {
    /// At most so many tokens are out at a time.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            inner: Mutex::default(),
        }
    }

    /// Makes a token: 32 random bytes as padded base64url.
    pub fn issue(&self, grant: Grant, now: UnixTime) -> Secret<String> {
        let token = URL_SAFE.encode(rand::random::<[u8; 32]>());
        let hash = hash(&token);
        let mut inner = self.inner.lock();
        inner.make_room(self.capacity, now);
        let issued = Issued {
            grant,
            expires_at: now.saturating_add(LIFETIME),
        };
        inner.grants.insert(hash, issued);
        inner.by_age.push_back(hash);
        token.into()
    }

    /// Uses a token up and tells what it opens. `None` when it is unknown, used or too old.
    ///
    /// Whether that is what the caller wants is for him to check; a wrong use uses the token up all the same.
    #[must_use]
    pub fn consume(&self, token: &str, now: UnixTime) -> Option<Grant> {
        let issued = self.inner.lock().grants.remove(&hash(token))?;
        (now < issued.expires_at).then_some(issued.grant)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.inner.lock().by_age.len()
    }
}

impl Inner {
    /// All tokens live equally long, so the oldest stand in front.
    fn make_room(&mut self, capacity: usize, now: UnixTime) {
        while let Some(oldest) = self.by_age.front() {
            let keep = self
                .grants
                .get(oldest)
                .is_some_and(|issued| now < issued.expires_at);
            if keep && self.by_age.len() < capacity {
                return;
            }
            self.grants.remove(oldest);
            self.by_age.pop_front();
        }
    }
}

fn hash(token: &str) -> Hash {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> Grant {
        Grant {
            service: ServiceId::new("svc"),
            account: AccountId::new("acc"),
            proxy_token: TokenId::new("tok"),
            cluster: "proxy.test".to_owned(),
        }
    }

    fn at(seconds: i64) -> UnixTime {
        UnixTime::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn opens_once() {
        let tokens = OneTimeTokens::default();
        let token = tokens.issue(grant(), at(0));

        assert_eq!(token.expose().len(), 44);
        assert!(token.expose().ends_with('='));
        assert_eq!(tokens.consume(token.expose(), at(299)), Some(grant()));
        assert_eq!(tokens.consume(token.expose(), at(299)), None);
        assert_eq!(tokens.consume("bogus", at(0)), None);
    }

    #[test]
    fn ends_after_five_minutes() {
        let tokens = OneTimeTokens::default();
        let token = tokens.issue(grant(), at(0));

        assert_eq!(tokens.consume(token.expose(), at(300)), None);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_go_first() {
        let tokens = OneTimeTokens::with_capacity(100);
        let first = tokens.issue(grant(), at(0));
        let issued: Vec<_> = (0..1000).map(|_| tokens.issue(grant(), at(1))).collect();

        assert_eq!(tokens.len(), 100);
        assert_eq!(tokens.consume(first.expose(), at(2)), None);
        assert!(tokens.consume(issued[999].expose(), at(2)).is_some());

        let _last = tokens.issue(grant(), at(1000));
        assert_eq!(tokens.len(), 1);
    }
}
