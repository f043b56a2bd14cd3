//! Inbound rules: which new flows a peer may open towards us.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::Cidr;

/// Decides about flows that somebody else starts.
///
/// Everything is denied until a rule accepts it, and one matching drop rule wins over any number of accepting
/// ones, so the order of the list has no meaning. Replies to our own connections never reach this table.
#[derive(Debug, Clone, Default)]
pub struct Firewall {
    rules: Vec<FirewallRule>,
}

impl Firewall {
    /// Builds the table; an empty list denies everything.
    pub fn new(rules: Vec<FirewallRule>) -> Self {
        Self { rules }
    }

    /// Judges one flow.
    pub fn judge(&self, flow: Flow) -> Verdict {
        let mut verdict = Verdict::Drop;
        for rule in self.rules.iter().filter(|rule| rule.matches(flow)) {
            match rule.verdict {
                Verdict::Drop => return Verdict::Drop,
                Verdict::Accept => verdict = Verdict::Accept,
            }
        }
        verdict
    }
}

/// One inbound rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallRule {
    /// Who may (or may not) come in.
    pub source: Cidr,
    /// Which protocol the rule speaks about.
    pub protocol: Protocol,
    /// Which of our ports it covers; ignored for ICMP.
    pub ports: Ports,
    /// What happens to a matching flow.
    pub verdict: Verdict,
}

impl FirewallRule {
    fn matches(&self, flow: Flow) -> bool {
        let protocol = self.protocol == Protocol::All || self.protocol == flow.protocol;
        protocol
            && self.source.contains(flow.source)
            && (flow.protocol == Protocol::Icmp || self.ports.contains(flow.port))
    }
}

/// The first packet of a flow as the rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    /// Inner source address.
    pub source: IpAddr,
    /// Protocol; `All` matches only rules for all protocols.
    pub protocol: Protocol,
    /// Our port; 0 for ICMP.
    pub port: u16,
}

/// Protocol of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Any protocol.
    All,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP of either family.
    Icmp,
}

/// Ports of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ports {
    /// Every port.
    All,
    /// An inclusive range.
    Range(RangeInclusive<u16>),
}

impl Ports {
    /// The range that holds one port.
    pub fn single(port: u16) -> Self {
        Self::Range(port..=port)
    }

    fn contains(&self, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Range(range) => range.contains(&port),
        }
    }
}

/// What happens to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may start.
    Accept,
    /// It is dropped without an answer.
    Drop,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denies_by_default() {
        assert_eq!(Firewall::default().judge(tcp("10.0.0.1", 80)), Verdict::Drop);
    }

    #[test]
    fn judges_by_source_protocol_and_port() {
        let firewall = Firewall::new(vec![
            rule(
                "10.0.0.0/24",
                Protocol::Tcp,
                Ports::Range(80..=90),
                Verdict::Accept,
            ),
            rule("10.0.1.1/32", Protocol::All, Ports::All, Verdict::Accept),
            rule("fd00::/64", Protocol::Udp, Ports::single(53), Verdict::Accept),
        ]);
        let icmp = Flow {
            source: "10.0.1.1".parse().unwrap(),
            protocol: Protocol::Icmp,
            port: 0,
        };
        let table = [
            (tcp("10.0.0.7", 80), Verdict::Accept),
            (tcp("10.0.0.7", 90), Verdict::Accept),
            (tcp("10.0.0.7", 91), Verdict::Drop),
            (tcp("10.0.1.7", 80), Verdict::Drop),
            (tcp("10.0.1.1", 1), Verdict::Accept),
            (icmp, Verdict::Accept),
            (
                Flow {
                    source: "10.0.0.7".parse().unwrap(),
                    ..icmp
                },
                Verdict::Drop,
            ),
            (
                Flow {
                    protocol: Protocol::Udp,
                    ..tcp("fd00::9", 53)
                },
                Verdict::Accept,
            ),
            (tcp("fd00::9", 53), Verdict::Drop),
        ];

        for (flow, verdict) in table {
            assert_eq!(firewall.judge(flow), verdict, "{flow:?}");
        }
    }

    #[test]
    fn drop_wins_in_any_order() {
        let accept = rule("10.0.0.0/8", Protocol::All, Ports::All, Verdict::Accept);
        let drop = rule("10.0.0.1/32", Protocol::Tcp, Ports::single(22), Verdict::Drop);

        for rules in [vec![accept.clone(), drop.clone()], vec![drop, accept]] {
            let firewall = Firewall::new(rules);
            assert_eq!(firewall.judge(tcp("10.0.0.1", 22)), Verdict::Drop);
            assert_eq!(firewall.judge(tcp("10.0.0.1", 23)), Verdict::Accept);
        }
    }

    fn tcp(source: &str, port: u16) -> Flow {
        Flow {
            source: source.parse().unwrap(),
            protocol: Protocol::Tcp,
            port,
        }
    }

    fn rule(source: &str, protocol: Protocol, ports: Ports, verdict: Verdict) -> FirewallRule {
        FirewallRule {
            source: source.parse().unwrap(),
            protocol,
            ports,
            verdict,
        }
    }
}
