//! Which packets a rule means, from the words of a policy to what goes over the wire.
//!
//! A peer takes a rule without ports, or with the range 0..0, for *every* port. So a port that means
//! nothing never ends up there: it is left out, and a rule left without any port is no rule.

use meshgate_proto::network_map::{RulePorts, RuleProtocol};

/// Port of the mesh's own SSH server, and of the one it stands in for.
const SSH_PORTS: [u16; 2] = [22, 22022];

/// Protocol and ports of a rule. `ports` is never empty for a rule that lets anything through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleTraffic {
    /// Protocol.
    pub protocol: RuleProtocol,
    /// One rule on the wire for each of these; none = no rule.
    pub ports: Vec<RulePorts>,
}

/// Words of a policy rule as they are stored.
#[derive(Clone, Copy, Debug)]
pub struct TrafficText<'a> {
    /// `all`, `tcp`, `udp`, `icmp` or `netbird-ssh`.
    pub protocol: &'a str,
    /// Single ports.
    pub ports: &'a [String],
    /// First and last of each range.
    pub ranges: &'a [(u32, u32)],
}

impl RuleTraffic {
    /// Understands a policy rule; `None` when it means nothing that can be let through.
    pub fn parse(text: TrafficText<'_>) -> Option<Self> {
        let (protocol, ports) = match text.protocol {
            "all" => (RuleProtocol::All, vec![RulePorts::Any]),
            "icmp" => (RuleProtocol::Icmp, vec![RulePorts::Any]),
            "tcp" => (RuleProtocol::Tcp, port_list(text)),
            "udp" => (RuleProtocol::Udp, port_list(text)),
            "netbird-ssh" => (RuleProtocol::Tcp, ssh_ports(text)),
            _ => return None,
        };
        (!ports.is_empty()).then_some(Self { protocol, ports })
    }

    /// From the first port to the last; a range even of one, as services write it. `None` with port 0.
    pub fn range(protocol: RuleProtocol, first: u16, last: u16) -> Option<Self> {
        (first != 0 && first <= last).then(|| Self {
            protocol,
            ports: vec![RulePorts::Range(first, last)],
        })
    }
}

fn port_list(text: TrafficText<'_>) -> Vec<RulePorts> {
    if text.ports.is_empty() && text.ranges.is_empty() {
        return vec![RulePorts::Range(1, u16::MAX)];
    }
    let singles = text
        .ports
        .iter()
        .filter_map(|port| single(port))
        .map(RulePorts::Single);
    let ranges = text.ranges.iter().filter_map(|&(first, last)| {
        let first = u16::try_from(first).ok().filter(|&port| port != 0)?;
        let last = u16::try_from(last).ok().filter(|&port| port >= first)?;
        Some(RulePorts::Range(first, last))
    });
    singles.chain(ranges).collect()
}

fn ssh_ports(text: TrafficText<'_>) -> Vec<RulePorts> {
    let mut ports: Vec<u16> = text.ports.iter().filter_map(|port| single(port)).collect();
    if text.ports.is_empty() {
        ports.push(SSH_PORTS[0]);
    }
    if ports.contains(&SSH_PORTS[0]) && !ports.contains(&SSH_PORTS[1]) {
        ports.push(SSH_PORTS[1]);
    }
    ports.into_iter().map(RulePorts::Single).collect()
}

fn single(port: &str) -> Option<u16> {
    port.parse().ok().filter(|&port| port != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(protocol: &str, ports: &[&str], ranges: &[(u32, u32)]) -> Option<RuleTraffic> {
        let ports: Vec<String> = ports.iter().map(|&port| port.to_owned()).collect();
        RuleTraffic::parse(TrafficText {
            protocol,
            ports: &ports,
            ranges,
        })
    }

    #[test]
    fn tcp_without_ports_names_all_of_them() {
        assert_eq!(
            parse("tcp", &[], &[]).unwrap().ports,
            [RulePorts::Range(1, 65535)]
        );
    }

    #[test]
    fn ssh_without_ports_opens_two_ports_and_not_all() {
        assert_eq!(
            parse("netbird-ssh", &[], &[]).unwrap().ports,
            [RulePorts::Single(22), RulePorts::Single(22022)]
        );
    }

    #[test]
    fn ports_that_mean_nothing_make_no_rule() {
        assert_eq!(parse("tcp", &["0"], &[]), None);
        assert_eq!(
            parse("udp", &["x", "70000"], &[(0, 0), (90, 80), (1, 70_000)]),
            None
        );
        assert_eq!(parse("gre", &[], &[]), None);
        assert_eq!(RuleTraffic::range(RuleProtocol::Tcp, 0, 9), None);
        assert_eq!(RuleTraffic::range(RuleProtocol::Tcp, 9, 8), None);
    }

    proptest! {
        #[test]
        fn never_makes_a_rule_that_a_peer_takes_for_every_port(
            protocol in "tcp|udp|netbird-ssh",
            ports in proptest::collection::vec("[0-9]{0,6}", 0..4),
            ranges in proptest::collection::vec((0u32..70_000, 0u32..70_000), 0..4),
        ) {
            let traffic = RuleTraffic::parse(TrafficText { protocol: &protocol, ports: &ports, ranges: &ranges });

            for port in traffic.iter().flat_map(|traffic| &traffic.ports) {
                prop_assert!(!matches!(
                    port,
                    RulePorts::Any | RulePorts::Empty | RulePorts::Single(0) | RulePorts::Range(0, _)
                ));
            }
        }
    }
}
