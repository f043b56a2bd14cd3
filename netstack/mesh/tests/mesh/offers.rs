//! What our client says to a peer that is played by the test.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use meshgate_mesh::Mesh;
use meshgate_proto::WgPrivateKey;
use meshgate_proto::relay::{Frame, PeerHash};
use meshgate_proto::signal::{Connectivity, IceCredentials, SignalBody};
use tokio::sync::mpsc;

use crate::world::{SOON, World, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_offers_without_ice_and_names_the_relay_byte_for_byte() {
    let mut stage = Stage::new(KeyOrder::OursIsGreater).await;
    stage.dial();

    until("an OFFER came", || {
        !stage.world.exchange.said_to(&stage.peer).is_empty()
    })
    .await;

    assert_eq!(
        stage.world.exchange.said_to(&stage.peer)[0],
        SignalBody::Offer(stage.without_ice())
    );
    assert_eq!(stage.next_packet().await[0], 1, "a handshake initiation");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_follower_waits_for_the_controllers_handshake() {
    let mut stage = Stage::new(KeyOrder::PeersIsGreater).await;
    let before = std::time::Instant::now();
    stage.dial();

    stage.next_packet().await;

    assert!(before.elapsed().as_secs_f64() > 1.5, "{:?}", before.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_with_ice_is_answered_without_and_gets_no_candidates() {
    let mut stage = Stage::new(KeyOrder::OursIsGreater).await;
    let mut offer = stage.without_ice();
    offer.ice = Some(IceCredentials {
        ufrag: "CZETRHZTRWrKKduH".to_owned(),
        password: "PcHObAmZRMbcaNdUVhVhjOXvxomnFtgl".to_owned(),
    });
    offer.session_id = Some(vec![1, 2, 3, 4, 5]);

    stage.say(SignalBody::Offer(offer));
    stage.next_packet().await;

    let answer = SignalBody::Answer(stage.without_ice());
    until("an ANSWER came", || {
        stage.world.exchange.said_to(&stage.peer).contains(&answer)
    })
    .await;
    let said = stage.world.exchange.said_to(&stage.peer);
    assert!(
        !said.iter().any(|body| matches!(body, SignalBody::Candidate(_))),
        "{said:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_comes_before_the_map_names_its_sender_is_answered_afterwards() {
    let stage = Stage::new(KeyOrder::OursIsGreater).await;
    let newcomer = WgPrivateKey::generate();
    let offer = SignalBody::Offer(stage.without_ice());
    stage
        .world
        .exchange
        .say(&newcomer, stage.mesh.public_key(), offer);
    stage.say(SignalBody::Offer(stage.without_ice()));
    until("the peer was answered", || {
        !stage.world.exchange.said_to(&stage.peer).is_empty()
    })
    .await;
    assert_eq!(stage.world.exchange.said_to(&newcomer), []);

    stage.world.office.register(newcomer.public(), "newcomer");
    stage.world.office.publish();

    until("the newcomer was answered", || {
        !stage.world.exchange.said_to(&newcomer).is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_after_go_idle_offers_at_once() {
    let mut stage = Stage::new(KeyOrder::OursIsGreater).await;
    stage.say(SignalBody::Offer(stage.without_ice()));
    stage.next_packet().await;
    let second = WgPrivateKey::generate();
    stage.world.office.register(second.public(), "second");
    stage.world.office.publish();
    until("the second peer is known", || stage.mesh.peers().len() == 2).await;

    stage.say(SignalBody::GoIdle);
    let offer = SignalBody::Offer(stage.without_ice());
    stage.world.exchange.say(&second, stage.mesh.public_key(), offer);
    until("what followed GO_IDLE was answered", || {
        !stage.world.exchange.said_to(&second).is_empty()
    })
    .await;
    let before = stage.offers();
    stage.dial();

    until("an OFFER came", || stage.offers() > before).await;
}

enum KeyOrder {
    OursIsGreater,
    PeersIsGreater,
}

/// A client, and a peer that is online at the relay and played by the test.
struct Stage {
    world: World,
    mesh: Mesh,
    peer: WgPrivateKey,
    frames: mpsc::Receiver<Bytes>,
}

impl Stage {
    async fn new(order: KeyOrder) -> Self {
        let world = World::start();
        let config = world.config("ours");
        let ours = config.private_key.public();
        let peer = loop {
            let peer = WgPrivateKey::generate();
            if ours.controls(&peer.public()) == matches!(order, KeyOrder::OursIsGreater) {
                break peer;
            }
        };
        world.office.register(peer.public(), "peer");
        let frames = world.hub.place(PeerHash::of(&peer.public()));
        let mesh = world.join(config).await;
        Self {
            world,
            mesh,
            peer,
            frames,
        }
    }

    fn dial(&self) {
        let mesh = self.mesh.clone();
        let to = SocketAddr::from((Ipv4Addr::new(100, 64, 0, 1), 80));
        tokio::spawn(async move { mesh.connect(to, SOON).await });
    }

    fn offers(&self) -> usize {
        let said = self.world.exchange.said_to(&self.peer);
        said.iter()
            .filter(|body| matches!(body, SignalBody::Offer(_)))
            .count()
    }

    fn say(&self, body: SignalBody) {
        self.world.exchange.say(&self.peer, self.mesh.public_key(), body);
    }

    fn without_ice(&self) -> Connectivity {
        Connectivity {
            ice: None,
            wg_listen_port: 0,
            version: "0.77.1".to_owned(),
            relay_address: Some(self.world.hub.url().to_owned()),
            relay_ip: Some(vec![127, 0, 0, 1]),
            session_id: None,
            rosenpass_key: Vec::new(),
            rosenpass_address: String::new(),
        }
    }

    /// The next WireGuard packet that the relay has for the peer.
    async fn next_packet(&mut self) -> Bytes {
        loop {
            let frame = tokio::time::timeout(SOON, self.frames.recv())
                .await
                .unwrap()
                .unwrap();
            if let Frame::Transport { datagram, .. } = Frame::parse(&frame).unwrap() {
                return datagram;
            }
        }
    }
}
