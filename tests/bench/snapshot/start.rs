//! The start of a proxy that has to learn all services.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::future::try_join_all;
use meshgate_tests::Part;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::fleet::{Fleet, host, name};
use super::probe::{Connection, Prober};

/// Between two looks at the health address.
const LOOK: Duration = Duration::from_millis(5);
/// Between two requests of one poller.
const POLL: Duration = Duration::from_millis(5);
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_mins(2);

/// A start that nobody disturbed.
#[derive(Debug)]
pub(super) struct Start {
    /// From the start of the process until it says that its snapshot is complete.
    pub(super) wall: f64,
    /// CPU of the proxy until then.
    pub(super) cpu_until_complete: f64,
    /// CPU of the proxy until everything is reported and it has come to rest.
    pub(super) cpu: f64,
    /// CPU of management until then.
    pub(super) management_cpu: f64,
    /// From the start until then.
    pub(super) settled: f64,
    /// Memory of the proxy at rest.
    pub(super) rss_mb: f64,
    /// Memory of management at rest.
    pub(super) management_rss_mb: f64,
}

/// When services answered first, in seconds since the start of the process.
#[derive(Debug)]
pub(super) struct Answers {
    /// The first service, through the tunnel.
    pub(super) first: f64,
    /// The last service, through the tunnel.
    pub(super) last: f64,
    /// The login pages of the first, the middle and the last guarded service, where there are so many: they
    /// need no tunnel.
    pub(super) pages: Option<[f64; 3]>,
}

/// Starts the proxy again and lets it be.
pub(super) async fn undisturbed(fleet: &mut Fleet) -> anyhow::Result<Start> {
    let health = fleet.deployment.health_address();
    stop(fleet).await?;
    let management = fleet.management();
    let begin = Instant::now();
    fleet.deployment.launch(Part::Proxy);
    wait_until_complete(health).await?;
    let (wall, until_complete) = (begin.elapsed(), fleet.proxy());
    fleet.settle(&[Part::Proxy, Part::Management]).await?;
    let (rested, beside) = (fleet.proxy(), fleet.management());
    Ok(Start {
        wall: wall.as_secs_f64(),
        cpu_until_complete: until_complete.cpu.as_secs_f64(),
        cpu: rested.cpu.as_secs_f64(),
        management_cpu: beside.cpu_since(management),
        settled: begin.elapsed().as_secs_f64(),
        rss_mb: rested.rss_mb(),
        management_rss_mb: beside.rss_mb(),
    })
}

/// Starts the proxy again and asks a few services until they answer.
pub(super) async fn answers(fleet: &mut Fleet) -> anyhow::Result<Answers> {
    stop(fleet).await?;
    let prober = fleet.prober();
    let guarded: Vec<usize> = fleet.guarded().collect();
    let pages = match guarded[..] {
        [first, .., last] => vec![first, guarded[guarded.len() / 2], last],
        _ => Vec::new(),
    };
    let begin = Instant::now();
    fleet.deployment.launch(Part::Proxy);
    let open = [0, fleet.size - 1].map(|number| first_answer(&prober, number, 200, begin));
    let pages = pages
        .into_iter()
        .map(|number| first_answer(&prober, number, 401, begin));
    let (open, pages) = tokio::try_join!(try_join_all(open), try_join_all(pages))?;
    let [first, last] = open[..] else {
        anyhow::bail!("two services were asked");
    };
    fleet.settle(&[Part::Proxy, Part::Management]).await?;
    Ok(Answers {
        first,
        last,
        pages: pages.try_into().ok(),
    })
}

async fn stop(fleet: &mut Fleet) -> anyhow::Result<()> {
    fleet.settle(&[Part::Proxy, Part::Management]).await?;
    fleet.deployment.stop(Part::Proxy).await;
    fleet.settle(&[Part::Management]).await
}

/// Asks on one connection, which is made again when the edge ends it.
async fn first_answer(prober: &Prober, number: usize, status: u16, begin: Instant) -> anyhow::Result<f64> {
    let host = host(&name(number));
    let mut connection: Option<Connection> = None;
    let mut last = String::new();
    while begin.elapsed() < PATIENCE {
        let ready = match connection.take() {
            Some(open) => Ok(open),
            None => prober.connect(&host).await,
        };
        let answer = match ready {
            Ok(mut open) => {
                let answer = open.ask().await;
                connection = answer.is_ok().then_some(open);
                answer
            }
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) if answer.status == status => return Ok(begin.elapsed().as_secs_f64()),
            Ok(answer) => last = answer.status.to_string(),
            Err(error) => last = error.to_string(),
        }
        tokio::time::sleep(POLL).await;
    }
    anyhow::bail!("{host} does not answer: {last}")
}

async fn wait_until_complete(health: SocketAddr) -> anyhow::Result<()> {
    let asked = async {
        while !is_complete(health).await.unwrap_or(false) {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked)
        .await
        .context("the snapshot is not complete in time")
}

async fn is_complete(health: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(health).await?;
    stream.set_nodelay(true)?;
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: health\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.contains("\"initial_sync_complete\":true"))
}
