//! The address of a management server.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

/// `http://host:port`, `https://host:port` or plain `host:port` (which means `http`).
///
/// TLS is used exactly for `https`. Paths, user names and queries are refused: nothing would use them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagementUrl {
    tls: bool,
    host: Host,
    port: u16,
}

impl ManagementUrl {
    /// True when the server is spoken to over TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Host name or address, without brackets.
    pub fn host(&self) -> String {
        match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        }
    }

    /// Port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for ManagementUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl FromStr for ManagementUrl {
    type Err = InvalidManagementUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let invalid = |reason| InvalidManagementUrl {
            text: text.to_owned(),
            reason,
        };
        let url = if text.contains("://") {
            Url::parse(text)
        } else {
            Url::parse(&format!("http://{text}"))
        };
        let url = url.map_err(|_| invalid("it does not parse"))?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(invalid("its scheme is neither http nor https")),
        };
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("it has more than a host and a port"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("it has a user name"));
        }
        let host = url.host().ok_or_else(|| invalid("it has no host"))?.to_owned();
        let port = url
            .port_or_known_default()
            .filter(|port| *port != 0)
            .ok_or_else(|| invalid("it has no port"))?;
        Ok(Self { tls, host, port })
    }
}

/// Text that is no address of a management server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no management URL such as https://mesh.example.com: {reason}")]
pub struct InvalidManagementUrl {
    text: String,
    reason: &'static str,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_schemes_and_default_ports() {
        let table = [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("https://mesh.example.com", "https://mesh.example.com:443"),
            (
                "https://mesh.example.com:33073/",
                "https://mesh.example.com:33073",
            ),
            ("localhost:8080", "http://localhost:8080"),
            ("mesh.example.com", "http://mesh.example.com:80"),
            ("[::1]:8080", "http://[::1]:8080"),
        ];

        for (text, expected) in table {
            let url: ManagementUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), expected);
            assert_eq!(url.is_tls(), expected.starts_with("https"));
        }
    }

    #[test]
    fn refuses_what_nobody_would_use() {
        for text in [
            "",
            "ftp://a",
            "http://",
            "http://a/api",
            "http://u:p@a",
            "http://a?x",
            "a:0",
            "a:99999",
        ] {
            assert!(text.parse::<ManagementUrl>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_prints_what_it_reads(text in "\\PC{0,40}") {
            if let Ok(url) = text.parse::<ManagementUrl>() {
                prop_assert_eq!(url.to_string().parse::<ManagementUrl>(), Ok(url));
            }
        }
    }
}
