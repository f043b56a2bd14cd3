//! The health address: `/healthz…` and `/metrics`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Health;
use super::shape::Answer;
use crate::edge::Edge;
use crate::metrics::{Metrics, Scrape};
use crate::tunnels::Tunnels;

/// What the answers are made of.
#[derive(Clone, Debug)]
pub(crate) struct HealthParts {
    /// The control stream and the drain.
    pub(crate) health: Arc<Health>,
    /// The tunnels.
    pub(crate) tunnels: Tunnels,
    /// The public side.
    pub(crate) edge: Arc<Edge>,
    /// The counters.
    pub(crate) metrics: Arc<Metrics>,
}

/// Answers until `stop`.
pub(crate) async fn serve(listener: TcpListener, parts: HealthParts, stop: CancellationToken) {
    let router = Router::new()
        .route("/healthz", get(all))
        .route("/healthz/live", get(live))
        .route("/healthz/ready", get(ready))
        .route("/healthz/startup", get(startup))
        .route("/metrics", get(metrics))
        .with_state(parts);
    let server = axum::serve(listener, router).into_future();
    tokio::select! {
        () = stop.cancelled() => {}
        ended = server => {
            if let Err(error) = ended {
                tracing::error!(error = %error, "Health server ended");
            }
        }
    }
}

async fn live() -> Response {
    respond(Answer::live())
}

async fn ready(State(parts): State<HealthParts>) -> Response {
    respond(Answer::ready(&parts.health))
}

async fn startup(State(parts): State<HealthParts>) -> Response {
    respond(Answer::startup(&parts.health, &parts.tunnels.summaries()))
}

async fn all(State(parts): State<HealthParts>) -> Response {
    respond(Answer::all(&parts.health, &parts.tunnels.summaries()))
}

async fn metrics(State(parts): State<HealthParts>) -> Response {
    let tunnels = parts.tunnels.summaries();
    let text = parts.metrics.render(&Scrape {
        connected: parts.health.is_connected(),
        connections: parts.edge.open_connections(),
        tunnels: &tunnels,
    });
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

fn respond(answer: Answer) -> Response {
    let status = if answer.is_ok() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(answer)).into_response()
}
