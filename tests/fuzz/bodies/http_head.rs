//! The look at HTTP/1 requests before the engine: pieces pass like the whole, and a head that passes ends for
//! the engine's parser where it ends for ours.

use httparse::{EMPTY_HEADER, Request, Status};

use super::guard::{Guard, Look};
use super::head::{EndOfHead, check};

/// What has passed, and whether the rest would be refused.
#[derive(Debug, PartialEq, Eq)]
struct Passed {
    bytes: Vec<u8>,
    refused: bool,
}

/// The first byte is the size of the pieces.
pub(super) fn run(data: &[u8]) {
    let Some((&step, bytes)) = data.split_first() else {
        return;
    };
    let whole = pass(bytes, bytes.len());
    let pieces = pass(bytes, usize::from(step));
    if whole.refused {
        // What came before the fault may have passed by then.
        assert!(pieces.refused, "{pieces:?}");
        assert!(pieces.bytes.starts_with(&whole.bytes));
    } else {
        assert_eq!(whole, pieces);
    }
    agrees_with_engine(bytes);
}

fn pass(bytes: &[u8], step: usize) -> Passed {
    let mut guard = Guard::new();
    let mut passed = Vec::new();
    for piece in bytes.chunks(step.max(1)) {
        match guard.look(piece) {
            Ok(Look::Pass) => passed.extend_from_slice(piece),
            Ok(Look::Hold) => assert!(!guard.has_passed()),
            Ok(Look::Give) => {
                while guard.has_passed() {
                    passed.extend_from_slice(guard.give(step.max(1)));
                }
            }
            Ok(Look::Refuse(refusal)) => {
                assert!(refusal.answer().starts_with(b"HTTP/1.1 4"));
                return Passed {
                    bytes: passed,
                    refused: true,
                };
            }
            Err(_) => {
                return Passed {
                    bytes: passed,
                    refused: true,
                };
            }
        }
    }
    Passed {
        bytes: passed,
        refused: false,
    }
}

fn agrees_with_engine(bytes: &[u8]) {
    let Ok(Some(end)) = EndOfHead::default().find(bytes) else {
        return;
    };
    if check(&bytes[..end]).is_err() {
        return;
    }
    let mut headers = [EMPTY_HEADER; 256];
    if let Ok(Status::Complete(size)) = Request::new(&mut headers).parse(bytes) {
        assert_eq!(size, end);
    }
}
