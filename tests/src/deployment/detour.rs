//! Other ways between the parts than the straight ones.

use std::net::SocketAddr;

/// How the parts reach each other; the default is without anything in between.
#[derive(Clone, Copy, Debug, Default)]
pub struct Detour {
    /// Stands before management for proxy and agent, in place of management's own address.
    pub control: Option<SocketAddr>,
    /// Stands before the signal and relay servers.
    pub relay: Option<SocketAddr>,
    /// How the agent's packets may go.
    pub paths: Paths,
}

/// How packets between proxy and agent may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Paths {
    /// Directly where possible.
    #[default]
    Direct,
    /// Through the relay alone.
    Relay,
}

impl Detour {
    /// URL that the parts take for management.
    pub(super) fn control(&self, management: SocketAddr) -> String {
        format!("http://{}", self.control.unwrap_or(management))
    }

    /// URL that management tells its peers for signal and relay.
    pub(super) fn exposed(&self, management: SocketAddr) -> String {
        format!("http://{}", self.relay.unwrap_or(management))
    }

    /// Further flags of the agent.
    pub(super) fn agent_flags(&self) -> &'static [&'static str] {
        match self.paths {
            Paths::Direct => &[],
            Paths::Relay => &["--force-relay"],
        }
    }
}
