//! WebSockets that wait, through edge, tunnel and agent.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use meshgate_tests::{Access, Deployment, HttpVersion, Part};

use super::client::{Clients, Socket, echo};
use super::{Bar, Report, idle_cpu, kib_each, settled};
use crate::report::median;

/// WebSockets that wait, after one message each.
const WEBSOCKETS: usize = 5000;
/// WebSockets that carry messages, how many and how long ones.
const CHATTY: usize = 500;
const MESSAGES: usize = 100;
const MESSAGE: usize = 8000;
/// Connections that ask for nothing.
const SILENT: usize = 2000;
/// Connections before the first look, so that what is made once is there.
const WARM_UP: usize = 100;
/// What the active download carries, and how often it is repeated.
const DOWNLOAD: u64 = 100_000_000;
const DOWNLOADS: usize = 5;
const PATIENCE: Duration = Duration::from_mins(1);

pub(super) async fn measure(report: &mut Report) -> anyhow::Result<()> {
    let deployment = Deployment::start().await;
    let service = deployment.publish("idle", Access::Open).await;
    let clients = Clients::new(&deployment, &service.domain);
    let pids = [Part::Proxy, Part::Agent].map(|part| deployment.process(part).pid());
    drop(clients.open(WARM_UP).await?);
    let download = Download {
        deployment: &deployment,
        domain: &service.domain,
    };
    let mut without = download.repeat().await?;

    let before = settled(&pids).await;
    let silent = clients.connect(SILENT).await?;
    let after_silent = settled(&pids).await;
    drop(silent);

    let before_websockets = settled(&pids).await;
    let begin = Instant::now();
    let mut sockets = clients.open(WEBSOCKETS).await?;
    let opening = begin.elapsed().as_secs_f64();
    let held = settled(&pids).await;
    let cpu = idle_cpu(&pids).await;
    let with = median(download.repeat().await?);
    for socket in &mut sockets {
        echo(socket, "still there?").await?;
    }
    drop(sockets);
    let closed = settled(&pids).await;
    without.append(&mut download.repeat().await?);
    let without = median(without);

    let before_chatty = settled(&pids).await;
    let mut sockets = clients.open(CHATTY).await?;
    for socket in &mut sockets {
        chat(socket).await?;
    }
    let chatty = settled(&pids).await;
    drop(sockets);

    for (node, (name, most)) in [("edge", 20.0), ("agent", 12.0)].into_iter().enumerate() {
        let each = kib_each(before_websockets[node], held[node], WEBSOCKETS);
        report
            .row(format!("idle.websocket.{name}_kib"), "KiB", each)
            .bar(Bar::AtMost(most));
        let each = kib_each(before_websockets[node], closed[node], WEBSOCKETS);
        report.row(format!("idle.websocket.{name}_after_close_kib"), "KiB", each);
        let each = kib_each(before_chatty[node], chatty[node], CHATTY);
        report.row(format!("idle.websocket.{name}_used_kib"), "KiB", each);
        report.row(format!("idle.websocket.{name}_cpu_pct"), "% of core", cpu[node]);
    }
    let each = kib_each(before[0], after_silent[0], SILENT);
    report.row("idle.tls.edge_kib", "KiB", each);
    report.row("idle.websocket.open_s", "s", opening);
    report
        .row("idle.websocket.download_mbit", "Mbit/s", with)
        .beside("without_idle", without);
    Ok(())
}

/// Lets many messages through a WebSocket, one at a time.
async fn chat(socket: &mut Socket) -> anyhow::Result<()> {
    let text = "x".repeat(MESSAGE);
    for _ in 0..MESSAGES {
        echo(socket, &text).await?;
    }
    Ok(())
}

/// One active client.
struct Download<'a> {
    deployment: &'a Deployment,
    domain: &'a str,
}

impl Download<'_> {
    /// Throughput in Mbit/s, several times.
    async fn repeat(&self) -> anyhow::Result<Vec<f64>> {
        let mut figures = Vec::new();
        for _ in 0..DOWNLOADS {
            figures.push(self.once().await?);
        }
        Ok(figures)
    }

    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    async fn once(&self) -> anyhow::Result<f64> {
        let client = self.deployment.client(HttpVersion::H1);
        let path = format!("/bytes/1/{DOWNLOAD}");
        let begin = Instant::now();
        let answer = client.get(self.domain, &path).timeout(PATIENCE).send().await?;
        let mut length = 0;
        let mut body = answer.bytes_stream();
        while let Some(piece) = body.next().await {
            length += piece?.len() as u64;
        }
        anyhow::ensure!(length == DOWNLOAD, "{length} bytes came");
        Ok(DOWNLOAD as f64 * 8.0 / begin.elapsed().as_secs_f64() / 1e6)
    }
}
