//! What the engine's errors mean: the page for the client, and whether trying again makes sense.

use std::error::Error as StdError;
use std::io;

use meshgate_web::{ErrorKind, Via};
use pingora_core::{Error, ErrorSource, ErrorType};

use crate::errors;
use crate::upstream::ConnectError;

/// What the client is told about an error, or nothing when it is gone.
pub(super) fn page_for(error: &Error, via: Via) -> Option<ErrorKind> {
    let cause = error.root_cause();
    if let Some(error) = cause.downcast_ref::<ConnectError>() {
        return Some(errors::of_connect(error, via));
    }
    match (error.esource(), error.etype()) {
        (ErrorSource::Upstream, etype) => Some(upstream_page(etype, cause, via)),
        (_, ErrorType::InvalidHTTPHeader) | (ErrorSource::Downstream, ErrorType::H1Error) => {
            Some(ErrorKind::MalformedRequest)
        }
        // What our own stream saw in a body, and what the engine did.
        (ErrorSource::Downstream, ErrorType::ReadError)
            if io_cause(cause).is_some_and(|error| error.kind() == io::ErrorKind::InvalidData) =>
        {
            Some(ErrorKind::MalformedRequest)
        }
        (ErrorSource::Downstream, ErrorType::Custom("InvalidChunk")) => Some(ErrorKind::MalformedRequest),
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => Some(ErrorKind::RequestTimeout),
        (ErrorSource::Downstream, _) => None,
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(ErrorKind::Internal),
    }
}

/// True when the stream broke, as opposed to having carried an answer that cannot be read or none in time.
pub(super) fn is_broken_stream(error: &Error) -> bool {
    let cause = io_cause(error.root_cause());
    match error.etype() {
        ErrorType::ConnectionClosed | ErrorType::WriteError => true,
        ErrorType::ReadError => cause.is_none_or(|error| error.kind() != io::ErrorKind::TimedOut),
        ErrorType::H2Error => cause.is_some(),
        _ => false,
    }
}

fn upstream_page(etype: &ErrorType, cause: &(dyn StdError + Send + Sync + 'static), via: Via) -> ErrorKind {
    if let Some(error) = io_cause(cause) {
        return errors::of_stream(error, via);
    }
    match etype {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => ErrorKind::ServiceTimedOut,
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError => {
            ErrorKind::ConnectionFailed
        }
        _ => ErrorKind::InvalidAnswer,
    }
}

fn io_cause<'a>(cause: &'a (dyn StdError + Send + Sync + 'static)) -> Option<&'a io::Error> {
    let http2 = cause.downcast_ref::<h2::Error>().and_then(h2::Error::get_io);
    cause.downcast_ref::<io::Error>().or(http2)
}
