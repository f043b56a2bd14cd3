//! Direct paths between peers of our own kind.

use meshgate_mesh::PeerPath;

use crate::world::{Paths, World, dial, echo, until, until_on};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_peers_on_one_host_leave_the_relay_and_do_not_miss_it() {
    let mut world = World::start();
    let agent = world.join_echo(world.config_with(Paths::Direct, "agent")).await;
    let proxy = world.join(world.config_with(Paths::Direct, "proxy")).await;
    let mut stream = dial(&proxy, &agent).await;
    until_on(Paths::Direct, &proxy).await;
    until_on(Paths::Direct, &agent).await;

    world.kill();
    until("the loss was noticed", || {
        !proxy.status().relay.is_up() && !agent.status().relay.is_up()
    })
    .await;

    echo(&mut stream).await.unwrap();
    dial(&proxy, &agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_without_direct_paths_is_met_through_the_relay() {
    let world = World::start();
    let agent = world.join_echo(world.config("agent")).await;
    let proxy = world.join(world.config_with(Paths::Direct, "proxy")).await;

    dial(&proxy, &agent).await;

    assert_eq!(proxy.peers()[0].path, PeerPath::Relay);
}
