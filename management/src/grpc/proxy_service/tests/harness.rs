//! A server on a port of the system's choice, services in its store, and proxies that call it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use meshgate_proto::pb::management as pb;
use meshgate_proto::pb::management::proxy_service_client::ProxyServiceClient;
use meshgate_proto::token::{Token, TokenKind};
use meshgate_proto::{
    AccountId, DomainName, PeerId, ServiceId, ServiceMode, ServiceStatus, TargetId, TokenId, Xid,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Server};
use tonic::{Request, Status, Streaming};

use crate::changes::Change;
use crate::grpc::proxy_service::{ProxySettings, ProxySide};
use crate::password::{PasswordPool, PoolLimits};
use crate::session::SessionKey;
use crate::store::proxy_tokens::ProxyTokenRow;
use crate::store::service_records::{
    ServiceAuth, ServiceRecord, ServiceRow, ServiceSource, StoredOptions, StoredRestrictions, TargetProtocol,
    TargetRow, TargetType,
};
use crate::test_support::{TestAccount, World};

/// Longest wait for anything that must happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Plane {
    pub(super) world: World,
    pub(super) side: Arc<ProxySide>,
    pub(super) passwords: PasswordPool,
    pub(super) shutdown: CancellationToken,
    pub(super) running: JoinHandle<()>,
    channel: Channel,
}

/// A proxy token with its text.
#[derive(Clone)]
pub(super) struct TestToken {
    pub(super) id: TokenId,
    pub(super) text: String,
}

#[derive(Clone)]
pub(super) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

pub(super) type Client = ProxyServiceClient<InterceptedService<Channel, Bearer>>;

impl Plane {
    pub(super) async fn start(settings: ProxySettings) -> Self {
        let world = World::new().await;
        let passwords = PasswordPool::start(PoolLimits::default()).unwrap();
        let shutdown = CancellationToken::new();
        let side = ProxySide::open(
            Arc::clone(&world.state),
            passwords.clone(),
            settings,
            shutdown.clone(),
        );
        let side = side.await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder().add_service(side.service());
        let server = server.serve_with_incoming_shutdown(
            TcpListenerStream::new(listener),
            shutdown.clone().cancelled_owned(),
        );
        tokio::spawn(server);
        let runner = Arc::clone(&side);
        let running = tokio::spawn(async move { runner.run().await });
        let channel = Channel::from_shared(format!("http://{address}"))
            .unwrap()
            .connect()
            .await
            .unwrap();
        Self {
            world,
            side,
            passwords,
            shutdown,
            running,
            channel,
        }
    }

    pub(super) fn client(&self, token: &str) -> Client {
        let bearer = format!("Bearer {token}").parse().unwrap();
        ProxyServiceClient::with_interceptor(self.channel.clone(), Bearer(bearer))
    }

    pub(super) fn anonymous(&self) -> ProxyServiceClient<Channel> {
        ProxyServiceClient::new(self.channel.clone())
    }

    pub(super) async fn token(&self, account: Option<&TestAccount>) -> TestToken {
        let token = Token::generate(TokenKind::Proxy);
        let row = ProxyTokenRow {
            id: TokenId::from(Xid::generate(self.world.now())),
            name: "proxy".to_owned(),
            hashed_token: token.hash(),
            account_id: account.map(|account| account.scope.account().clone()),
            expires_at: None,
            created_by: "CLI".to_owned(),
            created_at: self.world.now(),
            last_used: None,
            revoked: false,
        };
        let mut tx = self.world.state.store.begin().await.unwrap();
        tx.insert_proxy_token(&row).await.unwrap();
        tx.commit().await.unwrap();
        TestToken {
            id: row.id,
            text: token.expose().to_owned(),
        }
    }

    pub(super) async fn revoke(&self, token: &TestToken) {
        let mut tx = self.world.state.store.begin().await.unwrap();
        assert!(tx.revoke_proxy_token_anywhere(&token.id).await.unwrap());
        tx.commit().await.unwrap();
    }

    /// A service on `proxy.test` that leads to a peer; not yet stored.
    pub(super) fn service(&self, account: &TestAccount, domain: &str, peer: &PeerId) -> ServiceRecord {
        let key = SessionKey::generate();
        let id = ServiceId::from(Xid::generate(self.world.now()));
        let account_id = account.scope.account().clone();
        let target = TargetRow {
            id: TargetId::from(Xid::generate(self.world.now())),
            account_id: account_id.clone(),
            service_id: id.clone(),
            path: "/".to_owned(),
            host: String::new(),
            port: 7777,
            protocol: TargetProtocol::Http,
            target_id: peer.to_string(),
            target_type: TargetType::Peer,
            enabled: true,
            options: StoredOptions::default(),
        };
        let service = ServiceRow {
            id,
            account_id,
            name: domain.to_owned(),
            domain: DomainName::new(domain).unwrap(),
            proxy_cluster: "proxy.test".to_owned(),
            enabled: true,
            terminated: false,
            pass_host_header: false,
            rewrite_redirects: false,
            auth: ServiceAuth::default(),
            restrictions: StoredRestrictions::default(),
            created_at: self.world.now(),
            certificate_issued_at: None,
            status: ServiceStatus::Pending,
            status_message: String::new(),
            last_renewed_at: None,
            session_private_key: self.world.state.at_rest.seal(key.expose_text().expose()),
            session_public_key: key.public_text(),
            source: ServiceSource::Permanent,
            source_peer: None,
            mode: ServiceMode::Http,
            listen_port: 0,
            port_auto_assigned: false,
            private: false,
            access_groups: Vec::new(),
        };
        ServiceRecord {
            service,
            targets: vec![target],
        }
    }

