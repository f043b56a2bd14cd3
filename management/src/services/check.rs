//! From what a caller wrote to what can be stored. Pure: nothing is looked up here.

mod headers;
mod restrictions;
mod target;

use meshgate_proto::{DomainName, GroupId, ServiceMode};

use crate::error::UseCaseError;
use crate::password::pool::MAX_SECRET_LEN;
use crate::services::input::{AuthInput, HeaderInput, ServiceInput};
use crate::store::service_records::{StoredOptions, StoredRestrictions, TargetProtocol, TargetType};

const MAX_NAME: usize = 255;
const MAX_TARGETS: usize = 256;
const MAX_GROUPS: usize = 200;
const MAX_HEADER_AUTHS: usize = 32;
/// Secrets of one header: each guess is compared with all of them, and a comparison is slow on purpose.
const MAX_SECRETS_PER_HEADER: usize = 4;

/// A service that can be stored, as far as itself is concerned.
#[derive(Clone, Debug)]
pub struct CheckedService {
    /// What its owner calls it.
    pub name: String,
    /// Host it answers to.
    pub domain: DomainName,
    /// What it speaks.
    pub mode: ServiceMode,
    /// Port below HTTP; 0 = any.
    pub listen_port: u16,
    /// Where it leads.
    pub targets: Vec<CheckedTarget>,
    /// It is to be served.
    pub enabled: bool,
    /// The target sees the client's Host header.
    pub pass_host_header: bool,
    /// Redirects that name the target are rewritten.
    pub rewrite_redirects: bool,
    /// Who may pass; secrets are not hashed yet.
    pub auth: AuthInput,
    /// Rules before that.
    pub restrictions: StoredRestrictions,
    /// Only peers of the mesh may pass.
    pub private: bool,
    /// Groups of those peers.
    pub access_groups: Vec<GroupId>,
}

/// A target that can be stored, as far as itself is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedTarget {
    /// Prefix that is matched.
    pub path: String,
    /// Host, where the type leaves it open.
    pub host: String,
    /// Port that is dialled.
    pub port: u16,
    /// What is spoken.
    pub protocol: TargetProtocol,
    /// The peer, the resource or the cluster.
    pub target_id: String,
    /// Which of them.
    pub target_type: TargetType,
    /// It is to be served.
    pub enabled: bool,
    /// How it is spoken to.
    pub options: StoredOptions,
}

/// Checks everything that can be checked without looking anything up.
pub fn check(input: ServiceInput) -> Result<CheckedService, UseCaseError> {
    if input.name.is_empty() || input.name.chars().count() > MAX_NAME {
        return invalid(format!(
            "service name is required and may have {MAX_NAME} characters"
        ));
    }
    if input.domain.is_empty() {
        return invalid("service domain is required");
    }
    let domain = DomainName::new(&input.domain)
        .map_err(|error| UseCaseError::Invalid(format!("service domain {:?}: {error}", input.domain)))?;
    let mode = match input.mode.as_str() {
        "" => ServiceMode::Http,
        word => ServiceMode::from_word(word).ok_or_else(|| {
            UseCaseError::Invalid(format!("unknown mode {word:?}: use http, tcp, udp or tls"))
        })?,
    };
    let Ok(listen_port) = u16::try_from(input.listen_port) else {
        return invalid("listen_port must be between 0 and 65535");
    };
    let auth = input.auth.unwrap_or_default();
    check_auth(&auth)?;
    match mode {
        ServiceMode::Http if listen_port != 0 => {
            return invalid("listen_port is for modes tcp, udp and tls");
        }
        ServiceMode::Tls if listen_port == 0 => {
            return invalid("listen_port is required for mode tls");
        }
        ServiceMode::Tcp | ServiceMode::Udp | ServiceMode::Tls if has_enabled(&auth) => {
            return invalid("authentication is for mode http only");
        }
        ServiceMode::Http | ServiceMode::Tcp | ServiceMode::Udp | ServiceMode::Tls => {}
    }
    if input.private {
        check_private(mode, &auth, &input.access_groups)?;
    }
    if input.access_groups.len() > MAX_GROUPS {
        return invalid(format!("access_groups may have {MAX_GROUPS} entries"));
    }
    let count = input.targets.len();
    if mode != ServiceMode::Http && count != 1 {
        return invalid(format!("mode {} needs exactly one target", mode.as_str()));
    }
    if count == 0 || count > MAX_TARGETS {
        return invalid(format!("between 1 and {MAX_TARGETS} targets are required"));
    }
    let targets = input
        .targets
        .into_iter()
        .enumerate()
        .map(|(index, target)| target::check(mode, index, target))
        .collect::<Result<_, _>>()?;
    Ok(CheckedService {
        name: input.name,
        domain,
        mode,
        listen_port,
        targets,
        enabled: input.enabled,
        pass_host_header: input.pass_host_header,
        rewrite_redirects: input.rewrite_redirects,
        auth,
        restrictions: restrictions::check(input.access_restrictions.unwrap_or_default())?,
        private: input.private,
        access_groups: input.access_groups.into_iter().map(GroupId::new).collect(),
    })
}

fn check_private(mode: ServiceMode, auth: &AuthInput, groups: &[String]) -> Result<(), UseCaseError> {
    if mode != ServiceMode::Http {
        return invalid("private services must have mode http");
    }
    if groups.is_empty() {
        return invalid("private services need at least one entry in access_groups");
    }
    if auth.bearer_auth.as_ref().is_some_and(|bearer| bearer.enabled) {
        return invalid("private services cannot have bearer_auth: access_groups say who may pass");
    }
    Ok(())
}

fn check_auth(auth: &AuthInput) -> Result<(), UseCaseError> {
    let secrets = [
        auth.password_auth
            .as_ref()
            .map(|method| method.password.expose().len()),
        auth.pin_auth.as_ref().map(|method| method.pin.expose().len()),
    ];
    if secrets.into_iter().flatten().any(|len| len > MAX_SECRET_LEN) {
        return invalid(format!("password and pin may have {MAX_SECRET_LEN} bytes"));
    }
    if let Some(bearer) = &auth.bearer_auth
        && bearer.distribution_groups.len() > MAX_GROUPS
    {
        return invalid(format!("distribution_groups may have {MAX_GROUPS} entries"));
    }
    if auth.header_auths.len() > MAX_HEADER_AUTHS {
        return invalid(format!("header_auths may have {MAX_HEADER_AUTHS} entries"));
    }
    for method in &auth.header_auths {
        headers::check_name(&method.header)?;
        headers::check_value(&method.header, method.value.expose())?;
        let same = |other: &&HeaderInput| other.header.eq_ignore_ascii_case(&method.header);
        if auth.header_auths.iter().filter(same).count() > MAX_SECRETS_PER_HEADER {
            return invalid(format!(
                "header_auths may have {MAX_SECRETS_PER_HEADER} values of one header"
            ));
        }
    }
    Ok(())
}

fn has_enabled(auth: &AuthInput) -> bool {
    auth.password_auth.as_ref().is_some_and(|method| method.enabled)
        || auth.pin_auth.as_ref().is_some_and(|method| method.enabled)
        || auth.bearer_auth.as_ref().is_some_and(|method| method.enabled)
        || auth.header_auths.iter().any(|method| method.enabled)
}

fn invalid<T>(message: impl Into<String>) -> Result<T, UseCaseError> {
    Err(UseCaseError::invalid(message))
}

#[cfg(test)]
mod tests;
