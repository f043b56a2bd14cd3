//! The session cookie: `nb_session` as clients and management know it.

use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// Name of the cookie that carries a session token.
const SESSION_COOKIE: &str = "nb_session";

/// Longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 4096;

/// How many cookies of the name are tried: a sibling host can plant more of them.
const MAX_TRIED: usize = 8;

/// All session tokens of a request, in order.
pub(super) fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, value)| *name == SESSION_COOKIE && !value.is_empty() && value.len() <= MAX_TOKEN)
        .map(|(_, value)| value)
        .take(MAX_TRIED)
}

/// The `Set-Cookie` value that begins a session; `None` for a token that no cookie can carry.
pub(super) fn set(token: &str, lasts: Duration) -> Option<HeaderValue> {
    let fits = token.len() <= MAX_TOKEN
        && token
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    let cookie = format!(
        "{SESSION_COOKIE}={token}; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age={}",
        lasts.as_secs()
    );
    let mut value = HeaderValue::from_str(&cookie).ok().filter(|_| fits)?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_every_session_cookie_in_every_line() {
        let mut headers = HeaderMap::new();
        headers.append(
            COOKIE,
            HeaderValue::from_static("a=1; nb_session=x.y; nb_session2=no;nb_session="),
        );
        headers.append(COOKIE, HeaderValue::from_static("nb_session=z"));

        assert_eq!(tokens(&headers).collect::<Vec<_>>(), ["x.y", "z"]);
    }

    #[test]
    fn sets_a_cookie_for_this_host_only() {
        let cookie = set("a.b-c_d", Duration::from_mins(1)).unwrap();

        assert_eq!(
            cookie,
            "nb_session=a.b-c_d; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=60"
        );
        assert_eq!(set("a;b", Duration::ZERO), None);
        assert_eq!(set(&"a".repeat(MAX_TOKEN + 1), Duration::ZERO), None);
    }

    proptest! {
        #[test]
        fn reading_never_panics(line in "[\\PC]{0,80}", near in "(nb_session=?[a-z;= ]{0,4}){0,4}") {
            let mut headers = HeaderMap::new();
            for text in [line, near] {
                if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
                    headers.append(COOKIE, value);
                }
            }
            let _ = tokens(&headers).count();
        }
    }
}
