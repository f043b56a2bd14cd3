//! Answers: JSON with the content type and the forms of time that clients know.

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use meshgate_proto::UnixTime;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=UTF-8");
const BARE_JSON: HeaderValue = HeaderValue::from_static("application/json");

/// How "never" is written.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// A JSON answer.
#[derive(Debug)]
pub(super) struct Answer<T>(pub(super) T);

/// A JSON answer whose content type names no character set, where clients have always had it so.
#[derive(Debug)]
pub(super) struct BareAnswer<T>(pub(super) T);

/// `{}`, the answer to a deletion.
#[derive(Debug, Serialize)]
pub(super) struct Done {}

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        json(JSON, &self.0)
    }
}

impl<T: Serialize> IntoResponse for BareAnswer<T> {
    fn into_response(self) -> Response {
        json(BARE_JSON, &self.0)
    }
}

fn json<T: Serialize>(content_type: HeaderValue, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => ([(CONTENT_TYPE, content_type)], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "Could not write an answer");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A moment, with as many digits of the second as it has.
pub(super) fn moment(time: UnixTime) -> String {
    OffsetDateTime::from(time)
        .format(&Rfc3339)
        .expect("years 1678 to 2262 have four digits")
}

/// A moment, or the sign for never.
pub(super) fn moment_or_never(time: Option<UnixTime>) -> String {
    time.map_or_else(|| NEVER.to_owned(), moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_the_digits_they_need() {
        assert_eq!(moment(UnixTime::from_secs(0)), "1970-01-01T00:00:00Z");
        assert_eq!(
            moment(UnixTime::from_nanos(1_500_000_000)),
            "1970-01-01T00:00:01.5Z"
        );
        assert_eq!(moment(UnixTime::from_nanos(1)), "1970-01-01T00:00:00.000000001Z");
        assert_eq!(moment_or_never(None), "0001-01-01T00:00:00Z");
    }
}
