//! Services as proxies get them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::InvalidMessage;
use super::time::{duration, pb_duration};
use crate::pb::management as pb;
use crate::{
    AccountId, Authentication, BrokenMapping, Cidr, CountryCode, CrowdsecMode, DomainName, HeaderAuth,
    Mapping, MappingBatch, MappingChange, PathMapping, PathRewrite, Removal, Restrictions, Secret, ServiceId,
    ServiceMode, SessionPublicKey, TargetOptions,
};

impl From<pb::SyncMappingsResponse> for MappingBatch {
    fn from(message: pb::SyncMappingsResponse) -> Self {
        batch(message.mapping, message.initial_sync_complete)
    }
}

impl From<pb::GetMappingUpdateResponse> for MappingBatch {
    fn from(message: pb::GetMappingUpdateResponse) -> Self {
        batch(message.mapping, message.initial_sync_complete)
    }
}

impl From<MappingBatch> for pb::SyncMappingsResponse {
    fn from(batch: MappingBatch) -> Self {
        Self {
            mapping: batch.changes.into_iter().map(Into::into).collect(),
            initial_sync_complete: batch.initial_sync_complete,
        }
    }
}

impl From<MappingBatch> for pb::GetMappingUpdateResponse {
    fn from(batch: MappingBatch) -> Self {
        Self {
            mapping: batch.changes.into_iter().map(Into::into).collect(),
            initial_sync_complete: batch.initial_sync_complete,
        }
    }
}

impl TryFrom<pb::ProxyMapping> for MappingChange {
    type Error = InvalidMessage;

