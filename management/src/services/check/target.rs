//! One target of a service.

use std::net::IpAddr;

use meshgate_proto::{DomainName, ServiceMode};

use super::{CheckedTarget, headers, invalid};
use crate::error::UseCaseError;
use crate::services::go_duration;
use crate::services::input::{OptionsInput, TargetInput};
use crate::store::service_records::{StoredOptions, TargetProtocol, TargetType};

const MAX_PATH: usize = 1024;

pub(super) fn check(
    mode: ServiceMode,
    index: usize,
    input: TargetInput,
) -> Result<CheckedTarget, UseCaseError> {
    let named = |error: UseCaseError| match error {
        UseCaseError::Invalid(text) => UseCaseError::Invalid(format!("target {index}: {text}")),
        error => error,
    };
    checked(mode, input).map_err(named)
}

fn checked(mode: ServiceMode, input: TargetInput) -> Result<CheckedTarget, UseCaseError> {
    if input.target_id.is_empty() {
        return invalid("target_id is required");
    }
    let Some(target_type) = TargetType::from_word(&input.target_type) else {
        return invalid(format!(
            "unknown target_type {:?}: use peer, host, domain, subnet or cluster",
            input.target_type
        ));
    };
    let protocol = protocol(mode, &input.protocol)?;
    let port = match u16::try_from(input.port) {
        Ok(port) if port > 0 => port,
        Ok(_) | Err(_) => return invalid("port must be between 1 and 65535"),
    };
    let raw = input.options.unwrap_or_default();
    match mode {
        ServiceMode::Http => check_path(&input.path)?,
        ServiceMode::Tcp | ServiceMode::Udp | ServiceMode::Tls => check_below_http(mode, &input.path, &raw)?,
    }
    if raw.proxy_protocol && matches!(mode, ServiceMode::Http | ServiceMode::Udp) {
        return invalid("proxy_protocol is for modes tcp and tls");
    }
    check_host(target_type, &input.host, raw.direct_upstream)?;
    Ok(CheckedTarget {
        path: input.path,
        host: input.host,
        port,
        protocol,
        target_id: input.target_id,
        target_type,
        enabled: input.enabled || mode != ServiceMode::Http,
        options: options(raw)?,
    })
}

fn protocol(mode: ServiceMode, word: &str) -> Result<TargetProtocol, UseCaseError> {
    if word.is_empty() {
        return Ok(match mode {
            ServiceMode::Http => TargetProtocol::Http,
            ServiceMode::Tcp | ServiceMode::Tls => TargetProtocol::Tcp,
            ServiceMode::Udp => TargetProtocol::Udp,
        });
    }
    let protocol = TargetProtocol::from_word(word);
    match (mode, protocol) {
        (ServiceMode::Http, Some(TargetProtocol::Tcp | TargetProtocol::Udp) | None) => invalid(format!(
            "protocol {word:?} does not fit mode http: use http or https"
        )),
        (_, None) => invalid(format!("unknown protocol {word:?}: use http, https, tcp or udp")),
        (_, Some(protocol)) => Ok(protocol),
    }
}

fn check_path(path: &str) -> Result<(), UseCaseError> {
    if path.is_empty() {
        return Ok(());
    }
    if !path.starts_with('/') || path.len() > MAX_PATH {
        return invalid(format!(
            "path must begin with a slash and may have {MAX_PATH} bytes"
        ));
    }
    if path
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || matches!(c, '?' | '#' | '\\'))
    {
        return invalid("path must not have blanks, control characters, '?', '#' or '\\'");
    }
    Ok(())
}

fn check_below_http(mode: ServiceMode, path: &str, options: &OptionsInput) -> Result<(), UseCaseError> {
    let forbidden = [
        ("path", !path.is_empty()),
        ("skip_tls_verify", options.skip_tls_verify),
        ("path_rewrite", !options.path_rewrite.is_empty()),
        ("custom_headers", !options.custom_headers.is_empty()),
    ];
    for (field, given) in forbidden {
        if given {
            return invalid(format!("{field} does not fit mode {}", mode.as_str()));
        }
    }
    Ok(())
}

fn check_host(target_type: TargetType, host: &str, direct: bool) -> Result<(), UseCaseError> {
    match target_type {
        TargetType::Subnet if host.is_empty() => {
            return invalid("host is required for target_type subnet");
        }
        TargetType::Cluster if host.is_empty() || !direct => {
            return invalid("host and options.direct_upstream are required for target_type cluster");
        }
        TargetType::Peer | TargetType::Host | TargetType::Domain if !direct => return Ok(()),
        TargetType::Peer
        | TargetType::Host
        | TargetType::Domain
        | TargetType::Subnet
        | TargetType::Cluster => {}
    }
    if host.is_empty() || host.parse::<IpAddr>().is_ok() || DomainName::new(host).is_ok() {
        return Ok(());
    }
    invalid(format!(
        "host {host:?} must be an address or a name, without port, blanks or slashes"
    ))
}

fn options(raw: OptionsInput) -> Result<StoredOptions, UseCaseError> {
    if !matches!(raw.path_rewrite.as_str(), "" | "preserve") {
        return invalid(format!(
            "unknown path_rewrite {:?}: use preserve",
            raw.path_rewrite
        ));
    }
    headers::check_custom(&raw.custom_headers)?;
    Ok(StoredOptions {
        skip_tls_verify: raw.skip_tls_verify,
        request_timeout: duration("request_timeout", &raw.request_timeout)?,
        session_idle_timeout: duration("session_idle_timeout", &raw.session_idle_timeout)?,
        preserve_path: raw.path_rewrite == "preserve",
        custom_headers: raw.custom_headers,
        proxy_protocol: raw.proxy_protocol,
        direct_upstream: raw.direct_upstream,
        disable_access_log: false,
    })
}

fn duration(field: &str, text: &str) -> Result<u64, UseCaseError> {
    if text.is_empty() {
        return Ok(0);
    }
    match go_duration::parse(text) {
        Some(nanos) => Ok(nanos),
        None => invalid(format!("{field} {text:?} is not a duration such as 30s or 1m30s")),
    }
}
