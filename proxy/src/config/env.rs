//! The table of settings and how it becomes a [`Config`].

use std::path::PathBuf;

use meshgate_proto::token::{Token, TokenKind};
use meshgate_proto::{DomainName, Secret};

use super::listen::ListenAddress;
use super::{CertificateSource, Config, ForwardedProto, value};

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Environment variable.
    pub env: &'static str,
    /// Flag of the command line without dashes; empty when a value must not stand there.
    pub flag: &'static str,
    /// What is taken when nothing is set; empty means nothing.
    pub default: &'static str,
    /// What a value must look like, to follow "expected".
    pub expects: &'static str,
    /// What it does, for the help text.
    pub help: &'static str,
}

impl Setting {
    /// It is on or off; a flag without a value means on.
    pub fn is_switch(&self) -> bool {
        self.expects == SWITCH
    }
}

/// What the value of a switch must look like.
const SWITCH: &str = "true or false";

macro_rules! settings {
    ($($name:ident: $flag:literal, $default:literal, $expects:literal, $help:literal;)+) => {
        $(const $name: &Setting = &Setting {
            env: concat!("NB_PROXY_", stringify!($name)),
            flag: $flag,
            default: $default,
            expects: $expects,
            help: $help,
        };)+

        /// Every setting that a proxy reads, in the order of the help text.
        pub const SETTINGS: &[&Setting] = &[$($name),+];
    };
}

settings! {
    MANAGEMENT_ADDRESS: "mgmt", "", "an address such as https://mesh.example.com",
        "Management server; without a scheme it is http";
    TOKEN: "", "", "a proxy token (nbx_ and 36 characters)",
        "Token that opens the proxy service of management";
    ALLOW_INSECURE: "", "false", "true or false",
        "Send the token unencrypted to another machine";
    ROOT_CA: "root-ca", "", "a PEM file",
        "Further authorities that may vouch for management";
    DOMAIN: "domain", "", "a domain name such as proxy.example.com",
        "Address of the cluster; services live below it";
    ADDRESS: "addr", ":443", "an address such as :8443 or 192.0.2.1:443",
        "Where clients connect";
    HEALTH_ADDRESS: "health-addr", "localhost:8080", "an address such as localhost:8080, or off",
        "Where health and metrics are served";
    CERTIFICATE_DIRECTORY: "cert-dir", "./certs", "a directory",
        "Certificates; the two files are looked for here";
    CERTIFICATE_FILE: "cert-file", "tls.crt", "a file name",
        "Chain within the directory; empty takes every pair of the directory";
    CERTIFICATE_KEY_FILE: "cert-key-file", "tls.key", "a file name",
        "Key within the directory";
    STATE_DIRECTORY: "state-dir", "./state", "a directory",
        "What outlives a restart: the proxy's name and WireGuard keys";
    FORWARDED_PROTO: "forwarded-proto", "auto", "auto, http or https",
        "Scheme that targets are told";
    TRUSTED_PROXIES: "trusted-proxies", "", "addresses and ranges separated by commas",
        "Proxies whose forwarding headers are believed";
    PROXY_PROTOCOL: "proxy-protocol", "false", "true or false",
        "Trusted proxies begin connections with a PROXY header (version 1 or 2)";
    WG_PORT: "wg-port", "0", "a port number",
        "UDP port of the tunnels; fixed works for one account only";
    PRESHARED_KEY: "preshared-key", "", "a WireGuard key in base64",
        "Key that all peers share";
    MAX_DIAL_TIMEOUT: "max-dial-timeout", "0", "a duration such as 30s",
        "Longest wait for a connection to a target; 0 sets no limit";
    ALLOW_DIRECT: "allow-direct", "", "addresses and ranges separated by commas",
        "Loopback, link-local and overlay addresses that direct targets may have";
    REQUIRE_SUBDOMAIN: "require-subdomain", "false", "true or false",
        "The cluster's own name carries no service";
    MAX_CONNECTIONS: "max-connections", "16384", "a number above 0",
        "Clients that are served at a time";
    DRAIN_TIME: "drain-time", "5s", "a duration such as 30s",
        "How long requests under way may take once the proxy was told to stop; 0 cuts them";
}

/// Why settings do not make a proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nothing is set and there is no default.
    #[error("{} is not set; expected {}", .0.env, .0.expects)]
    Missing(&'static Setting),
    /// The value cannot be read.
    #[error("{} is {value:?}; expected {}{reason}", .setting.env, .setting.expects)]
    Invalid {
        /// The setting.
        setting: &'static Setting,
        /// What was given; dots in place of a secret.
        value: String,
        /// More about it, after a separator.
        reason: String,
    },
}

