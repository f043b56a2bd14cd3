//! Certificate files that are looked at again and again, so that renewals need no restart.
//!
//! Contents are compared, not times or inodes: whatever way a file was replaced (rewritten, renamed,
//! reached through a swapped link), the next look sees it. A pair that became unusable, for example half
//! written, keeps its last good certificate in service and is tried again at every look.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use meshgate_proto::{Clock, UnixTime};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::bundle::Bundle;
use crate::error::LoadError;
use crate::files::{CertificateFiles, PairFiles};
use crate::on_demand::Chain;
use crate::store::{CertStore, SourceName};

/// Keeps one source of the store in step with its files.
pub struct FileWatcher {
    source: SourceName,
    files: CertificateFiles,
    pairs: BTreeMap<PairFiles, PairState>,
    store: Arc<CertStore>,
    clock: Arc<dyn Clock>,
    complaint: Complaint,
}

/// What one look at the files gave.
#[derive(Debug, Default)]
pub struct ReloadOutcome {
    /// Certificates that are new or changed.
    pub reloaded: usize,
    /// Certificates that left because their files are gone.
    pub removed: usize,
    /// Why pairs could not be taken; what they served before stays.
    pub failures: Vec<LoadError>,
}

#[derive(Default)]
struct PairState {
    current: Option<Current>,
    complaint: Complaint,
}

struct Current {
    digest: [u8; 32],
    bundle: Arc<Bundle>,
}

/// The last logged fault, so that each is logged once and not at every look.
#[derive(Default)]
struct Complaint(Option<String>);

impl FileWatcher {
    /// How often files are looked at.
    pub const INTERVAL: Duration = Duration::from_secs(30);

    /// Loads the files into the store under `source`.
    ///
    /// Reads files: call it before serving.
    ///
    /// # Errors
    ///
    /// Refuses to begin with nothing: a single pair must be usable, of a directory at least one pair.
    pub fn start(
        source: SourceName,
        files: CertificateFiles,
        store: Arc<CertStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, LoadError> {
        let mut watcher = Self {
            source,
            files,
            pairs: BTreeMap::new(),
            store,
            clock,
            complaint: Complaint::default(),
        };
        let outcome = watcher.poll();
        if outcome.reloaded == 0 {
            return Err(watcher.without_pairs(outcome));
        }
        Ok(watcher)
    }

    /// Looks at the files once and takes over what changed.
    pub fn poll(&mut self) -> ReloadOutcome {
        let now = self.clock.now();
        let mut outcome = ReloadOutcome::default();
        match self.files.pairs() {
            Ok(found) => {
                self.complaint.end();
                for pair in found {
                    self.pairs.entry(pair).or_default();
                }
            }
            Err(error) => {
                self.complaint.raise(&error);
                outcome.failures.push(error);
                return outcome;
            }
        }

        if matches!(self.files, CertificateFiles::Directory(_)) {
            self.pairs.retain(|pair, state| {
                let stays = pair.is_present();
                outcome.removed += usize::from(!stays && state.current.is_some());
                stays
            });
        }
        for (pair, state) in &mut self.pairs {
            match state.look(pair, now) {
                Ok(changed) => outcome.reloaded += usize::from(changed),
                Err(error) => outcome.failures.push(error),
            }
        }
        if outcome.reloaded + outcome.removed > 0 {
            self.publish();
        }
        outcome
    }

    /// Looks every `interval` and whenever `reload` is notified, until `stop`.
    ///
    /// Files are read on the runtime's threads for blocking work.
    pub async fn run(self, interval: Duration, reload: Arc<Notify>, stop: CancellationToken) {
        let mut watcher = self;
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = reload.notified() => {}
                _ = ticks.tick() => {}
            }
            let look = tokio::task::spawn_blocking(move || {
                watcher.poll();
                watcher
            });
            match look.await {
                Ok(back) => watcher = back,
                Err(error) => {
                    tracing::error!(%error, "Certificate files are no longer watched");
                    return;
                }
            }
        }
    }

    fn publish(&self) {
        let bundles: Vec<_> = self
            .pairs
            .values()
            .filter_map(|state| state.current.as_ref())
            .map(|current| Arc::clone(&current.bundle))
            .collect();
        self.store.replace(&self.source, bundles);
    }

    fn without_pairs(&self, outcome: ReloadOutcome) -> LoadError {
        self.files.nothing_usable(outcome.failures.into_iter().next())
    }
}

impl std::fmt::Debug for FileWatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileWatcher")
            .field("source", &self.source)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl PairState {
    /// Whether the pair is new or changed; a pair that cannot be taken keeps what it served before.
    fn look(&mut self, pair: &PairFiles, now: UnixTime) -> Result<bool, LoadError> {
        let result = self.try_look(pair, now);
        match &result {
            Ok(_) => self.complaint.end(),
            Err(error) => self.complaint.raise(error),
        }
        result
    }

    fn try_look(&mut self, pair: &PairFiles, now: UnixTime) -> Result<bool, LoadError> {
        let content = pair.read()?;
        let digest = content.digest();
        if self
            .current
            .as_ref()
            .is_some_and(|current| current.digest == digest)
        {
            return Ok(false);
        }
        let bundle = Arc::new(pair.check(&content, now)?);
        tracing::info!(
            certificate.file = %pair.certificate.display(),
            certificate.days_left = bundle.remaining(now).as_secs() / 86_400,
            "Loaded a certificate",
        );
        self.current = Some(Current { digest, bundle });
        Ok(true)
    }
}

impl Complaint {
    fn raise(&mut self, error: &LoadError) {
        let text = Chain(error).to_string();
        if self.0.as_ref() != Some(&text) {
            tracing::warn!(error = %text, "Could not load a certificate");
            self.0 = Some(text);
        }
    }

    fn end(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests;
