//! Faults under load: everything is started as a user would, loaded steadily, broken on purpose in random order,
//! and watched until it works again without a hand.
//!
//! [`run`] follows a [`Plan`] and gives a [`Report`]. Rules that did not hold are in the report; only what keeps
//! the drill itself from running is an error.

mod dice;
mod disk;
mod fault;
mod forwarder;
mod judge;
mod ledger;
mod load;
mod report;
mod round;
mod scene;
mod vitals;
mod whole;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use self::dice::Dice;
pub use self::fault::{Fault, UnknownFault};
use self::judge::leaks;
use self::ledger::Ledger;
use self::load::{Load, SharedLedger};
use self::report::HeldOn;
pub use self::report::Report;
use self::round::round;
use self::scene::{PARTS, Scene};
use self::vitals::{Held, Vitals};
use self::whole::{GIVE_UP, await_whole};
use crate::deployment::Paths;

/// Load before the first fault.
const WARM_UP: Duration = Duration::from_secs(4);

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(50);

/// What a drill does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides order and lengths.
    pub seed: u64,
    /// Faults for each of the paths.
    pub rounds: usize,
    /// What may go wrong.
    pub faults: Vec<Fault>,
    /// How packets go, one run for each.
    pub paths: Vec<Paths>,
    /// Which rules count.
    pub rules: Rules,
    /// Where the logs of the processes are kept; nowhere, otherwise.
    pub logs: Option<PathBuf>,
}

/// Which rules count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// All.
    All,
    /// Those without times and without waits for idle things, for machines that do other work as well.
    Outcomes,
}

/// Follows a plan.
///
/// # Errors
/// What keeps the drill itself from running, such as rights that are missing.
pub async fn run(plan: &Plan) -> Result<Report, String> {
    let mut report = Report {
        seed: plan.seed,
        ..Report::default()
    };
    let mut dice = Dice::new(plan.seed);
    for paths in &plan.paths {
        run_on(*paths, plan, &mut dice, &mut report).await?;
    }
    Ok(report)
}

async fn run_on(paths: Paths, plan: &Plan, dice: &mut Dice, report: &mut Report) -> Result<(), String> {
    let mut scene = Scene::start(paths, &plan.faults).await?;
    let ledger: SharedLedger = Arc::new(Mutex::new(Ledger::new()));
    let _load = Load::start(&scene.deployment, &scene.service.domain, &ledger);
    await_whole(&mut scene)
        .await
        .map_err(|why| format!("it does not even start: {why}"))?;
    let mut held = warm_up(&scene, &ledger).await?;

    for fault in dice.deal(&plan.faults, plan.rounds) {
        for (held, part) in held.iter_mut().zip(PARTS) {
            let now = Vitals::ask(scene.deployment.process(part)).await;
            held.highest = held.highest.max(now);
        }
        let round = round(&mut scene, fault, plan.rules, &ledger, dice).await;
        eprintln!("{:3} {}", report.rounds.len() + 1, round.line());
        let lasting = round.whole_ms.is_none();
        report.broken.extend(round.broken.iter().cloned());
        report.rounds.push(round);
        if lasting {
            break;
        }
    }
    leaks(&scene, &mut held, plan.rules, &mut report.broken).await;
    report.held.extend(held.into_iter().map(|held| HeldOn {
        paths: name(paths),
        held,
    }));
    if let Some(folder) = &plan.logs {
        keep_logs(&scene, folder).map_err(|error| format!("cannot keep the logs: {error}"))?;
    }
    Ok(())
}

/// Loads until every lane has succeeded, then looks for a while at what the processes hold.
async fn warm_up(scene: &Scene, ledger: &SharedLedger) -> Result<Vec<Held>, String> {
    let begun = Instant::now();
    {
        let mut ledger = ledger.lock();
        ledger.open(begun);
        ledger.heal(begun);
    }
    recovered(ledger).await?;
    let mut held: Vec<Held> = PARTS
        .into_iter()
        .map(|part| Held::new(part, Vitals::default()))
        .collect();
    let end = Instant::now() + WARM_UP;
    while Instant::now() < end {
        for (held, part) in held.iter_mut().zip(PARTS) {
            let now = Vitals::ask(scene.deployment.process(part)).await;
            if now.tasks == 0 {
                return Err(format!("{part} does not tell how many tasks it has"));
            }
            held.base = held.base.max(now);
        }
        tokio::time::sleep(INTERVAL).await;
    }
    for held in &mut held {
        held.highest = held.base;
    }
    let window = ledger.lock().close(Instant::now());
    if window.tallies.iter().any(|tally| tally.lost > 0) {
        return Err(format!("losses before any fault: {:?}", window.examples));
    }
    Ok(held)
}

/// Waits until every lane has succeeded since the end of the fault.
async fn recovered(ledger: &SharedLedger) -> Result<Instant, String> {
    let deadline = Instant::now() + GIVE_UP;
    loop {
        let look = ledger.lock().recovered();
        match look {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(INTERVAL).await,
            look => return look,
        }
    }
}

fn keep_logs(scene: &Scene, folder: &std::path::Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for part in PARTS {
        let from = scene.deployment.folder().join(&format!("{part}.log"));
        std::fs::copy(from, folder.join(format!("{}-{part}.log", name(scene.paths))))?;
    }
    Ok(())
}

fn name(paths: Paths) -> &'static str {
    match paths {
        Paths::Direct => "direct",
        Paths::Relay => "relay",
    }
}
