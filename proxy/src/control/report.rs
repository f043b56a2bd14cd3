//! How services fare, told to management: the latest word on each service, until it has arrived.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use meshgate_proto::{ServiceId, StatusUpdate};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::client::ManagementClient;

/// Reports under way at once; each is about another service, so none overtakes another.
const AT_ONCE: usize = 64;
/// Wait after reports that did not arrive.
const RETRY: Duration = Duration::from_secs(2);

/// Keeps the latest report on each service until it is sent. It holds at most one report per service.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    pub(super) waiting: Mutex<BTreeMap<ServiceId, StatusUpdate>>,
    wake: Notify,
}

impl Reporter {
    /// Takes a report in place of any earlier one on the same service.
    pub(crate) fn report(&self, update: StatusUpdate) {
        if update.service_id.is_empty() {
            return;
        }
        self.waiting.lock().insert(update.service_id.clone(), update);
        self.wake.notify_one();
    }

    /// Sends reports until `stop`.
    pub(crate) async fn run(self: Arc<Self>, client: ManagementClient, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.wake.notified() => {}
            }
            while !self.waiting.lock().is_empty() {
                let retry = tokio::select! {
                    () = stop.cancelled() => return,
                    retry = self.send_some(&client) => retry,
                };
                if retry {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(RETRY) => {}
                    }
                }
            }
        }
    }

    /// Sends some reports; true when one has to be sent again.
    async fn send_some(&self, client: &ManagementClient) -> bool {
        let some: Vec<_> = {
            let mut waiting = self.waiting.lock();
            let ids: Vec<_> = waiting.keys().take(AT_ONCE).cloned().collect();
            ids.iter().filter_map(|id| waiting.remove(id)).collect()
        };
        let sent = join_all(some.into_iter().map(|update| async {
            let result = client.send_status(update.clone()).await;
            (update, result)
        }));
        let mut retry = false;
        for (update, result) in sent.await {
            let Err(error) = result else { continue };
            match error.code {
                Code::NotFound | Code::FailedPrecondition => {}
                Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented => {
                    tracing::warn!(service.id = %update.service_id, error = %error, "Status report was refused");
                }
                _ => {
                    retry = true;
                    self.waiting
                        .lock()
                        .entry(update.service_id.clone())
                        .or_insert(update);
                }
            }
        }
        retry
    }
}
