//! What one change costs when there are many services: counted, not timed.

use meshgate_proto::{Mapping, MappingBatch, ServiceStatus};

use super::*;

const SERVICES: usize = 10_000;

#[tokio::test]
async fn one_change_among_ten_thousand_services_touches_one() {
    let mut bench = Scale::new();
    bench.batch((0..SERVICES).map(service).collect());
    assert_eq!(bench.reports(), SERVICES);

    for change in [
        MappingChange::Created(Box::new(service(SERVICES))),
        MappingChange::Modified(Box::new(Mapping {
            pass_host_header: true,
            ..service(7)
        })),
    ] {
        let before = bench.snapshot.load_full();
        let effects = bench.state.handle_batch(MappingBatch {
            changes: vec![change],
            ..MappingBatch::default()
        });
        assert_eq!(effects.len(), 1);
        bench.applier.apply(effects);
        let after = bench.snapshot.load_full();

        assert!((1..=SERVICES / 100).contains(&after.copied_since(&before)));
        assert_eq!(after.revision(), before.revision() + 1);
        assert_eq!(bench.reports(), 1);
    }
}

#[tokio::test]
async fn a_repeated_snapshot_of_ten_thousand_services_copies_nothing() {
    let mut bench = Scale::new();
    bench.batch((0..SERVICES).map(service).collect());
    bench.reports();
    let before = bench.snapshot.load_full();

    bench.state.handle_started();
    bench.batch((0..SERVICES).map(service).collect());

    assert!(Arc::ptr_eq(&before, &bench.snapshot.load_full()));
    assert_eq!(bench.reports(), 0);
}

#[tokio::test]
async fn the_first_services_of_a_long_message_do_not_wait_for_its_last() {
    let mut bench = Scale::new();

    bench.batch((0..1000).map(service).collect());

    let snapshot = bench.snapshot.load_full();
    assert_eq!(snapshot.routes().count(), 1000);
    assert_eq!(snapshot.revision(), 16);
}

#[tokio::test]
async fn a_service_that_inherits_its_host_is_reported_again() {
    let mut bench = Scale::new();
    let twin = Mapping {
        domain: service(0).domain,
        ..service(1)
    };
    bench.batch(vec![service(0), twin.clone()]);
    let shadowed = bench.reporter.waiting.lock().remove(&twin.id).unwrap();
    bench.reports();

    bench.state.handle_started();
    bench.batch(vec![twin.clone()]);
    let heir = bench.reporter.waiting.lock().remove(&twin.id).unwrap();

    assert_eq!(shadowed.status, ServiceStatus::Error);
    assert_eq!(heir.status, ServiceStatus::CertificateFailed);
}

#[tokio::test]
async fn a_private_service_is_an_error_and_lets_nobody_in() {
    let mut bench = Scale::new();
    let private = Mapping {
        private: true,
        ..mapping("s1", "s1.test")
    };

    bench.batch(vec![private.clone()]);

    let report = bench.reporter.waiting.lock().remove(&private.id).unwrap();
    assert_eq!(report.status, ServiceStatus::Error);
    assert_eq!(
        report.error_message.as_deref(),
        Some("private services need the tunnel listener")
    );
    let snapshot = bench.snapshot.load_full();
    assert!(snapshot.host("s1.test").unwrap().policy.is_private());
    assert!(bench.tunnels.summaries().is_empty());
}

/// The pure state and the applier, without a stream.
struct Scale {
    state: SyncState,
    applier: Applier,
    snapshot: Arc<ArcSwap<Snapshot>>,
    reporter: Arc<Reporter>,
    tunnels: Tunnels,
    _directory: tempfile::TempDir,
}

impl Scale {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let reporter = Arc::new(Reporter::default());
        let resolver = Arc::new(CertResolver::new(Arc::new(CertStore::new())));
        let board = Arc::new(StatusBoard::new(Arc::clone(&reporter), resolver));
        let tunnels = Tunnels::new(TunnelParts {
            registrar: Arc::new(client("127.0.0.1:1".parse().unwrap())),
            starter: HandStarter::new().0,
            observer: Arc::<StatusBoard>::clone(&board),
            resync: Arc::new(Notify::new()),
            key_dir: directory.path().to_owned(),
            max_dial: None,
            allow_direct: Arc::default(),
        });
        let table = RouteTable::default();
        let mut state = SyncState::default();
        state.handle_started();
        Self {
            state,
            snapshot: Arc::clone(table.shared()),
            applier: Applier::new(table, tunnels.clone(), board),
            tunnels,
            reporter,
            _directory: directory,
        }
    }

    /// Takes a whole snapshot in one message.
    fn batch(&mut self, mappings: Vec<Mapping>) {
        let changes = mappings.into_iter().map(Box::new).map(MappingChange::Created);
        let effects = self.state.handle_batch(MappingBatch {
            changes: changes.collect(),
            initial_sync_complete: true,
            ..MappingBatch::default()
        });
        self.applier.apply(effects);
    }

    /// How many reports wait; none afterwards.
    fn reports(&self) -> usize {
        std::mem::take(&mut *self.reporter.waiting.lock()).len()
    }
}

/// A service whose targets need no tunnel.
fn service(number: usize) -> Mapping {
    let mut mapping = mapping(&format!("s{number}"), &format!("s{number}.test"));
    mapping.paths[0].options.direct_upstream = true;
    mapping
}
