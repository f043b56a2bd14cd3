//! The session cookie: `nb_session` as clients and management know it.

use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// Name of the cookie that carries a session token.
const SESSION_COOKIE: &str = "nb_session";

/// Longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 4096;

/// All session tokens of a request, in order. Other cookies may hold any bytes, as browsers send them.
pub(super) fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(COOKIE)
        .into_iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .filter_map(token)
}

/// The token of one pair, if the pair is ours.
fn token(pair: &[u8]) -> Option<&str> {
    let value = pair.trim_ascii().strip_prefix(SESSION_COOKIE.as_bytes())?;
    let value = value.strip_prefix(b"=")?;
    if value.is_empty() || value.len() > MAX_TOKEN {
        return None;
    }
    std::str::from_utf8(value).ok()
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
    fn cookies_of_others_may_hold_any_bytes() {
        let mut headers = HeaderMap::new();
        let line = [
            "name=J\u{fc}rgen; nb_session=x.y; b=".as_bytes(),
            &[0xff],
            b"; nb_session=",
            &[0xfe],
            b"; nb_session=z",
        ];
        headers.append(COOKIE, HeaderValue::from_bytes(&line.concat()).unwrap());

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