    fn try_from(message: pb::ProxyMapping) -> Result<Self, InvalidMessage> {
        if message.id.is_empty() {
            return Err(InvalidMessage::missing("mapping.id"));
        }
        match pb::ProxyMappingUpdateType::try_from(message.r#type) {
            Ok(pb::ProxyMappingUpdateType::UpdateTypeCreated) => mapping(message).map(Self::Created),
            Ok(pb::ProxyMappingUpdateType::UpdateTypeModified) => mapping(message).map(Self::Modified),
            Ok(pb::ProxyMappingUpdateType::UpdateTypeRemoved) => Ok(Self::Removed(Removal {
                id: ServiceId::new(message.id),
                account_id: AccountId::new(message.account_id),
                domain: DomainName::new(&message.domain).ok(),
            })),
            Err(_) => Err(InvalidMessage::new(
                "mapping.type",
                format!("unknown change {}", message.r#type),
            )),
        }
    }
}

impl From<MappingChange> for pb::ProxyMapping {
    fn from(change: MappingChange) -> Self {
        match change {
            MappingChange::Created(mapping) => {
                pb_mapping(*mapping, pb::ProxyMappingUpdateType::UpdateTypeCreated)
            }
            MappingChange::Modified(mapping) => {
                pb_mapping(*mapping, pb::ProxyMappingUpdateType::UpdateTypeModified)
            }
            MappingChange::Removed(removal) => Self {
                r#type: pb::ProxyMappingUpdateType::UpdateTypeRemoved.into(),
                id: removal.id.into_string(),
                account_id: removal.account_id.into_string(),
                domain: removal
                    .domain
                    .map(|domain| domain.to_string())
                    .unwrap_or_default(),
                ..Self::default()
            },
        }
    }
}

fn batch(messages: Vec<pb::ProxyMapping>, initial_sync_complete: bool) -> MappingBatch {
    let mut batch = MappingBatch {
        initial_sync_complete,
        ..MappingBatch::default()
    };
    for message in messages {
        let id = ServiceId::new(message.id.clone());
        let account_id = AccountId::new(message.account_id.clone());
        let domain = DomainName::new(&message.domain).ok();
        match MappingChange::try_from(message) {
            Ok(change) => batch.changes.push(change),
            Err(error) => batch.broken.push(BrokenMapping {
                id,
                account_id,
                domain,
                error,
            }),
        }
    }
    batch
}

fn mapping(message: pb::ProxyMapping) -> Result<Box<Mapping>, InvalidMessage> {
    let domain =
        DomainName::new(&message.domain).map_err(|e| InvalidMessage::because("mapping.domain", e))?;
    let mode = ServiceMode::from_word(&message.mode)
        .ok_or_else(|| InvalidMessage::new("mapping.mode", format!("unknown mode {:?}", message.mode)))?;
    let auth = message.auth.map(authentication).transpose()?.unwrap_or_default();
    if auth.has_schemes() && auth.session_key.is_none() {
        return Err(InvalidMessage::new(
            "mapping.auth.session_key",
            "is missing although a scheme is on",
        ));
    }
    Ok(Box::new(Mapping {
        id: ServiceId::new(message.id),
        account_id: AccountId::new(message.account_id),
        domain,
        mode,
        listen_port: u16::try_from(message.listen_port)
            .map_err(|_| InvalidMessage::new("mapping.listen_port", "is not a port"))?,
        paths: message.path.into_iter().map(path).collect::<Result<_, _>>()?,
        auth_token: Secret::new(message.auth_token),
        auth,
        restrictions: message
            .access_restrictions
            .as_ref()
            .map(restrictions)
            .transpose()?
            .unwrap_or_default(),
        pass_host_header: message.pass_host_header,
        rewrite_redirects: message.rewrite_redirects,
        private: message.private,
    }))
}

fn pb_mapping(mapping: Mapping, kind: pb::ProxyMappingUpdateType) -> pb::ProxyMapping {
    let auth = mapping.auth;
    let restrictions = mapping.restrictions;
    let restricted = restrictions != Restrictions::default();
    pb::ProxyMapping {
        r#type: kind.into(),
        id: mapping.id.into_string(),
        account_id: mapping.account_id.into_string(),
        domain: mapping.domain.to_string(),
        path: mapping.paths.into_iter().map(pb_path).collect(),
        auth_token: mapping.auth_token.expose().clone(),
        auth: (auth != Authentication::default()).then(|| pb_authentication(auth)),
        pass_host_header: mapping.pass_host_header,
        rewrite_redirects: mapping.rewrite_redirects,
        mode: mapping.mode.as_str().to_owned(),
        listen_port: i32::from(mapping.listen_port),
        access_restrictions: restricted.then(|| pb_restrictions(&restrictions)),
        private: mapping.private,
    }
}

fn path(message: pb::PathMapping) -> Result<PathMapping, InvalidMessage> {
    let options = message.options.map(options).transpose()?.unwrap_or_default();
    Ok(PathMapping {
        path: message.path,
        target: message.target,
        options,
    })
}

fn pb_path(path: PathMapping) -> pb::PathMapping {
    let plain = path.options == TargetOptions::default();
    pb::PathMapping {
        path: path.path,
        target: path.target,
        options: (!plain).then(|| pb_options(path.options)),
    }
}

fn options(message: pb::PathTargetOptions) -> Result<TargetOptions, InvalidMessage> {
    if !message.middlewares.is_empty() {
        return Err(InvalidMessage::new(
            "mapping.path.options.middlewares",
            "are not supported",
        ));
    }
    let path_rewrite = match pb::PathRewriteMode::try_from(message.path_rewrite) {
        Ok(pb::PathRewriteMode::PathRewriteDefault) => PathRewrite::Strip,
        Ok(pb::PathRewriteMode::PathRewritePreserve) => PathRewrite::Preserve,
        Err(_) => {
            return Err(InvalidMessage::new(
                "mapping.path.options.path_rewrite",
                "is unknown",
            ));
        }
    };
    let timeout = message
        .request_timeout
        .map(|d| duration("mapping.path.options.request_timeout", d));
    let idle = message
        .session_idle_timeout
        .map(|d| duration("mapping.path.options.session_idle_timeout", d));
    Ok(TargetOptions {
        skip_tls_verify: message.skip_tls_verify,
        request_timeout: timeout.transpose()?,
        path_rewrite,
        custom_headers: message.custom_headers.into_iter().collect(),
        proxy_protocol: message.proxy_protocol,
        session_idle_timeout: idle.transpose()?,
        direct_upstream: message.direct_upstream,
        disable_access_log: message.disable_access_log,
    })
}

fn pb_options(options: TargetOptions) -> pb::PathTargetOptions {
    let path_rewrite = match options.path_rewrite {
        PathRewrite::Strip => pb::PathRewriteMode::PathRewriteDefault,
        PathRewrite::Preserve => pb::PathRewriteMode::PathRewritePreserve,
    };
    pb::PathTargetOptions {
        skip_tls_verify: options.skip_tls_verify,
        request_timeout: options.request_timeout.map(pb_duration),
        path_rewrite: path_rewrite.into(),
        custom_headers: options.custom_headers.into_iter().collect(),
        proxy_protocol: options.proxy_protocol,
        session_idle_timeout: options.session_idle_timeout.map(pb_duration),
        direct_upstream: options.direct_upstream,
        disable_access_log: options.disable_access_log,
        ..pb::PathTargetOptions::default()
    }
}

fn authentication(message: pb::Authentication) -> Result<Authentication, InvalidMessage> {
    let session_key = match message.session_key.as_str() {
        "" => None,
        text => {
            let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
            let wrong = || {
                InvalidMessage::new(
                    "mapping.auth.session_key",
                    "is not the standard base64 of 32 bytes",
                )
            };
            Some(SessionPublicKey(bytes.ok_or_else(wrong)?))
        }
    };
    let age = u64::try_from(message.max_session_age_seconds)
        .map_err(|_| InvalidMessage::new("mapping.auth.max_session_age_seconds", "is negative"))?;
    let header_auths = message.header_auths.into_iter();
    Ok(Authentication {
        session_key,
        max_session_age: Duration::from_secs(age),
        password: message.password,
        pin: message.pin,
        oidc: message.oidc,
        header_auths: header_auths
            .map(|auth| HeaderAuth {
                header: auth.header,
                hashed_value: auth.hashed_value,
            })
            .collect(),
    })
}

fn pb_authentication(auth: Authentication) -> pb::Authentication {
    let header_auths = auth.header_auths.into_iter();
    pb::Authentication {
        session_key: auth
            .session_key
            .map(|key| STANDARD.encode(key.0))
            .unwrap_or_default(),
        max_session_age_seconds: i64::try_from(auth.max_session_age.as_secs()).unwrap_or(i64::MAX),
        password: auth.password,
        pin: auth.pin,
        oidc: auth.oidc,
        header_auths: header_auths
            .map(|auth| pb::HeaderAuth {
                header: auth.header,
                hashed_value: auth.hashed_value,
            })
            .collect(),
    }
}

fn restrictions(message: &pb::AccessRestrictions) -> Result<Restrictions, InvalidMessage> {
    let crowdsec = match message.crowdsec_mode.as_str() {
        "" => CrowdsecMode::Unset,
        "off" => CrowdsecMode::Off,
        "enforce" => CrowdsecMode::Enforce,
        "observe" => CrowdsecMode::Observe,
        other => {
            let reason = format!("unknown mode {other:?}");
            return Err(InvalidMessage::new(
                "mapping.access_restrictions.crowdsec_mode",
                reason,
            ));
        }
    };
    Ok(Restrictions {
        allowed_cidrs: cidrs(
            "mapping.access_restrictions.allowed_cidrs",
            &message.allowed_cidrs,
        )?,
        blocked_cidrs: cidrs(
            "mapping.access_restrictions.blocked_cidrs",
            &message.blocked_cidrs,
        )?,
        allowed_countries: countries(
            "mapping.access_restrictions.allowed_countries",
            &message.allowed_countries,
        )?,
        blocked_countries: countries(
            "mapping.access_restrictions.blocked_countries",
            &message.blocked_countries,
        )?,
        crowdsec,
    })
}

fn pb_restrictions(restrictions: &Restrictions) -> pb::AccessRestrictions {
    let texts = |cidrs: &[Cidr]| cidrs.iter().map(ToString::to_string).collect();
    let codes = |codes: &[CountryCode]| codes.iter().map(|code| code.as_str().to_owned()).collect();
    let crowdsec_mode = match restrictions.crowdsec {
        CrowdsecMode::Unset => "",
        CrowdsecMode::Off => "off",
        CrowdsecMode::Enforce => "enforce",
        CrowdsecMode::Observe => "observe",
    };
    pb::AccessRestrictions {
        allowed_cidrs: texts(&restrictions.allowed_cidrs),
        blocked_cidrs: texts(&restrictions.blocked_cidrs),
        allowed_countries: codes(&restrictions.allowed_countries),
        blocked_countries: codes(&restrictions.blocked_countries),
        crowdsec_mode: crowdsec_mode.to_owned(),
    }
}

fn cidrs(field: &'static str, texts: &[String]) -> Result<Vec<Cidr>, InvalidMessage> {
    texts
        .iter()
        .map(|text| text.parse().map_err(|e| InvalidMessage::because(field, e)))
        .collect()
}

fn countries(field: &'static str, texts: &[String]) -> Result<Vec<CountryCode>, InvalidMessage> {
    let code = |text: &String| {
        CountryCode::new(text).ok_or_else(|| InvalidMessage::new(field, "has a code that is not two letters"))
    };
    texts.iter().map(code).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, mode: &str) -> pb::ProxyMapping {
        pb::ProxyMapping {
            id: id.to_owned(),
            account_id: "a".to_owned(),
            domain: format!("{id}.Proxy.test"),
            mode: mode.to_owned(),
            auth_token: id.to_owned(),
            ..pb::ProxyMapping::default()
        }
    }

