//! Where connections and tunnels run: threads with a runtime each, so that neither ever changes its thread.
//!
//! A runtime of many threads moves tasks between them and wakes one thread for another, which costs more than it
//! gains where every request is a dozen short waits.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The threads. They end, with all that runs on them, when this is dropped.
#[derive(Debug)]
pub(crate) struct Workers {
    workers: Vec<Worker>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    guests: Arc<AtomicUsize>,
}

/// A place on a worker; gives the room back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    runtime: Handle,
    guests: Arc<AtomicUsize>,
}

impl Workers {
    /// Runs everything on the current runtime.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[cfg(test)]
    pub(crate) fn here() -> Self {
        Self {
            workers: vec![Worker::new(Handle::current())],
            _stop: CancellationToken::new().drop_guard(),
        }
    }

    /// Starts a thread for each core; their names begin with `name`.
    pub(crate) fn per_core(name: &str) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = (0..cores).map(|number| start(format!("{name}-{number}"), stop.clone()));
        Ok(Self {
            workers: workers.collect::<io::Result<_>>()?,
            _stop: stop.drop_guard(),
        })
    }

    /// The runtimes of all threads.
    pub(crate) fn runtimes(&self) -> impl Iterator<Item = Handle> {
        self.workers.iter().map(|worker| worker.runtime.clone())
    }

    /// A place on the worker with the fewest guests.
    pub(crate) fn place(&self) -> Place {
        let count = |worker: &&Worker| worker.guests.load(Ordering::Relaxed);
        let idlest = self.workers.iter().min_by_key(count);
        let Worker { runtime, guests } = idlest.expect("there is a worker for each core");
        guests.fetch_add(1, Ordering::Relaxed);
        Place {
            runtime: runtime.clone(),
            guests: Arc::clone(guests),
        }
    }
}

impl Worker {
    fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            guests: Arc::default(),
        }
    }
}

impl Place {
    /// Where the guest's tasks belong.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

/// Lets the current runtime watch a socket that another one accepted.
pub(crate) fn adopt(tcp: TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(tcp.into_std()?)
}

impl Drop for Place {
    fn drop(&mut self) {
        self.guests.fetch_sub(1, Ordering::Relaxed);
    }
}

fn start(name: String, stop: CancellationToken) -> io::Result<Worker> {
    let (told, hear) = sync_channel(1);
    let thread = std::thread::Builder::new().name(name);
    // A runtime must not end inside of another one, so no one but the thread ever has it.
    thread.spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        // Who started the thread waits for this.
        let _ = told.send(
            runtime
                .as_ref()
                .map(|runtime| runtime.handle().clone())
                .map_err(io::Error::kind),
        );
        if let Ok(runtime) = runtime {
            runtime.block_on(stop.cancelled());
        }
    })?;
    let runtime = hear.recv().map_err(io::Error::other)?;
    Ok(Worker::new(runtime?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn guests_spread_over_the_threads() {
        let workers = Workers::per_core("test").unwrap();
        let cores = std::thread::available_parallelism().unwrap().get();
        let places: Vec<Place> = (0..cores * 2).map(|_| workers.place()).collect();

        let counts: Vec<usize> = workers
            .workers
            .iter()
            .map(|worker| worker.guests.load(Ordering::Relaxed))
            .collect();
        drop(places);

        assert_eq!(counts, vec![2; cores]);
        assert_eq!(workers.workers[0].guests.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_runs_on_a_thread_ends_with_it() {
        let workers = Workers::per_core("test").unwrap();
        let task = workers.place().runtime().spawn(std::future::pending::<()>());

        drop(workers);

        assert!(task.await.unwrap_err().is_cancelled());
    }
}
