//! Connections of the tunnel between two nodes of ours.

use super::node::Pair;
use super::{Bar, Report, idle_cpu, kib_each, settled};
use crate::report::median;

/// Connections that wait, after one request each.
const CONNECTIONS: usize = 10_000;
/// Connections that were used, and what came over each.
const USED: usize = 1000;
const USED_BYTES: usize = 1_000_000;
/// What the active stream carries in one turn, and how many turns each pair gets.
const STREAM_BYTES: usize = 300_000_000;
const TURNS: usize = 7;

pub(super) async fn measure(report: &mut Report) -> anyhow::Result<()> {
    let mut busy = Pair::start().await?;
    let mut free = Pair::start().await?;
    let pids = busy.pids();
    let before = settled(&pids).await;

    let opening = busy.order(&format!("hold {CONNECTIONS} 96")).await?;
    let held = settled(&pids).await;
    let cpu = idle_cpu(&pids).await;
    let (with, without) = compare(&mut busy, &mut free).await?;
    let closing = busy.order("close").await?;
    let closed = settled(&pids).await;

    busy.order(&format!("hold {USED} {USED_BYTES}")).await?;
    let used = settled(&pids).await;
    busy.order("close").await?;
    busy.order(&format!("hold {CONNECTIONS} 96")).await?;
    let again = settled(&pids).await;

    let each: Vec<f64> = (0..2)
        .map(|node| kib_each(before[node], held[node], CONNECTIONS))
        .collect();
    report
        .row("idle.tunnel_conn_kib", "KiB", each[0].max(each[1]))
        .bar(Bar::AtMost(12.0));
    report.row("idle.tunnel_conn_server_kib", "KiB", each[0]);
    report.row("idle.tunnel_conn_client_kib", "KiB", each[1]);
    report
        .row("idle.active_stream_loss_pct", "%", (1.0 - with / without) * 100.0)
        .bar(Bar::Below(5.0));
    report
        .row("idle.active_stream_mbit", "Mbit/s", with)
        .beside("without_idle", without);
    report.row("idle.tunnel_cpu_server_pct", "% of core", cpu[0]);
    report.row("idle.tunnel_cpu_client_pct", "% of core", cpu[1]);
    report.row("idle.tunnel_open_s", "s", opening);
    report.row("idle.tunnel_close_s", "s", closing);
    for (node, name) in ["server", "client"].into_iter().enumerate() {
        let id = |what: &str| format!("idle.tunnel_{what}_{name}_kib");
        let each = |usage: &[_], count| kib_each(before[node], usage[node], count);
        report.row(id("after_close"), "KiB", each(&closed, CONNECTIONS));
        report.row(id("used_1mb"), "KiB", each(&used, USED));
        report.row(id("opened_again"), "KiB", each(&again, CONNECTIONS));
    }
    Ok(())
}

/// Throughput of one stream of each pair in turns, in Mbit/s; the other pair stands still meanwhile.
async fn compare(busy: &mut Pair, free: &mut Pair) -> anyhow::Result<(f64, f64)> {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        free.signal("STOP").await?;
        with.push(stream(busy).await?);
        free.signal("CONT").await?;
        busy.signal("STOP").await?;
        without.push(stream(free).await?);
        busy.signal("CONT").await?;
    }
    Ok((median(with), median(without)))
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
async fn stream(pair: &mut Pair) -> anyhow::Result<f64> {
    let seconds = pair.order(&format!("stream {STREAM_BYTES}")).await?;
    Ok(STREAM_BYTES as f64 * 8.0 / seconds / 1e6)
}
