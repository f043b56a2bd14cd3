//! What a process holds that nobody sees from outside: SIGUSR1 has it told in the log.

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// Hears SIGUSR1, which would end the process otherwise.
#[derive(Debug)]
pub(crate) struct Vitals(Signal);

impl Vitals {
    /// Hears the signal from now on; it is answered later.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let asked = signal(SignalKind::user_defined1());
        Ok(Self(asked.context("cannot listen to SIGUSR1")?))
    }

    /// Tells on each signal how many tasks live on this runtime and on those beside it.
    pub(crate) fn tell(self, beside: Vec<Handle>) {
        let Self(mut asked) = self;
        tokio::spawn(async move {
            while asked.recv().await.is_some() {
                let runtimes = std::iter::once(Handle::current()).chain(beside.iter().cloned());
                let tasks: usize = runtimes.map(|runtime| runtime.metrics().num_alive_tasks()).sum();
                info!(tasks, "Holds tasks");
            }
        });
    }
}
