//! Durations as the API writes them: `1h30m`, `1.5s`, `250ms`.

/// Reads a duration, in nanoseconds; negative ones and what does not fit are refused.
pub(crate) fn parse(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let number_len = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_len);
        let unit_len = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        total = total.checked_add(scaled(number, nanos_of(unit)?)?)?;
        rest = after;
    }
    i64::try_from(total).is_ok().then_some(total)
}

/// Writes a duration in the long form: `1m30s`, `1h0m0s`, `1.5s`, `250ms`, `0s`.
pub(crate) fn format(nanos: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < SECOND {
        let (unit, name) = match nanos {
            1_000_000.. => (1_000_000, "ms"),
            1_000.. => (1_000, "µs"),
            _ => (1, "ns"),
        };
        return format!("{}{name}", decimal(nanos, unit));
    }
    let seconds = decimal(nanos % (60 * SECOND), SECOND);
    let minutes = nanos / (60 * SECOND);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

fn nanos_of(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `number` (digits with at most one dot) times `unit`; what is below a nanosecond is cut.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = whole.checked_mul(unit)?;
    let mut scale = unit;
    for digit in fraction.bytes() {
        scale /= 10;
        nanos = nanos.checked_add(u64::from(digit - b'0') * scale)?;
    }
    Some(nanos)
}

/// `value / unit` without trailing zeros. `unit` is a power of ten.
fn decimal(value: u64, unit: u64) -> String {
    let width = unit.ilog10() as usize;
    let fraction = format!("{:0width$}", value % unit);
    let fraction = fraction.trim_end_matches('0');
    if width == 0 || fraction.is_empty() {
        return (value / unit).to_string();
    }
    format!("{}.{fraction}", value / unit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_come_back_in_the_long_form() {
        for (text, long) in [
            ("90s", "1m30s"),
            ("60s", "1m0s"),
            ("1h", "1h0m0s"),
            ("30s", "30s"),
            ("1.5s", "1.5s"),
            (".5m", "30s"),
            ("250ms", "250ms"),
            ("1500ms", "1.5s"),
            ("1h1ms", "1h0m0.001s"),
            ("3us", "3µs"),
            ("0", "0s"),
            ("0s", "0s"),
        ] {
            assert_eq!(format(parse(text).unwrap()), long, "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "5",
            "s",
            "-5s",
            "1x",
            "1.2.3s",
            ".s",
            "1s ",
            "99999999999h",
            "ten",
            "+",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(nanos in 0..=i64::MAX as u64) {
            prop_assert_eq!(parse(&format(nanos)), Some(nanos));
        }

        #[test]
        fn reading_never_panics(text in "\\PC{0,40}", numbers in "[0-9.]{0,30}[a-zµ]{0,3}") {
            let _ = parse(&text);
            let _ = parse(&numbers);
        }
    }
}
