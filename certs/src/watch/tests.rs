use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use meshgate_proto::{DomainName, ManualClock};
use tempfile::TempDir;

use super::*;
use crate::test_pki::{NOW, TestPair, TestPki};

#[test]
fn a_renewed_pair_is_taken_over() {
    let lab = Lab::with_pair(&["app.test"]);
    let mut watcher = lab.watch_pair().unwrap();
    let before = lab.served("app.test").unwrap();

    assert_eq!(watcher.poll().reloaded, 0);
    lab.write("tls", &lab.pki.pair(&["app.test", "new.test"]));
    let outcome = watcher.poll();

    assert_eq!(outcome.reloaded, 1);
    assert!(!Arc::ptr_eq(&before, &lab.served("app.test").unwrap()));
    assert!(lab.served("new.test").is_some());
}

#[test]
fn a_broken_pair_keeps_the_old_one_and_is_tried_again() {
    let lab = Lab::with_pair(&["app.test"]);
    let mut watcher = lab.watch_pair().unwrap();
    let before = lab.served("app.test").unwrap();
    let renewed = lab.pki.pair(&["app.test"]);
    let expired = lab
        .pki
        .pair_until(&["app.test"], NOW.saturating_sub(Duration::from_mins(1)));

    let half_written = TestPair {
        chain: renewed.chain[..300].to_owned(),
        key: renewed.key.clone(),
    };
    let only_one_renewed = TestPair {
        chain: renewed.chain.clone(),
        ..lab.pki.pair(&["app.test"])
    };
    for broken in [half_written, only_one_renewed, expired] {
        lab.write("tls", &broken);
        let outcome = watcher.poll();
        assert_eq!((outcome.reloaded, outcome.failures.len()), (0, 1));
        assert!(Arc::ptr_eq(&before, &lab.served("app.test").unwrap()));
    }
    fs::remove_file(lab.dir.path().join("tls.key")).unwrap();
    assert_eq!(watcher.poll().failures.len(), 1);
    assert!(Arc::ptr_eq(&before, &lab.served("app.test").unwrap()));

    lab.write("tls", &renewed);
    assert_eq!(watcher.poll().reloaded, 1);
    assert!(!Arc::ptr_eq(&before, &lab.served("app.test").unwrap()));
}

#[test]
fn a_swapped_link_is_seen() {
    let lab = Lab::new();
    let root = lab.dir.path();
    for (generation, name) in [("..1", "one.test"), ("..2", "two.test")] {
        fs::create_dir(root.join(generation)).unwrap();
        lab.write(&format!("{generation}/tls"), &lab.pki.pair(&[name]));
    }
    symlink("..1", root.join("..data")).unwrap();
    symlink("..data/tls.crt", root.join("tls.crt")).unwrap();
    symlink("..data/tls.key", root.join("tls.key")).unwrap();
    let mut single = lab.watch_pair().unwrap();
    let mut whole = lab.watch_directory().unwrap();
    assert!(lab.served("one.test").is_some());

    symlink("..2", root.join("..fresh")).unwrap();
    fs::rename(root.join("..fresh"), root.join("..data")).unwrap();

    assert_eq!(single.poll().reloaded, 1);
    assert_eq!(whole.poll().reloaded, 1);
    assert!(lab.served("two.test").is_some());
    assert!(lab.served("one.test").is_none());
}

#[test]
fn a_directory_follows_pairs_that_come_and_go() {
    let lab = Lab::new();
    lab.write("one", &lab.pki.pair(&["*.one.test"]));
    let mut watcher = lab.watch_directory().unwrap();

    lab.write("two", &lab.pki.pair(&["two.test"]));
    assert_eq!(watcher.poll().reloaded, 1);
    assert!(lab.served("two.test").is_some());

    for end in ["crt", "key"] {
        fs::remove_file(lab.dir.path().join(format!("one.{end}"))).unwrap();
    }
    assert_eq!(watcher.poll().removed, 1);
    assert!(lab.served("a.one.test").is_none());
    assert!(lab.served("two.test").is_some());
}

