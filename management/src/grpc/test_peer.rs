//! A whole server on a port of its own, and peers that speak to it as the real ones do, for tests.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use meshgate_proto::envelope::Envelope;
use meshgate_proto::pb::management as pb;
use meshgate_proto::pb::management::management_service_client::ManagementServiceClient;
use meshgate_proto::{Clock, ManualClock, SetupKeyId, UnixTime, WgPrivateKey, WgPublicKey, Xid};
use prost::Message;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::fixtures::recorded;
use crate::accounts::{self, NewOwner};
use crate::actor::Scope;
use crate::app::{Management, Running};
use crate::config::Config;
use crate::store::setup_keys::{SetupKeyKind, SetupKeyRow};

/// Longest wait for something that has to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// 2026-01-01T00:00:00Z.
pub(crate) const START: UnixTime = UnixTime::from_secs(1_767_225_600);

pub(crate) struct TestServer {
    pub(crate) running: Running,
    pub(crate) scope: Scope,
    pub(crate) clock: Arc<ManualClock>,
    dir: TempDir,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(START));
        let running = run(&dir, &clock).await;
        let owner = NewOwner {
            name: "A".to_owned(),
            email: "a@example.test".to_owned(),
        };
        let state = running.state();
        let mut tx = state.store.begin().await.unwrap();
        let account = accounts::create(&mut tx, &state.at_rest, "netbird.selfhosted", &owner, START)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        Self {
            running,
            scope: account.scope,
            clock,
            dir,
        }
    }

    /// Ends the server and starts it anew on the same data.
    pub(crate) async fn restart(mut self) -> Self {
        self.running.shutdown().await;
        self.running = run(&self.dir, &self.clock).await;
        self
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.running.local_addr())
    }

    /// A reusable key, in the form its owner sees.
    pub(crate) async fn setup_key(&self) -> String {
        self.setup_key_with(|_| {}).await
    }

    pub(crate) async fn setup_key_with(&self, change: impl FnOnce(&mut SetupKeyRow)) -> String {
        let key = uuid::Uuid::new_v4().to_string().to_uppercase();
        let mut row = SetupKeyRow {
            id: SetupKeyId::new(Xid::generate(START).to_string()),
            account_id: self.scope.account().clone(),
            hashed_key: STANDARD.encode(Sha256::digest(key.as_bytes())),
            key_secret: String::new(),
            name: "test".to_owned(),
            kind: SetupKeyKind::Reusable,
            created_at: START,
            expires_at: None,
            updated_at: START,
            revoked: false,
            used_times: 0,
            last_used: None,
            auto_groups: Vec::new(),
            usage_limit: 0,
            ephemeral: false,
            allow_extra_dns_labels: false,
        };
        change(&mut row);
        let mut tx = self.running.state().store.begin().await.unwrap();
        tx.insert_setup_key(&row).await.unwrap();
        tx.commit().await.unwrap();
        key
    }

    /// A peer that has registered with a key of its own.
    pub(crate) async fn member(&self, hostname: &str) -> TestPeer {
        let key = self.setup_key().await;
        let mut peer = TestPeer::connect(self).await;
        peer.hostname = hostname.to_owned();
        peer.login(Some(&key)).await.unwrap();
        peer
    }
}

async fn run(dir: &TempDir, clock: &Arc<ManualClock>) -> Running {
    let config = Config::new(dir.path(), "http://127.0.0.1:0".parse().unwrap());
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    Management::start(config, clock).await.unwrap()
}

pub(crate) struct TestPeer {
    pub(crate) private: WgPrivateKey,
    pub(crate) hostname: String,
    pub(crate) client: ManagementServiceClient<Channel>,
    server: WgPublicKey,
}

impl TestPeer {
    pub(crate) async fn connect(server: &TestServer) -> Self {
        Self::connect_as(server, WgPrivateKey::generate()).await
    }

    pub(crate) async fn connect_as(server: &TestServer, private: WgPrivateKey) -> Self {
        let mut client = ManagementServiceClient::connect(server.url()).await.unwrap();
        let key = client
            .get_server_key(pb::Empty {})
            .await
            .unwrap()
            .into_inner()
            .key;
        Self {
            private,
            hostname: "peer1".to_owned(),
            client,
            server: key.parse().unwrap(),
        }
    }

    pub(crate) fn key(&self) -> WgPublicKey {
        self.private.public()
    }

    /// The recorded request of a real peer, with this peer's key and name.
    pub(crate) fn login_request(&self, setup_key: Option<&str>) -> pb::LoginRequest {
        let mut request: pb::LoginRequest = recorded("peer_first_start", 6);
        request.setup_key = setup_key.unwrap_or_default().to_owned();
        request.peer_keys.as_mut().unwrap().wg_pub_key = self.key().to_string().into_bytes();
        request.meta.as_mut().unwrap().hostname.clone_from(&self.hostname);
        request
    }

    pub(crate) async fn login(&mut self, setup_key: Option<&str>) -> Result<pb::LoginResponse, Status> {
        let request = self.login_request(setup_key);
        self.login_with(&request).await
    }

    pub(crate) async fn login_with(
        &mut self,
        request: &pb::LoginRequest,
    ) -> Result<pb::LoginResponse, Status> {
        let sealed = self.seal(request);
        let answer = self.client.login(sealed).await?.into_inner();
        Ok(self.open(&answer))
    }

    pub(crate) async fn sync(&mut self) -> Result<TestSync, Status> {
        let request = pb::SyncRequest {
            meta: self.login_request(None).meta,
        };
        let sealed = self.seal(&request);
        let stream = self.client.sync(sealed).await?.into_inner();
        Ok(TestSync {
            stream,
            envelope: self.envelope(),
        })
    }

    pub(crate) async fn logout(&mut self) -> Result<(), Status> {
        let sealed = self.seal(&pb::Empty {});
        self.client.logout(sealed).await.map(|_| ())
    }

    pub(crate) fn seal<M: Message>(&self, message: &M) -> pb::EncryptedMessage {
        pb::EncryptedMessage {
            wg_pub_key: self.key().to_string(),
            body: self.envelope().seal(&message.encode_to_vec()).into(),
            version: 0,
        }
    }

    fn open<M: Message + Default>(&self, sealed: &pb::EncryptedMessage) -> M {
        M::decode(self.envelope().open(&sealed.body).unwrap().as_slice()).unwrap()
    }

    fn envelope(&self) -> Envelope {
        Envelope::new(&self.private, &self.server)
    }
}

pub(crate) struct TestSync {
    stream: Streaming<pb::EncryptedMessage>,
    envelope: Envelope,
}

impl TestSync {
    /// The next message; `None` at the orderly end.
    pub(crate) async fn next(&mut self) -> Result<Option<pb::SyncResponse>, Status> {
        let sealed = timeout(PATIENCE, self.stream.message())
            .await
            .expect("a message in time")?;
        Ok(sealed.map(|sealed| {
            let clear = self.envelope.open(&sealed.body).unwrap();
            pb::SyncResponse::decode(clear.as_slice()).unwrap()
        }))
    }

    pub(crate) async fn expect(&mut self) -> pb::SyncResponse {
        self.next().await.unwrap().expect("a message before the end")
    }

    /// Maps until one fits.
    pub(crate) async fn until(&mut self, fits: impl Fn(&pb::NetworkMap) -> bool) -> pb::NetworkMap {
        loop {
            let map = self.expect().await.network_map;
            if let Some(map) = map.filter(|map| fits(map)) {
                return map;
            }
        }
    }
}
