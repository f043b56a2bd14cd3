//! Breaks a running Meshgate on purpose, again and again; `--help` says how.

#![expect(clippy::print_stdout, reason = "the table goes to standard output")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use meshgate_tests::deployment::Paths;
use meshgate_tests::drill::{self, Fault, Plan, Rules};

const HELP: &str = include_str!("help.txt");

fn main() -> ExitCode {
    match order(std::env::args().skip(1)) {
        Ok(Order::Help) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Order::List) => {
            for fault in Fault::ALL {
                println!("{fault:17}{}", fault.about());
            }
            ExitCode::SUCCESS
        }
        Ok(Order::Run(plan)) => match run(&plan) {
            Ok(code) => code,
            Err(error) => complain(&error),
        },
        Err(error) => complain(&error),
    }
}

fn complain(error: &str) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(2)
}

fn run(plan: &Plan) -> Result<ExitCode, String> {
    eprintln!("Seed {}", plan.seed);
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let report = runtime.block_on(async {
        tokio::select! {
            report = drill::run(plan) => report,
            _ = tokio::signal::ctrl_c() => Err("interrupted".to_owned()),
        }
    })?;
    let file = target().join("drill.json");
    std::fs::write(&file, report.json()).map_err(|error| format!("{}: {error}", file.display()))?;
    println!("{}", report.table());
    println!("Seed {}; written to {}", plan.seed, file.display());
    Ok(if report.broken().is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What the command line asks for.
enum Order {
    Help,
    List,
    Run(Plan),
}

fn order(mut arguments: impl Iterator<Item = String>) -> Result<Order, String> {
    let mut plan = Plan {
        seed: clock(),
        rounds: Fault::ALL.len(),
        faults: Fault::ALL.to_vec(),
        paths: vec![Paths::Direct, Paths::Relay],
        rules: Rules::All,
        logs: Some(target().join("drill")),
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "-h" | "--help" => return Ok(Order::Help),
            "--list" => return Ok(Order::List),
            "--seed" => plan.seed = number(&value()?)?,
            "--rounds" => plan.rounds = usize::try_from(number(&value()?)?).map_err(|e| e.to_string())?,
            "--faults" => plan.faults = faults(&value()?)?,
            "--skip" => {
                let skipped = faults(&value()?)?;
                plan.faults.retain(|fault| !skipped.contains(fault));
            }
            "--path" => plan.paths = paths(&value()?)?,
            // Cargo says so to every program that it runs as a benchmark.
            "--bench" => {}
            unknown => return Err(format!("unknown option {unknown:?}; --help shows all")),
        }
    }
    Ok(Order::Run(plan))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

fn faults(names: &str) -> Result<Vec<Fault>, String> {
    let parsed = names.split(',').map(|name| name.trim().parse::<Fault>());
    parsed
        .map(|fault| fault.map_err(|error| error.to_string()))
        .collect()
}

fn paths(name: &str) -> Result<Vec<Paths>, String> {
    match name {
        "direct" => Ok(vec![Paths::Direct]),
        "relay" => Ok(vec![Paths::Relay]),
        "both" => Ok(vec![Paths::Direct, Paths::Relay]),
        _ => Err(format!("{name:?} is not direct, relay or both")),
    }
}

fn clock() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |since| since.as_secs())
}

fn target() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"))
}
