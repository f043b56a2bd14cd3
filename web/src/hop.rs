//! The way of a request as the error page draws it: You → Proxy → Peer → Service.

/// A station on the way of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hop {
    /// The browser or program that asked.
    You,
    /// The edge that answers.
    Proxy,
    /// The machine at the other end of the tunnel.
    Peer,
    /// The program that was asked for.
    Service,
}

impl Hop {
    /// Name under the icon.
    pub fn label(self) -> &'static str {
        match self {
            Self::You => "You",
            Self::Proxy => "Proxy",
            Self::Peer => "Peer",
            Self::Service => "Service",
        }
    }

    /// Stable name in JSON and in class attributes.
    pub fn code(self) -> &'static str {
        match self {
            Self::You => "you",
            Self::Proxy => "proxy",
            Self::Peer => "peer",
            Self::Service => "service",
        }
    }
}

/// Whether the target of a service lies behind a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// Through the tunnel to a peer; also the choice where no target is known.
    Peer,
    /// Straight from the proxy.
    Direct,
}

impl Via {
    /// The stations in order.
    pub fn hops(self) -> &'static [Hop] {
        match self {
            Self::Peer => &[Hop::You, Hop::Proxy, Hop::Peer, Hop::Service],
            Self::Direct => &[Hop::You, Hop::Proxy, Hop::Service],
        }
    }
}

/// How far a request came at one station.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HopState {
    /// The station did its part.
    Passed,
    /// The request ended here.
    Failed,
    /// The request never came here.
    Unreached,
}

impl HopState {
    /// Word for people.
    pub fn label(self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Failed => "failed here",
            Self::Unreached => "not reached",
        }
    }

    /// Class attribute.
    pub fn code(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Unreached => "unreached",
        }
    }
}

/// One station with its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The station.
    pub hop: Hop,
    /// How far the request came.
    pub state: HopState,
}

/// The whole way with the failing station marked.
pub(crate) fn steps(via: Via, failed: Hop) -> Vec<Step> {
    let mut seen = false;
    via.hops()
        .iter()
        .map(|&hop| {
            let state = match (hop == failed, seen) {
                (true, _) => HopState::Failed,
                (false, false) => HopState::Passed,
                (false, true) => HopState::Unreached,
            };
            seen |= hop == failed;
            Step { hop, state }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_what_lies_before_and_behind_the_failing_hop() {
        let states: Vec<_> = steps(Via::Peer, Hop::Peer)
            .into_iter()
            .map(|step| step.state)
            .collect();

        assert_eq!(
            states,
            [
                HopState::Passed,
                HopState::Passed,
                HopState::Failed,
                HopState::Unreached
            ]
        );
    }

    #[test]
    fn direct_targets_have_no_peer() {
        assert!(
            steps(Via::Direct, Hop::Service)
                .iter()
                .all(|step| step.hop != Hop::Peer)
        );
    }
}
