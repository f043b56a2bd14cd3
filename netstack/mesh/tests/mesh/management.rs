//! A small management server: setup keys, addresses, maps for everybody.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use meshgate_proto::envelope::Envelope;
use meshgate_proto::network_map::{
    DnsConfig, Firewall, FirewallRule, LoginRequest, LoginResponse, NetworkMap, PeerConfig, PostureFiles,
    RelayServers, RemotePeer, RuleAction, RuleDirection, RulePorts, RuleProtocol, Servers, SessionExpiry,
    SignalServer, SyncUpdate, SystemMeta,
};
use meshgate_proto::pb::management as pb;
use meshgate_proto::pb::management::management_service_server::{ManagementService, ManagementServiceServer};
use meshgate_proto::pb::signalexchange::signal_exchange_server::SignalExchangeServer;
use meshgate_proto::relay::RelayToken;
use meshgate_proto::{Cidr, WgPrivateKey, WgPublicKey};
use parking_lot::Mutex;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::relay::Hub;
use crate::signal::{Exchange, Service};
use crate::world::SETUP_KEY;

type Item = Result<pb::EncryptedMessage, Status>;

/// Everything management knows.
pub(crate) struct Office {
    signal: SocketAddr,
    relay: SocketAddr,
    state: Mutex<State>,
}

struct State {
    key: WgPrivateKey,
    serial: u64,
    token: RelayToken,
    peers: BTreeMap<String, Member>,
    streams: BTreeMap<String, (Envelope, mpsc::Sender<Item>)>,
    logins: Vec<Option<String>>,
    refusal: Option<Status>,
    sync_failures: usize,
    syncs: usize,
    metas: Vec<SystemMeta>,
    checks: Vec<PostureFiles>,
}

struct Member {
    key: WgPublicKey,
    address: Ipv4Addr,
    name: String,
}

impl Office {
    pub(crate) fn new(signal: SocketAddr, relay: SocketAddr) -> Self {
        Self {
            signal,
            relay,
            state: Mutex::new(State {
                key: WgPrivateKey::generate(),
                serial: 0,
                token: Hub::token("relay-secret", 3600),
                peers: BTreeMap::new(),
                streams: BTreeMap::new(),
                logins: Vec::new(),
                refusal: None,
                sync_failures: 0,
                syncs: 0,
                metas: Vec::new(),
                checks: Vec::new(),
            }),
        }
    }

    /// A new process has a new key.
    pub(crate) fn restart(&self) {
        self.state.lock().key = WgPrivateKey::generate();
    }

    pub(crate) fn forget_streams(&self) {
        self.state.lock().streams.clear();
    }

    /// Setup keys of all logins so far.
    pub(crate) fn logins(&self) -> Vec<Option<String>> {
        self.state.lock().logins.clone()
    }

    /// Sync calls so far, refused ones included.
    pub(crate) fn syncs(&self) -> usize {
        self.state.lock().syncs
    }

    /// What `SyncMeta` told so far.
    pub(crate) fn metas(&self) -> Vec<SystemMeta> {
        self.state.lock().metas.clone()
    }

    /// Every login with a setup key gets this answer.
    pub(crate) fn refuse(&self, code: Code, text: &str) {
        self.state.lock().refusal = Some(Status::new(code, text));
    }

    /// The next Sync calls fail with Internal.
    pub(crate) fn fail_syncs(&self, count: usize) {
        self.state.lock().sync_failures = count;
    }

    pub(crate) fn set_token(&self, token: RelayToken) {
        self.state.lock().token = token;
    }

    /// Registers a peer by its key alone, as management does for proxies.
    pub(crate) fn register(&self, key: WgPublicKey, name: &str) {
        self.state.lock().add(key, name);
    }

    /// Deletes a peer the way management does: a last map, then the end of the stream.
    pub(crate) fn delete(&self, key: &WgPublicKey) {
        let mut state = self.state.lock();
        state.peers.remove(&key.to_string());
        state.serial += 1;
        let last = SyncUpdate {
            servers: None,
            map: Some(map(state.serial)),
            checks: Vec::new(),
            session: SessionExpiry::Unknown,
        };
        if let Some((envelope, sender)) = state.streams.remove(&key.to_string()) {
            let _ = sender.try_send(Ok(seal(&state.key, &envelope, &pb::SyncResponse::from(last))));
        }
        drop(state);
        self.publish();
    }

    pub(crate) fn set_checks(&self, files: &[&str]) {
        self.state.lock().checks = vec![PostureFiles {
            files: files.iter().map(|&file| file.to_owned()).collect(),
        }];
        self.publish();
    }

