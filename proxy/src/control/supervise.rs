//! One stream after the other, for as long as the proxy lives.

use std::sync::Arc;

use futures::FutureExt as _;
use meshgate_proto::ProxyHello;
use rand::rngs::SmallRng;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::apply::Applier;
use super::backoff::Backoff;
use super::error::CallError;
use super::session::{Ended, open, step};
use super::stream::{MappingStream, Opener};
use super::sync::SyncState;
use crate::health::Health;

/// What came of the first attempt to reach management.
#[derive(Debug)]
pub(crate) enum FirstContact {
    /// A stream is open.
    Connected,
    /// Management answered that it does not want this proxy: nothing but other settings will help.
    Refused(CallError),
    /// Management did not answer as it should; it is tried again.
    Unreachable(CallError),
}

/// The control half of a proxy.
#[derive(Debug)]
pub(crate) struct Control {
    /// Opens streams of management.
    pub(crate) management: Arc<dyn Opener>,
    /// First words on each stream.
    pub(crate) hello: ProxyHello,
    /// Makes changes true.
    pub(crate) applier: Applier,
    /// Shows how the stream stands.
    pub(crate) health: Arc<Health>,
    /// Woken when a new snapshot is wanted.
    pub(crate) resync: Arc<Notify>,
    /// Everything that management has said.
    pub(crate) state: SyncState,
    /// Spreads the proxies of a cluster after a common outage.
    pub(crate) rng: SmallRng,
}

impl Control {
    /// Runs streams until `stop`; tells `first` what came of the first attempt, and ends after a refusal there.
    pub(crate) async fn run(&mut self, first: oneshot::Sender<FirstContact>, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.streams(first) => {}
        }
    }

    async fn streams(&mut self, first: oneshot::Sender<FirstContact>) {
        let mut first = Some(first);
        let mut backoff = Backoff::default();
        let mut older = false;
        loop {
            let ended = match open(&*self.management, &self.hello, older).await {
                Ok(stream) => self.stream(stream, &mut first, &mut backoff).await,
                Err(error) => Ended::Failed(error),
            };
            // Some servers begin an answer before they say that they do not know the call. One that was renewed
            // meanwhile gets the newer call again.
            older = !older && matches!(&ended, Ended::Failed(error) if error.is_unknown_call());
            if let Ended::Failed(error) = &ended {
                if first.is_some() && is_refusal(error.code) {
                    return tell(&mut first, FirstContact::Refused(error.clone()));
                }
                tell(&mut first, FirstContact::Unreachable(error.clone()));
            }
            let wait = backoff.next(&mut self.rng);
            match ended {
                Ended::Failed(error) => {
                    tracing::warn!(error = %error, retry_ms = wait.as_millis(), "Mapping stream failed");
                }
                Ended::Closed => tracing::info!(
                    retry_ms = wait.as_millis(),
                    "Management closed the mapping stream"
                ),
                Ended::Resync => tracing::info!("Asking for a new snapshot"),
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn stream(
        &mut self,
        mut stream: MappingStream,
        first: &mut Option<oneshot::Sender<FirstContact>>,
        backoff: &mut Backoff,
    ) -> Ended {
        self.health.set_connected(true);
        tracing::info!(management = self.management.address(), "Mapping stream is open");
        self.state.handle_started();
        // A wish from before this stream is what its snapshot fulfils.
        let _ = self.resync.notified().now_or_never();
        let ended = loop {
            let step = step(
                &mut stream,
                &mut self.state,
                &mut self.applier,
                &self.health,
                &self.resync,
            )
            .await;
            match step {
                Ok(()) => {
                    tell(first, FirstContact::Connected);
                    backoff.reset();
                }
                Err(ended) => break ended,
            }
        };
        self.state.handle_ended();
        self.health.set_connected(false);
        ended
    }
}

fn tell(first: &mut Option<oneshot::Sender<FirstContact>>, contact: FirstContact) {
    if let Some(first) = first.take() {
        // The receiver may have stopped waiting.
        let _ = first.send(contact);
    }
}

/// True for answers that only other settings can change.
fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument | Code::AlreadyExists
    )
}
