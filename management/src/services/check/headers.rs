//! Names and values of headers that a service sets or asks for.

use std::collections::{BTreeMap, HashSet};

use super::invalid;
use crate::error::UseCaseError;

const MAX_HEADERS: usize = 16;
const MAX_NAME: usize = 128;
const MAX_VALUE: usize = 4096;

/// Headers of one connection, and those that the proxy itself writes.
const FORBIDDEN: [&str; 13] = [
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "content-type",
    "cookie",
    "forwarded",
    "x-real-ip",
    "host",
    "http2-settings",
];
const FORBIDDEN_PREFIXES: [&str; 2] = ["proxy-", "x-forwarded-"];

pub(super) fn check_custom(headers: &BTreeMap<String, String>) -> Result<(), UseCaseError> {
    if headers.len() > MAX_HEADERS {
        return invalid(format!("custom_headers may have {MAX_HEADERS} entries"));
    }
    let mut seen = HashSet::new();
    for (name, value) in headers {
        check_name(name)?;
        check_value(name, value)?;
        if !seen.insert(name.to_ascii_lowercase()) {
            return invalid(format!(
                "custom header {name:?} is there twice: case does not count"
            ));
        }
    }
    Ok(())
}

pub(super) fn check_name(name: &str) -> Result<(), UseCaseError> {
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_token) {
        return invalid(format!(
            "header name {name:?} is empty, longer than {MAX_NAME} or has characters that header names cannot have"
        ));
    }
    let lower = name.to_ascii_lowercase();
    let reserved = FORBIDDEN.contains(&lower.as_str())
        || FORBIDDEN_PREFIXES.iter().any(|prefix| lower.starts_with(prefix));
    if reserved {
        return invalid(format!("header {name:?} is reserved: the proxy manages it"));
    }
    Ok(())
}

pub(super) fn check_value(name: &str, value: &str) -> Result<(), UseCaseError> {
    if value.len() > MAX_VALUE {
        return invalid(format!(
            "value of header {name:?} is longer than {MAX_VALUE} bytes"
        ));
    }
    if value
        .bytes()
        .any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f)
    {
        return invalid(format!("value of header {name:?} has control characters"));
    }
    Ok(())
}

/// A character of a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