    pub(super) async fn store(&self, record: &ServiceRecord) {
        let mut tx = self.world.state.store.begin().await.unwrap();
        tx.insert_service(record).await.unwrap();
        tx.commit().await.unwrap();
        self.tell(record);
    }

    pub(super) async fn change(&self, account: &TestAccount, record: &ServiceRecord) {
        let mut tx = self.world.state.store.begin().await.unwrap();
        assert!(tx.update_service(&account.scope, record).await.unwrap());
        tx.commit().await.unwrap();
        self.tell(record);
    }

    pub(super) async fn delete(&self, account: &TestAccount, record: &ServiceRecord) {
        let mut tx = self.world.state.store.begin().await.unwrap();
        assert!(
            tx.delete_service(&account.scope, &record.service.id)
                .await
                .unwrap()
                .is_some()
        );
        tx.commit().await.unwrap();
        self.world.state.changes.publish(Change::ServiceRemoved {
            account: account.scope.account().clone(),
            service: record.service.id.clone(),
            cluster: "proxy.test".to_owned(),
        });
    }

    /// Tells that a service is new or different.
    pub(super) fn tell(&self, record: &ServiceRecord) {
        self.world.state.changes.publish(Change::Service {
            account: record.service.account_id.clone(),
            service: record.service.id.clone(),
        });
    }

    pub(super) async fn sync(&self, token: &TestToken, init: pb::SyncMappingsInit) -> Proxy {
        Proxy::connect(self.client(&token.text), init).await.unwrap()
    }

    pub(super) async fn proxy_status(&self, proxy: &str) -> (String, String) {
        let query = sqlx::query_as("SELECT status, session_id FROM proxies WHERE id = $1").bind(proxy);
        query.fetch_one(self.world.state.store.reader()).await.unwrap()
    }
}

/// An introduction with all capabilities.
pub(super) fn init(proxy: &str, address: &str) -> pb::SyncMappingsInit {
    pb::SyncMappingsInit {
        proxy_id: proxy.to_owned(),
        version: "test".to_owned(),
        started_at: None,
        address: address.to_owned(),
        capabilities: Some(pb::ProxyCapabilities {
            supports_custom_ports: Some(true),
            require_subdomain: Some(false),
            supports_crowdsec: Some(false),
            private: Some(false),
            supports_private_service: Some(true),
        }),
    }
}

/// A proxy with its mapping stream.
#[derive(Debug)]
pub(super) struct Proxy {
    requests: mpsc::Sender<pb::SyncMappingsRequest>,
    responses: Streaming<pb::SyncMappingsResponse>,
    /// Changes of the last message that nobody asked for yet.
    pending: VecDeque<(pb::ProxyMappingUpdateType, String)>,
}

impl Proxy {
    pub(super) async fn connect(mut client: Client, init: pb::SyncMappingsInit) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(8);
        let first = pb::SyncMappingsRequest {
            msg: Some(pb::sync_mappings_request::Msg::Init(init)),
        };
        requests.send(first).await.unwrap();
        let call = client.sync_mappings(ReceiverStream::new(receiver));
        let responses = tokio::time::timeout(PATIENCE, call).await.unwrap()?.into_inner();
        Ok(Self {
            requests,
            responses,
            pending: VecDeque::new(),
        })
    }

    pub(super) async fn ack(&self) {
        let msg = Some(pb::sync_mappings_request::Msg::Ack(pb::SyncMappingsAck {}));
        self.requests.send(pb::SyncMappingsRequest { msg }).await.unwrap();
    }

    /// The next message; nothing is acknowledged.
    pub(super) async fn receive(&mut self) -> pb::SyncMappingsResponse {
        tokio::time::timeout(PATIENCE, self.responses.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
    }

    /// The next message, acknowledged.
    pub(super) async fn next(&mut self) -> pb::SyncMappingsResponse {
        let message = self.receive().await;
        self.ack().await;
        message
    }

    /// The whole snapshot, acknowledged.
    pub(super) async fn snapshot(&mut self) -> Vec<pb::ProxyMapping> {
        let mut mappings = Vec::new();
        loop {
            let message = self.next().await;
            mappings.extend(message.mapping);
            if message.initial_sync_complete {
                return mappings;
            }
        }
    }

    /// The next change, as type and domain.
    pub(super) async fn change(&mut self) -> (pb::ProxyMappingUpdateType, String) {
        if self.pending.is_empty() {
            let message = self.next().await;
            assert!(!message.initial_sync_complete);
            let changes = message.mapping.into_iter();
            self.pending
                .extend(changes.map(|mapping| (mapping.r#type(), mapping.domain)));
        }
        self.pending.pop_front().expect("a message has changes")
    }

    /// Waits for the end of the stream.
    pub(super) async fn end(&mut self) -> Status {
        let ended = async {
            loop {
                match self.responses.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return Status::ok(""),
                    Err(status) => return status,
                }
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.unwrap()
    }

    /// True while no message is there.
    pub(super) async fn is_silent(&mut self) -> bool {
        assert_eq!(self.pending, []);
        tokio::time::timeout(Duration::from_millis(150), self.responses.message())
            .await
            .is_err()
    }
}

pub(super) fn domains(mappings: &[pb::ProxyMapping]) -> Vec<&str> {
    let mut domains: Vec<_> = mappings.iter().map(|mapping| mapping.domain.as_str()).collect();
    domains.sort_unstable();
    domains
}

pub(super) fn account_text(account: &TestAccount) -> String {
    AccountId::to_string(account.scope.account())
}
