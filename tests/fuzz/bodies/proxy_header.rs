//! PROXY headers: pieces are read like the whole, and no more is taken than a header can have.

use super::proxy_header::{Found, HeaderParser, Parsed};

/// Fixed part and the longest rest of version 2.
const LONGEST: usize = 16 + 65_535;

/// The first byte is the size of the pieces.
pub(super) fn run(data: &[u8]) {
    let Some((&step, bytes)) = data.split_first() else {
        return;
    };
    let at_once = HeaderParser::new().handle(bytes);
    let mut parser = HeaderParser::new();
    let mut taken = 0;
    for piece in bytes.chunks(usize::from(step).max(1)) {
        match parser.handle(piece) {
            Ok(Parsed {
                taken: here,
                found: Found::Part,
            }) => {
                assert_eq!(here, piece.len());
                taken += here;
            }
            Ok(Parsed { taken: here, found }) => {
                taken += here;
                assert!(taken <= LONGEST);
                assert_eq!(at_once, Ok(Parsed { taken, found }));
                return;
            }
            Err(error) => {
                assert_eq!(at_once, Err(error));
                return;
            }
        }
    }
    let found = Found::Part;
    assert_eq!(at_once, Ok(Parsed { taken, found }));
}
