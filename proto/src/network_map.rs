//! What management tells a peer about itself, its neighbours and what they may do; and what the peer
//! tells of itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::relay::RelayToken;
use crate::{Cidr, Secret, UnixTime, WgPublicKey};

/// What a machine says of itself at login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemMeta {
    /// Host name; never empty.
    pub hostname: String,
    /// Operating system family, such as `linux`.
    pub go_os: String,
    /// Kernel name.
    pub kernel: String,
    /// Version of the distribution.
    pub core: String,
    /// Machine type.
    pub platform: String,
    /// Name of the distribution.
    pub os: String,
    /// Version of the peer's program; features are gated by it.
    pub agent_version: String,
    /// Version of a user interface.
    pub ui_version: String,
    /// Kernel version.
    pub kernel_version: String,
    /// Version of the operating system.
    pub os_version: String,
    /// Addresses of the machine's own networks.
    pub network_addresses: Vec<NetworkAddress>,
    /// Serial number of the machine.
    pub serial_number: String,
    /// Product name of the machine.
    pub product_name: String,
    /// Maker of the machine.
    pub manufacturer: String,
    /// Cloud and platform; `None` when not told.
    pub environment: Option<Environment>,
    /// Files and processes that were asked for.
    pub files: Vec<FileState>,
    /// Local settings; `None` when not told.
    pub flags: Option<MetaFlags>,
    /// What the peer understands.
    pub capabilities: Vec<PeerCapability>,
    /// Newest form of network map that it reads.
    pub sync_message_version: i32,
}

impl SystemMeta {
    /// True when the peer takes part in the IPv6 overlay.
    pub fn wants_ipv6(&self) -> bool {
        self.capabilities.contains(&PeerCapability::Ipv6Overlay)
            && !self.flags.is_some_and(|flags| flags.disable_ipv6)
    }
}

/// One address of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkAddress {
    /// Address and prefix length, as the machine wrote it.
    pub net_ip: String,
    /// Hardware address.
    pub mac: String,
}

/// Where the machine runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Cloud provider.
    pub cloud: String,
    /// Container platform.
    pub platform: String,
}

/// State of a file that a posture check asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileState {
    /// Path.
    pub path: String,
    /// It is there.
    pub exists: bool,
    /// A process runs from it.
    pub process_is_running: bool,
}

/// Local settings of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each names a setting of the client; see the protocol file"
)]
pub struct MetaFlags {
    pub rosenpass_enabled: bool,
    pub rosenpass_permissive: bool,
    pub server_ssh_allowed: bool,
    pub disable_client_routes: bool,
    pub disable_server_routes: bool,
    pub disable_dns: bool,
    pub disable_firewall: bool,
    pub block_lan_access: bool,
    pub block_inbound: bool,
    pub lazy_connection_enabled: bool,
    pub enable_ssh_root: bool,
    pub enable_ssh_sftp: bool,
    pub enable_ssh_local_port_forwarding: bool,
    pub enable_ssh_remote_port_forwarding: bool,
    pub disable_ssh_auth: bool,
    pub disable_ipv6: bool,
}

/// Something a peer understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerCapability {
    /// Firewall rules with source prefixes.
    SourcePrefixes,
    /// An IPv6 overlay address.
    Ipv6Overlay,
    /// Maps that it computes itself.
    ComponentNetworkMap,
    /// A number that is not known here.
    Other(i32),
}

/// A peer asks to be let in.
#[derive(Clone, Debug)]
pub struct LoginRequest {
    /// Key for joining; `None` once known.
    pub setup_key: Option<Secret<String>>,
    /// Token of a person; `None` for machines.
    pub jwt: Option<Secret<String>>,
    /// The machine.
    pub meta: SystemMeta,
    /// One `authorized_keys` line without comment; empty without SSH.
    pub ssh_public_key: String,
    /// The key the peer repeats inside the box; `None` when left out.
    pub wg_public_key: Option<WgPublicKey>,
    /// Further names it wants.
    pub dns_labels: Vec<String>,
}

