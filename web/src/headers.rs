use std::borrow::Cow;

use crate::nonce::Nonce;

/// Response headers that every page of the edge carries, whatever its format.
///
/// `Referrer-Policy` is `same-origin` and not `no-referrer`: under `no-referrer` browsers send
/// `Origin: null` with the login form, which a check for foreign origins must refuse.
pub fn security_headers(nonce: &Nonce) -> [(&'static str, Cow<'static, str>); 8] {
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; img-src data:; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'"
    );

    [
        ("content-security-policy", Cow::Owned(policy)),
        ("x-frame-options", Cow::Borrowed("DENY")),
        ("x-content-type-options", Cow::Borrowed("nosniff")),
        ("referrer-policy", Cow::Borrowed("same-origin")),
        ("cache-control", Cow::Borrowed("no-store")),
        ("cross-origin-opener-policy", Cow::Borrowed("same-origin")),
        ("cross-origin-resource-policy", Cow::Borrowed("same-origin")),
        ("x-robots-tag", Cow::Borrowed("noindex")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_allows_only_the_nonced_style_and_the_own_form() {
        let nonce = Nonce::from_bytes([1; 16]);

        let headers = security_headers(&nonce);

        let (_, policy) = &headers[0];
        assert!(policy.starts_with("default-src 'none';"));
        assert!(policy.contains(&format!("style-src 'nonce-{nonce}'")));
        assert!(policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe"));
        assert!(!policy.contains("script-src"));
    }

    #[test]
    fn names_and_values_are_fit_for_http() {
        for (name, value) in security_headers(&Nonce::from_bytes([0xff; 16])) {
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
                "{name}"
            );
            assert!(value.bytes().all(|b| (0x20..0x7f).contains(&b)), "{value}");
        }
    }
}
