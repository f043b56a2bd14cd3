//! Where an account's key is kept.

use std::path::{Path, PathBuf};

use meshgate_proto::AccountId;
use sha2::{Digest, Sha256};

/// The key file of an account. Ids come from management; one that is no plain word is hashed.
pub(super) fn path(directory: &Path, account: &AccountId) -> PathBuf {
    let id = account.as_str();
    let plain = (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let name = if plain {
        id.to_owned()
    } else {
        Sha256::digest(id)
            .iter()
            .fold(String::new(), |name, byte| name + &format!("{byte:02x}"))
            + "_"
    };
    directory.join(format!("{name}.key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_in_its_directory_whatever_the_id() {
        let directory = Path::new("/state/accounts");

        assert_eq!(
            path(directory, &AccountId::new("d1abc")),
            directory.join("d1abc.key")
        );
        for id in [
            "",
            ".",
            "..",
            "../x",
            "/etc/passwd",
            "a/b",
            "a\0b",
            "A",
            &"a".repeat(300),
        ] {
            let path = path(directory, &AccountId::new(id));
            assert_eq!(path.parent(), Some(directory), "{id:?}");
            assert_eq!(path.file_name().unwrap().len(), 69, "{id:?}");
        }
    }
}
