//! Real calls over loopback, compared with what real servers answered.

use std::collections::HashMap;

use meshgate_proto::pb::management as pb;
use meshgate_proto::{GroupId, PeerId, WgPrivateKey};
use tonic::Code;

use crate::changes::Change;
use crate::grpc::fixtures::{recorded, recorded_sync, sorted};
use crate::grpc::test_peer::{START, TestPeer, TestServer};
use crate::store::groups::GroupRow;

#[tokio::test]
async fn the_first_start_of_a_peer_goes_as_recorded() {
    let server = TestServer::start().await;
    let key = server.setup_key().await;
    let mut peer = TestPeer::connect(&server).await;

    let refused = peer.login(None).await.unwrap_err();
    let registered = peer.login(Some(&key.to_lowercase())).await.unwrap();
    let known = peer.login(None).await.unwrap();
    let first = peer.sync().await.unwrap().expect().await;

    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(registered, known);
    let recorded_login: pb::LoginResponse = recorded("peer_first_start", 13);
    let recorded_first = recorded_sync("peer_first_start", 30);
    let mut names = Names::default();
    names.peer(
        registered.peer_config.as_ref(),
        recorded_login.peer_config.as_ref(),
    );
    assert_servers(&server, registered.netbird_config.as_ref());
    assert_servers(&server, first.netbird_config.as_ref());
    assert_eq!(
        names.login(registered),
        pb::LoginResponse {
            netbird_config: None,
            ..recorded_login
        }
    );
    assert_eq!(names.sync(first), without_servers(recorded_first));
}

#[tokio::test]
async fn the_second_peer_changes_both_maps_as_recorded() {
    let server = TestServer::start().await;
    let mut first = server.member("peer1").await;
    let mut updates = first.sync().await.unwrap();
    let alone = updates.expect().await;
    let mut second = server.member("peer2").await;
    second.login(None).await.unwrap();

    let update = updates.expect().await;
    let begin = second.sync().await.unwrap().expect().await;

    let recorded_update = recorded_sync("peer_second_join_direct", 27);
    let recorded_begin = recorded_sync("peer_second_join_direct", 35);
    let mut names = Names::default();
    names.peer(alone.peer_config.as_ref(), recorded_update.peer_config.as_ref());
    names.peer(begin.peer_config.as_ref(), recorded_begin.peer_config.as_ref());
    names.text(
        first.key().to_string(),
        "ihvtealObhts5p5V0nuXv83mBd0HiWZBVg0HjxK6/Eo=",
    );
    names.text(
        second.key().to_string(),
        "ZGJQeJXx/8hF7oLpmnl0lWHw8lDQ+YpqMTAjJbq8o3Y=",
    );
    names.policy(&update, &recorded_update);
    names.ssh_keys(&[&update, &begin], &[&recorded_update, &recorded_begin]);
    assert_eq!(update.netbird_config, None, "updates tell of no servers");
    assert_servers(&server, begin.netbird_config.as_ref());
    assert_eq!(names.sync(update), without_servers(recorded_update));
    assert_eq!(names.sync(begin), without_servers(recorded_begin));
}

#[tokio::test]
async fn login_and_sync_name_the_address_in_the_same_words() {
    let server = TestServer::start().await;
    let mut peer = server.member("web").await;

    let login = peer.login(None).await.unwrap().peer_config.unwrap();
    let first = peer.sync().await.unwrap().expect().await;

    assert!(login.address.ends_with("/16"));
    assert_eq!(first.peer_config.as_ref(), Some(&login));
    assert_eq!(first.network_map.unwrap().peer_config, Some(login.clone()));
    assert_eq!(login.auto_update.unwrap().version, "disabled");
}

#[tokio::test]
async fn the_first_message_has_servers_and_later_ones_have_none() {
    let server = TestServer::start().await;
    let mut peer = server.member("a").await;
    let mut updates = peer.sync().await.unwrap();

    let first = updates.expect().await;
    server.member("b").await;
    let second = updates.expect().await;

    assert!(first.netbird_config.unwrap().relay.is_some());
    assert_eq!(second.netbird_config, None);
}