/// The answer to a login.
#[derive(Clone, Debug, PartialEq)]
pub struct LoginResponse {
    /// Servers to use.
    pub servers: Servers,
    /// The peer itself.
    pub peer: PeerConfig,
    /// Files that posture checks ask for.
    pub checks: Vec<PostureFiles>,
    /// End of the login.
    pub session: SessionExpiry,
}

/// One message of the sync stream.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncUpdate {
    /// Servers to use; absent in most messages.
    pub servers: Option<Servers>,
    /// The new map; absent when only servers changed.
    pub map: Option<NetworkMap>,
    /// Files that posture checks ask for.
    pub checks: Vec<PostureFiles>,
    /// End of the login.
    pub session: SessionExpiry,
}

/// Files of one posture check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostureFiles {
    /// Paths.
    pub files: Vec<String>,
}

/// When a peer's login ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionExpiry {
    /// Nothing was said.
    #[default]
    Unknown,
    /// Never.
    Never,
    /// At that moment.
    At(UnixTime),
}

/// The servers of a mesh.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Servers {
    /// `stun:host:port` each.
    pub stuns: Vec<String>,
    /// Where signalling happens.
    pub signal: Option<SignalServer>,
    /// Relays and the token for them.
    pub relay: Option<RelayServers>,
    /// An (empty) metrics section follows.
    pub metrics: bool,
}

/// The signal server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalServer {
    /// `host:port`.
    pub address: String,
    /// Spoken to over TLS.
    pub tls: bool,
}

/// Relays and the token for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayServers {
    /// `rel://host:port` or `rels://host:port`.
    pub urls: Vec<String>,
    /// `None` when the sender gave none that can be used.
    pub token: Option<RelayToken>,
}

/// A peer as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Overlay address.
    pub address: Ipv4Addr,
    /// Prefix length of the account's network.
    pub prefix: u8,
    /// Overlay address of version 6 and the prefix length.
    pub address_v6: Option<OverlayV6>,
    /// Name in the mesh.
    pub fqdn: String,
    /// Routing peers resolve domain routes.
    pub routing_peer_dns: bool,
    /// Connections open with the first packet.
    pub lazy_connections: bool,
    /// 0: the peer's own default.
    pub mtu: i32,
    /// SSH server of the peer is allowed.
    pub ssh_enabled: bool,
    /// Whether it updates itself; "disabled" or a version; empty when not told.
    pub auto_update: String,
}

/// Overlay address of version 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverlayV6 {
    /// Address.
    pub address: Ipv6Addr,
    /// Prefix length of the account's network.
    pub prefix: u8,
}

/// A neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemotePeer {
    /// Its key.
    pub key: WgPublicKey,
    /// Its overlay addresses; the first is its identity.
    pub allowed_ips: Vec<Cidr>,
    /// Name in the mesh.
    pub fqdn: String,
    /// `authorized_keys` line of its SSH server; empty without.
    pub ssh_public_key: String,
    /// Program version; empty before its first login.
    pub agent_version: String,
}

/// The mesh as one peer sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkMap {
    /// Never goes back within an account.
    pub serial: u64,
    /// The peer itself; absent in the last map of a deleted peer.
    pub peer: Option<PeerConfig>,
    /// Neighbours, all of them.
    pub remote_peers: Vec<RemotePeer>,
    /// Neighbours whose login ended, for display.
    pub offline_peers: Vec<RemotePeer>,
    /// Packets that may pass; nothing else may.
    pub firewall: Firewall,
    /// Names.
    pub dns: DnsConfig,
    /// Networks behind neighbours.
    pub routes: Vec<Route>,
    /// What may cross this peer towards networks behind it.
    pub route_firewall: Vec<RouteFirewallRule>,
    /// Route rules are known to be none.
    pub route_firewall_is_empty: bool,
    /// Claim that names SSH users; empty when not told.
    pub ssh_user_id_claim: String,
    /// Neighbours, routes and permitting rules that could not be understood and were left out.
    pub skipped: Vec<crate::InvalidMessage>,
}

