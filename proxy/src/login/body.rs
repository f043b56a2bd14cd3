//! A small request body, counted while it is read.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

/// The largest form that is taken, in bytes.
pub(super) const MAX_FORM: usize = 16 * 1024;

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

/// Reads a body of at most [`MAX_FORM`] bytes.
pub(super) async fn read_form(body: &mut dyn BodySource) -> Result<Bytes, ReadError> {
    let mut form = BytesMut::new();
    while let Some(piece) = body.next().await.map_err(ReadError::Body)? {
        if form.len() + piece.len() > MAX_FORM {
            return Err(ReadError::TooLarge);
        }
        form.extend_from_slice(&piece);
    }
    Ok(form.freeze())
}
