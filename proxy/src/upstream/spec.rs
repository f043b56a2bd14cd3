//! What is configured about one target: parsed once from its mapping, never looked at as text again.

use std::net::{IpAddr, SocketAddr};

use meshgate_proto::{AccountId, DomainName, PathMapping, ServiceId, TargetOptions};
use url::{Host, Url};

use super::dial::UpstreamAddress;
use super::forwarded::is_fixed;

/// Longest target URL that is taken, in bytes.
const MAX_URL_LEN: usize = 2048;

/// What is spoken to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TargetScheme {
    /// HTTP/1.1 in the clear.
    Http,
    /// HTTP/1.1, or HTTP/2 where a request needs it, over TLS.
    Https,
    /// HTTP/2 in the clear, with prior knowledge.
    H2c,
}

impl TargetScheme {
    /// Port where a URL names none.
    pub(crate) const fn default_port(self) -> u16 {
        match self {
            Self::Http | Self::H2c => 80,
            Self::Https => 443,
        }
    }

    /// Scheme in a URL as a client of the target would write it.
    pub(crate) const fn url_scheme(self) -> &'static str {
        match self {
            Self::Http | Self::H2c => "http",
            Self::Https => "https",
        }
    }
}

/// Whose target it is, and as of which configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetOwner {
    /// Tenant.
    pub(crate) account: AccountId,
    /// Service.
    pub(crate) service: ServiceId,
    /// Revision of the configuration that brought it.
    pub(crate) revision: u64,
}

/// Everything about one target that is known before the first request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetSpec {
    /// Whose it is.
    pub(crate) owner: TargetOwner,
    /// What is spoken to it.
    pub(crate) scheme: TargetScheme,
    /// Name or address as it stands in a URL; IPv6 addresses in brackets.
    pub(crate) host: String,
    /// Where to dial.
    pub(crate) address: UpstreamAddress,
    /// Path that comes before each request's path; empty or `/…` without a slash at the end.
    pub(crate) base_path: String,
    /// Query that comes before each request's query.
    pub(crate) base_query: Option<String>,
    /// How it is spoken to.
    pub(crate) options: TargetOptions,
}

/// Why a target cannot be used; the text is for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidTarget {
    /// Not a URL at all, or one of unreasonable length.
    #[error("target is not a URL such as http://10.0.0.5:8080/path")]
    NotAUrl,
    /// Another scheme than the three.
    #[error("target scheme is not http, https or h2c")]
    Scheme,
    /// No host, or one that is neither a name nor an address.
    #[error("target has no usable host")]
    Host,
    /// Port 0.
    #[error("target port is not between 1 and 65535")]
    Port,
    /// A user name or password in the URL.
    #[error("target must not carry a user name or password")]
    Credentials,
    /// A custom header that HTTP does not allow, or that belongs to the edge.
    #[error("target has a custom header with an invalid or reserved name, or an invalid value")]
    CustomHeader,
}

impl TargetSpec {
    /// Reads a target of an HTTP service: a URL with scheme http, https or h2c.
    pub(crate) fn parse(owner: TargetOwner, mapping: &PathMapping) -> Result<Self, InvalidTarget> {
        if mapping.target.len() > MAX_URL_LEN {
            return Err(InvalidTarget::NotAUrl);
        }
        let (scheme, text) = split_scheme(&mapping.target)?;
        // Parsed as http in any case, because only schemes that the URL standard calls special get
        // their host and path normalised.
        let url = Url::parse(&format!("http://{text}")).map_err(|_| InvalidTarget::NotAUrl)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidTarget::Credentials);
        }
        let port = url.port().unwrap_or(if names_port_80(text) {
            80
        } else {
            scheme.default_port()
        });
        if port == 0 {
            return Err(InvalidTarget::Port);
        }
        check_headers(&mapping.options)?;

        Ok(Self {
            owner,
            scheme,
            host: url.host_str().ok_or(InvalidTarget::Host)?.to_owned(),
            address: address(&url, port)?,
            base_path: url.path().trim_end_matches('/').to_owned(),
            base_query: url.query().filter(|query| !query.is_empty()).map(str::to_owned),
            options: mapping.options.clone(),
        })
    }

    /// Host and, unless it is the scheme's own, port: the `Host` header that the target expects.
    pub(crate) fn authority(&self) -> String {
        let port = self.address.port();
        if port == self.scheme.default_port() {
            self.host.clone()
        } else {
            format!("{}:{port}", self.host)
        }
    }
}

fn split_scheme(target: &str) -> Result<(TargetScheme, &str), InvalidTarget> {
    let (scheme, rest) = target.trim().split_once("://").ok_or(InvalidTarget::NotAUrl)?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => TargetScheme::Http,
        "https" => TargetScheme::Https,
        "h2c" => TargetScheme::H2c,
        _ => return Err(InvalidTarget::Scheme),
    };
    Ok((scheme, rest))
}

/// True when the text names port 80 itself, which the parser drops as the default of http.
fn names_port_80(text: &str) -> bool {
    let authority = text.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let Some((_, port)) = authority.rsplit_once(':') else {
        return false;
    };
    port.parse() == Ok(80_u16)
}

