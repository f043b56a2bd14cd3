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
pub const LIFETIME: Duration = Duration::from_secs(5 * 60);
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

    /// Uses a token up. False when it is unknown, used, too old, or for something else; in the last case it is
    /// used up all the same.
    #[must_use]
    pub fn consume(&self, token: &str, wanted: &Grant, now: UnixTime) -> bool {
        let issued = self.inner.lock().grants.remove(&hash(token));
        issued.is_some_and(|issued| issued.grant == *wanted && now < issued.expires_at)
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

    fn grant(service: &str) -> Grant {
        Grant {
            service: ServiceId::new(service),
            account: AccountId::new("acc"),
            proxy_token: TokenId::new("tok"),
        }
    }

    fn at(seconds: i64) -> UnixTime {
        UnixTime::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn opens_once_for_what_it_was_made_for() {
        let tokens = OneTimeTokens::default();
        let token = tokens.issue(grant("a"), at(0));

        assert_eq!(token.expose().len(), 44);
        assert!(token.expose().ends_with('='));
        assert!(tokens.consume(token.expose(), &grant("a"), at(299)));
        assert!(!tokens.consume(token.expose(), &grant("a"), at(299)));
        assert!(!tokens.consume("bogus", &grant("a"), at(0)));
    }

    #[test]
    fn a_wrong_use_uses_it_up() {
        let tokens = OneTimeTokens::default();
        let token = tokens.issue(grant("a"), at(0));
        let stolen = Grant {
            proxy_token: TokenId::new("other"),
            ..grant("a")
        };

        assert!(!tokens.consume(token.expose(), &stolen, at(0)));
        assert!(!tokens.consume(token.expose(), &grant("a"), at(0)));
    }

    #[test]
    fn ends_after_five_minutes() {
        let tokens = OneTimeTokens::default();
        let token = tokens.issue(grant("a"), at(0));

        assert!(!tokens.consume(token.expose(), &grant("a"), at(300)));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_go_first() {
        let tokens = OneTimeTokens::with_capacity(100);
        let first = tokens.issue(grant("a"), at(0));
        let issued: Vec<_> = (0..1000).map(|_| tokens.issue(grant("a"), at(1))).collect();

        assert_eq!(tokens.len(), 100);
        assert!(!tokens.consume(first.expose(), &grant("a"), at(2)));
        assert!(tokens.consume(issued[999].expose(), &grant("a"), at(2)));

        let _last = tokens.issue(grant("a"), at(1000));
        assert_eq!(tokens.len(), 1);
    }
}
