//! REST: translation between HTTP and the use-cases.
//!
//! One file per resource, one map of errors (`error`), one envelope around all answers (`envelope`).
//! What no route knows – path or verb – is 404 in plain text, before anybody is asked who he is.

mod access_logs;
mod answer;
mod body;
mod caller;
mod clusters;
mod envelope;
mod error;
mod groups;
mod instance;
mod params;
mod peers;
mod proxy_tokens;
mod service_answer;
mod services;
mod setup_keys;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, delete, get};
use tokio_util::task::TaskTracker;

use crate::state::State;

/// The REST API; also answers what nobody else wanted.
pub fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/api/instance", open(get(instance::status)))
        .route("/api/instance/version", open(get(instance::version)))
        .route("/api/users/current", open(get(users::current)))
        .route(
            "/api/setup-keys",
            open(get(setup_keys::list).post(setup_keys::create)),
        )
        .route(
            "/api/setup-keys/{id}",
            open(
                get(setup_keys::get)
                    .put(setup_keys::update)
                    .delete(setup_keys::delete),
            ),
        )
        .route("/api/peers", open(get(peers::list)))
        .route("/api/peers/{id}", open(get(peers::get).delete(peers::delete)))
        .route("/api/groups", open(get(groups::list)))
        .route("/api/groups/{id}", open(get(groups::get)))
        .route(
            "/api/reverse-proxies/services",
            open(get(services::list).post(services::create)),
        )
        .route(
            "/api/reverse-proxies/services/{id}",
            open(get(services::get).put(services::update).delete(services::delete)),
        )
        .route(
            "/api/reverse-proxies/proxy-tokens",
            open(get(proxy_tokens::list).post(proxy_tokens::create)),
        )
        .route(
            "/api/reverse-proxies/proxy-tokens/{id}",
            open(delete(proxy_tokens::revoke)),
        )
        .route("/api/reverse-proxies/clusters", open(get(clusters::list)))
        .route("/api/events/proxy", open(get(access_logs::list)))
        .route_layer(from_fn_with_state(TaskTracker::new(), envelope::finish))
        .route_layer(from_fn(envelope::wrap))
        .route_layer(from_fn(envelope::preflight))
        .fallback(envelope::not_found)
        .method_not_allowed_fallback(envelope::not_found)
        .layer(from_fn(envelope::refuse_head))
        .with_state(state)
}

/// Lets questions about a route (OPTIONS) reach it.
fn open(methods: MethodRouter<Arc<State>>) -> MethodRouter<Arc<State>> {
    methods.options(envelope::options)
}

#[cfg(test)]
mod tests;
