//! Where the certificates of the edge come from.

use std::sync::Arc;

use meshgate_certs::{
    Authority, AuthorityOptions, CertResolver, CertStore, CertificateFiles, FileWatcher, OnDemand, PairFiles,
    SourceName,
};
use meshgate_proto::Clock;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::StartError;
use crate::config::{CertificateSource, Config};
use crate::control::StatusBoard;

/// The resolver of handshakes and, for files, what keeps it in step.
pub(super) struct Certificates {
    resolver: Arc<CertResolver>,
    files: Option<Watched>,
}

struct Watched {
    store: Arc<CertStore>,
    watcher: parking_lot::Mutex<Option<FileWatcher>>,
}

impl Certificates {
    /// Loads what the settings name. Reads files: call it before serving.
    pub(super) fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, StartError> {
        let files = match &config.certificates {
            CertificateSource::Resolver(resolver) => {
                return Ok(Self {
                    resolver: Arc::clone(resolver),
                    files: None,
                });
            }
            CertificateSource::Authority(directory) => {
                let options = AuthorityOptions {
                    permitted: vec![config.domain.clone()],
                };
                let authority =
                    Authority::open(directory, &options, clock.now()).map_err(StartError::Authority)?;
                let on_demand = OnDemand::new(authority, vec![config.domain.clone()], Arc::clone(clock));
                let resolver =
                    CertResolver::new(Arc::new(CertStore::new())).with_on_demand(Arc::new(on_demand));
                return Ok(Self {
                    resolver: Arc::new(resolver),
                    files: None,
                });
            }
            CertificateSource::Pair { certificate, key } => CertificateFiles::Pair(PairFiles {
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            CertificateSource::Directory(directory) => CertificateFiles::Directory(directory.clone()),
        };
        let store = Arc::new(CertStore::new());
        let watcher = FileWatcher::start(
            SourceName::new("files"),
            files,
            Arc::clone(&store),
            Arc::clone(clock),
        )
        .map_err(StartError::Certificates)?;
        let resolver = Arc::new(CertResolver::new(Arc::clone(&store)));
        let watched = Watched {
            store,
            watcher: parking_lot::Mutex::new(Some(watcher)),
        };
        Ok(Self {
            resolver,
            files: Some(watched),
        })
    }

    /// Answers handshakes.
    pub(super) fn resolver(&self) -> &Arc<CertResolver> {
        &self.resolver
    }

    /// Keeps files in step and reports on services whose certificate came or went, until `stop`.
    pub(super) fn watch(
        &self,
        tasks: &TaskTracker,
        board: &Arc<StatusBoard>,
        reload: &Arc<Notify>,
        stop: &CancellationToken,
    ) {
        let Some(files) = &self.files else { return };
        if let Some(watcher) = files.watcher.lock().take() {
            tasks.spawn(watcher.run(FileWatcher::INTERVAL, Arc::clone(reload), stop.child_token()));
        }
        let mut changes = files.store.subscribe();
        let (board, stop) = (Arc::clone(board), stop.child_token());
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = changes.changed() => if changed.is_err() { return },
                }
                board.certificates_changed();
            }
        });
    }
}
