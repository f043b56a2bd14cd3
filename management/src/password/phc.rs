//! argon2id as PHC text.

use std::fmt;

use argon2::password_hash::PasswordHash as Phc;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// Memory of one computation of ours, in KiB.
pub const MEMORY_KIB: u32 = 19_456;
/// Most memory that a stored hash may ask for, in KiB; two threads stay within 64 MiB.
pub const MAX_MEMORY_KIB: u32 = 32_768;
const PASSES: u32 = 2;
const MAX_PASSES: u32 = 10;
const LANES: u32 = 1;
const MAX_LANES: u32 = 4;
const SALT_LEN: usize = 16;
const OUTPUT_LEN: usize = 32;
const MAX_OUTPUT_LEN: usize = 64;

/// An argon2id hash as text: `$argon2id$v=19$m=19456,t=2,p=1$salt$hash`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Wraps stored text; it is understood when it is used.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// A stored hash that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored hash is not argon2id text within the limits of this server")]
pub(super) struct UnusableHash;

/// Hashes `secret` with our own parameters, in the memory that is lent.
pub(super) fn hash(secret: &[u8], salt: [u8; SALT_LEN], memory: &mut Vec<Block>) -> PasswordHash {
    let params =
        Params::new(MEMORY_KIB, PASSES, LANES, Some(OUTPUT_LEN)).expect("our parameters are in range");
    let mut output = [0; OUTPUT_LEN];
    derive(params, secret, &salt, &mut output, memory).expect("our parameters fit");
    PasswordHash(format!(
        "$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${}${}",
        STANDARD_NO_PAD.encode(salt),
        STANDARD_NO_PAD.encode(output),
    ))
}

/// Compares `secret` with a stored hash, by the parameters that stand in the hash.
pub(super) fn verify(
    secret: &[u8],
    stored: &PasswordHash,
    memory: &mut Vec<Block>,
) -> Result<bool, UnusableHash> {
    let phc = Phc::new(stored.as_str()).map_err(|_| UnusableHash)?;
    let (Some(salt), Some(expected)) = (phc.salt, phc.hash) else {
        return Err(UnusableHash);
    };
    let params = bounded_params(&phc, expected.len())?;
    let mut salt_bytes = [0; 64];
    let salt = salt.decode_b64(&mut salt_bytes).map_err(|_| UnusableHash)?;
    let mut output = [0; MAX_OUTPUT_LEN];
    let output = output.get_mut(..expected.len()).ok_or(UnusableHash)?;
    derive(params, secret, salt, output, memory)?;
    Ok(output.ct_eq(expected.as_bytes()).into())
}

fn bounded_params(phc: &Phc<'_>, output_len: usize) -> Result<Params, UnusableHash> {
    let is_argon2id = phc.algorithm.as_str() == "argon2id";
    if !is_argon2id || phc.version != Some(Version::V0x13.into()) || output_len > MAX_OUTPUT_LEN {
        return Err(UnusableHash);
    }
    let params = Params::try_from(phc).map_err(|_| UnusableHash)?;
    let in_range =
        params.m_cost() <= MAX_MEMORY_KIB && params.t_cost() <= MAX_PASSES && params.p_cost() <= MAX_LANES;
    if !in_range {
        return Err(UnusableHash);
    }
    Params::new(
        params.m_cost(),
        params.t_cost(),
        params.p_cost(),
        Some(output_len),
    )
    .map_err(|_| UnusableHash)
}

fn derive(
    params: Params,
    secret: &[u8],
    salt: &[u8],
    output: &mut [u8],
    memory: &mut Vec<Block>,
) -> Result<(), UnusableHash> {
    let blocks = params.block_count();
    if memory.len() < blocks {
        memory.reserve_exact(blocks - memory.len());
        memory.resize(blocks, Block::new());
    }
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(secret, salt, output, memory.as_mut_slice())
        .map_err(|_| UnusableHash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_hash_matches_its_secret_only() {
        let mut memory = Vec::new();

        let stored = hash(b"correct horse", [7; 16], &mut memory);

        assert!(stored.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_eq!(verify(b"correct horse", &stored, &mut memory), Ok(true));
        assert_eq!(verify(b"correct horsf", &stored, &mut memory), Ok(false));
        assert_eq!(memory.len(), 19_456);
    }

    #[test]
    fn reads_hashes_that_netbird_made() {
        // Recorded mapping of a service with two header secrets; the first one is "k-one".
        let stored = PasswordHash::new(
            "$argon2id$v=19$m=19456,t=2,p=1$mGXwDL4z17tE7UbVpe85ow$BJ3GfP3dmtJrkUmRdwNuvf4ZNeBsYdtq6An439RlIzU",
        );
        let mut memory = Vec::new();

        assert_eq!(verify(b"k-one", &stored, &mut memory), Ok(true));
        assert_eq!(verify(b"k-two", &stored, &mut memory), Ok(false));
    }

    #[test]
    fn refuses_foreign_algorithms_and_greedy_parameters_without_allocating() {
        let mut memory = Vec::new();
        let tail = "mGXwDL4z17tE7UbVpe85ow$BJ3GfP3dmtJrkUmRdwNuvf4ZNeBsYdtq6An439RlIzU";
        for text in [
            String::new(),
            "plain".to_owned(),
            format!("$argon2id$v=19$m=4194304,t=2,p=1${tail}"),
            format!("$argon2id$v=19$m=19456,t=2000,p=1${tail}"),
            format!("$argon2id$v=19$m=19456,t=2,p=16${tail}"),
            format!("$argon2i$v=19$m=19456,t=2,p=1${tail}"),
            format!("$argon2id$v=16$m=19456,t=2,p=1${tail}"),
            "$argon2id$v=19$m=19456,t=2,p=1$mGXwDL4z17tE7UbVpe85ow".to_owned(),
        ] {
            assert_eq!(
                verify(b"x", &PasswordHash::new(&*text), &mut memory),
                Err(UnusableHash),
                "{text}"
            );
        }
        assert!(memory.is_empty());
    }

    proptest! {
        #[test]
        fn reading_never_panics(m in 0u32..64, t in 0u32..3, p in 0u32..6, tail in "[A-Za-z0-9+/$=,]{0,80}") {
            let mut memory = Vec::new();
            let _ = verify(b"x", &PasswordHash::new(format!("$argon2id$v=19$m={m},t={t},p={p}${tail}")), &mut memory);
            let _ = verify(b"x", &PasswordHash::new(tail), &mut memory);
        }
    }
}