#[tokio::test]
async fn wrong_setup_keys_are_refused_for_good() {
    let server = TestServer::start().await;
    let expired = server.setup_key_with(|key| key.expires_at = Some(START)).await;
    let revoked = server.setup_key_with(|key| key.revoked = true).await;
    let used_up = server
        .setup_key_with(|key| (key.usage_limit, key.used_times) = (1, 1))
        .await;
    let mut peer = TestPeer::connect(&server).await;

    for key in [
        "11111111-2222-3333-4444-555555555555",
        &expired,
        &revoked,
        &used_up,
    ] {
        assert_eq!(
            peer.login(Some(key)).await.unwrap_err().code(),
            Code::InvalidArgument
        );
    }
    assert_eq!(peer.login(None).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_key_for_one_lets_one_in_however_many_ask_at_once() {
    let server = TestServer::start().await;
    let key = server.setup_key_with(|key| key.usage_limit = 1).await;
    let tries = (0..8).map(|_| async {
        let mut peer = TestPeer::connect(&server).await;
        peer.login(Some(&key)).await.is_ok()
    });

    let let_in = futures::future::join_all(tries).await;

    assert_eq!(let_in.into_iter().filter(|&ok| ok).count(), 1);
}

#[tokio::test]
async fn missing_meta_is_a_failed_precondition() {
    let server = TestServer::start().await;
    let mut peer = TestPeer::connect(&server).await;
    let mut request = peer.login_request(None);
    request.meta = None;

    let refused = peer.login_with(&request).await.unwrap_err();

    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn texts_that_would_fill_the_maps_of_others_are_refused_or_cut() {
    let server = TestServer::start().await;
    let key = server.setup_key().await;
    let mut peer = TestPeer::connect(&server).await;
    let mut request = peer.login_request(Some(&key));
    let keys = request.peer_keys.as_mut().unwrap();
    keys.ssh_pub_key = vec![b'k'; 100_000];

    let refused = peer.login_with(&request).await.unwrap_err();
    request.peer_keys.as_mut().unwrap().ssh_pub_key = vec![b'k'; 700];
    request.meta.as_mut().unwrap().os = "o".repeat(10_000);
    peer.login_with(&request).await.unwrap();
    peer.hostname = "h".repeat(256);
    let refused_sync = peer.sync().await.err().unwrap();

    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("sshPubKey"), "{refused}");
    assert_eq!(refused_sync.code(), Code::InvalidArgument);
    let store = &server.running.state().store;
    let row = store.peer_by_key_anywhere(&peer.key()).await.unwrap().unwrap();
    assert!(row.meta.os.len() < 200);
}

#[tokio::test]
async fn a_box_for_somebody_else_is_an_invalid_argument() {
    let server = TestServer::start().await;
    let mut peer = TestPeer::connect(&server).await;
    let mut sealed = peer.seal(&peer.login_request(None));
    sealed.wg_pub_key = WgPrivateKey::generate().public().to_string();

    let refused = peer.client.login(sealed).await.unwrap_err();

    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn extra_labels_need_a_key_that_allows_them() {
    let server = TestServer::start().await;
    let plain = server.setup_key().await;
    let generous = server
        .setup_key_with(|key| key.allow_extra_dns_labels = true)
        .await;
    let mut peer = TestPeer::connect(&server).await;
    let mut request = peer.login_request(Some(&plain));
    request.dns_labels = vec!["web".to_owned()];

    let refused = peer.login_with(&request).await.unwrap_err();
    request.setup_key = generous;
    peer.login_with(&request).await.unwrap();
    let map = peer.sync().await.unwrap().expect().await.network_map.unwrap();

    assert_eq!(refused.code(), Code::FailedPrecondition);
    let records = &map.dns_config.unwrap().custom_zones[0].records;
    assert!(
        records
            .iter()
            .any(|record| record.name == "web.netbird.selfhosted")
    );
}

#[tokio::test]
async fn a_setup_key_gives_its_groups_and_its_kind() {
    let server = TestServer::start().await;
    let state = server.running.state();
    let group = GroupRow {
        id: GroupId::new("staff"),
        account_id: server.scope.account().clone(),
        name: "staff".to_owned(),
        issued: "api".to_owned(),
        resources: Vec::new(),
        created_at: START,
    };
    let mut tx = state.store.begin().await.unwrap();
    tx.insert_group(&group).await.unwrap();
    tx.commit().await.unwrap();
    let key = server
        .setup_key_with(|key| {
            key.auto_groups = vec![group.id.clone(), GroupId::new("gone")];
            key.ephemeral = true;
        })
        .await;
    let mut peer = TestPeer::connect(&server).await;

    peer.login(Some(&key)).await.unwrap();

    let row = state
        .store
        .peer_by_key_anywhere(&peer.key())
        .await
        .unwrap()
        .unwrap();
    let groups = state.store.groups_of_peer(&server.scope, &row.id).await.unwrap();
    assert!(row.ephemeral);
    assert_eq!(groups.len(), 2, "All and staff");
    assert!(groups.contains(&group.id));
}

#[tokio::test]
async fn a_name_that_is_taken_gets_the_end_of_the_address() {
    let server = TestServer::start().await;
    server.member("web").await;

    let config = server
        .member("web")
        .await
        .login(None)
        .await
        .unwrap()
        .peer_config
        .unwrap();

    let address = config.address.split('/').next().unwrap();
    let ends: Vec<&str> = address.split('.').skip(2).collect();
    assert_eq!(config.fqdn, format!("web-{}.netbird.selfhosted", ends.join("-")));
}

#[tokio::test]
async fn a_peer_without_version_6_gets_none_until_it_asks() {
    let server = TestServer::start().await;
    let key = server.setup_key().await;
    let mut peer = TestPeer::connect(&server).await;
    let mut request = peer.login_request(Some(&key));
    request.meta.as_mut().unwrap().capabilities = vec![1];

    let before = peer.login_with(&request).await.unwrap().peer_config.unwrap();
    let after = peer.login(None).await.unwrap().peer_config.unwrap();

    assert!(before.address_v6.is_empty());
    assert_eq!(after.address_v6.len(), 17);
    assert_eq!(before.address, after.address);
}

#[tokio::test]
async fn a_sync_without_meta_leaves_what_is_known() {
    let server = TestServer::start().await;
    let mut peer = server.member("a").await;
    let meta = || async {
        let row = server
            .running
            .state()
            .store
            .peer_by_key_anywhere(&peer.key())
            .await;
        row.unwrap().unwrap().meta
    };
    let before = meta().await;

    let sealed = peer.seal(&pb::SyncRequest { meta: None });
    let mut client = peer.client.clone();
    client.sync(sealed).await.unwrap();

    assert_eq!(meta().await, before);
    assert_eq!(before.hostname, "a");
    peer.logout().await.unwrap();
}

#[tokio::test]
async fn what_the_store_does_not_answer_never_ends_a_peer_for_good() {
    let server = TestServer::start().await;
    let mut peer = server.member("a").await;
    server.running.state().store.close().await;

    for refused in [
        peer.login(None).await.unwrap_err(),
        peer.sync().await.err().unwrap(),
        peer.logout().await.unwrap_err(),
    ] {
        assert_eq!(refused.code(), Code::Unavailable);
    }
}

#[tokio::test]
async fn a_deleted_peer_gets_an_empty_map_then_the_end_then_a_refusal() {
    let server = TestServer::start().await;
    let mut staying = server.member("a").await;
    let mut leaving = server.member("b").await;
    let mut others = staying.sync().await.unwrap();
    let mut updates = leaving.sync().await.unwrap();
    updates.expect().await;

    let row = server
        .running
        .state()
        .store
        .peer_by_key_anywhere(&leaving.key())
        .await;
    let peer = row.unwrap().unwrap().id;
    delete(&server, &peer, &leaving).await;
    let last = updates.expect().await;
    let end = updates.next().await.unwrap();
    let refused = leaving.sync().await.err().unwrap();
    let seen = others.until(|map| map.remote_peers.is_empty()).await;

    let mut recorded = recorded_sync("peer_deleted", 0);
    recorded.network_map.as_mut().unwrap().serial = last.network_map.as_ref().unwrap().serial;
    assert_eq!(last, recorded);
    assert_eq!(end, None);
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(seen.remote_peers_is_empty && seen.firewall_rules_is_empty);
}

#[tokio::test]
async fn logout_deletes_the_peer_once() {
    let server = TestServer::start().await;
    let mut peer = server.member("a").await;

    peer.logout().await.unwrap();
    let again = peer.logout().await.unwrap_err();

    assert_eq!(again.code(), Code::NotFound);
    assert_eq!(peer.login(None).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_newer_stream_ends_the_older_one() {
    let server = TestServer::start().await;
    let mut peer = server.member("a").await;
    let mut older = peer.sync().await.unwrap();
    older.expect().await;

    let mut newer = peer.sync().await.unwrap();
    newer.expect().await;
    let ended = older.next().await.unwrap_err();
    server.member("b").await;

    assert_eq!(ended.code(), Code::Aborted);
    newer.until(|map| map.remote_peers.len() == 1).await;
}

#[tokio::test]
async fn serials_never_go_back_over_a_restart() {
    let server = TestServer::start().await;
    let mut first = server.member("a").await;
    let mut updates = first.sync().await.unwrap();
    updates.expect().await;
    let mut second = server.member("b").await;
    updates.until(|map| map.remote_peers.len() == 1).await;
    second.logout().await.unwrap();
    let before = updates.until(|map| map.remote_peers.is_empty()).await.serial;

    let private = first.private.clone();
    drop((first, second, updates));
    let server = server.restart().await;
    let mut again = TestPeer::connect_as(&server, private).await;
    let after = again
        .sync()
        .await
        .unwrap()
        .expect()
        .await
        .network_map
        .unwrap()
        .serial;

    assert!(after >= before, "{after} < {before}");
}

#[tokio::test]
async fn shutdown_ends_streams_so_that_peers_come_back() {
    let server = TestServer::start().await;
    let mut peer = server.member("a").await;
    let mut updates = peer.sync().await.unwrap();
    updates.expect().await;

    server.running.shutdown().await;

    assert_eq!(updates.next().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn what_is_not_offered_says_so() {
    let server = TestServer::start().await;
    let mut peer = TestPeer::connect(&server).await;
    let sealed = peer.seal(&pb::Empty {});

    let device = peer
        .client
        .get_device_authorization_flow(sealed.clone())
        .await
        .unwrap_err();
    let pkce = peer
        .client
        .get_pkce_authorization_flow(sealed.clone())
        .await
        .unwrap_err();
    let expose = peer.client.create_expose(sealed.clone()).await.unwrap_err();
    let job = peer
        .client
        .job(futures::stream::iter([sealed]))
        .await
        .unwrap_err();
    peer.client.is_healthy(pb::Empty {}).await.unwrap();

    assert_eq!(device.code(), Code::NotFound);
    assert_eq!(pkce.code(), Code::NotFound);
    assert_eq!(expose.code(), Code::Unimplemented);
    assert_eq!(job.code(), Code::Unimplemented);
}

async fn delete(server: &TestServer, peer: &PeerId, who: &TestPeer) {
    let state = server.running.state();
    let mut tx = state.store.begin().await.unwrap();
    assert!(tx.delete_peer(&server.scope, peer).await.unwrap());
    tx.commit().await.unwrap();
    state.changes.publish(Change::PeerRemoved {
        account: server.scope.account().clone(),
        peer: peer.clone(),
        key: who.key(),
    });
}

fn assert_servers(server: &TestServer, servers: Option<&pb::NetbirdConfig>) {
    let address = server.running.local_addr().to_string();
    let servers = servers.unwrap();
    let signal = servers.signal.as_ref().unwrap();
    let relay = servers.relay.as_ref().unwrap();

    assert_eq!(signal.uri, address);
    assert_eq!(signal.protocol(), pb::host_config::Protocol::Http);
    assert_eq!(relay.urls, [format!("rel://{address}")]);
    assert_eq!(relay.urls, [server.running.relay().instance_url()]);
    assert_eq!(relay.token_payload, (START.as_secs() + 12 * 3600).to_string());
    assert!(servers.metrics.is_some() && servers.flow.is_none() && servers.turns.is_empty());
}

fn without_servers(message: pb::SyncResponse) -> pb::SyncResponse {
    sorted(pb::SyncResponse {
        netbird_config: None,
        ..message
    })
}

/// Our addresses, keys and ids, and the recorded ones that stand in the same places.
#[derive(Default)]
struct Names {
    texts: HashMap<String, String>,
    bytes: HashMap<Vec<u8>, Vec<u8>>,
}

impl Names {
    fn text(&mut self, ours: impl Into<String>, recorded: impl Into<String>) {
        self.texts.insert(ours.into(), recorded.into());
    }

    fn peer(&mut self, ours: Option<&pb::PeerConfig>, recorded: Option<&pb::PeerConfig>) {
        let (ours, recorded) = (ours.unwrap(), recorded.unwrap());
        self.text(&ours.address, &recorded.address);
        let v4 = |config: &pb::PeerConfig| -> std::net::Ipv4Addr {
            config.address.split('/').next().unwrap().parse().unwrap()
        };
        let v6 = |config: &pb::PeerConfig| -> std::net::Ipv6Addr {
            let bytes: [u8; 16] = config.address_v6[..16].try_into().unwrap();
            bytes.into()
        };
        self.text(v4(ours).to_string(), v4(recorded).to_string());
        self.text(v6(ours).to_string(), v6(recorded).to_string());
        self.text(format!("{}/32", v4(ours)), format!("{}/32", v4(recorded)));
        self.text(format!("{}/128", v6(ours)), format!("{}/128", v6(recorded)));
        let prefixed = |bytes: &[u8], prefix: u8| [bytes, &[prefix]].concat();
        self.bytes
            .insert(ours.address_v6.clone(), recorded.address_v6.clone());
        self.bytes.insert(
            prefixed(&v4(ours).octets(), 32),
            prefixed(&v4(recorded).octets(), 32),
        );
        self.bytes.insert(
            prefixed(&v6(ours).octets(), 128),
            prefixed(&v6(recorded).octets(), 128),
        );
    }

    fn policy(&mut self, ours: &pb::SyncResponse, recorded: &pb::SyncResponse) {
        let id = |message: &pb::SyncResponse| {
            message.network_map.as_ref().unwrap().firewall_rules[0]
                .policy_id
                .clone()
        };
        self.bytes.insert(id(ours), id(recorded));
    }

    /// All our peers repeat one recorded SSH key; each recorded peer has its own.
    fn ssh_keys(&mut self, ours: &[&pb::SyncResponse], recorded: &[&pb::SyncResponse]) {
        let key = |message: &pb::SyncResponse| {
            let peer = message.network_map.as_ref().unwrap().remote_peers[0].clone();
            (peer.wg_pub_key, peer.ssh_config.unwrap().ssh_pub_key)
        };
        for (ours, recorded) in ours.iter().zip(recorded) {
            let name = [key(ours).0.into_bytes(), key(ours).1].concat();
            self.bytes.insert(name, key(recorded).1);
        }
    }

    fn login(&self, message: pb::LoginResponse) -> pb::LoginResponse {
        pb::LoginResponse {
            netbird_config: None,
            peer_config: message.peer_config.map(|config| self.config(config)),
            ..message
        }
    }

    fn sync(&self, message: pb::SyncResponse) -> pb::SyncResponse {
        let mut message = without_servers(message);
        message.peer_config = message.peer_config.map(|config| self.config(config));
        let map = message.network_map.as_mut().unwrap();
        map.peer_config = map.peer_config.take().map(|config| self.config(config));
        for peer in &mut map.remote_peers {
            let ssh = peer.ssh_config.as_mut().unwrap();
            let name = [peer.wg_pub_key.clone().into_bytes(), ssh.ssh_pub_key.clone()].concat();
            self.replace_bytes_named(&name, &mut ssh.ssh_pub_key);
            self.replace(&mut peer.wg_pub_key);
            peer.allowed_ips.iter_mut().for_each(|ip| self.replace(ip));
        }
        for rule in &mut map.firewall_rules {
            self.replace(&mut rule.peer_ip);
            self.replace_bytes(&mut rule.policy_id);
            rule.source_prefixes
                .iter_mut()
                .for_each(|prefix| self.replace_bytes(prefix));
        }
        for zone in map.dns_config.iter_mut().flat_map(|dns| &mut dns.custom_zones) {
            zone.records
                .iter_mut()
                .for_each(|record| self.replace(&mut record.r_data));
        }
        sorted(message)
    }

    fn config(&self, mut config: pb::PeerConfig) -> pb::PeerConfig {
        self.replace(&mut config.address);
        self.replace_bytes(&mut config.address_v6);
        config
    }

    fn replace(&self, text: &mut String) {
        if let Some(recorded) = self.texts.get(text) {
            text.clone_from(recorded);
        }
    }

    fn replace_bytes(&self, bytes: &mut Vec<u8>) {
        let name = bytes.clone();
        self.replace_bytes_named(&name, bytes);
    }

    fn replace_bytes_named(&self, name: &[u8], bytes: &mut Vec<u8>) {
        if let Some(recorded) = self.bytes.get(name) {
            bytes.clone_from(recorded);
        }
    }
}
