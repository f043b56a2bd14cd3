use std::time::Duration;

use meshgate_proto::{AccountId, InvalidMessage, PathMapping, Removal, Secret, TargetOptions};
use proptest::prelude::*;

use super::*;
use crate::routing::tests::mapping;

#[test]
fn a_reconnect_with_the_same_configuration_has_no_effects_but_fresh_tokens() {
    let mut state = synced(&["s1", "s2"]);

    state.handle_ended();
    state.handle_started();
    let effects = state.handle_batch(batch(vec![created("s1"), created("s2")], true));

    assert_eq!(effects.len(), 2);
    assert!(effects.iter().all(|effect| matches!(effect, Effect::Refresh(_))));
}

#[test]
fn a_whole_snapshot_removes_what_it_does_not_name() {
    let mut state = synced(&["s1", "s2", "s3"]);

    state.handle_started();
    let first = state.handle_batch(batch(vec![created("s1")], false));
    let last = state.handle_batch(batch(vec![created("s3")], true));

    assert!(matches!(first[..], [Effect::Refresh(_)]));
    let [Effect::Refresh(_), Effect::Withdraw(gone)] = &last[..] else {
        panic!("{last:?}");
    };
    assert_eq!(gone.as_str(), "s2");
}

#[test]
fn a_broken_stream_and_live_updates_remove_nothing() {
    let mut state = synced(&["s1", "s2"]);

    state.handle_started();
    state.handle_batch(batch(vec![created("s1")], false));
    state.handle_ended();
    assert_eq!(state.len(), 2);

    let effects = state.handle_batch(batch(vec![created("s3")], true));
    assert!(matches!(effects[..], [Effect::Serve { .. }]));
    assert_eq!(state.len(), 3);
}

#[test]
fn removal_goes_by_id_and_of_unknown_services_it_is_nothing() {
    let mut state = synced(&["s1"]);

    assert!(state.handle_batch(batch(vec![removed("s9")], false)).is_empty());
    assert!(matches!(
        state.handle_batch(batch(vec![removed("s1")], false))[..],
        [Effect::Withdraw(_)]
    ));
}

#[test]
fn a_domain_change_is_a_removal_and_a_new_service() {
    let mut state = synced(&["s1"]);
    let mut moved = mapping("s1", "elsewhere.test");
    moved.auth_token = Secret::from("fresh");

    let effects = state.handle_batch(batch(
        vec![removed("s1"), MappingChange::Created(Box::new(moved))],
        false,
    ));

    assert!(matches!(
        effects[..],
        [
            Effect::Withdraw(_),
            Effect::Serve {
                live: LiveConnections::Cut,
                ..
            }
        ]
    ));
}

#[test]
fn only_changes_that_take_something_away_cut_connections() {
    let change = |edit: fn(&mut Mapping)| {
        let mut state = synced(&["s1"]);
        let mut mapping = mapping("s1", "s1.test");
        edit(&mut mapping);
        match &state.handle_batch(batch(vec![MappingChange::Modified(Box::new(mapping))], false))[..] {
            [Effect::Serve { live, .. }] => *live,
            effects => panic!("{effects:?}"),
        }
    };
    let second = |mapping: &mut Mapping| {
        mapping.paths.push(PathMapping {
            path: "/b".into(),
            target: "http://100.64.0.2/".into(),
            options: TargetOptions::default(),
        });
    };

    assert_eq!(
        change(|mapping| mapping.pass_host_header = true),
        LiveConnections::Keep
    );
    assert_eq!(change(second), LiveConnections::Keep);
    assert_eq!(
        change(|mapping| mapping.auth.max_session_age = Duration::ZERO),
        LiveConnections::Cut
    );
    assert_eq!(change(|mapping| mapping.private = true), LiveConnections::Cut);
    assert_eq!(
        change(|mapping| mapping.paths[0].target = "http://100.64.0.9/".into()),
        LiveConnections::Cut
    );
    assert_eq!(
        change(|mapping| mapping.restrictions.blocked_cidrs = vec!["192.0.2.0/24".parse().unwrap()]),
        LiveConnections::Cut
    );
}

#[test]
fn a_broken_mapping_breaks_its_own_service_once_and_heals() {
    let mut state = synced(&["s1", "s2"]);

    let effects = state.handle_batch(broken("s1"));
    let [Effect::Break(broken_service)] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(broken_service.domain.as_ref().unwrap().as_str(), "s1.test");
    assert!(broken_service.reason.contains("mapping.mode"));

    assert!(state.handle_batch(broken("s1")).is_empty());
    let healed = state.handle_batch(batch(vec![created("s1"), created("s2")], false));
    assert!(matches!(healed[..], [Effect::Serve { .. }, Effect::Refresh(_)]));
}

#[test]
fn a_service_broken_in_a_snapshot_counts_as_named() {
    let mut state = synced(&["s1"]);

    state.handle_started();
    let effects = state.handle_batch(MappingBatch {
        initial_sync_complete: true,
        ..broken("s1")
    });

    assert!(matches!(effects[..], [Effect::Break(_)]));
}

