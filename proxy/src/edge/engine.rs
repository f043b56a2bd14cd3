//! The HTTP engine as a value of ours: no server, runtime, listener or signal handler of its own.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::apps::HttpServerOptions;
use pingora_core::protocols::http::v2::server::default_h2_options;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, ProxyServiceBuilder};

use super::http::HttpEdge;
use crate::upstream::TargetConnector;

/// Tries per request: the first, and one more after an idle stream turned out to be dead.
const MAX_TRIES: usize = 2;

/// Longest time that an HTTP/2 connection may live without a stream.
const HTTP2_IDLE: Duration = Duration::from_secs(75);

/// Most requests at a time on one HTTP/2 connection.
const HTTP2_STREAMS: u32 = 64;

/// The engine around our hooks and our connector.
pub(crate) type Engine = HttpProxy<HttpEdge, TargetConnector>;

/// Builds the engine.
pub(crate) fn build(edge: HttpEdge) -> Arc<Engine> {
    let conf = ServerConf {
        max_retries: MAX_TRIES,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        ..ServerConf::default()
    };
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(HTTP2_IDLE);

    let service = ProxyServiceBuilder::new(&Arc::new(conf), edge)
        .custom(
            TargetConnector,
            Arc::new(|_proxy, _stream, _shutdown| Box::pin(async { None })),
        )
        .server_options(options)
        .build();
    let mut engine = unwrap_service(service);
    let mut http2 = default_h2_options();
    http2.max_concurrent_streams(HTTP2_STREAMS);
    engine.h2_options = Some(http2);
    Arc::new(engine)
}

/// Takes the engine out of the service that it is built into.
///
/// A custom connector can be given to the builder only, and what the builder makes gives its inside away
/// by reference only, while running connections needs it by value.
#[expect(
    unsafe_code,
    reason = "the engine has no safe way out of the service that its builder makes"
)]
fn unwrap_service(service: pingora_core::services::listening::Service<Engine>) -> Engine {
    let service = ManuallyDrop::new(service);
    let engine: *const Engine = service.app_logic().expect("a service is built with its engine");
    // SAFETY: the pointer comes from a live reference, so it is valid and aligned. The service is never
    // dropped nor used again, so this copy is the only owner; its other fields leak once per start.
    unsafe { std::ptr::read(engine) }
}
