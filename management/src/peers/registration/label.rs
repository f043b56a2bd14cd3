//! Names of peers as labels of the mesh's domain.

use std::net::Ipv4Addr;

/// Longest label that is made from a host name.
const MAX_LABEL: usize = 59;
/// Longest label of DNS.
const MAX_DNS_LABEL: usize = 63;
/// Name of a machine whose own name has nothing that can be used.
const NAMELESS: &str = "peer";

/// The label of a host name: its first part, in lower case, as letters, digits and hyphens.
pub(super) fn label(hostname: &str) -> String {
    let first = hostname.split('.').next().unwrap_or_default();
    let ascii = match url::Host::parse(first) {
        Ok(url::Host::Domain(name)) if !first.is_ascii() => name,
        _ => first.to_owned(),
    };
    let cleaned: String = ascii
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(MAX_LABEL)
        .collect();
    let trimmed = cleaned.trim_matches('-');
    if trimmed.is_empty() {
        NAMELESS.to_owned()
    } else {
        trimmed.to_owned()
    }
}

/// The label of a second machine of the same name: with the end of its address.
pub(super) fn with_address(label: &str, address: Ipv4Addr) -> String {
    let [_, _, third, fourth] = address.octets();
    let suffix = format!("-{third}-{fourth}");
    let room = MAX_DNS_LABEL - suffix.len();
    let kept: String = label.chars().take(room).collect();
    format!("{}{suffix}", kept.trim_end_matches('-'))
}

/// True for labels that a peer may ask for.
pub(super) fn is_valid(label: &str) -> bool {
    let bytes = label.as_bytes();
    (1..=MAX_DNS_LABEL).contains(&bytes.len())
        && bytes
            .iter()
            .all(|&b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_the_first_part_of_the_host_name() {
        assert_eq!(label("Web_01.example.com"), "web-01");
        assert_eq!(label("München"), "xn--mnchen-3ya");
        assert_eq!(label("..."), "peer");
        assert_eq!(label(""), "peer");
    }

    #[test]
    fn a_name_that_is_taken_gets_the_end_of_the_address() {
        assert_eq!(with_address("web", "100.118.31.28".parse().unwrap()), "web-31-28");
    }

    proptest! {
        #[test]
        fn any_host_name_makes_a_valid_label(name in ".{0,100}", address: u32) {
            let made = label(&name);

            prop_assert!(is_valid(&made), "{made}");
            prop_assert!(is_valid(&with_address(&made, Ipv4Addr::from_bits(address))));
        }
    }
}
