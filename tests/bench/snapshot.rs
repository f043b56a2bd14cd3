//! What many services cost: the start of a proxy, its look-ups, and one change among them.
//!
//! All services belong to one account and lead to one origin behind one agent. They are made through the REST
//! API, several at a time, while the proxy is connected; the start that is measured comes after that. A start
//! runs twice: once undisturbed, for CPU and wall, and once with pollers, for the times of first answers.

mod changes;
mod fleet;
mod lookup;
mod ports;
mod probe;
mod start;

use self::changes::Changes;
use self::fleet::Fleet;
use self::ports::Ports;
use self::start::{Answers, Start};
use crate::report::{Bar, Report};

/// How many services, and what that is called in the rows.
const SIZES: [(usize, &str); 3] = [(100, "100"), (1_000, "1k"), (10_000, "10k")];

/// Measures all sizes in one deployment that grows.
pub(crate) async fn run() -> anyhow::Result<Report> {
    let mut report = Report::new("snapshot");
    let mut fleet = Fleet::start().await?;
    let mut memory = Vec::new();
    for (size, name) in SIZES {
        fleet.grow(size).await?;
        let start = start::undisturbed(&mut fleet).await?;
        memory.push((size, start.rss_mb));
        let answers = start::answers(&mut fleet).await?;
        let lookup = lookup::measure(&fleet).await?;
        write_start(&mut report, name, &start, &answers);
        let figure = format!("snapshot.{name}.request_cpu_us");
        report
            .row(figure, "µs", lookup.spread)
            .beside("one_host", lookup.one_host);
    }
    if let [(fewest, small), .., (most, large)] = memory[..] {
        report.row(
            "snapshot.kib_per_service",
            "KiB",
            (large - small) * 1e6 / 1024.0 / fleet::ratio(most - fewest, 1),
        );
    }
    write_changes(&mut report, &changes::measure(&mut fleet).await?);
    write_ports(&mut report, ports::measure(&fleet).await?);
    Ok(report)
}

fn write_start(report: &mut Report, name: &str, start: &Start, answers: &Answers) {
    let mut row = |id: &str, unit, figure, limit: Option<f64>| {
        let row = report.row(format!("snapshot.{name}.{id}"), unit, figure);
        if let Some(limit) = limit.filter(|_| name == "10k") {
            row.bar(Bar::AtMost(limit));
        }
    };
    row("cpu_s", "s", start.cpu, Some(1.0));
    row("cpu_until_complete_s", "s", start.cpu_until_complete, None);
    row("wall_s", "s", start.wall, Some(2.0));
    row("management_cpu_s", "s", start.management_cpu, None);
    row("settled_s", "s", start.settled, None);
    row("rss_mb", "MB", start.rss_mb, None);
    row("management_rss_mb", "MB", start.management_rss_mb, None);
    row("first_answer_s", "s", answers.first, None);
    row("last_answer_s", "s", answers.last, None);
    let pages = ["first_page_s", "middle_page_s", "last_page_s"];
    for (id, page) in pages.into_iter().zip(answers.pages.iter().flatten()) {
        row(id, "s", *page, None);
    }
}

fn write_changes(report: &mut Report, changes: &Changes) {
    let all = changes.all();
    report
        .row("change.10k.enforced_ms", "ms", all.enforced.median())
        .bar(Bar::AtMost(15.0));
    report
        .row("change.10k.p99_ms", "ms", all.enforced.percentile(99))
        .bar(Bar::AtMost(100.0));
    report.row("change.10k.answer_ms", "ms", all.answered.median());
    report.row("change.10k.answer_p99_ms", "ms", all.answered.percentile(99));
    for (kind, times) in &changes.kinds {
        report.row(
            format!("change.10k.{kind}.enforced_ms"),
            "ms",
            times.enforced.median(),
        );
        report.row(
            format!("change.10k.{kind}.answer_ms"),
            "ms",
            times.answered.median(),
        );
    }
    report.row("change.10k.probe_ms", "ms", changes.probe.median());
    report.row("change.10k.management_cpu_ms", "ms", changes.management_cpu_ms);
}

fn write_ports(report: &mut Report, ports: Ports) {
    for (name, cpu) in [("1", ports.few), ("3k", ports.many)] {
        for (part, figure) in [
            ("management", cpu.management),
            ("proxy", cpu.proxy),
            ("agent", cpu.agent),
        ] {
            report.row(format!("ports.{name}.create_{part}_cpu_ms"), "ms", figure);
        }
    }
}