impl Config {
    /// Reads every setting. `lookup` gives the text of an environment variable or of its flag, if set.
    ///
    /// An empty text counts as not set, except for the name of the certificate file.
    ///
    /// # Errors
    ///
    /// Names the first setting that is missing or cannot be read, and what was expected.
    pub fn from_lookup(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let read = Reader(lookup);
        Ok(Self {
            management: read.with(MANAGEMENT_ADDRESS, str::parse)?,
            token: read.token()?,
            allow_insecure: read.value(ALLOW_INSECURE, value::switch)?,
            root_ca: read.optional(ROOT_CA, |text| Some(PathBuf::from(text)))?,
            domain: read.with(DOMAIN, DomainName::new)?,
            listen: read.with(ADDRESS, str::parse)?,
            health: read.health()?,
            certificates: read.certificates(),
            state_dir: read.value(STATE_DIRECTORY, |text| Some(PathBuf::from(text)))?,
            forwarded_proto: read.value(FORWARDED_PROTO, forwarded_proto)?,
            trusted_proxies: read.optional(TRUSTED_PROXIES, value::ranges)?.unwrap_or_default(),
            proxy_protocol: read.value(PROXY_PROTOCOL, value::switch)?,
            wg_port: read.value(WG_PORT, |text| text.parse().ok())?,
            preshared_key: read.secret(PRESHARED_KEY, |text| text.parse().ok())?,
            max_dial_timeout: Some(read.value(MAX_DIAL_TIMEOUT, value::duration)?).filter(|d| !d.is_zero()),
            allow_direct: read.optional(ALLOW_DIRECT, value::ranges)?.unwrap_or_default(),
            require_subdomain: read.value(REQUIRE_SUBDOMAIN, value::switch)?,
            max_connections: read.value(MAX_CONNECTIONS, |text| {
                text.parse().ok().filter(|count| *count > 0)
            })?,
            drain_time: read.value(DRAIN_TIME, value::duration)?,
        })
    }
}

struct Reader<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Reader<'_> {
    fn text(&self, setting: &'static Setting) -> Option<String> {
        let set = (self.0)(setting.env)
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty());
        set.or_else(|| Some(setting.default.to_owned()).filter(|text| !text.is_empty()))
    }

    fn optional<T>(
        &self,
        setting: &'static Setting,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.text(setting) else {
            return Ok(None);
        };
        match parse(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(ConfigError::Invalid {
                setting,
                value: text,
                reason: String::new(),
            }),
        }
    }

    fn value<T>(
        &self,
        setting: &'static Setting,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        self.optional(setting, parse)?
            .ok_or(ConfigError::Missing(setting))
    }

    fn with<T, E: std::fmt::Display>(
        &self,
        setting: &'static Setting,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, ConfigError> {
        let text = self.text(setting).ok_or(ConfigError::Missing(setting))?;
        parse(&text).map_err(|error| ConfigError::Invalid {
            setting,
            value: text,
            reason: format!(": {error}"),
        })
    }

    fn secret<T>(
        &self,
        setting: &'static Setting,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        self.optional(setting, parse)
            .map_err(|_| hidden(setting, String::new()))
    }

    fn token(&self) -> Result<Secret<String>, ConfigError> {
        let text = self.text(TOKEN).ok_or(ConfigError::Missing(TOKEN))?;
        match Token::parse(TokenKind::Proxy, &text) {
            Ok(_) => Ok(Secret::new(text)),
            Err(error) => Err(hidden(TOKEN, format!(": {error}"))),
        }
    }

    fn health(&self) -> Result<Option<ListenAddress>, ConfigError> {
        if self.text(HEALTH_ADDRESS).as_deref() == Some("off") {
            return Ok(None);
        }
        self.with(HEALTH_ADDRESS, str::parse).map(Some)
    }

    fn certificates(&self) -> CertificateSource {
        let file = |setting: &'static Setting| self.text(setting).unwrap_or_default();
        let directory = PathBuf::from(file(CERTIFICATE_DIRECTORY));
        if (self.0)(CERTIFICATE_FILE.env).is_some_and(|name| name.trim().is_empty()) {
            return CertificateSource::Directory(directory);
        }
        CertificateSource::Pair {
            certificate: directory.join(file(CERTIFICATE_FILE)),
            key: directory.join(file(CERTIFICATE_KEY_FILE)),
        }
    }
}

fn hidden(setting: &'static Setting, reason: String) -> ConfigError {
    ConfigError::Invalid {
        setting,
        value: "…".to_owned(),
        reason,
    }
}

fn forwarded_proto(text: &str) -> Option<ForwardedProto> {
    match text {
        "auto" => Some(ForwardedProto::Auto),
        "http" => Some(ForwardedProto::Http),
        "https" => Some(ForwardedProto::Https),
        _ => None,
    }
}
