//! Who may pass: a pure decision from a policy and the facts of one request.
//!
//! [`Permitted`] is the only way to an upstream and [`decide`] the only way to a [`Permitted`]. Whatever is
//! missing, unknown or not understood denies. Verifying sessions is the login's work; this module only
//! checks that a verified session belongs to the service at hand and has not ended.

mod policy;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use meshgate_proto::{CrowdsecMode, Restrictions, ServiceId, UnixTime, UserId};
use meshgate_web::LoginMethod;

pub(crate) use policy::{AccessPolicy, InvalidPolicy};

/// What is known of one request.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The present moment.
    pub(crate) now: UnixTime,
    /// The client, as the edge believes it.
    pub(crate) client_ip: IpAddr,
    /// A session whose token was verified against the key of some service.
    pub(crate) session: Option<AuthSession>,
    /// Where the request came in.
    pub(crate) arrival: Arrival,
}

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The listener that the whole network reaches.
    Public,
}

/// A login that a verified token proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuthSession {
    /// The service whose key signed it.
    pub(crate) service_id: ServiceId,
    /// From when it counts.
    pub(crate) not_before: UnixTime,
    /// When it ends.
    pub(crate) expires_at: UnixTime,
    /// Who logged in.
    pub(crate) user: User,
}

/// Who logged in, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// A user, a peer, or the name of a shared secret such as `pin-user`.
    pub(crate) id: UserId,
    /// The scheme: password, pin, oidc, header.
    pub(crate) method: String,
    /// E-mail address or peer name, where known.
    pub(crate) email: Option<String>,
    /// Names of groups; ids stand in where names are missing.
    pub(crate) groups: Vec<String>,
}

/// Who passed the edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The service asks nobody.
    Anyone,
    /// A login.
    User(User),
}

/// Leave to use one service, once. Only [`decide`] makes it.
#[derive(Clone, Debug)]
pub(crate) struct Permitted {
    service_id: ServiceId,
    identity: Identity,
}

impl Permitted {
    /// The service it is for.
    pub(crate) fn service_id(&self) -> &ServiceId {
        &self.service_id
    }

    /// Who passed.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What the access log calls the way in; empty when nobody was asked.
    pub(crate) fn mechanism(&self) -> &str {
        match &self.identity {
            Identity::Anyone => "",
            Identity::User(user) => &user.method,
        }
    }

    /// The user for the access log; empty when nobody was asked.
    pub(crate) fn user_id(&self) -> UserId {
        match &self.identity {
            Identity::Anyone => UserId::new(""),
            Identity::User(user) => user.id.clone(),
        }
    }
}

/// The client must log in first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// Forms that can be shown; empty when the service only has schemes without a form.
    pub(crate) forms: Vec<LoginMethod>,
    /// A header secret opens, too.
    pub(crate) headers: bool,
    /// A session was shown and has ended.
    pub(crate) expired: bool,
}

/// Why a client may not pass at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Denial {
    /// The address is not allowed, or blocked.
    Address,
    /// A country rule is set and countries cannot be told.
    CountryUnknown,
    /// A reputation rule is set and nobody can be asked.
    ReputationUnknown,
    /// Only peers of the mesh may pass.
    Private,
}

impl Denial {
    /// The word for it in the access log.
    pub(crate) const fn mechanism(self) -> &'static str {
        match self {
            Self::Address => "ip_restricted",
            Self::CountryUnknown => "geo_unavailable",
            Self::ReputationUnknown => "crowdsec_unavailable",
            Self::Private => "private",
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(crate) enum Decision {
    /// It may go on.
    Permit(Permitted),
    /// It may come again after a login.
    Challenge(Challenge),
    /// It may not go on.
    Deny(Denial),
}

/// Decides on one request.
///
/// Restrictions come first, then privacy, then schemes. A service without schemes asks nobody; one with
/// schemes permits only a session of its own that lasts and began by a scheme that is still on.
pub(crate) fn decide(policy: &AccessPolicy, facts: &Facts) -> Decision {
    if let Some(denial) = restricted(policy.restrictions(), facts.client_ip) {
        return Decision::Deny(denial);
    }
    if policy.is_private() {
        match facts.arrival {
            Arrival::Public => return Decision::Deny(Denial::Private),
        }
    }
    if !policy.schemes().any() {
        return Decision::Permit(Permitted {
            service_id: policy.service_id().clone(),
            identity: Identity::Anyone,
        });
    }
    match &facts.session {
        Some(session)
            if session.is_valid_for(policy.service_id(), facts.now)
                && policy.schemes().accept(&session.user.method) =>
        {
            Decision::Permit(Permitted {
                service_id: policy.service_id().clone(),
                identity: Identity::User(session.user.clone()),
            })
        }
        Some(_) | None => Decision::Challenge(Challenge {
            forms: policy.schemes().forms(),
            headers: !policy.schemes().headers.is_empty(),
            expired: facts.session.is_some(),
        }),
    }
}

impl AuthSession {
    fn is_valid_for(&self, service: &ServiceId, now: UnixTime) -> bool {
        self.service_id == *service && self.not_before <= now && now < self.expires_at
    }
}

fn restricted(rules: &Restrictions, client: IpAddr) -> Option<Denial> {
    let client = client.to_canonical();
    let allowed =
        rules.allowed_cidrs.is_empty() || rules.allowed_cidrs.iter().any(|range| range.contains(client));
    if !allowed || rules.blocked_cidrs.iter().any(|range| range.contains(client)) {
        return Some(Denial::Address);
    }
    if !rules.allowed_countries.is_empty() || !rules.blocked_countries.is_empty() {
        return Some(Denial::CountryUnknown);
    }
    match rules.crowdsec {
        CrowdsecMode::Enforce => Some(Denial::ReputationUnknown),
        CrowdsecMode::Unset | CrowdsecMode::Off | CrowdsecMode::Observe => None,
    }
}
