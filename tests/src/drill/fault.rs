//! The faults, and what must hold while each lasts and after it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::deployment::Paths;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Management is killed, stays away and is started again.
    ManagementKill,
    /// Management is asked to stop, stays away and is started again.
    ManagementStop,
    /// The proxy is killed and started again.
    ProxyKill,
    /// The proxy is asked to stop and started again.
    ProxyStop,
    /// The agent is killed, stays away and is started again.
    AgentKill,
    /// The agent is asked to stop, stays away and is started again.
    AgentStop,
    /// The agent stands still and goes on.
    AgentFreeze,
    /// Connections to management break and no new ones come through.
    ControlCut,
    /// Nothing moves on the connections to management.
    ControlStall,
    /// Connections to signal and relay break and no new ones come through.
    RelayCut,
    /// Nothing moves on the connections to signal and relay.
    RelayStall,
    /// Clients ask for much and read nothing, or stop in the middle of asking.
    ClientStall,
    /// The disk of management's data is full.
    DiskFull,
    /// Idle clients use up the descriptors of the proxy.
    Descriptors,
}

/// What must hold for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Whether anything may be lost.
    pub(super) losses: Losses,
    /// From the end of the fault until every kind of load succeeds again.
    pub(super) service: Duration,
    /// Longest wait for the answer to a request that fails.
    pub(super) told: Duration,
}

/// Whether a fault may cost requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Losses {
    /// None at all.
    Forbidden,
    /// While it lasts, and until service is back.
    WhileDown,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::ManagementKill,
        Self::ManagementStop,
        Self::ProxyKill,
        Self::ProxyStop,
        Self::AgentKill,
        Self::AgentStop,
        Self::AgentFreeze,
        Self::ControlCut,
        Self::ControlStall,
        Self::RelayCut,
        Self::RelayStall,
        Self::ClientStall,
        Self::DiskFull,
        Self::Descriptors,
    ];

    /// Short name, as on the command line.
    pub fn name(self) -> &'static str {
        self.words().0
    }

    /// One line about it.
    pub fn about(self) -> &'static str {
        self.words().1
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::ManagementKill => (
                "management-kill",
                "SIGKILL, away for a while, started again; the relay goes with it",
            ),
            Self::ManagementStop => (
                "management-stop",
                "SIGTERM, away for a while, started again; the relay goes with it",
            ),
            Self::ProxyKill => ("proxy-kill", "SIGKILL, started again"),
            Self::ProxyStop => ("proxy-stop", "SIGTERM, started again when it has ended"),
            Self::AgentKill => ("agent-kill", "SIGKILL, away for a while, started again"),
            Self::AgentStop => ("agent-stop", "SIGTERM, away for a while, started again"),
            Self::AgentFreeze => ("agent-freeze", "SIGSTOP, later SIGCONT"),
            Self::ControlCut => (
                "control-cut",
                "connections of proxy and agent to management break; none come through for a while",
            ),
            Self::ControlStall => (
                "control-stall",
                "nothing is read from the connections of proxy and agent to management for a while",
            ),
            Self::RelayCut => (
                "relay-cut",
                "connections to signal and relay break; none come through for a while",
            ),
            Self::RelayStall => (
                "relay-stall",
                "nothing is read from the connections to signal and relay for a while",
            ),
            Self::ClientStall => (
                "client-stall",
                "clients ask for 64 MiB each and read nothing, others stop within the head of a request",
            ),
            Self::DiskFull => (
                "disk-full",
                "the file system of management's data is full (needs root)",
            ),
            Self::Descriptors => (
                "descriptors",
                "idle clients use up the descriptors of the proxy, then leave",
            ),
        }
    }

    /// Whether only root can bring it about.
    pub fn needs_root(self) -> bool {
        self == Self::DiskFull
    }

    /// Shortest and longest time that it lasts.
    pub(super) fn lasts(self) -> (Duration, Duration) {
        let seconds = |shortest: f32, longest: f32| {
            (
                Duration::from_secs_f32(shortest),
                Duration::from_secs_f32(longest),
            )
        };
        match self {
            Self::ProxyKill | Self::ProxyStop => seconds(0.0, 1.0),
            Self::ManagementKill
            | Self::ManagementStop
            | Self::AgentKill
            | Self::AgentStop
            | Self::AgentFreeze => seconds(0.5, 8.0),
            Self::ControlCut | Self::ControlStall | Self::RelayCut | Self::RelayStall => seconds(0.5, 6.0),
            Self::ClientStall | Self::DiskFull | Self::Descriptors => seconds(2.0, 4.0),
        }
    }

    /// What must hold when packets go this way.
    pub(super) fn bounds(self, paths: Paths) -> Bounds {
        let relayed = paths == Paths::Relay;
        let losses = match self {
            Self::ProxyKill | Self::ProxyStop | Self::AgentKill | Self::AgentStop | Self::AgentFreeze => {
                Losses::WhileDown
            }
            Self::ManagementKill | Self::ManagementStop | Self::RelayCut | Self::RelayStall if relayed => {
                Losses::WhileDown
            }
            Self::ManagementKill
            | Self::ManagementStop
            | Self::RelayCut
            | Self::RelayStall
            | Self::ControlCut
            | Self::ControlStall
            | Self::ClientStall
            | Self::DiskFull
            | Self::Descriptors => Losses::Forbidden,
        };
        Bounds {
            losses,
            service: Duration::from_secs(6),
            told: Duration::from_millis(6500),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No fault has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFault(String);

impl fmt::Display for UnknownFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no fault is called {:?}; --list shows them", self.0)
    }
}

impl std::error::Error for UnknownFault {}

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(name: &str) -> Result<Self, UnknownFault> {
        let found = Self::ALL.into_iter().find(|fault| fault.name() == name);
        found.ok_or_else(|| UnknownFault(name.to_owned()))
    }
}
