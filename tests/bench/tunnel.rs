//! Streams and requests through the tunnel alone, beside wireguard-go with kernel TCP.
//!
//! Three tunnels take turns, and medians are compared: our netstack on both ends, as between edge and agent;
//! wireguard-go with kernel TCP on both ends; and our client with a wireguard-go peer, where the peer's CPU is the
//! limit. Speed compares the first two. CPU time is that of our client with the wireguard-go peer. Meanwhile one more
//! client of ours sends paced requests to that peer for longer than the keys live.

mod keys;
pub(crate) mod lab;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;

use self::lab::{Lab, Outcome, Pairing, Trial};
use crate::report::{Bar, Report, median};

/// Turns of every trial.
const ROUNDS: usize = 3;
/// Length of one measurement in seconds.
const SECONDS: f64 = 2.0;
/// Largest inner packet, of both makes: wireguard-go's own choice.
const MTU: u16 = 1420;
/// Connections that ask for something at the same time.
const ASKING: usize = 64;
/// Paced requests go on for longer than the keys' 120 s.
const REKEY_SECONDS: f64 = 135.0;
const PACED_CONNECTIONS: usize = 4;
const PACE: Duration = Duration::from_millis(25);

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    load: &'static str,
    connections: usize,
}

const DOWN: Kind = Kind::new("down", 1);
const UP: Kind = Kind::new("up", 1);
const DOWN_16: Kind = Kind::new("down", 16);
const UP_16: Kind = Kind::new("up", 16);
const REQUESTS: Kind = Kind::new("requests", ASKING);
const KINDS: [Kind; 5] = [DOWN, UP, DOWN_16, UP_16, REQUESTS];
const PAIRINGS: [Pairing; 3] = [Pairing::OursToKernel, Pairing::Kernel, Pairing::Ours];

/// A figure of one measurement.
type Figure = fn(&Outcome) -> f64;

/// What all trials told.
#[derive(Debug, Default)]
struct Figures(BTreeMap<(Kind, Pairing), Vec<Outcome>>);

pub(crate) async fn run() -> anyhow::Result<Report> {
    let lab = Lab::start(MTU).await?;
    let rekeying = Trial {
        pace: PACE,
        ..Trial::requests(Pairing::OursBeside, PACED_CONNECTIONS, REKEY_SECONDS)
    };
    let (paced, figures) = tokio::join!(rekey(&lab, &rekeying), take_turns(&lab));
    Ok(report(&figures?, &paced?))
}

async fn take_turns(lab: &Lab) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    for _ in 0..ROUNDS {
        for kind in KINDS {
            for pairing in PAIRINGS {
                let trial = Trial::transfer(pairing, kind.load, kind.connections, SECONDS);
                let outcome = lab.measure(&trial).await?;
                ensure!(outcome.errors == 0.0, "connections broke in {trial:?}");
                figures.add(kind, pairing, outcome);
            }
        }
    }
    Ok(figures)
}

/// Sends paced requests while the keys of the tunnel are renewed.
async fn rekey(lab: &Lab, trial: &Trial) -> anyhow::Result<Outcome> {
    let (outcome, first) = tokio::join!(lab.measure(trial), async {
        // The handshake is over within the warm-up of the first trials.
        tokio::time::sleep(Duration::from_secs(10)).await;
        lab.last_handshake_beside()
    });
    let (first, last) = (first?, lab.last_handshake_beside()?);
    ensure!(
        last > first && first > 0,
        "the keys were not renewed in {REKEY_SECONDS} s"
    );
    outcome
}

fn report(figures: &Figures, paced: &Outcome) -> Report {
    let mut report = Report::new("tunnel");
    let streams = [
        ("tunnel.stream1", [DOWN, UP], 1.4),
        ("tunnel.stream16", [DOWN_16, UP_16], 2.0),
    ];
    for (id, kinds, factor) in streams {
        let megabits = |pairing| mean(kinds.map(|kind| figures.median(kind, pairing, Outcome::megabits)));
        report
            .row(id, "Mbit/s", megabits(Pairing::Ours))
            .beside("wireguard_go_tun", megabits(Pairing::Kernel))
            .bar(Bar::AtLeastTimes(factor, "wireguard_go_tun"));
        report
            .row(format!("{id}.mixed"), "Mbit/s", megabits(Pairing::OursToKernel))
            .beside("wireguard_go_tun", megabits(Pairing::Kernel));
        for kind in kinds {
            compare(&mut report, figures, id, kind);
        }
    }
    let per_gb = |pairing| mean([DOWN, UP].map(|kind| figures.median(kind, pairing, Outcome::cpu_s_per_gb)));
    report
        .row("tunnel.cpu_s_per_gb", "s/GB", per_gb(Pairing::OursToKernel))
        .beside("wireguard_go_tun", per_gb(Pairing::Kernel))
        .beside("both_ours", per_gb(Pairing::Ours))
        .bar(Bar::AtMost(1.3));
    let rows: [(&str, &str, Figure); 3] = [
        ("tunnel.request_cpu_us", "µs", Outcome::request_cpu_us),
        ("tunnel.requests", "1/s", Outcome::requests_per_second),
        ("tunnel.request_p99_ms", "ms", Outcome::p99_ms),
    ];
    for (id, unit, of) in rows {
        let value = |pairing| figures.median(REQUESTS, pairing, of);
        let row = report
            .row(id, unit, value(Pairing::OursToKernel))
            .beside("wireguard_go_tun", value(Pairing::Kernel))
            .beside("both_ours", value(Pairing::Ours));
        if id == "tunnel.request_cpu_us" {
            row.bar(Bar::AtMost(9.0));
        }
    }
    report
        .row("tunnel.rekey.errors", "", paced.errors)
        .bar(Bar::AtMost(0.0));
    report.row("tunnel.rekey.longest_ms", "ms", paced.longest_ms());
    report
}

/// Rows of one kind of transfer: speed, and CPU time of the client's side.
fn compare(report: &mut Report, figures: &Figures, id: &str, kind: Kind) {
    let rows: [(&str, &str, Figure); 2] = [
        ("", "Mbit/s", Outcome::megabits),
        (".cpu_s_per_gb", "s/GB", Outcome::cpu_s_per_gb),
    ];
    for (suffix, unit, of) in rows {
        let value = |pairing| figures.median(kind, pairing, of);
        report
            .row(format!("{id}.{}{suffix}", kind.load), unit, value(Pairing::Ours))
            .beside("wireguard_go_tun", value(Pairing::Kernel))
            .beside("mixed", value(Pairing::OursToKernel));
    }
}

impl Kind {
    const fn new(load: &'static str, connections: usize) -> Self {
        Self { load, connections }
    }
}

impl Figures {
    fn add(&mut self, kind: Kind, pairing: Pairing, outcome: Outcome) {
        self.0.entry((kind, pairing)).or_default().push(outcome);
    }

    fn median(&self, kind: Kind, pairing: Pairing, of: Figure) -> f64 {
        let outcomes = self.0.get(&(kind, pairing));
        median(outcomes.into_iter().flatten().map(of).collect())
    }
}

fn mean([one, other]: [f64; 2]) -> f64 {
    f64::midpoint(one, other)
}
