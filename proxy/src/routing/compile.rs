//! From a mapping to a route. A mapping that cannot be served spoils only its own service.

use std::fmt;
use std::sync::Arc;

use meshgate_proto::{AccountId, DomainName, Mapping, ServiceId, ServiceMode};
use tokio_util::sync::CancellationToken;

use super::matcher::{InvalidPath, PathTable};
use super::snapshot::{Route, RouteState};
use crate::access::{AccessPolicy, InvalidPolicy};
use crate::upstream::{Dialer, InvalidTarget, Target, TargetOwner, TargetSpec};

/// Which network a target is reached through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// The tunnels of the service's account.
    Tunnel,
    /// The proxy's own network.
    Host,
}

/// Gives the dialer of an account.
pub(crate) trait DialerSource: Send + Sync + fmt::Debug {
    /// The dialer for targets of an account in a network.
    fn dialer(&self, account: &AccountId, network: Network) -> Arc<dyn Dialer>;
}

/// Why a mapping cannot be served; the text is for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unservable {
    /// A mode below HTTP.
    #[error("{} services are not supported yet", .0.as_str())]
    Mode(ServiceMode),
    /// Access rules that cannot be kept.
    #[error(transparent)]
    Policy(#[from] InvalidPolicy),
    /// A path that cannot be matched.
    #[error(transparent)]
    Path(#[from] InvalidPath),
    /// A target that cannot be reached.
    #[error("path {path:?}: {reason}")]
    Target {
        /// Path it stands under.
        path: String,
        /// What is wrong with it.
        reason: InvalidTarget,
    },
}

/// Makes the route of an HTTP service.
pub(crate) fn compile(
    mapping: &Mapping,
    revision: u64,
    dialers: &dyn DialerSource,
) -> Result<Route, Unservable> {
    match mapping.mode {
        ServiceMode::Http => {}
        mode @ (ServiceMode::Tcp | ServiceMode::Udp | ServiceMode::Tls) => {
            return Err(Unservable::Mode(mode));
        }
    }
    let policy = AccessPolicy::new(mapping)?;
    let mut paths = PathTable::default();
    for path in &mapping.paths {
        let owner = TargetOwner {
            account: mapping.account_id.clone(),
            service: mapping.id.clone(),
            revision,
        };
        let spec = TargetSpec::parse(owner, path).map_err(|reason| Unservable::Target {
            path: path.path.clone(),
            reason,
        })?;
        let network = if path.options.direct_upstream {
            Network::Host
        } else {
            Network::Tunnel
        };
        let dialer = dialers.dialer(&mapping.account_id, network);
        paths.insert(&path.path, Target::new(spec, dialer))?;
    }
    Ok(Route {
        service_id: mapping.id.clone(),
        account_id: mapping.account_id.clone(),
        domain: mapping.domain.clone(),
        policy,
        pass_host_header: mapping.pass_host_header,
        rewrite_redirects: mapping.rewrite_redirects,
        state: RouteState::Ready,
        paths,
        closed: CancellationToken::new(),
    })
}

/// A route that only says that its service cannot be served.
pub(crate) fn unavailable(
    service_id: ServiceId,
    account_id: AccountId,
    domain: DomainName,
    reason: String,
) -> Route {
    Route {
        policy: AccessPolicy::closed(service_id.clone()),
        service_id,
        account_id,
        domain,
        pass_host_header: false,
        rewrite_redirects: false,
        state: RouteState::Unavailable(reason),
        paths: PathTable::default(),
        closed: CancellationToken::new(),
    }
}
