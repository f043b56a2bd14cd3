//! A small request body, counted while it is read.

use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

/// The largest form that is taken, in bytes.
pub(super) const MAX_FORM: usize = 16 * 1024;

/// Longest wait for a whole form, however steadily it trickles in.
const WHOLE_FORM: Duration = Duration::from_secs(15);

/// Pieces without a byte that are borne; nothing else would count them.
const MAX_EMPTY: usize = 16;

/// Gives the body of a request piece by piece.
#[async_trait]
pub(crate) trait BodySource: Send {
    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError>;
}

/// The body did not arrive whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// The client went away or broke the protocol.
    #[error("the body broke off")]
    Broken,
    /// The client was too slow.
    #[error("the body did not arrive in time")]
    TimedOut,
}

/// Why a form was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadError {
    /// More than [`MAX_FORM`] bytes; the rest was not read.
    TooLarge,
    /// The body did not arrive.
    Body(BodyError),
}

/// Reads a body of at most [`MAX_FORM`] bytes within [`WHOLE_FORM`].
pub(super) async fn read_form(body: &mut dyn BodySource) -> Result<Bytes, ReadError> {
    match tokio::time::timeout(WHOLE_FORM, read_all(body)).await {
        Ok(read) => read,
        Err(_) => Err(ReadError::Body(BodyError::TimedOut)),
    }
}

async fn read_all(body: &mut dyn BodySource) -> Result<Bytes, ReadError> {
    let mut form = BytesMut::new();
    let mut empty = 0;
    while let Some(piece) = body.next().await.map_err(ReadError::Body)? {
        if form.len() + piece.len() > MAX_FORM {
            return Err(ReadError::TooLarge);
        }
        if piece.is_empty() {
            empty += 1;
            if empty > MAX_EMPTY {
                return Err(ReadError::Body(BodyError::Broken));
            }
        }
        form.extend_from_slice(&piece);
    }
    Ok(form.freeze())
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    /// Gives the same piece again and again, each after a pause.
    struct Trickle {
        piece: &'static [u8],
        pause: Duration,
    }

    #[async_trait]
    impl BodySource for Trickle {
        async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
            tokio::time::sleep(self.pause).await;
            Ok(Some(Bytes::from_static(self.piece)))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_form_that_trickles_in_is_given_up_as_a_whole() {
        let mut body = Trickle {
            piece: b"a",
            pause: Duration::from_secs(10),
        };
        let began = Instant::now();

        let read = read_form(&mut body).await;

        assert_eq!(read, Err(ReadError::Body(BodyError::TimedOut)));
        assert_eq!(began.elapsed(), WHOLE_FORM);
    }

    #[tokio::test(start_paused = true)]
    async fn pieces_of_nothing_are_borne_for_a_few_only() {
        let mut body = Trickle {
            piece: b"",
            pause: Duration::from_millis(1),
        };

        let read = read_form(&mut body).await;

        assert_eq!(read, Err(ReadError::Body(BodyError::Broken)));
    }
}