    #[test]
    fn a_broken_mapping_is_named_with_its_host_and_spares_its_neighbours() {
        let batch = batch(vec![message("good", "http"), message("bad", "gopher")], true);

        assert_eq!(batch.changes.len(), 1);
        let [broken] = batch.broken.as_slice() else {
            panic!("{:?}", batch.broken)
        };
        assert_eq!(broken.id.as_str(), "bad");
        assert_eq!(
            broken.domain.as_ref().map(DomainName::as_str),
            Some("bad.proxy.test")
        );
        assert_eq!(broken.error.field, "mapping.mode");
    }

    #[test]
    fn a_fresh_token_changes_nothing_and_everything_else_does() {
        let first = mapping(message("s", "http")).unwrap();
        let renewed = mapping(pb::ProxyMapping {
            auth_token: "fresh".to_owned(),
            ..message("s", "http")
        })
        .unwrap();
        let moved = mapping(pb::ProxyMapping {
            domain: "t.test".to_owned(),
            ..message("s", "http")
        })
        .unwrap();
        let private = mapping(pb::ProxyMapping {
            private: true,
            ..message("s", "http")
        })
        .unwrap();

        assert!(first.says_the_same_as(&renewed));
        assert!(!first.says_the_same_as(&moved));
        assert!(!first.says_the_same_as(&private));
    }
}
