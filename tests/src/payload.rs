//! Large bodies whose content is known without keeping them.

use bytes::Bytes;
use futures::{Stream, stream};
use sha2::{Digest as _, Sha256};

const CHUNK: u64 = 64 * 1024;

/// A body that looks random and follows from its seed and length.
#[derive(Clone, Copy, Debug)]
pub struct Payload {
    seed: u64,
    length: u64,
}

impl Payload {
    /// A body of so many bytes.
    pub fn new(seed: u64, length: u64) -> Self {
        Self { seed, length }
    }

    /// The body piece by piece.
    pub fn chunks(self) -> impl Iterator<Item = Bytes> + Send {
        (0..self.length.div_ceil(CHUNK)).map(move |index| {
            let size = CHUNK.min(self.length - index * CHUNK);
            let mut state = self.seed ^ index.wrapping_mul(0xD6E8_FEB8_6659_FD93);
            let mut chunk = Vec::with_capacity(usize::try_from(CHUNK).unwrap_or(0) + 8);
            while (chunk.len() as u64) < size {
                chunk.extend_from_slice(&next(&mut state).to_le_bytes());
            }
            chunk.truncate(usize::try_from(size).unwrap_or(chunk.len()));
            Bytes::from(chunk)
        })
    }

    /// The body as a stream for a request or an answer.
    pub fn stream(self) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
        stream::iter(self.chunks().map(Ok))
    }

    /// SHA-256 of the body in hexadecimal.
    pub fn sha256(self) -> String {
        let mut hash = Sha256::new();
        for chunk in self.chunks() {
            hash.update(&chunk);
        }
        format!("{:x}", hash.finalize())
    }
}

/// The `SplitMix64` generator.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
