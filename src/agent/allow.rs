//! Which ports of the host the mesh may reach.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use meshgate_mesh::PortFilter;

/// A list of ports and port ranges, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AllowedPorts(Vec<RangeInclusive<u16>>);

impl AllowedPorts {
    /// True when the port may be reached.
    pub(crate) fn allows(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }

    /// The list as the question that the listener asks.
    pub(crate) fn into_filter(self) -> PortFilter {
        Arc::new(move |port| self.allows(port))
    }
}

impl fmt::Display for AllowedPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            match (range.start(), range.end()) {
                (1, &u16::MAX) => f.write_str("all")?,
                (start, end) if start == end => write!(f, "{start}")?,
                (start, end) => write!(f, "{start}-{end}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for AllowedPorts {
    type Err = InvalidPorts;

    /// Reads `all`, or ports and ranges such as `80,443,8000-8100`.
    fn from_str(text: &str) -> Result<Self, InvalidPorts> {
        if text == "all" {
            return Ok(Self(vec![1..=u16::MAX]));
        }
        text.split(',')
            .map(|part| range(part.trim()))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// Text that is not a list of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a port (1 to 65535) nor a range such as 8000-8100; write `all` for every port")]
pub(crate) struct InvalidPorts(String);

fn range(text: &str) -> Result<RangeInclusive<u16>, InvalidPorts> {
    let wrong = || InvalidPorts(text.to_owned());
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let port = if digits { text.parse::<u16>().ok() } else { None };
        port.filter(|port| *port != 0).ok_or_else(wrong)
    };
    let (start, end) = match text.split_once('-') {
        Some((start, end)) => (port(start)?, port(end)?),
        None => (port(text)?, port(text)?),
    };
    if start > end {
        return Err(wrong());
    }
    Ok(start..=end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ports_ranges_and_all() {
        let allowed: AllowedPorts = "80, 8000-8100".parse().unwrap();

        assert!(allowed.allows(80) && allowed.allows(8000) && allowed.allows(8100));
        assert!(!allowed.allows(81) && !allowed.allows(7999) && !allowed.allows(8101));
        assert_eq!(allowed.to_string(), "80,8000-8100");
        assert!("all".parse::<AllowedPorts>().unwrap().allows(u16::MAX));
    }

    #[test]
    fn refuses_what_is_no_port() {
        for text in ["", "0", "65536", "80-", "-80", "90-80", "+80", "http", "80,,81"] {
            assert!(text.parse::<AllowedPorts>().is_err(), "{text:?}");
        }
    }
}
