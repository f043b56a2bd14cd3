//! A service as the API shows it. Secrets are never in it.

use std::collections::BTreeMap;

use meshgate_proto::GroupId;
use serde::Serialize;

use super::answer::moment;
use crate::services::{ServiceView, go_duration};
use crate::store::service_records::{ServiceAuth, StoredOptions, StoredRestrictions, TargetRow};

#[derive(Debug, Serialize)]
pub(super) struct ServiceAnswer {
    id: String,
    name: String,
    domain: String,
    mode: &'static str,
    listen_port: u16,
    port_auto_assigned: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    proxy_cluster: String,
    targets: Vec<TargetAnswer>,
    enabled: bool,
    terminated: bool,
    pass_host_header: bool,
    rewrite_redirects: bool,
    auth: AuthAnswer,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_restrictions: Option<RestrictionsAnswer>,
    meta: MetaAnswer,
    private: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    access_groups: Vec<String>,
}

#[derive(Debug, Serialize)]
struct MetaAnswer {
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_issued_at: Option<String>,
    status: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    status_message: String,
}

#[derive(Debug, Serialize)]
struct TargetAnswer {
    target_id: String,
    target_type: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    path: String,
    protocol: &'static str,
    host: String,
    port: u16,
    enabled: bool,
    options: OptionsAnswer,
}

#[derive(Debug, Serialize)]
struct OptionsAnswer {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    skip_tls_verify: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_idle_timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_rewrite: Option<&'static str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    custom_headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    proxy_protocol: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    direct_upstream: bool,
}

#[derive(Debug, Serialize)]
struct AuthAnswer {
    #[serde(skip_serializing_if = "Option::is_none")]
    password_auth: Option<PasswordAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pin_auth: Option<PinAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bearer_auth: Option<BearerAnswer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    header_auths: Vec<HeaderAnswer>,
}

#[derive(Debug, Serialize)]
struct PasswordAnswer {
    enabled: bool,
    password: &'static str,
}

#[derive(Debug, Serialize)]
struct PinAnswer {
    enabled: bool,
    pin: &'static str,
}

#[derive(Debug, Serialize)]
struct BearerAnswer {
    enabled: bool,
    distribution_groups: Vec<String>,
}

#[derive(Debug, Serialize)]
struct HeaderAnswer {
    enabled: bool,
    header: String,
    value: &'static str,
}

#[derive(Debug, Serialize)]
struct RestrictionsAnswer {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_cidrs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blocked_cidrs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_countries: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blocked_countries: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    crowdsec_mode: String,
}

impl From<ServiceView> for ServiceAnswer {
    fn from(view: ServiceView) -> Self {
        let targets = view.record.targets.iter();
        let targets = targets.map(|target| TargetAnswer::new(target, view.host_of(target)));
        let targets = targets.collect();
        let service = view.record.service;
        Self {
            id: service.id.into_string(),
            name: service.name,
            domain: service.domain.to_string(),
            mode: service.mode.as_str(),
            listen_port: service.listen_port,
            port_auto_assigned: service.port_auto_assigned,
            proxy_cluster: service.proxy_cluster,
            targets,
            enabled: service.enabled && !service.terminated,
            terminated: service.terminated,
            pass_host_header: service.pass_host_header,
            rewrite_redirects: service.rewrite_redirects,
            auth: service.auth.into(),
            access_restrictions: restrictions(service.restrictions),
            meta: MetaAnswer {
                created_at: moment(service.created_at),
                certificate_issued_at: service.certificate_issued_at.map(moment),
                status: service.status.as_str(),
                status_message: service.status_message,
            },
            private: service.private,
            access_groups: service
                .access_groups
                .into_iter()
                .map(GroupId::into_string)
                .collect(),
        }
    }
}

impl TargetAnswer {
    fn new(target: &TargetRow, host: String) -> Self {
        Self {
            target_id: target.target_id.clone(),
            target_type: target.target_type.as_str(),
            path: target.path.clone(),
            protocol: target.protocol.as_str(),
            host,
            port: target.port,
            enabled: target.enabled,
            options: OptionsAnswer::from(target.options.clone()),
        }
    }
}

impl From<StoredOptions> for OptionsAnswer {
    fn from(options: StoredOptions) -> Self {
        let duration = |nanos: u64| (nanos > 0).then(|| go_duration::format(nanos));
        Self {
            skip_tls_verify: options.skip_tls_verify,
            request_timeout: duration(options.request_timeout),
            session_idle_timeout: duration(options.session_idle_timeout),
            path_rewrite: options.preserve_path.then_some("preserve"),
            custom_headers: options.custom_headers,
            proxy_protocol: options.proxy_protocol,
            direct_upstream: options.direct_upstream,
        }
    }
}

impl From<ServiceAuth> for AuthAnswer {
    fn from(auth: ServiceAuth) -> Self {
        let headers = auth.headers.into_iter().map(|method| HeaderAnswer {
            enabled: method.enabled,
            header: method.header,
            value: "",
        });
        Self {
            password_auth: auth.password.map(|method| PasswordAnswer {
                enabled: method.enabled,
                password: "",
            }),
            pin_auth: auth.pin.map(|method| PinAnswer {
                enabled: method.enabled,
                pin: "",
            }),
            bearer_auth: auth.bearer.map(|method| BearerAnswer {
                enabled: method.enabled,
                distribution_groups: method.groups.into_iter().map(GroupId::into_string).collect(),
            }),
            header_auths: headers.collect(),
        }
    }
}

fn restrictions(stored: StoredRestrictions) -> Option<RestrictionsAnswer> {
    if stored == StoredRestrictions::default() {
        return None;
    }
    Some(RestrictionsAnswer {
        allowed_cidrs: stored.allowed_cidrs,
        blocked_cidrs: stored.blocked_cidrs,
        allowed_countries: stored.allowed_countries,
        blocked_countries: stored.blocked_countries,
        crowdsec_mode: stored.crowdsec_mode,
    })
}
