//! One target of one service in one configuration, with the streams to it that wait for their next request.

use std::sync::{Arc, Weak};
use std::time::Duration;

use http::HeaderValue;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::dial::Dialer;
use super::h2::SharedConnection;
use super::pool::{IdlePool, UpstreamIo};
use super::spec::TargetSpec;
use super::tls::TlsClient;

/// How often idle streams are looked through.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// A target that requests can be sent to.
///
/// It owns its idle streams, so no other account, peer or revision can be given one of them; dropping
/// it closes them.
#[derive(Debug)]
pub(crate) struct Target {
    spec: TargetSpec,
    authority: HeaderValue,
    dialer: Arc<dyn Dialer>,
    idle: IdlePool,
    sweeper: Mutex<Option<AbortOnDropHandle<()>>>,
    http2: tokio::sync::Mutex<Option<SharedConnection>>,
    tls: TlsClient,
}

impl Target {
    /// Makes a target without any stream.
    pub(crate) fn new(spec: TargetSpec, dialer: Arc<dyn Dialer>) -> Arc<Self> {
        let tls = TlsClient::new(spec.options.skip_tls_verify);
        let authority = HeaderValue::from_str(&spec.authority()).expect("the host of a URL is visible ASCII");
        Arc::new(Self {
            spec,
            authority,
            dialer,
            idle: IdlePool::default(),
            sweeper: Mutex::new(None),
            http2: tokio::sync::Mutex::new(None),
            tls,
        })
    }

    /// What is configured.
    pub(crate) fn spec(&self) -> &TargetSpec {
        &self.spec
    }

    /// The `Host` header that it expects.
    pub(crate) fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// Who opens streams to it.
    pub(crate) fn dialer(&self) -> &dyn Dialer {
        &*self.dialer
    }

    /// How TLS is spoken to it.
    pub(crate) fn tls(&self) -> &TlsClient {
        &self.tls
    }

    /// The HTTP/2 connection to it, if there is one; the lock lets one request at a time connect.
    pub(crate) fn http2(&self) -> &tokio::sync::Mutex<Option<SharedConnection>> {
        &self.http2
    }

    /// Takes an idle stream that still lives.
    pub(crate) fn take_idle(&self) -> Option<UpstreamIo> {
        self.idle.take(Instant::now())
    }

    /// Keeps a stream whose last exchange is complete. Must be called within the runtime.
    pub(crate) fn put_idle(self: &Arc<Self>, io: UpstreamIo) {
        self.idle.put(io, Instant::now());
        let mut sweeper = self.sweeper.lock();
        if sweeper.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
            *sweeper = Some(AbortOnDropHandle::new(sweep(Arc::downgrade(self))));
        }
    }
}

/// Looks through the idle streams until none is left or the target is gone.
fn sweep(target: Weak<Target>) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            let Some(target) = target.upgrade() else {
                return;
            };
            if target.idle.sweep(Instant::now()) == 0 {
                return;
            }
        }
    })
}
