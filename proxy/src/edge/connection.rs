//! What the edge knows of one client connection, shared between its stream and its requests.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use meshgate_proto::DomainName;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::switched::{Switched, SwitchedRequest};
use crate::routing::Route;
use crate::upstream::{Exchange, Io};

/// Routes of which a connection remembers that it lives under them. The last one counts: a route that is
/// replaced hands its token on or has cancelled it. The others cover requests that are just now beginning.
const MAX_WATCHED: usize = 4;

/// One client connection.
#[derive(Debug)]
pub(crate) struct EdgeConnection {
    /// The host it was opened for.
    pub(crate) server_name: DomainName,
    /// The other end of the socket, or the client that it speaks for.
    pub(crate) peer: SocketAddr,
    /// Ends the connection at once.
    cut: CancellationToken,
    activity: Mutex<Activity>,
    watched: Mutex<Vec<Watched>>,
    is_switching: AtomicBool,
    switch: Mutex<Switch>,
}

/// The parts of a connection that goes on without the engine, as the engine lets go of them.
#[derive(Debug, Default)]
struct Switch {
    exchange: Option<Arc<Exchange>>,
    /// The engine was told to let go.
    leaving: bool,
    request: Option<Box<SwitchedRequest>>,
    client: Option<Box<dyn Io>>,
}

/// What is going on on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Activity {
    /// Requests that have ever begun.
    pub(crate) begun: u64,
    /// Requests that have begun and not ended.
    pub(crate) requests: u32,
    /// Those whose body is still coming.
    pub(crate) uploads: u32,
    /// Since when there is no request; meaningless while there is one.
    pub(crate) idle_since: Instant,
}

#[derive(Debug)]
struct Watched {
    route: Weak<Route>,
    _watch: AbortOnDropHandle<()>,
}

impl EdgeConnection {
    /// A connection that `cut` ends.
    pub(crate) fn new(server_name: DomainName, peer: SocketAddr, cut: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            server_name,
            peer,
            cut,
            activity: Mutex::new(Activity {
                begun: 0,
                requests: 0,
                uploads: 0,
                idle_since: Instant::now(),
            }),
            watched: Mutex::default(),
            is_switching: AtomicBool::new(false),
            switch: Mutex::default(),
        })
    }

    /// The target has switched protocols: from here on the engine only stands in the way.
    pub(super) fn switch(&self, exchange: &Arc<Exchange>) {
        exchange.set_switched();
        self.switch.lock().exchange = Some(Arc::clone(exchange));
        self.is_switching.store(true, Ordering::Release);
    }

    /// The exchange that switched protocols, if one did.
    pub(super) fn switching(&self) -> Option<Arc<Exchange>> {
        if !self.is_switching.load(Ordering::Acquire) {
            return None;
        }
        self.switch.lock().exchange.clone()
    }

    /// The engine is being told that the client has ended, and will let go of everything.
    pub(super) fn set_leaving(&self) {
        self.switch.lock().leaving = true;
    }

    /// True once the engine was told.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_switching.load(Ordering::Acquire) && self.switch.lock().leaving
    }

    /// Keeps what the engine had of the request.
    pub(super) fn keep_request(&self, request: SwitchedRequest) {
        self.switch.lock().request = Some(Box::new(request));
    }

    /// Keeps the client's stream.
    pub(super) fn keep_client(&self, client: Box<dyn Io>) {
        self.switch.lock().client = Some(client);
    }

    /// Everything that a switched connection goes on with, once the engine is done with it.
    pub(super) fn take_switched(&self) -> Option<Switched> {
        let Switch {
            exchange,
            request,
            client,
            ..
        } = std::mem::take(&mut *self.switch.lock());
        Some(Switched {
            client: client?,
            upstream: exchange?.take_upstream()?,
            request: request?,
        })
    }

    /// Ends the connection when cancelled.
    pub(crate) fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// What is going on.
    pub(crate) fn activity(&self) -> Activity {
        *self.activity.lock()
    }

    /// Counts a request until the value is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> ActiveRequest {
        let mut activity = self.activity.lock();
        activity.begun += 1;
        activity.requests += 1;
        drop(activity);
        ActiveRequest {
            connection: Arc::clone(self),
            uploads: false,
        }
    }

    /// From now on the connection ends with the route.
    pub(crate) fn live_under(&self, route: &Arc<Route>) {
        let mut watched = self.watched.lock();
        let known = watched
            .iter()
            .any(|watched| std::ptr::eq(watched.route.as_ptr(), Arc::as_ptr(route)));
        if known {
            return;
        }
        if watched.len() >= MAX_WATCHED {
            watched.remove(0);
        }
        let closed = route.closed.clone();
        let cut = self.cut.clone();
        let watch = tokio::spawn(async move {
            closed.cancelled().await;
            cut.cancel();
        });
        watched.push(Watched {
            route: Arc::downgrade(route),
            _watch: AbortOnDropHandle::new(watch),
        });
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct ActiveRequest {
    connection: Arc<EdgeConnection>,
    uploads: bool,
}

impl ActiveRequest {
    /// Its body begins to come.
    pub(crate) fn upload_begins(&mut self) {
        if !std::mem::replace(&mut self.uploads, true) {
            self.connection.activity.lock().uploads += 1;
        }
    }

    /// Its body has come, or will not be waited for.
    pub(crate) fn upload_ends(&mut self) {
        if std::mem::replace(&mut self.uploads, false) {
            self.connection.activity.lock().uploads -= 1;
        }
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.upload_ends();
        let mut activity = self.connection.activity.lock();
        activity.requests -= 1;
        activity.idle_since = Instant::now();
    }
}