    /// Pushes maps without servers to everybody.
    pub(crate) fn publish(&self) {
        let mut state = self.state.lock();
        state.serial += 1;
        for (key, (envelope, sender)) in &state.streams {
            let Some(update) = state.update(key, None) else {
                continue;
            };
            let _ = sender.try_send(Ok(seal(&state.key, envelope, &pb::SyncResponse::from(update))));
        }
    }

    /// Pushes any message to everybody.
    pub(crate) fn push(&self, message: &pb::SyncResponse) {
        let state = self.state.lock();
        for (envelope, sender) in state.streams.values() {
            let _ = sender.try_send(Ok(seal(&state.key, envelope, message)));
        }
    }

    /// Pushes servers without a map.
    pub(crate) fn push_servers(&self) {
        let servers = self.servers(&self.state.lock().token);
        self.push(&pb::SyncResponse {
            netbird_config: Some(servers.into()),
            ..Default::default()
        });
    }

    fn servers(&self, token: &RelayToken) -> Servers {
        Servers {
            stuns: Vec::new(),
            signal: Some(SignalServer {
                address: self.signal.to_string(),
                tls: false,
            }),
            relay: Some(RelayServers {
                urls: vec![format!("rel://{}", self.relay)],
                token: Some(token.clone()),
            }),
            metrics: false,
        }
    }

    fn open<M: Message + Default>(
        &self,
        message: &pb::EncryptedMessage,
    ) -> Result<(WgPublicKey, Envelope, M), Status> {
        let key: WgPublicKey = message
            .wg_pub_key
            .parse()
            .map_err(|_| Status::invalid_argument("bad key"))?;
        let envelope = Envelope::new(&self.state.lock().key, &key);
        let clear = envelope
            .open(&message.body)
            .map_err(|_| Status::invalid_argument("cannot be opened"))?;
        let message = M::decode(clear.as_slice()).map_err(|_| Status::invalid_argument("not a message"))?;
        Ok((key, envelope, message))
    }
}

impl State {
    fn add(&mut self, key: WgPublicKey, name: &str) {
        let number = u8::try_from(self.peers.len() + 1).unwrap();
        self.peers.entry(key.to_string()).or_insert(Member {
            key,
            address: Ipv4Addr::new(100, 64, 0, number),
            name: name.to_owned(),
        });
    }

    fn update(&self, key: &str, servers: Option<Servers>) -> Option<SyncUpdate> {
        let own = self.peers.get(key)?;
        let others = || self.peers.values().filter(|member| member.key != own.key);
        let mut map = map(self.serial);
        map.peer = Some(own.config());
        map.remote_peers = others().map(Member::remote).collect();
        map.firewall = Firewall::Rules(others().map(Member::rule).collect());
        Some(SyncUpdate {
            servers,
            map: Some(map),
            checks: self.checks.clone(),
            session: SessionExpiry::Never,
        })
    }
}

impl Member {
    fn config(&self) -> PeerConfig {
        PeerConfig {
            address: self.address,
            prefix: 16,
            address_v6: None,
            fqdn: format!("{}.mesh.test", self.name),
            routing_peer_dns: false,
            lazy_connections: true,
            mtu: 0,
            ssh_enabled: false,
            auto_update: String::new(),
        }
    }

    fn remote(&self) -> RemotePeer {
        RemotePeer {
            key: self.key,
            allowed_ips: vec![Cidr::host(self.address.into())],
            fqdn: format!("{}.mesh.test", self.name),
            ssh_public_key: String::new(),
            agent_version: "0.77.1".to_owned(),
        }
    }

    fn rule(&self) -> FirewallRule {
        FirewallRule {
            peer: self.address.into(),
            source: None,
            direction: RuleDirection::In,
            action: RuleAction::Accept,
            protocol: RuleProtocol::All,
            ports: RulePorts::Any,
            policy_id: "all".to_owned(),
        }
    }
}

fn map(serial: u64) -> NetworkMap {
    NetworkMap {
        serial,
        peer: None,
        remote_peers: Vec::new(),
        offline_peers: Vec::new(),
        firewall: Firewall::Rules(Vec::new()),
        dns: DnsConfig::default(),
        routes: Vec::new(),
        route_firewall: Vec::new(),
        route_firewall_is_empty: true,
        ssh_user_id_claim: String::new(),
        skipped: Vec::new(),
    }
}

fn seal(key: &WgPrivateKey, envelope: &Envelope, message: &impl Message) -> pb::EncryptedMessage {
    pb::EncryptedMessage {
        wg_pub_key: key.public().to_string(),
        body: envelope.seal(&message.encode_to_vec()).into(),
        version: 0,
    }
}

pub(crate) async fn serve(listener: TcpListener, office: Arc<Office>, exchange: Arc<Exchange>) {
    tonic::transport::Server::builder()
        .add_service(ManagementServiceServer::new(Desk(office)))
        .add_service(SignalExchangeServer::new(Service(exchange)))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await
        .unwrap();
}

