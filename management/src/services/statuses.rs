//! Writes what proxies report of services, together.
//!
//! A proxy that starts reports on each of its services, thousands at once, and waits for the answers. Reports
//! that come while a transaction runs go into the next one; a single report waits for nothing.

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::store::service_statuses::StatusReport;
use crate::store::{Store, StoreError};

/// Reports that may wait; further callers wait for room.
const QUEUE: usize = 1024;
/// Reports of one transaction.
const BATCH: usize = 256;

/// A report was not written, and the log says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("status cannot be noted at the moment")]
pub struct NotNoted;

#[derive(Debug)]
struct Job {
    report: StatusReport,
    reply: oneshot::Sender<bool>,
}

/// Where reports are put. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StatusSink(mpsc::Sender<Job>);

/// Writes the reports.
#[derive(Debug)]
pub struct StatusWriter(mpsc::Receiver<Job>);

/// Makes the two ends of the queue.
pub fn status_queue() -> (StatusSink, StatusWriter) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (StatusSink(sender), StatusWriter(receiver))
}

impl StatusSink {
    /// Has a report written; tells whether its service is there. Dropped on the way, it may be written all the
    /// same.
    pub async fn note(&self, report: StatusReport) -> Result<bool, NotNoted> {
        let (reply, answer) = oneshot::channel();
        let sent = self.0.send(Job { report, reply }).await;
        sent.map_err(|_| NotNoted)?;
        answer.await.map_err(|_| NotNoted)
    }
}

impl StatusWriter {
    /// Writes until `shutdown`, then writes what is queued and returns.
    pub async fn run(mut self, store: Store, shutdown: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                _ = self.0.recv_many(&mut batch, BATCH) => {}
                () = shutdown.cancelled(), if !self.0.is_closed() => {
                    self.0.close();
                    continue;
                }
            }
            if batch.is_empty() {
                return;
            }
            let (reports, replies): (Vec<_>, Vec<_>) =
                batch.drain(..).map(|job| (job.report, job.reply)).unzip();
            match write(&store, &reports).await {
                Ok(found) => {
                    for (reply, found) in replies.into_iter().zip(found) {
                        // A caller that has gone needs no answer.
                        let _ = reply.send(found);
                    }
                }
                Err(error) => {
                    let (error, lost) = (&error as &dyn std::error::Error, reports.len());
                    tracing::error!(error, lost, "Status reports could not be written");
                }
            }
        }
    }
}

async fn write(store: &Store, reports: &[StatusReport]) -> Result<Vec<bool>, StoreError> {
    let mut tx = store.begin().await?;
    let found = tx.set_service_statuses_anywhere(reports).await?;
    tx.commit().await?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use meshgate_proto::{AccountId, ServiceId, ServiceStatus};

    use super::*;
    use crate::test_support::World;

    fn report(number: usize) -> StatusReport {
        StatusReport {
            account: AccountId::new("a"),
            service: ServiceId::new(format!("s{number}")),
            status: ServiceStatus::Active,
            message: String::new(),
            certificate_issued_at: None,
        }
    }

    #[tokio::test]
    async fn what_waits_is_written_together_and_everybody_is_told() {
        let world = World::new().await;
        let (sink, writer) = status_queue();
        let shutdown = CancellationToken::new();
        let reports = join_all((0..BATCH * 2).map(|number| sink.note(report(number))));
        let running = writer.run(world.state.store.clone(), shutdown.clone());

        let (told, ()) = tokio::join!(
            async {
                let told = reports.await;
                shutdown.cancel();
                told
            },
            running
        );

        assert_eq!(told.len(), BATCH * 2);
        assert!(
            told.iter().all(|told| *told == Ok(false)),
            "nobody has these services"
        );
        assert_eq!(sink.note(report(0)).await, Err(NotNoted));
    }

    #[tokio::test]
    async fn a_database_that_is_closed_loses_reports_and_says_so() {
        let world = World::new().await;
        let (sink, writer) = status_queue();
        world.state.store.close().await;
        let shutdown = CancellationToken::new();
        let running = writer.run(world.state.store.clone(), shutdown.clone());

        let (told, ()) = tokio::join!(
            async {
                let told = sink.note(report(0)).await;
                shutdown.cancel();
                told
            },
            running
        );

        assert_eq!(told, Err(NotNoted));
    }
}
