//! Whether everything works, as a user would find out.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::scene::{PARTS, Scene};
use crate::HttpVersion;
use crate::deployment::{Part, Paths};

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(50);

/// How long a new service may take before the next look.
const CHANGE: Duration = Duration::from_secs(3);

/// Longest wait until everything works again without a hand.
pub(super) const GIVE_UP: Duration = Duration::from_secs(90);

/// Polls until everything works, and returns when it did.
///
/// # Errors
/// Tells what still does not work, or that a part has ended by itself.
pub(super) async fn await_whole(scene: &mut Scene) -> Result<Instant, String> {
    let deadline = Instant::now() + GIVE_UP;
    loop {
        if let Some(ended) = ended(scene) {
            return Err(ended);
        }
        let look = tokio::time::timeout(GIVE_UP, look(scene)).await;
        match look.unwrap_or_else(|_| Err("a look did not end".to_owned())) {
            Ok(()) => return Ok(Instant::now()),
            Err(why) if Instant::now() >= deadline => return Err(why),
            Err(_) => tokio::time::sleep(INTERVAL).await,
        }
    }
}

/// A part that has ended although nobody asked it to.
fn ended(scene: &mut Scene) -> Option<String> {
    PARTS.into_iter().find_map(|part| {
        let status = scene.deployment.ended(part)?;
        Some(format!("{part} ended by itself with {status}"))
    })
}

async fn look(scene: &Scene) -> Result<(), String> {
    let deployment = &scene.deployment;
    for version in HttpVersion::ALL {
        let client = deployment.client(version);
        client
            .expect(&scene.service.domain, "/new-connection", 200)
            .await?;
    }
    proxy_is_healthy(scene).await?;
    let peers = deployment.rest().get("/api/peers").await?;
    let agent = &scene.probe["targets"][0]["target_id"];
    let connected = peers
        .as_array()
        .into_iter()
        .flatten()
        .any(|peer| peer["id"] == *agent && peer["connected"] == true);
    if !connected {
        return Err(format!("{} is not connected: {peers}", Part::Agent));
    }
    changes_arrive(scene).await
}

async fn proxy_is_healthy(scene: &Scene) -> Result<(), String> {
    let (_, text) = scene.deployment.health("/healthz").await?;
    let health: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
    let wanted = match scene.paths {
        Paths::Direct => "peers_p2p",
        Paths::Relay => "peers_relayed",
    };
    let clients = health["clients"].as_object();
    let on_path = clients
        .into_iter()
        .flatten()
        .any(|(_, client)| client["healthy"] == true && client[wanted].as_u64() >= Some(1));
    if on_path && health["checks"]["management_connected"] == true {
        Ok(())
    } else {
        Err(format!("the proxy's health: {text}"))
    }
}

/// Makes a service, waits until it answers, and takes it away again.
async fn changes_arrive(scene: &Scene) -> Result<(), String> {
    const SERVICES: &str = "/api/reverse-proxies/services";
    let rest = scene.deployment.rest();
    let domain = scene.probe["domain"].as_str().unwrap_or_default();
    let services = rest.get(SERVICES).await?;
    for left in services.as_array().into_iter().flatten() {
        if left["domain"] == domain {
            let id = left["id"].as_str().unwrap_or_default();
            rest.delete(&format!("{SERVICES}/{id}")).await?;
        }
    }
    let created = rest.post(SERVICES, &scene.probe).await?;
    let client = scene.deployment.client(HttpVersion::H1);
    let deadline = Instant::now() + CHANGE;
    while let Err(why) = client.expect(domain, "/", 200).await {
        if Instant::now() >= deadline {
            return Err(format!("a new service does not answer: {why}"));
        }
        tokio::time::sleep(INTERVAL).await;
    }
    let id = created["id"].as_str().unwrap_or_default();
    rest.delete(&format!("{SERVICES}/{id}")).await.map(|_| ())
}
