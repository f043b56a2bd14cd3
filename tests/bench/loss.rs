//! Transfers at 20 ms round trip with lost packets, beside kernel TCP over wireguard-go on the same path.
//!
//! A relay in user space delays all datagrams and loses some of them, by a seeded generator, in both directions. For
//! uploads our TCP sends; for downloads it receives from the same kernel that the comparison uses.

use crate::report::{Report, median};
use crate::tunnel::lab::{Lab, Outcome, Pairing, Trial};

/// Turns of every trial.
const ROUNDS: usize = 2;
/// Length of one measurement in seconds.
const SECONDS: f64 = 5.0;
/// Time before it: the slow start is not what is asked for.
const WARM_UP: f64 = 1.5;
/// Largest inner packet, of both makes.
const MTU: u16 = 1280;
/// Milliseconds that a datagram takes each way.
const DELAY: u64 = 10;
const LOADS: [&str; 2] = ["up", "down"];
const PAIRINGS: [Pairing; 3] = [Pairing::OursToKernel, Pairing::Kernel, Pairing::Ours];

/// Lost datagrams in percent, and how the rows call it.
#[derive(Clone, Copy, Debug)]
struct Loss {
    percent: f64,
    name: &'static str,
}

const LOSSES: [Loss; 3] = [
    Loss {
        percent: 0.0,
        name: "0",
    },
    Loss {
        percent: 0.1,
        name: "0_1",
    },
    Loss {
        percent: 1.0,
        name: "1",
    },
];

pub(crate) async fn run() -> anyhow::Result<Report> {
    let lab = Lab::start(MTU).await?;
    let mut report = Report::new("loss");
    for load in LOADS {
        for loss in LOSSES {
            let mut figures = PAIRINGS.map(|_| Vec::new());
            for _ in 0..ROUNDS {
                for (figures, pairing) in figures.iter_mut().zip(PAIRINGS) {
                    figures.push(measure(&lab, pairing, load, loss).await?.megabits());
                }
            }
            let [ours, kernel, both] = figures.map(median);
            report
                .row(format!("loss.{load}.{}", loss.name), "Mbit/s", ours)
                .beside("wireguard_go_tun", kernel)
                .beside("both_ours", both);
        }
    }
    Ok(report)
}

async fn measure(lab: &Lab, pairing: Pairing, load: &'static str, loss: Loss) -> anyhow::Result<Outcome> {
    let (relay, endpoint) = lab.start_relay(pairing, DELAY, loss.percent).await;
    let trial = Trial {
        warm_up: WARM_UP,
        endpoint: Some(endpoint),
        ..Trial::transfer(pairing, load, 1, SECONDS)
    };
    let outcome = lab.measure(&trial).await;
    relay.kill();
    outcome
}