/// Rules of a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Firewall {
    /// Everything may pass: what servers of old mean by an empty list without the flag.
    #[default]
    Unspecified,
    /// Exactly this may pass; empty lets nothing in.
    Rules(Vec<FirewallRule>),
}

/// One rule between this peer and one other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallRule {
    /// The other peer; the unspecified address stands for all.
    pub peer: IpAddr,
    /// The same as a range, when the receiver understands it.
    pub source: Option<Cidr>,
    /// Seen from this peer.
    pub direction: RuleDirection,
    /// What happens.
    pub action: RuleAction,
    /// Which packets.
    pub protocol: RuleProtocol,
    /// Which ports.
    pub ports: RulePorts,
    /// The policy it comes from.
    pub policy_id: String,
}

/// Direction of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleDirection {
    /// To this peer.
    In,
    /// From this peer.
    Out,
}

/// Action of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleAction {
    /// Let pass.
    Accept,
    /// Drop without answer.
    Drop,
}

/// Protocol of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleProtocol {
    /// Every protocol.
    All,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP of both versions.
    Icmp,
}

/// Ports of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RulePorts {
    /// Every port.
    Any,
    /// One port.
    Single(u16),
    /// From the first to the last, both included.
    Range(u16, u16),
    /// Present and empty, as on route rules: every port.
    Empty,
}

/// A network behind a neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Identifier.
    pub id: String,
    /// CIDR text; a placeholder for domain routes.
    pub network: String,
    /// 1 IPv4, 2 IPv6, 3 domain.
    pub network_type: i64,
    /// Key of the routing peer.
    pub peer: WgPublicKey,
    /// Lower is better.
    pub metric: i64,
    /// The routing peer hides who asks.
    pub masquerade: bool,
    /// Routes of equal name stand in for one another.
    pub net_id: String,
    /// Names of a domain route.
    pub domains: Vec<String>,
    /// Keep addresses that a name once had.
    pub keep_route: bool,
    /// Not used unless chosen.
    pub skip_auto_apply: bool,
}

/// A rule for what crosses a routing peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFirewallRule {
    /// Who may.
    pub source_ranges: Vec<String>,
    /// What happens.
    pub action: RuleAction,
    /// Where to.
    pub destination: String,
    /// Which packets.
    pub protocol: RuleProtocol,
    /// Which ports; `None` when not told.
    pub ports: Option<RulePorts>,
    /// Destination is a name.
    pub is_dynamic: bool,
    /// Names.
    pub domains: Vec<String>,
    /// The policy it comes from.
    pub policy_id: String,
    /// The route it guards.
    pub route_id: String,
}

/// Names of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// The peer may use the mesh's names.
    pub service_enable: bool,
    /// Outside resolvers.
    pub nameserver_groups: Vec<NameserverGroup>,
    /// Zones that the mesh answers itself.
    pub zones: Vec<DnsZone>,
    /// Port of DNS forwarders on routing peers.
    pub forwarder_port: i64,
}

/// Outside resolvers for some names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameserverGroup {
    /// Resolvers in order.
    pub servers: Vec<Nameserver>,
    /// For all names.
    pub primary: bool,
    /// Names they answer for.
    pub domains: Vec<String>,
    /// The names are also searched.
    pub search_domains: bool,
}

/// One resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nameserver {
    /// Address.
    pub address: IpAddr,
    /// 1 is UDP.
    pub kind: i64,
    /// Port.
    pub port: i64,
}

/// A zone that the mesh answers itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsZone {
    /// Name with a trailing dot.
    pub domain: String,
    /// Records.
    pub records: Vec<DnsRecord>,
    /// The zone is not searched.
    pub search_disabled: bool,
    /// Names that are missing here are asked elsewhere.
    pub non_authoritative: bool,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsRecord {
    /// Owner name.
    pub name: String,
    /// 1 A, 5 CNAME, 28 AAAA.
    pub kind: i64,
    /// Class, `IN`.
    pub class: String,
    /// Seconds.
    pub ttl: i64,
    /// Data in text form.
    pub data: String,
}
