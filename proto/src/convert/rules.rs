//! Firewall rules between peers and across routing peers.

use super::InvalidMessage;
use super::peer::{pack_cidr, packed_cidr, text};
use crate::network_map::{
    FirewallRule, RouteFirewallRule, RuleAction, RuleDirection, RulePorts, RuleProtocol,
};
use crate::pb::management as pb;
use crate::pb::management::port_info::{PortSelection, Range};

/// What became of one rule on the way in.
pub(super) enum Parsed<T> {
    Rule(T),
    /// A permitting rule that is not understood: leaving it out only closes.
    Skipped(InvalidMessage),
}

impl TryFrom<pb::FirewallRule> for Parsed<FirewallRule> {
    type Error = InvalidMessage;

    /// # Errors
    /// A dropping rule that is not understood: leaving it out would open something.
    fn try_from(rule: pb::FirewallRule) -> Result<Self, InvalidMessage> {
        let drops = rule.action != i32::from(pb::RuleAction::Accept);
        match firewall_rule(rule) {
            Ok(rule) => Ok(Self::Rule(rule)),
            Err(error) if drops => Err(error),
            Err(error) => Ok(Self::Skipped(error)),
        }
    }
}

impl From<FirewallRule> for pb::FirewallRule {
    fn from(rule: FirewallRule) -> Self {
        let direction = match rule.direction {
            RuleDirection::In => pb::RuleDirection::In,
            RuleDirection::Out => pb::RuleDirection::Out,
        };
        let (port, port_info) = match rule.ports {
            RulePorts::Single(port) => (port.to_string(), None),
            other => (String::new(), pb_ports(other)),
        };
        Self {
            peer_ip: rule.peer.to_string(),
            direction: direction.into(),
            action: pb_action(rule.action),
            protocol: pb_protocol(rule.protocol),
            port,
            port_info,
            policy_id: rule.policy_id.into_bytes(),
            source_prefixes: rule.source.iter().map(pack_cidr).collect(),
            ..Self::default()
        }
    }
}

impl TryFrom<pb::RouteFirewallRule> for RouteFirewallRule {
    type Error = InvalidMessage;

    fn try_from(rule: pb::RouteFirewallRule) -> Result<Self, InvalidMessage> {
        Ok(Self {
            source_ranges: rule.source_ranges,
            action: action("routesFirewallRules.action", rule.action)?,
            destination: rule.destination,
            protocol: protocol("routesFirewallRules.protocol", rule.protocol)?,
            ports: rule
                .port_info
                .map(|info| ports("routesFirewallRules.portInfo", info))
                .transpose()?,
            is_dynamic: rule.is_dynamic,
            domains: rule.domains,
            policy_id: text("routesFirewallRules.PolicyID", rule.policy_id)?,
            route_id: rule.route_id,
        })
    }
}

impl From<RouteFirewallRule> for pb::RouteFirewallRule {
    fn from(rule: RouteFirewallRule) -> Self {
        Self {
            source_ranges: rule.source_ranges,
            action: pb_action(rule.action),
            destination: rule.destination,
            protocol: pb_protocol(rule.protocol),
            port_info: rule.ports.and_then(pb_ports),
            is_dynamic: rule.is_dynamic,
            domains: rule.domains,
            policy_id: rule.policy_id.into_bytes(),
            route_id: rule.route_id,
            ..Self::default()
        }
    }
}

