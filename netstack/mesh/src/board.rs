//! Where the four connections write how they stand.

use std::error::Error;
use std::sync::Arc;

use tokio::sync::watch;

use crate::{Hop, LinkState, MeshStatus, PermanentFailure};

/// Shared writer of the client's status.
#[derive(Debug, Clone)]
pub(crate) struct Board {
    status: Arc<watch::Sender<MeshStatus>>,
}

impl Board {
    pub(crate) fn new() -> Self {
        Self {
            status: Arc::new(watch::Sender::new(MeshStatus::default())),
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<MeshStatus> {
        self.status.subscribe()
    }

    /// The connection is being made; its last error stays visible.
    pub(crate) fn connecting(&self, hop: Hop, target: &str) {
        self.status.send_if_modified(|status| {
            let link = status.link_mut(hop);
            let changed = link.state != LinkState::Connecting || link.target != target;
            link.state = LinkState::Connecting;
            target.clone_into(&mut link.target);
            changed
        });
    }

    /// The connection is made.
    pub(crate) fn up(&self, hop: Hop) {
        let target = self.status.borrow().link(hop).target.clone();
        tracing::info!(mesh.hop = %hop, mesh.target = %target, "Connected");
        self.status.send_modify(|status| {
            let link = status.link_mut(hop);
            link.state = LinkState::Up;
            link.last_error = None;
        });
    }

    /// The connection, or a try to make it, failed. Only the first failure of an outage is worth a warning.
    pub(crate) fn failed(&self, hop: Hop, error: &str) {
        let link = self.status.borrow().link(hop).clone();
        if link.last_error.is_none() {
            tracing::warn!(mesh.hop = %hop, mesh.target = %link.target, error, "Connection failed; trying again");
        } else {
            tracing::debug!(mesh.hop = %hop, mesh.target = %link.target, error, "Connection failed again");
        }
        self.status.send_modify(|status| {
            let link = status.link_mut(hop);
            link.state = LinkState::Connecting;
            link.last_error = Some(error.to_owned());
        });
    }

    /// The client has given up.
    pub(crate) fn give_up(&self, failure: PermanentFailure) {
        tracing::error!(error = %failure, "Left the mesh for good");
        self.status.send_modify(|status| {
            for hop in [Hop::Management, Hop::Sync, Hop::Signal, Hop::Relay] {
                status.link_mut(hop).state = LinkState::Idle;
            }
            status.permanent = Some(failure);
        });
    }

    /// Changes anything else.
    pub(crate) fn update(&self, change: impl FnOnce(&mut MeshStatus)) {
        self.status.send_modify(change);
    }
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
