//! What a service costs that opens one more port, when its origin has many open ones already.
//!
//! Every port is a rule in the network maps of proxy and agent, so both get new maps.

use std::time::Duration;

use anyhow::anyhow;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use meshgate_tests::Part;

use super::fleet::{Fleet, ratio};
use crate::usage::Usage;

/// Ports that are open before the second look.
const MANY: u16 = 3_000;
/// Services that are made in each look.
const LOOKS: u16 = 20;
/// Between two of them: time for their maps, which would come together otherwise.
const SPACE: Duration = Duration::from_millis(100);
/// Services made at a time between the looks.
const AT_ONCE: usize = 4;
/// No two ports are neighbours.
const STEP: u16 = 7;
/// The first port.
const FIRST: u16 = 20_000;

/// CPU for one service on a port of its own, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cpu {
    /// Of management.
    pub(super) management: f64,
    /// Of the proxy.
    pub(super) proxy: f64,
    /// Of the agent.
    pub(super) agent: f64,
}

/// With few and with many open ports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    /// With one, and those of the look itself.
    pub(super) few: Cpu,
    /// With thousands.
    pub(super) many: Cpu,
}

/// Looks, opens many ports, looks again.
pub(super) async fn measure(fleet: &Fleet) -> anyhow::Result<Ports> {
    let few = look(fleet, FIRST).await?;
    stream::iter(LOOKS..MANY)
        .map(|number| create(fleet, FIRST + number * STEP))
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<_>>()
        .await?;
    let many = look(fleet, FIRST + MANY * STEP).await?;
    Ok(Ports { few, many })
}

async fn look(fleet: &Fleet, first: u16) -> anyhow::Result<Cpu> {
    const PARTS: [Part; 3] = [Part::Management, Part::Proxy, Part::Agent];
    let used = || PARTS.map(|part| Usage::of(fleet.deployment.process(part).pid()));
    fleet.settle(&PARTS).await?;
    let before = used();
    for number in 0..LOOKS {
        create(fleet, first + number * STEP).await?;
        tokio::time::sleep(SPACE).await;
    }
    fleet.settle(&PARTS).await?;
    let now = used();
    let [management, proxy, agent] =
        [0, 1, 2].map(|part| now[part].cpu_since(before[part]) * 1000.0 / ratio(LOOKS.into(), 1));
    Ok(Cpu {
        management,
        proxy,
        agent,
    })
}

async fn create(fleet: &Fleet, port: u16) -> anyhow::Result<()> {
    let mut request = fleet.request(&format!("port{port}"), false);
    request["targets"][0]["port"] = port.into();
    let created = fleet.rest.post("/api/reverse-proxies/services", &request).await;
    created.map(drop).map_err(|error| anyhow!("port {port}: {error}"))
}
