//! Watches the framing of a chunked request body while its bytes go by.
//!
//! The engine takes an empty size line for the last chunk. A target that reads it otherwise would see
//! another end of the request than the engine does, so such a body is broken off.

/// Longest size line.
const MAX_LINE: u32 = 4 * 1024;

/// Most bytes of trailer lines.
const MAX_TRAILERS: u32 = 64 * 1024;

/// Most digits of a size.
const MAX_DIGITS: u32 = 15;

/// The body is not framed as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("chunked body is not well formed")]
pub(super) struct BadChunk;

/// Where in its body a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    /// In the digits of a size line.
    Size { digits: u32, size: u64 },
    /// Behind them.
    Extension { left: u32, size: u64 },
    /// At the line feed of a size line.
    SizeEnd { size: u64 },
    /// In the data of a chunk.
    Data { left: u64 },
    /// At the two bytes behind the data.
    DataEnd { line_feed: bool },
    /// In trailer lines; `at` counts the bytes of the present one.
    Trailers { left: u32, at: u32 },
    /// At the line feed of a trailer line, or of the empty one.
    TrailerEnd { left: u32, empty: bool },
    /// Behind the body.
    Done,
}

impl Chunks {
    /// The start of a body.
    pub(super) fn new() -> Self {
        Self::Size { digits: 0, size: 0 }
    }

    /// Follows the bytes that come next.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) -> Result<(), BadChunk> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match *self {
                Self::Done => return Ok(()),
                Self::Data { left } => {
                    let here = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    bytes = &bytes[here..];
                    *self = match left - here as u64 {
                        0 => Self::DataEnd { line_feed: false },
                        left => Self::Data { left },
                    };
                }
                state => {
                    *self = state.after(byte).ok_or(BadChunk)?;
                    bytes = rest;
                }
            }
        }
        Ok(())
    }

    fn after(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Size { digits: 1.., size } | Self::Extension { size, .. }, b'\r') => {
                Some(Self::SizeEnd { size })
            }
            (Self::Size { digits: 1.., size }, b';' | b' ' | b'\t') => {
                Some(Self::Extension { left: MAX_LINE, size })
            }
            (
                Self::Size {
                    digits: ..MAX_DIGITS,
                    size,
                },
                _,
            ) => {
                let digit = char::from(byte).to_digit(16)?;
                let Self::Size { digits, .. } = self else {
                    return None;
                };
                Some(Self::Size {
                    digits: digits + 1,
                    size: size << 4 | u64::from(digit),
                })
            }
            (Self::Extension { left: 1.., size }, byte) if is_text(byte) => {
                let Self::Extension { left, .. } = self else {
                    return None;
                };
                Some(Self::Extension { left: left - 1, size })
            }
            (Self::SizeEnd { size: 0 }, b'\n') => Some(Self::Trailers {
                left: MAX_TRAILERS,
                at: 0,
            }),
            (Self::SizeEnd { size }, b'\n') => Some(Self::Data { left: size }),
            (Self::DataEnd { line_feed: false }, b'\r') => Some(Self::DataEnd { line_feed: true }),
            (Self::DataEnd { line_feed: true }, b'\n') => Some(Self::new()),
            (Self::Trailers { left, at }, b'\r') => Some(Self::TrailerEnd { left, empty: at == 0 }),
            (Self::Trailers { left, at }, byte) if is_text(byte) => Some(Self::Trailers {
                left: left.checked_sub(1)?,
                at: at + 1,
            }),
            (Self::TrailerEnd { empty: true, .. }, b'\n') => Some(Self::Done),
            (Self::TrailerEnd { left, .. }, b'\n') => Some(Self::Trailers { left, at: 0 }),
            _ => None,
        }
    }
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn followed(body: &str) -> Result<bool, BadChunk> {
        let mut chunks = Chunks::new();
        chunks.follow(body.as_bytes())?;
        Ok(chunks == Chunks::Done)
    }

    #[test]
    fn whole_bodies_end_and_others_go_on() {
        for (body, done) in [
            ("0\r\n\r\n", true),
            ("3\r\nabc\r\n0\r\n\r\n", true),
            (
                "3;a=b\r\nabc\r\n00 \r\nx-a: 1\r\nx-b: 2\r\n\r\nGET / HTTP/1.1\n",
                true,
            ),
            ("A\r\n0123456789\r\n", false),
            ("3\r\nab", false),
            ("", false),
        ] {
            assert_eq!(followed(body), Ok(done), "{body:?}");
        }
    }

    #[test]
    fn broken_bodies_are_seen() {
        for body in [
            "\r\nabc\r\n0\r\n\r\n",
            "3\r\nabc\r\n\r\n",
            "zz\r\n",
            "-3\r\nabc\r\n",
            "0x3\r\nabc\r\n",
            "fffffffffffffffff3\r\n",
            "3\r\nabcdef\r\n0\r\n\r\n",
            "3\r\nabc0\r\n\r\n",
            "3\nabc\n0\n\n",
            "3;\0\r\n",
            ";a\r\n",
            "0\r\nx-a: 1\n\r\n",
        ] {
            assert_eq!(followed(body), Err(BadChunk), "{body:?}");
        }
        assert_eq!(followed(&format!("1;{}", "x".repeat(5000))), Err(BadChunk));
        assert_eq!(followed(&format!("0\r\n{}", "x".repeat(70_000))), Err(BadChunk));
    }

    proptest! {
        #[test]
        fn never_panics_and_cuts_do_not_matter(body in "[03a;x\r\n]{0,40}|(3\r\nabc\r\n){0,4}0\r\n\r\n", cut in 0usize..40) {
            let bytes = body.as_bytes();
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let mut whole = Chunks::new();
            let mut pieces = Chunks::new();

            let at_once = whole.follow(bytes);
            let in_two = pieces.follow(first).and_then(|()| pieces.follow(second));

            prop_assert_eq!(at_once, in_two);
            prop_assert_eq!(whole, pieces);
        }
    }
}
