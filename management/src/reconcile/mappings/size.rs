//! Keeps messages below the 4 MiB that gRPC clients take by default.

use meshgate_proto::{Mapping, MappingChange};

/// Most bytes of one message of the snapshot, by estimate.
pub const MAX_BATCH: usize = 2 * 1024 * 1024;
/// Most bytes of one mapping, by estimate; a larger one would end every stream it is sent on.
pub const MAX_MAPPING: usize = 3 * 1024 * 1024;

/// Splits changes into batches of at most [`MAX_BATCH`], in order. There is always at least one, maybe empty.
pub fn batches(changes: Vec<MappingChange>) -> Vec<Vec<MappingChange>> {
    let mut batches = vec![Vec::new()];
    let mut room = MAX_BATCH;
    for change in changes {
        let size = match &change {
            MappingChange::Created(mapping) | MappingChange::Modified(mapping) => estimate(mapping),
            MappingChange::Removed(_) => 512,
        };
        if size > room && room < MAX_BATCH {
            batches.push(Vec::new());
            room = MAX_BATCH;
        }
        room = room.saturating_sub(size);
        if let Some(batch) = batches.last_mut() {
            batch.push(change);
        }
    }
    batches
}

/// About as many bytes as a mapping has on the wire, rather too many than too few.
pub fn estimate(mapping: &Mapping) -> usize {
    let paths = mapping.paths.iter().map(|path| {
        let headers = path.options.custom_headers.iter();
        let headers: usize = headers.map(|(name, value)| name.len() + value.len() + 16).sum();
        128 + path.path.len() + path.target.len() + headers
    });
    let secrets = mapping.auth.header_auths.iter();
    let secrets = secrets.map(|secret| secret.header.len() + secret.hashed_value.len() + 16);
    let rules = &mapping.restrictions;
    let cidrs = rules.allowed_cidrs.len() + rules.blocked_cidrs.len();
    let countries = rules.allowed_countries.len() + rules.blocked_countries.len();
    1024 + paths.sum::<usize>() + secrets.sum::<usize>() + cidrs * 48 + countries * 8
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use meshgate_proto::{
        AccountId, Authentication, DomainName, MappingBatch, PathMapping, Restrictions, Secret, ServiceId,
        ServiceMode, TargetOptions,
    };
    use prost::Message as _;

    use super::*;

    fn created(headers: usize) -> MappingChange {
        let custom_headers: BTreeMap<_, _> = (0..headers)
            .map(|n| (format!("X-{n}"), "v".repeat(4096)))
            .collect();
        let options = TargetOptions {
            custom_headers,
            ..TargetOptions::default()
        };
        let path = PathMapping {
            path: "/".to_owned(),
            target: "http://100.64.0.1/".to_owned(),
            options,
        };
        MappingChange::Created(Box::new(Mapping {
            id: ServiceId::new("s"),
            account_id: AccountId::new("a"),
            domain: DomainName::new("a.test").unwrap(),
            mode: ServiceMode::Http,
            listen_port: 0,
            paths: vec![path],
            auth_token: Secret::from("t".repeat(44)),
            auth: Authentication::default(),
            restrictions: Restrictions::default(),
            pass_host_header: false,
            rewrite_redirects: false,
            private: false,
        }))
    }

    #[test]
    fn large_mappings_make_more_messages_none_of_them_too_large() {
        let changes: Vec<_> = (0..100).map(|_| created(16)).collect();

        let batches = batches(changes);

        assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), 100);
        assert!(batches.len() >= 4);
        for changes in batches {
            let batch = MappingBatch {
                changes,
                ..MappingBatch::default()
            };
            let size = meshgate_proto::pb::management::SyncMappingsResponse::from(batch).encoded_len();
            assert!(size <= MAX_BATCH, "{size}");
        }
    }

    #[test]
    fn usual_mappings_stay_together() {
        assert_eq!(batches((0..500).map(|_| created(0)).collect()).len(), 1);
        assert_eq!(batches(Vec::new()).len(), 1);
    }
}
