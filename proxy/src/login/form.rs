//! The login form as it comes back.

use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use meshgate_proto::Secret;
use meshgate_web::{LoginMethod, RETURN_TO_FIELD};
use url::form_urlencoded;

use super::body::MAX_FORM;
use super::return_path::ReturnPath;

/// What a client filled in.
#[derive(Debug)]
pub(super) struct LoginForm {
    /// The secret with the field it came in.
    pub(super) secret: Option<FormSecret>,
    /// Where to go afterwards; the front page when the field names no path of this host.
    pub(super) return_to: ReturnPath,
}

/// One filled-in secret.
#[derive(Debug)]
pub(super) struct FormSecret {
    /// Which it claims to be.
    pub(super) method: LoginMethod,
    /// What was typed.
    pub(super) value: Secret<String>,
}

impl LoginForm {
    /// Reads `application/x-www-form-urlencoded` text; unknown fields are ignored, the first of a kind counts.
    pub(super) fn parse(body: &[u8]) -> Self {
        let mut form = Self {
            secret: None,
            return_to: ReturnPath::root(),
        };
        let mut seen_return = false;
        for (name, value) in form_urlencoded::parse(body) {
            let method = match name.as_ref() {
                "password" => LoginMethod::Password,
                "pin" => LoginMethod::Pin,
                RETURN_TO_FIELD if !seen_return => {
                    seen_return = true;
                    form.return_to = ReturnPath::parse(&value).unwrap_or_else(ReturnPath::root);
                    continue;
                }
                _ => continue,
            };
            if form.secret.is_none() && !value.is_empty() {
                form.secret = Some(FormSecret {
                    method,
                    value: Secret::new(value.into_owned()),
                });
            }
        }
        form
    }
}

/// Why a body is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Another content type.
    ContentType,
    /// It says itself that it is too large.
    TooLarge,
}

/// Looks at the headers before anything is read.
pub(super) fn check_headers(headers: &HeaderMap) -> Result<(), Refused> {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Refused::ContentType);
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let fits = length.is_none_or(|length| length.trim().parse().is_ok_and(|bytes: usize| bytes <= MAX_FORM));
    if fits { Ok(()) } else { Err(Refused::TooLarge) }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_the_first_filled_in_secret_and_the_way_back() {
        let form = LoginForm::parse(b"return_to=%2Fa%3Fb%3D1%26c%3D2&password=&pin=12+34%2B5&pin=9&other=x");

        let secret = form.secret.unwrap();
        assert_eq!(secret.method, LoginMethod::Pin);
        assert_eq!(secret.value.expose(), "12 34+5");
        assert_eq!(form.return_to.as_str(), "/a?b=1&c=2");
    }

    #[test]
    fn a_foreign_way_back_becomes_the_front_page() {
        let form = LoginForm::parse(b"return_to=%2F%2Fevil.test%2F&return_to=%2Fa&pin=1");

        assert_eq!(form.return_to.as_str(), "/");
    }

    #[test]
    fn only_small_urlencoded_forms_are_read() {
        let headers = |kind: &'static str, length: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static(length));
            headers
        };

        assert_eq!(
            check_headers(&headers(
                "Application/X-WWW-Form-Urlencoded; charset=utf-8",
                "16384"
            )),
            Ok(())
        );
        assert_eq!(
            check_headers(&headers("application/x-www-form-urlencoded", "16385")),
            Err(Refused::TooLarge)
        );
        assert_eq!(
            check_headers(&headers("multipart/form-data", "1")),
            Err(Refused::ContentType)
        );
        assert_eq!(check_headers(&HeaderMap::new()), Err(Refused::ContentType));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            LoginForm::parse(&body);
        }

        #[test]
        fn near_misses_never_panic(body in "((pin|password|return_to)=?[%/a-f0-9+&=;]{0,12}&?){0,6}") {
            LoginForm::parse(body.as_bytes());
        }
    }
}
