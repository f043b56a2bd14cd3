//! Why a client is not ready yet, in words for people.

use std::time::Duration;

use crate::{Hop, LinkState, MeshStatus, PermanentFailure};

/// Why a mesh client is not ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// It never will be.
    #[error(transparent)]
    Permanent(#[from] PermanentFailure),
    /// A connection keeps failing.
    #[error("{hop} is not connected: tried {target}, got: {error}")]
    Failing {
        /// The connection.
        hop: Hop,
        /// Where it goes.
        target: String,
        /// Why it failed last.
        error: String,
    },
    /// Nothing failed, but an answer is missing.
    #[error("no answer from {hop} {target} within {} s", waited.as_secs_f32())]
    Waiting {
        /// The connection.
        hop: Hop,
        /// Where it goes; empty before that is known.
        target: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The client was stopped.
    #[error("the mesh client was stopped")]
    Stopped,
}

impl NotReady {
    /// Names the first connection in the order of the start that is not up.
    pub(crate) fn explain(status: &MeshStatus, waited: Duration) -> Self {
        if let Some(permanent) = &status.permanent {
            return Self::Permanent(permanent.clone());
        }
        let order = [Hop::Management, Hop::Signal, Hop::Relay, Hop::Sync];
        let missing = order
            .into_iter()
            .find(|hop| status.link(*hop).state != LinkState::Up)
            .unwrap_or(Hop::Sync);
        let link = status.link(missing);
        match &link.last_error {
            Some(error) => Self::Failing {
                hop: missing,
                target: link.target.clone(),
                error: error.clone(),
            },
            None => Self::Waiting {
                hop: missing,
                target: link.target.clone(),
                waited,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_first_hop_that_fails_and_what_it_answered() {
        let mut status = MeshStatus::default();
        status.management.state = LinkState::Up;
        status.signal = crate::LinkStatus {
            state: LinkState::Connecting,
            target: "http://127.0.0.1:9".to_owned(),
            last_error: Some("connection refused".to_owned()),
        };

        let text = NotReady::explain(&status, Duration::from_secs(1)).to_string();

        assert_eq!(
            text,
            "signal is not connected: tried http://127.0.0.1:9, got: connection refused"
        );
    }

    #[test]
    fn a_permanent_refusal_comes_first() {
        let status = MeshStatus {
            permanent: Some(PermanentFailure::SetupKeyRefused {
                management: "http://x:80".to_owned(),
                reason: "setup key is invalid".to_owned(),
            }),
            ..MeshStatus::default()
        };

        assert_eq!(
            NotReady::explain(&status, Duration::ZERO).to_string(),
            "management http://x:80 refused the setup key: setup key is invalid"
        );
    }
}