#[test]
fn a_vanished_directory_keeps_everything() {
    let lab = Lab::new();
    lab.write("one", &lab.pki.pair(&["one.test"]));
    let mut watcher = lab.watch_directory().unwrap();

    fs::remove_dir_all(lab.dir.path()).unwrap();
    let outcome = watcher.poll();

    assert!(matches!(outcome.failures[..], [LoadError::Missing { .. }]));
    assert!(lab.served("one.test").is_some());
}

#[test]
fn never_begins_with_nothing() {
    let lab = Lab::new();

    assert!(matches!(lab.watch_pair(), Err(LoadError::Missing { .. })));
    assert!(matches!(lab.watch_directory(), Err(LoadError::NoPairs { .. })));

    let pair = lab.pki.pair(&["one.test"]);
    lab.write(
        "tls",
        &TestPair {
            key: lab.pki.pair(&["one.test"]).key,
            ..pair
        },
    );
    assert!(matches!(lab.watch_pair(), Err(LoadError::Unusable { .. })));
}

#[tokio::test]
async fn reloads_on_demand_and_stops_when_told() {
    let lab = Lab::with_pair(&["app.test"]);
    let watcher = lab.watch_pair().unwrap();
    let (reload, stop) = (Arc::new(Notify::new()), CancellationToken::new());
    let mut revision = lab.store.subscribe();
    let task = tokio::spawn(watcher.run(Duration::from_hours(1), Arc::clone(&reload), stop.clone()));

    lab.write("tls", &lab.pki.pair(&["new.test"]));
    reload.notify_one();
    tokio::time::timeout(Duration::from_secs(20), revision.changed())
        .await
        .unwrap()
        .unwrap();

    assert!(lab.served("new.test").is_some());
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(20), task)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn reloads_after_the_interval() {
    let lab = Lab::with_pair(&["app.test"]);
    let watcher = lab.watch_pair().unwrap();
    let stop = CancellationToken::new();
    let mut revision = lab.store.subscribe();
    let reload = Arc::new(Notify::new());
    let task = tokio::spawn(watcher.run(Duration::from_millis(5), reload, stop.clone()));

    lab.write("tls", &lab.pki.pair(&["new.test"]));
    tokio::time::timeout(Duration::from_secs(20), revision.changed())
        .await
        .unwrap()
        .unwrap();

    assert!(lab.served("new.test").is_some());
    stop.cancel();
    task.await.unwrap();
}

/// A directory with certificate files and the store they are served from.
struct Lab {
    dir: TempDir,
    pki: TestPki,
    store: Arc<CertStore>,
}

impl Lab {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            pki: TestPki::new(),
            store: Arc::new(CertStore::new()),
        }
    }

    fn with_pair(names: &[&str]) -> Self {
        let lab = Self::new();
        lab.write("tls", &lab.pki.pair(names));
        lab
    }

    fn write(&self, name: &str, pair: &TestPair) {
        let path = |end: &str| self.dir.path().join(format!("{name}.{end}"));
        fs::write(path("crt"), &pair.chain).unwrap();
        fs::write(path("key"), &pair.key).unwrap();
    }

    fn watch_pair(&self) -> Result<FileWatcher, LoadError> {
        let path = |name: &str| Path::join(self.dir.path(), name);
        self.watch(CertificateFiles::Pair(PairFiles {
            certificate: path("tls.crt"),
            key: path("tls.key"),
        }))
    }

    fn watch_directory(&self) -> Result<FileWatcher, LoadError> {
        self.watch(CertificateFiles::Directory(self.dir.path().to_owned()))
    }

    fn watch(&self, files: CertificateFiles) -> Result<FileWatcher, LoadError> {
        let source = match &files {
            CertificateFiles::Pair(_) => "pair",
            CertificateFiles::Directory(_) => "directory",
        };
        let clock = Arc::new(ManualClock::new(NOW));
        FileWatcher::start(SourceName::new(source), files, Arc::clone(&self.store), clock)
    }

    fn served(&self, name: &str) -> Option<Arc<Bundle>> {
        self.store.find(&DomainName::new(name).unwrap())
    }
}
