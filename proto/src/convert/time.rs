//! Timestamps and durations.

use std::time::Duration;

use prost_types::{Duration as PbDuration, Timestamp};

use super::InvalidMessage;
use crate::UnixTime;

impl From<UnixTime> for Timestamp {
    fn from(time: UnixTime) -> Self {
        Self {
            seconds: time.as_secs(),
            nanos: i32::try_from(time.subsec_nanos()).unwrap_or(0),
        }
    }
}

/// Reads a timestamp of the years 1678 to 2262.
pub(super) fn unix_time(field: &'static str, time: &Timestamp) -> Result<UnixTime, InvalidMessage> {
    let out_of_range = || InvalidMessage::new(field, "is outside the years 1678 to 2262");
    let nanos = u32::try_from(time.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000);
    let nanos = i64::from(nanos.ok_or_else(out_of_range)?);
    let whole = time.seconds.checked_mul(1_000_000_000).ok_or_else(out_of_range)?;
    whole
        .checked_add(nanos)
        .map(UnixTime::from_nanos)
        .ok_or_else(out_of_range)
}

/// Reads a duration that is not negative.
pub(super) fn duration(field: &'static str, duration: PbDuration) -> Result<Duration, InvalidMessage> {
    Duration::try_from(duration).map_err(|_| InvalidMessage::new(field, "is negative or too long"))
}

/// Writes a duration, at most the longest that fits.
pub(super) fn pb_duration(duration: Duration) -> PbDuration {
    PbDuration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}
