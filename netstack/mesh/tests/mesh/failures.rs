//! What breaks, and how soon it is known or healed.

use std::net::SocketAddr;
use std::sync::mpsc as blocking;
use std::time::Duration;

use meshgate_mesh::{ConnectError, Mesh, MeshConfig};
use tokio::io::AsyncReadExt;

use crate::world::{Paths, SOON, World, dial, echo, spawn_echo, timed, until, until_on};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_stops_is_known_within_two_seconds_and_back_within_two_seconds() {
    stop_and_start(Paths::Relay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_stops_is_known_within_two_seconds_and_back_within_two_seconds_on_a_direct_path() {
    stop_and_start(Paths::Direct).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_whose_process_dies_is_known_within_two_seconds() {
    die(Paths::Relay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_whose_process_dies_is_known_within_two_seconds_on_a_direct_path() {
    die(Paths::Direct).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_peer_is_known_within_six_seconds_and_met_again_after_it_thaws() {
    freeze_and_thaw(Paths::Relay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_peer_is_known_within_six_seconds_and_met_again_after_it_thaws_on_a_direct_path() {
    freeze_and_thaw(Paths::Direct).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_to_a_peer_that_froze_before_it_was_met_fails_within_six_seconds() {
    let world = World::start();
    let agent = Island::start(world.config("agent"));
    let proxy = world.join(world.config("proxy")).await;
    crate::world::until_known(&proxy, &agent.mesh).await;
    let address = SocketAddr::from((agent.mesh.overlay_ip().unwrap(), 7000));

    let _frozen = agent.freeze();
    let (error, took) = timed(proxy.connect(address, Duration::from_secs(30))).await;

    assert_eq!(error.unwrap_err(), ConnectError::PeerOffline);
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_survive_a_restart_of_every_server() {
    restart_servers(Paths::Relay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_survive_a_restart_of_every_server_on_a_direct_path() {
    restart_servers(Paths::Direct).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_and_dials_do_not_need_management_and_signal() {
    let mut world = World::start();
    let agent = world.join_echo(world.config("agent")).await;
    let proxy = world.join(world.config("proxy")).await;
    let mut stream = dial(&proxy, &agent).await;

    world.kill_grpc();
    until("the loss was noticed", || {
        !proxy.status().sync.is_up() && !proxy.status().signal.is_up()
    })
    .await;

    echo(&mut stream).await.unwrap();
    dial(&proxy, &agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_relay_alone_is_healed() {
    let mut world = World::start();
    let agent = world.join_echo(world.config("agent")).await;
    let proxy = world.join(world.config("proxy")).await;
    let mut stream = dial(&proxy, &agent).await;

    world.kill_relay();
    until("the loss was noticed", || !proxy.status().relay.is_up()).await;
    world.revive_relay();

    let (result, took) = timed(echo(&mut stream)).await;
    result.unwrap();
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_fails_sync_is_asked_again_without_a_new_login_and_without_haste() {
    let world = World::start();
    world.office.fail_syncs(3);

    let mesh = Mesh::start(world.config("agent")).unwrap();
    mesh.ready(SOON).await.unwrap();

    assert_eq!(world.office.syncs(), 4);
    assert_eq!(world.office.logins().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_restarts_at_once_is_met_again() {
    restart_at_once(Paths::Relay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_restarts_at_once_is_met_again_on_a_direct_path() {
    restart_at_once(Paths::Direct).await;
}

async fn stop_and_start(paths: Paths) {
    let world = World::start();
    let config = world.config_with(paths, "agent");
    let agent = world.join_echo(config.clone()).await;
    let proxy = world.join(world.config_with(paths, "proxy")).await;
    let mut stream = dial(&proxy, &agent).await;
    until_on(paths, &proxy).await;
    let address = stream.peer_addr();

    agent.stop().await;
    let (read, took) = timed(stream.read_u8()).await;
    assert!(
        read.is_err() && took < Duration::from_secs(2),
        "{read:?} after {took:?}"
    );
    let (error, took) = timed(proxy.connect(address, SOON)).await;
    assert_eq!(error.unwrap_err(), ConnectError::PeerOffline);
    assert!(took < Duration::from_secs(2), "{took:?}");
    until("the farewell was heard", || world.hub.farewells() == 1).await;

    let agent = Mesh::start(config).unwrap();
    spawn_echo(&agent);
    let ((), took) = timed(reconnect(&proxy, address)).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

async fn die(paths: Paths) {
    let world = World::start();
    let agent = Island::start(world.config_with(paths, "agent"));
    let proxy = world.join(world.config_with(paths, "proxy")).await;
    let mut stream = dial(&proxy, &agent.mesh).await;
    until_on(paths, &proxy).await;

    agent.kill();

    let (read, took) = timed(stream.read_u8()).await;
    assert!(
        read.is_err() && took < Duration::from_secs(2),
        "{read:?} after {took:?}"
    );
}

async fn freeze_and_thaw(paths: Paths) {
    let world = World::start();
    let agent = Island::start(world.config_with(paths, "agent"));
    let proxy = world.join(world.config_with(paths, "proxy")).await;
    let mut stream = dial(&proxy, &agent.mesh).await;
    until_on(paths, &proxy).await;
    let address = stream.peer_addr();

    let frozen = agent.freeze();
    let limit = Duration::from_secs(6);
    let waiting = timed(proxy.connect(address, Duration::from_secs(30)));
    let ((dialled, dial_took), (read, read_took)) = tokio::join!(waiting, timed(stream.read_u8()));
    assert_eq!(dialled.unwrap_err(), ConnectError::PeerOffline);
    assert!(dial_took < limit, "{dial_took:?}");
    assert!(read.is_err() && read_took < limit, "{read:?} after {read_took:?}");
    let (again, took) = timed(proxy.connect(address, SOON)).await;
    assert_eq!(again.unwrap_err(), ConnectError::PeerOffline);
    assert!(took < Duration::from_secs(1), "{took:?}");

    drop(frozen);
    let ((), took) = timed(reconnect(&proxy, address)).await;
    assert!(took < Duration::from_secs(4), "{took:?}");
}

async fn restart_servers(paths: Paths) {
    let mut world = World::start();
    let agent = world.join_echo(world.config_with(paths, "agent")).await;
    let proxy = world.join(world.config_with(paths, "proxy")).await;
    let mut stream = dial(&proxy, &agent).await;
    until_on(paths, &proxy).await;
    let address = stream.peer_addr();

    world.kill();
    until("the loss was noticed", || {
        !proxy.status().relay.is_up() && !agent.status().relay.is_up()
    })
    .await;
    let waiting = {
        let proxy = proxy.clone();
        tokio::spawn(async move { proxy.connect(address, SOON).await })
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.revive();

    let (result, took) = timed(echo(&mut stream)).await;
    result.unwrap();
    assert!(took < Duration::from_secs(3), "{took:?}");
    echo(&mut waiting.await.unwrap().unwrap()).await.unwrap();
    until("everything is up again", || {
        let status = proxy.status();
        status.is_ready() && status.management.is_up() && status.sync.is_up()
    })
    .await;
    assert_eq!(world.office.logins().len(), 4, "clients must not log in again");
}

async fn restart_at_once(paths: Paths) {
    let world = World::start();
    let config = world.config_with(paths, "agent");
    let agent = world.join_echo(config.clone()).await;
    let proxy = world.join(world.config_with(paths, "proxy")).await;
    let stream = dial(&proxy, &agent).await;
    until_on(paths, &proxy).await;
    let address = stream.peer_addr();

    agent.stop().await;
    let agent = Mesh::start(config).unwrap();
    spawn_echo(&agent);

    let ((), took) = timed(reconnect(&proxy, address)).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
}

/// Dials until an echo works.
async fn reconnect(from: &Mesh, to: SocketAddr) {
    loop {
        if let Ok(mut stream) = from.connect(to, Duration::from_secs(1)).await
            && echo(&mut stream).await.is_ok()
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A client in a runtime of its own that can be frozen and killed without notice.
struct Island {
    mesh: Mesh,
    orders: blocking::Sender<Order>,
}

enum Order {
    Freeze {
        frozen: blocking::Sender<()>,
        thaw: blocking::Receiver<()>,
    },
    Die,
}

impl Island {
    fn start(config: MeshConfig) -> Self {
        let (orders, inbox) = blocking::channel::<Order>();
        let (mesh_sender, mesh) = blocking::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let mesh = runtime.block_on(async {
                let mesh = Mesh::start(config).unwrap();
                mesh.ready(SOON).await.unwrap();
                spawn_echo(&mesh);
                mesh
            });
            mesh_sender.send(mesh).unwrap();
            loop {
                match inbox.try_recv() {
                    Ok(Order::Freeze { frozen, thaw }) => {
                        frozen.send(()).unwrap();
                        let _ = thaw.recv();
                    }
                    Ok(Order::Die) | Err(blocking::TryRecvError::Disconnected) => return,
                    Err(blocking::TryRecvError::Empty) => {
                        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(5)).await });
                    }
                }
            }
        });
        Self {
            mesh: mesh.recv().unwrap(),
            orders,
        }
    }

    /// Nothing runs until the result is dropped.
    fn freeze(&self) -> blocking::Sender<()> {
        let (frozen, is_frozen) = blocking::channel();
        let (thaw_sender, thaw) = blocking::channel();
        self.orders.send(Order::Freeze { frozen, thaw }).unwrap();
        is_frozen.recv().unwrap();
        thaw_sender
    }

    fn kill(&self) {
        self.orders.send(Order::Die).unwrap();
    }
}
