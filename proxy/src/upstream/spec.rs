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
pub enum TargetScheme {
    /// HTTP/1.1 in the clear.
    Http,
    /// HTTP/1.1, or HTTP/2 where a request needs it, over TLS.
    Https,
    /// HTTP/2 in the clear, with prior knowledge.
    H2c,
}

impl TargetScheme {
    /// Port where a URL names none.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http | Self::H2c => 80,
            Self::Https => 443,
        }
    }

    /// Scheme in a URL as a client of the target would write it.
    pub const fn url_scheme(self) -> &'static str {
        match self {
            Self::Http | Self::H2c => "http",
            Self::Https => "https",
        }
    }
}

/// Whose target it is, and as of which configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetOwner {
    /// Tenant.
    pub account: AccountId,
    /// Service.
    pub service: ServiceId,
    /// Revision of the configuration that brought it.
    pub revision: u64,
}

/// Everything about one target that is known before the first request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetSpec {
    /// Whose it is.
    pub owner: TargetOwner,
    /// What is spoken to it.
    pub scheme: TargetScheme,
    /// Name or address as it stands in a URL; IPv6 addresses in brackets.
    pub host: String,
    /// Where to dial.
    pub address: UpstreamAddress,
    /// Path that comes before each request's path; empty or `/…` without a slash at the end.
    pub base_path: String,
    /// Query that comes before each request's query.
    pub base_query: Option<String>,
    /// How it is spoken to.
    pub options: TargetOptions,
}

/// Why a target cannot be used; the text is for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
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
    pub fn parse(owner: TargetOwner, mapping: &PathMapping) -> Result<Self, InvalidTarget> {
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
    pub fn authority(&self) -> String {
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
