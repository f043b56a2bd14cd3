//! What one request costs the proxy when requests are spread over hosts, beside requests to one host.

use anyhow::Context as _;
use futures::future::try_join_all;

use super::fleet::{Fleet, host, name, ratio};
use super::probe::{Connection, Prober};
use crate::report::median;

/// Connections of either kind.
const CONNECTIONS: usize = 100;
/// Requests on each in one round.
const REQUESTS: usize = 30;
/// Rounds of either kind, taking turns.
const ROUNDS: usize = 5;

/// CPU of the proxy for one request, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lookup {
    /// Each connection to a host of its own, spread over all.
    pub(super) spread: f64,
    /// All connections to one host.
    pub(super) one_host: f64,
}

/// Measures both ways in turns, on connections that are open already.
pub(super) async fn measure(fleet: &Fleet) -> anyhow::Result<Lookup> {
    let prober = fleet.prober();
    let numbers: Vec<usize> = fleet.spread(CONNECTIONS).collect();
    let mut spread = open(&prober, numbers.iter().copied()).await?;
    let mut one = open(&prober, numbers.iter().map(|_| fleet.size - 1)).await?;
    let (mut figures, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        figures.push(round(fleet, &mut spread).await?);
        beside.push(round(fleet, &mut one).await?);
    }
    Ok(Lookup {
        spread: median(figures),
        one_host: median(beside),
    })
}

/// The first request brings certificate and connection to the origin into being.
async fn open(prober: &Prober, numbers: impl Iterator<Item = usize>) -> anyhow::Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for number in numbers {
        let host = host(&name(number));
        let mut connection = prober.connect(&host).await?;
        let status = connection.ask().await?.status;
        let connection = (status == 200).then_some(connection);
        connections.push(connection.with_context(|| format!("{host} answers {status}"))?);
    }
    Ok(connections)
}

async fn round(fleet: &Fleet, connections: &mut [Connection]) -> anyhow::Result<f64> {
    let requests = connections.len() * REQUESTS;
    let before = fleet.proxy();
    let asked = connections.iter_mut().map(|connection| async move {
        for _ in 0..REQUESTS {
            connection.ask().await?;
        }
        Ok::<_, std::io::Error>(())
    });
    try_join_all(asked).await?;
    Ok(fleet.proxy().cpu_since(before) * 1e6 / ratio(requests, 1))
}