fn address(url: &Url, port: u16) -> Result<UpstreamAddress, InvalidTarget> {
    match url.host().ok_or(InvalidTarget::Host)? {
        Host::Ipv4(address) => Ok(UpstreamAddress::Ip(SocketAddr::new(IpAddr::V4(address), port))),
        Host::Ipv6(address) => Ok(UpstreamAddress::Ip(SocketAddr::new(IpAddr::V6(address), port))),
        Host::Domain(name) => {
            let host = DomainName::new(name).map_err(|_| InvalidTarget::Host)?;
            Ok(UpstreamAddress::Name { host, port })
        }
    }
}

fn check_headers(options: &TargetOptions) -> Result<(), InvalidTarget> {
    let fit = options.custom_headers.iter().all(|(name, value)| {
        http::HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| !is_fixed(&name))
            && http::HeaderValue::from_str(value).is_ok()
    });
    if fit {
        Ok(())
    } else {
        Err(InvalidTarget::CustomHeader)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(target: &str) -> Result<TargetSpec, InvalidTarget> {
        let owner = TargetOwner {
            account: AccountId::new("a"),
            service: ServiceId::new("s"),
            revision: 1,
        };
        let mapping = PathMapping {
            path: "/".into(),
            target: target.into(),
            options: TargetOptions::default(),
        };
        TargetSpec::parse(owner, &mapping)
    }

    #[test]
    fn reads_every_part_of_a_target() {
        for (target, scheme, address, authority, base_path, base_query) in [
            (
                "http://100.64.0.1:8080/",
                TargetScheme::Http,
                "100.64.0.1:8080",
                "100.64.0.1:8080",
                "",
                None,
            ),
            ("http://o", TargetScheme::Http, "o:80", "o", "", None),
            (
                "HTTPS://O.test/base/",
                TargetScheme::Https,
                "o.test:443",
                "o.test",
                "/base",
                None,
            ),
            (
                "https://o.test:80",
                TargetScheme::Https,
                "o.test:80",
                "o.test:80",
                "",
                None,
            ),
            (
                "http://o.test:443",
                TargetScheme::Http,
                "o.test:443",
                "o.test:443",
                "",
                None,
            ),
            (
                "h2c://o.test:50051",
                TargetScheme::H2c,
                "o.test:50051",
                "o.test:50051",
                "",
                None,
            ),
            (
                "http://[fd00::1]:81/a?k=1",
                TargetScheme::Http,
                "[fd00::1]:81",
                "[fd00::1]:81",
                "/a",
                Some("k=1"),
            ),
            ("http://o/a b", TargetScheme::Http, "o:80", "o", "/a%20b", None),
        ] {
            let spec = parse(target).unwrap();
            assert_eq!(spec.scheme, scheme, "{target}");
            assert_eq!(spec.address.to_string(), address, "{target}");
            assert_eq!(spec.authority(), authority, "{target}");
            assert_eq!(
                (spec.base_path.as_str(), spec.base_query.as_deref()),
                (base_path, base_query),
                "{target}"
            );
        }
    }

    #[test]
    fn refuses_what_cannot_be_dialled() {
        for (target, expected) in [
            ("", InvalidTarget::NotAUrl),
            ("10.0.0.1:80", InvalidTarget::NotAUrl),
            ("ftp://o/", InvalidTarget::Scheme),
            ("http://", InvalidTarget::NotAUrl),
            ("http://o:99999", InvalidTarget::NotAUrl),
            ("http://o:0", InvalidTarget::Port),
            ("http://u:p@o/", InvalidTarget::Credentials),
            ("http://u@o/", InvalidTarget::Credentials),
            ("http://-o-/", InvalidTarget::Host),
        ] {
            assert_eq!(parse(target).map(|spec| spec.host), Err(expected), "{target}");
        }
    }

    #[test]
    fn custom_headers_never_replace_those_of_the_edge() {
        for (name, value, fine) in [
            ("X-Custom", "1", true),
            ("Authorization", "Bearer x", true),
            ("X-Forwarded-For", "6.6.6.6", false),
            ("x_netbird_user", "root", false),
            ("Host", "o", false),
            ("Transfer-Encoding", "chunked", false),
            ("Connection", "close", false),
            ("Cookie", "nb_session=x", false),
            ("bad name", "1", false),
            ("X-Lines", "a\r\nb", false),
        ] {
            let mut options = TargetOptions::default();
            options.custom_headers.insert(name.into(), value.into());
            assert_eq!(check_headers(&options).is_ok(), fine, "{name}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,60}", rest in "[-a-z0-9:/?#@%.\\[\\]]{0,40}") {
            let _ = parse(&text);
            for scheme in ["http", "https", "h2c"] {
                if let Ok(spec) = parse(&format!("{scheme}://{rest}")) {
                    prop_assert!(spec.base_path.is_empty() || spec.base_path.starts_with('/'));
                    prop_assert!(spec.address.port() != 0);
                }
            }
        }
    }
}