fn firewall_rule(rule: pb::FirewallRule) -> Result<FirewallRule, InvalidMessage> {
    let direction = match pb::RuleDirection::try_from(rule.direction) {
        Ok(pb::RuleDirection::In) => RuleDirection::In,
        Ok(pb::RuleDirection::Out) => RuleDirection::Out,
        Err(_) => return Err(InvalidMessage::new("FirewallRules.Direction", "is unknown")),
    };
    let source = rule.source_prefixes.first();
    let source = source
        .map(|bytes| packed_cidr("FirewallRules.sourcePrefixes", bytes))
        .transpose()?;
    let peer = match (rule.peer_ip.as_str(), source) {
        ("", Some(source)) => source.address(),
        (text, _) => text
            .parse()
            .map_err(|e| InvalidMessage::because("FirewallRules.PeerIP", e))?,
    };
    let ports = match (rule.port.as_str(), rule.port_info) {
        ("", None) => RulePorts::Any,
        ("", Some(info)) => ports("FirewallRules.PortInfo", info)?,
        (port, _) => {
            let port = port.parse().ok().filter(|port| *port != 0);
            let wrong = || InvalidMessage::new("FirewallRules.Port", "is not a port");
            RulePorts::Single(port.ok_or_else(wrong)?)
        }
    };
    Ok(FirewallRule {
        peer,
        source,
        direction,
        action: action("FirewallRules.Action", rule.action)?,
        protocol: protocol("FirewallRules.Protocol", rule.protocol)?,
        ports,
        policy_id: text("FirewallRules.PolicyID", rule.policy_id)?,
    })
}

fn ports(field: &'static str, info: pb::PortInfo) -> Result<RulePorts, InvalidMessage> {
    let port = |number: u32| u16::try_from(number).map_err(|_| InvalidMessage::new(field, "is not a port"));
    Ok(match info.port_selection {
        None => RulePorts::Empty,
        Some(PortSelection::Port(single)) => RulePorts::Single(port(single)?),
        Some(PortSelection::Range(Range { start, end })) => RulePorts::Range(port(start)?, port(end)?),
    })
}

fn pb_ports(ports: RulePorts) -> Option<pb::PortInfo> {
    let range = |start: u16, end: u16| {
        PortSelection::Range(Range {
            start: u32::from(start),
            end: u32::from(end),
        })
    };
    match ports {
        RulePorts::Any => None,
        RulePorts::Empty => Some(pb::PortInfo { port_selection: None }),
        RulePorts::Single(port) => Some(pb::PortInfo {
            port_selection: Some(PortSelection::Port(u32::from(port))),
        }),
        RulePorts::Range(start, end) => Some(pb::PortInfo {
            port_selection: Some(range(start, end)),
        }),
    }
}

fn action(field: &'static str, number: i32) -> Result<RuleAction, InvalidMessage> {
    match pb::RuleAction::try_from(number) {
        Ok(pb::RuleAction::Accept) => Ok(RuleAction::Accept),
        Ok(pb::RuleAction::Drop) => Ok(RuleAction::Drop),
        Err(_) => Err(InvalidMessage::new(field, "is unknown")),
    }
}

fn pb_action(action: RuleAction) -> i32 {
    match action {
        RuleAction::Accept => pb::RuleAction::Accept.into(),
        RuleAction::Drop => pb::RuleAction::Drop.into(),
    }
}

fn protocol(field: &'static str, number: i32) -> Result<RuleProtocol, InvalidMessage> {
    match pb::RuleProtocol::try_from(number) {
        Ok(pb::RuleProtocol::All) => Ok(RuleProtocol::All),
        Ok(pb::RuleProtocol::Tcp) => Ok(RuleProtocol::Tcp),
        Ok(pb::RuleProtocol::Udp) => Ok(RuleProtocol::Udp),
        Ok(pb::RuleProtocol::Icmp) => Ok(RuleProtocol::Icmp),
        Ok(pb::RuleProtocol::Unknown | pb::RuleProtocol::Custom | pb::RuleProtocol::NetbirdSsh) | Err(_) => {
            Err(InvalidMessage::new(
                field,
                format!("protocol {number} is not supported"),
            ))
        }
    }
}

fn pb_protocol(protocol: RuleProtocol) -> i32 {
    match protocol {
        RuleProtocol::All => pb::RuleProtocol::All.into(),
        RuleProtocol::Tcp => pb::RuleProtocol::Tcp.into(),
        RuleProtocol::Udp => pb::RuleProtocol::Udp.into(),
        RuleProtocol::Icmp => pb::RuleProtocol::Icmp.into(),
    }
}
