//! What a process holds that nobody sees from outside: SIGUSR1 has it told in the log.

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

/// Tells on each SIGUSR1 how many tasks live on this runtime and on those beside it.
pub(crate) fn on_signal(beside: Vec<Handle>) -> anyhow::Result<()> {
    let mut asked = signal(SignalKind::user_defined1()).context("cannot listen to SIGUSR1")?;
    tokio::spawn(async move {
        while asked.recv().await.is_some() {
            let runtimes = std::iter::once(Handle::current()).chain(beside.iter().cloned());
            let tasks: usize = runtimes.map(|runtime| runtime.metrics().num_alive_tasks()).sum();
            info!(tasks, "Holds tasks");
        }
    });
    Ok(())
}
