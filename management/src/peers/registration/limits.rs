//! How long the texts may be that a peer says of itself: they are stored and sent on to all its neighbours.
//!
//! What names or identifies something is refused when it is too long, since a part of it would be something
//! else; descriptions are cut.

use meshgate_proto::network_map::SystemMeta;

/// Longest host name, as DNS and operating systems have it.
const MAX_HOSTNAME: usize = 255;
/// Longest version of a client; features hang on it.
const MAX_VERSION: usize = 64;
/// Longest `authorized_keys` line: an RSA key of 4096 bits has 740 bytes.
const MAX_SSH_KEY: usize = 1024;
/// Longest description of system or machine.
const MAX_TEXT: usize = 128;
/// Most capabilities that are kept; the protocol has three.
pub(super) const MAX_CAPABILITIES: usize = 32;

/// A field that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is longer than {limit} bytes")]
pub struct TooLong {
    field: &'static str,
    limit: usize,
}

/// Refuses names and keys beyond their limits.
pub(super) fn check(meta: &SystemMeta, ssh_key: Option<&str>) -> Result<(), TooLong> {
    let fields = [
        ("meta.hostname", meta.hostname.as_str(), MAX_HOSTNAME),
        ("meta.netbirdVersion", &meta.agent_version, MAX_VERSION),
        ("meta.uiVersion", &meta.ui_version, MAX_VERSION),
        ("peerKeys.sshPubKey", ssh_key.unwrap_or_default(), MAX_SSH_KEY),
    ];
    for (field, text, limit) in fields {
        if text.len() > limit {
            return Err(TooLong { field, limit });
        }
    }
    Ok(())
}

/// A description, cut where it is too long.
pub(super) fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_field_that_is_too_long_is_named() {
        let meta = SystemMeta {
            hostname: "h".repeat(MAX_HOSTNAME),
            agent_version: "v".repeat(MAX_VERSION),
            ..SystemMeta::default()
        };

        assert_eq!(check(&meta, Some(&"k".repeat(MAX_SSH_KEY))), Ok(()));
        let error = check(&meta, Some(&"k".repeat(MAX_SSH_KEY + 1))).unwrap_err();
        assert_eq!(error.to_string(), "peerKeys.sshPubKey is longer than 1024 bytes");
        let longer = SystemMeta {
            hostname: "h".repeat(MAX_HOSTNAME + 1),
            ..meta
        };
        assert_eq!(check(&longer, None).unwrap_err().field, "meta.hostname");
    }

    proptest! {
        #[test]
        fn descriptions_stay_text_of_bounded_length(text in "\\PC{0,200}") {
            let cut = cut(&text);

            prop_assert!(cut.len() <= MAX_TEXT && text.starts_with(&cut));
        }
    }
}