/// What a proxy serves after effects: the test's model of the applying half.
#[derive(Debug, Default, PartialEq)]
struct Served(BTreeMap<String, String>);

impl Served {
    fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Serve { mapping, .. } | Effect::Refresh(mapping) => {
                    self.0
                        .insert(mapping.id.to_string(), mapping.paths[0].target.clone());
                }
                Effect::Break(broken) => {
                    self.0.insert(broken.service_id.to_string(), broken.reason);
                }
                Effect::Withdraw(id) => {
                    self.0.remove(id.as_str());
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Break(u8),
    Remove(u8),
    Reconnect,
    CutShort,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..6u8, 0..3u8).prop_map(|(id, port)| Step::Put(id, port)),
        1 => (0..6u8).prop_map(Step::Break),
        2 => (0..6u8).prop_map(Step::Remove),
        1 => Just(Step::Reconnect),
        1 => Just(Step::CutShort),
    ];
    proptest::collection::vec(step, 0..40)
}

proptest! {
    #[test]
    fn a_snapshot_and_the_differences_lead_to_the_same(steps in steps()) {
        let mut truth: BTreeMap<u8, Option<u8>> = BTreeMap::new();
        let mut state = SyncState::default();
        let mut served = Served::default();
        state.handle_started();
        served.apply(state.handle_batch(batch(Vec::new(), true)));

        for step in steps {
            match step {
                Step::Put(id, port) => {
                    truth.insert(id, Some(port));
                    served.apply(state.handle_batch(batch(vec![put(id, port)], false)));
                }
                Step::Break(id) => {
                    truth.insert(id, None);
                    served.apply(state.handle_batch(broken(&format!("s{id}"))));
                }
                Step::Remove(id) => {
                    truth.remove(&id);
                    served.apply(state.handle_batch(batch(vec![removed(&format!("s{id}"))], false)));
                }
                Step::Reconnect => {
                    state.handle_ended();
                    state.handle_started();
                    for message in snapshot(&truth) {
                        served.apply(state.handle_batch(message));
                    }
                }
                Step::CutShort => {
                    state.handle_ended();
                    state.handle_started();
                    let first = snapshot(&truth).remove(0);
                    served.apply(state.handle_batch(MappingBatch { initial_sync_complete: false, ..first }));
                    state.handle_ended();
                }
            }
        }

        let mut fresh = SyncState::default();
        let mut fresh_served = Served::default();
        fresh.handle_started();
        for message in snapshot(&truth) {
            fresh_served.apply(fresh.handle_batch(message));
        }
        prop_assert_eq!(served, fresh_served);
        prop_assert_eq!(state.len(), fresh.len());
    }
}

fn snapshot(truth: &BTreeMap<u8, Option<u8>>) -> Vec<MappingBatch> {
    let messages = truth.iter().map(|(id, port)| match port {
        Some(port) => batch(vec![put(*id, *port)], false),
        None => broken(&format!("s{id}")),
    });
    messages.chain([batch(Vec::new(), true)]).collect()
}

fn put(id: u8, port: u8) -> MappingChange {
    let mut mapping = mapping(&format!("s{id}"), &format!("s{id}.test"));
    mapping.paths[0].target = format!("http://100.64.0.1:{}/", 8000 + u16::from(port));
    MappingChange::Created(Box::new(mapping))
}

fn synced(ids: &[&str]) -> SyncState {
    let mut state = SyncState::default();
    state.handle_started();
    state.handle_batch(batch(ids.iter().map(|id| created(id)).collect(), true));
    state
}

fn created(id: &str) -> MappingChange {
    MappingChange::Created(Box::new(mapping(id, &format!("{id}.test"))))
}

fn removed(id: &str) -> MappingChange {
    MappingChange::Removed(Removal {
        id: ServiceId::new(id),
        account_id: AccountId::new("a1"),
        domain: None,
    })
}

fn batch(changes: Vec<MappingChange>, initial_sync_complete: bool) -> MappingBatch {
    MappingBatch {
        changes,
        broken: Vec::new(),
        initial_sync_complete,
    }
}

#[test]
fn a_new_service_that_is_broken_is_unavailable_under_its_own_host() {
    let mut batch = broken("new");
    batch.broken[0].domain = DomainName::new("new.proxy.test").ok();
    let mut state = SyncState::default();

    let effects = state.handle_batch(batch);

    let [Effect::Break(broken)] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    assert_eq!(
        broken.domain.as_ref().map(DomainName::as_str),
        Some("new.proxy.test")
    );
}

fn broken(id: &str) -> MappingBatch {
    let broken = BrokenMapping {
        id: ServiceId::new(id),
        account_id: AccountId::new("a1"),
        domain: None,
        error: InvalidMessage::new("mapping.mode", "unknown"),
    };
    MappingBatch {
        broken: vec![broken],
        ..MappingBatch::default()
    }
}
