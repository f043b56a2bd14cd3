use std::collections::HashMap;

use meshgate_proto::token::{Token, TokenKind};
use proptest::prelude::*;

use super::*;

#[test]
fn three_settings_make_a_proxy_and_the_rest_has_defaults() {
    let config = read(&[]).unwrap();

    assert_eq!(config.management.to_string(), "https://mesh.example.com:443");
    assert_eq!(config.domain.as_str(), "proxy.example.com");
    assert_eq!(config.listen.to_string(), ":443");
    assert_eq!(config.health.unwrap().to_string(), "127.0.0.1:8080");
    assert_eq!(config.forwarded_proto, ForwardedProto::Auto);
    assert!(config.trusted_proxies.is_empty() && config.max_dial_timeout.is_none());
    assert_eq!(config.drain_time, Duration::from_secs(5));
    let CertificateSource::Pair { certificate, key } = config.certificates else {
        panic!("must be a pair");
    };
    assert_eq!(certificate, PathBuf::from("./certs/tls.crt"));
    assert_eq!(key, PathBuf::from("./certs/tls.key"));
}

#[test]
fn what_is_missing_is_named() {
    let error = Config::from_lookup(&|_| None).unwrap_err();

    assert_eq!(
        error.to_string(),
        "NB_PROXY_MANAGEMENT_ADDRESS is not set; expected an address such as https://mesh.example.com"
    );
}

#[test]
fn a_bad_value_is_named_with_what_was_expected() {
    for (env, value, expected) in [
        (
            "NB_PROXY_ALLOW_INSECURE",
            "yes",
            "NB_PROXY_ALLOW_INSECURE is \"yes\"; expected true or false",
        ),
        (
            "NB_PROXY_WG_PORT",
            "70000",
            "NB_PROXY_WG_PORT is \"70000\"; expected a port number",
        ),
        (
            "NB_PROXY_FORWARDED_PROTO",
            "ftp",
            "NB_PROXY_FORWARDED_PROTO is \"ftp\"; expected auto, http or https",
        ),
        (
            "NB_PROXY_TRUSTED_PROXIES",
            "10.0.0.0/8,x",
            "NB_PROXY_TRUSTED_PROXIES is \"10.0.0.0/8,x\"; expected addresses and ranges separated by commas",
        ),
        (
            "NB_PROXY_ALLOW_DIRECT",
            "localhost",
            "NB_PROXY_ALLOW_DIRECT is \"localhost\"; expected addresses and ranges separated by commas",
        ),
        (
            "NB_PROXY_ADDRESS",
            "443",
            "NB_PROXY_ADDRESS is \"443\"; expected an address such as :8443 or 192.0.2.1:443: \
             not an address to listen on",
        ),
        (
            "NB_PROXY_MAX_DIAL_TIMEOUT",
            "-1s",
            "NB_PROXY_MAX_DIAL_TIMEOUT is \"-1s\"; expected a duration such as 30s",
        ),
    ] {
        assert_eq!(read(&[(env, value)]).unwrap_err().to_string(), expected);
    }
}

#[test]
fn secrets_never_stand_in_an_error() {
    let mut token = Token::generate(TokenKind::Proxy).expose().to_owned();
    token.pop();

    let error = read(&[("NB_PROXY_TOKEN", &token)]).unwrap_err().to_string();
    assert!(
        error.starts_with("NB_PROXY_TOKEN is \"…\"; expected a proxy token"),
        "{error}"
    );
    assert!(!error.contains(&token));

    let error = read(&[("NB_PROXY_PRESHARED_KEY", "hunter2")])
        .unwrap_err()
        .to_string();
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn an_address_without_a_scheme_is_http() {
    let config = read(&[("NB_PROXY_MANAGEMENT_ADDRESS", "mesh:80")]).unwrap();

    assert_eq!(config.management.to_string(), "http://mesh:80");
}

#[test]
fn the_token_goes_in_the_clear_to_this_machine_only() {
    for (address, insecure, fine) in [
        ("http://127.0.0.1:80", "false", true),
        ("http://[::1]:80", "false", true),
        ("localhost:80", "false", true),
        ("https://mesh.example.com", "false", true),
        ("http://mesh.example.com", "true", true),
        ("http://mesh.example.com", "false", false),
        ("http://192.0.2.1", "false", false),
        ("http://localhost.example.com", "false", false),
    ] {
        let config = read(&[
            ("NB_PROXY_MANAGEMENT_ADDRESS", address),
            ("NB_PROXY_ALLOW_INSECURE", insecure),
        ])
        .unwrap();

        assert_eq!(
            config.check_token_exposure().is_ok(),
            fine,
            "{address} {insecure}"
        );
    }
}

#[test]
fn an_empty_certificate_file_means_the_whole_directory_and_off_means_no_health() {
    let config = read(&[
        ("NB_PROXY_CERTIFICATE_FILE", ""),
        ("NB_PROXY_HEALTH_ADDRESS", "off"),
    ])
    .unwrap();

    assert!(matches!(config.certificates, CertificateSource::Directory(_)));
    assert!(config.health.is_none());
}

#[test]
fn durations_are_read_as_written() {
    for (text, millis) in [
        ("0", 0),
        ("300ms", 300),
        ("30s", 30_000),
        ("1m30s", 90_000),
        ("2h", 7_200_000),
    ] {
        assert_eq!(
            value::duration(text),
            Some(Duration::from_millis(millis)),
            "{text}"
        );
    }
    for text in ["", "30", "s", "1x", "1.5s", "99999999999h"] {
        assert_eq!(value::duration(text), None, "{text}");
    }
}

#[test]
fn names_are_unique() {
    let names: std::collections::HashSet<_> = SETTINGS.iter().map(|setting| setting.env).collect();

    assert_eq!(names.len(), SETTINGS.len());
}

proptest! {
    #[test]
    fn never_panics(which in 0..SETTINGS.len(), value in "\\PC{0,40}") {
        let _ = read(&[(SETTINGS[which].env, &value)]);
        let _ = value::duration(&value);
        let _ = value.parse::<ListenAddress>();
    }
}

fn read(extra: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let token = Token::generate(TokenKind::Proxy);
    let mut values = HashMap::from([
        ("NB_PROXY_MANAGEMENT_ADDRESS", "https://mesh.example.com"),
        ("NB_PROXY_TOKEN", token.expose()),
        ("NB_PROXY_DOMAIN", "proxy.example.com"),
    ]);
    values.extend(extra.iter().copied());
    Config::from_lookup(&|name| values.get(name).map(|value| (*value).to_owned()))
}
