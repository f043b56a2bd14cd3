//! Durations as people write them on the command line.

use std::str::FromStr;

/// Whole seconds, written as a number and a unit: `s`, `m`, `h`, `d`, `w`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seconds(i64);

impl From<Seconds> for i64 {
    fn from(seconds: Seconds) -> Self {
        seconds.0
    }
}

/// Text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration such as 30s, 15m, 12h, 365d or 52w")]
pub(crate) struct InvalidDuration(String);

impl FromStr for Seconds {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let wrong = || InvalidDuration(text.to_owned());
        let unit = text.chars().next_back().ok_or_else(wrong)?;
        let factor = match unit {
            's' => 1,
            'm' => 60,
            'h' => 60 * 60,
            'd' => 24 * 60 * 60,
            'w' => 7 * 24 * 60 * 60,
            _ => return Err(wrong()),
        };
        let digits = &text[..text.len() - 1];
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        let number: i64 = digits.parse().map_err(|_| wrong())?;
        number.checked_mul(factor).map(Self).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit() {
        let rows = [
            ("30s", 30),
            ("2m", 120),
            ("12h", 43_200),
            ("365d", 31_536_000),
            ("1w", 604_800),
        ];

        for (text, seconds) in rows {
            assert_eq!(text.parse::<Seconds>().map(i64::from), Ok(seconds));
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "d",
            "10",
            "-1d",
            "1.5h",
            "1y",
            "1 d",
            "9223372036854775807w",
            "1ä",
        ] {
            assert!(text.parse::<Seconds>().is_err(), "{text:?}");
        }
    }
}