/// The service of one run.
struct Desk(Arc<Office>);

#[tonic::async_trait]
impl ManagementService for Desk {
    async fn get_server_key(&self, _: Request<pb::Empty>) -> Result<Response<pb::ServerKeyResponse>, Status> {
        Ok(Response::new(pb::ServerKeyResponse {
            key: self.0.state.lock().key.public().to_string(),
            ..Default::default()
        }))
    }

    async fn login(
        &self,
        request: Request<pb::EncryptedMessage>,
    ) -> Result<Response<pb::EncryptedMessage>, Status> {
        let (key, envelope, login) = self.0.open::<pb::LoginRequest>(request.get_ref())?;
        let login: LoginRequest = login
            .try_into()
            .map_err(|_| Status::invalid_argument("not a login"))?;
        let mut state = self.0.state.lock();
        let shown = login.setup_key.as_ref().map(|key| key.expose().clone());
        state.logins.push(shown.clone());
        let known = state.peers.contains_key(&key.to_string());
        match shown {
            None if !known => return Err(Status::permission_denied("peer is not registered")),
            Some(_) if state.refusal.is_some() => return Err(state.refusal.clone().unwrap()),
            Some(shown) if !shown.eq_ignore_ascii_case(SETUP_KEY) => {
                return Err(Status::invalid_argument("setup key is invalid"));
            }
            _ => state.add(key, &login.meta.hostname),
        }
        let response = LoginResponse {
            servers: self.0.servers(&state.token),
            peer: state.peers[&key.to_string()].config(),
            checks: Vec::new(),
            session: SessionExpiry::Never,
        };
        let sealed = seal(&state.key, &envelope, &pb::LoginResponse::from(response));
        drop(state);
        if !known {
            self.0.publish();
        }
        Ok(Response::new(sealed))
    }

    type SyncStream = Pin<Box<dyn Stream<Item = Item> + Send>>;

    async fn sync(
        &self,
        request: Request<pb::EncryptedMessage>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let (key, envelope, _) = self.0.open::<pb::SyncRequest>(request.get_ref())?;
        let mut state = self.0.state.lock();
        state.syncs += 1;
        if state.sync_failures > 0 {
            state.sync_failures -= 1;
            return Err(Status::internal("store is busy"));
        }
        let servers = self.0.servers(&state.token);
        let update = state
            .update(&key.to_string(), Some(servers))
            .ok_or_else(|| Status::permission_denied("peer is not registered"))?;
        let (sender, receiver) = mpsc::channel(64);
        let first = seal(&state.key, &envelope, &pb::SyncResponse::from(update));
        sender.try_send(Ok(first)).unwrap();
        state.streams.insert(key.to_string(), (envelope, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn sync_meta(&self, request: Request<pb::EncryptedMessage>) -> Result<Response<pb::Empty>, Status> {
        let (_, _, message) = self.0.open::<pb::SyncMetaRequest>(request.get_ref())?;
        let meta = message
            .meta
            .ok_or_else(|| Status::failed_precondition("no meta"))?;
        self.0.state.lock().metas.push(meta.into());
        Ok(Response::new(pb::Empty {}))
    }

    async fn is_healthy(&self, _: Request<pb::Empty>) -> Result<Response<pb::Empty>, Status> {
        Ok(Response::new(pb::Empty {}))
    }

    async fn get_device_authorization_flow(
        &self,
        _: Request<pb::EncryptedMessage>,
    ) -> Result<Response<pb::EncryptedMessage>, Status> {
        Err(Status::not_found("no such flow"))
    }

    async fn get_pkce_authorization_flow(
        &self,
        _: Request<pb::EncryptedMessage>,
    ) -> Result<Response<pb::EncryptedMessage>, Status> {
        Err(Status::not_found("no such flow"))
    }

    async fn logout(&self, _: Request<pb::EncryptedMessage>) -> Result<Response<pb::Empty>, Status> {
        Err(Status::unimplemented("not here"))
    }

    type JobStream = Pin<Box<dyn Stream<Item = Item> + Send>>;

    async fn job(
        &self,
        _: Request<Streaming<pb::EncryptedMessage>>,
    ) -> Result<Response<Self::JobStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn extend_auth_session(
        &self,
        _: Request<pb::EncryptedMessage>,
    ) -> Result<Response<pb::EncryptedMessage>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn create_expose(
        &self,
        _: Request<pb::EncryptedMessage>,
    ) -> Result<Response<pb::EncryptedMessage>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn renew_expose(
        &self,
        _: Request<pb::EncryptedMessage>,
    ) -> Result<Response<pb::EncryptedMessage>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn stop_expose(
        &self,
        _: Request<pb::EncryptedMessage>,
    ) -> Result<Response<pb::EncryptedMessage>, Status> {
        Err(Status::unimplemented("not here"))
    }
}
