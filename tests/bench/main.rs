//! Measurements of the real binary beside other programs, as ratios of one run.
//!
//! Each bench is a module with a `run` that returns a [`Report`]: a table on standard output, and
//! `target/bench/NAME.json` for whoever compares runs. `scripts/bench` installs what they need, builds, and
//! starts this program; `docs/performance.md` tells the method.

#![expect(clippy::print_stdout, reason = "the tables go to standard output")]

mod idle;
mod loss;
mod netns;
mod path;
mod report;
mod snapshot;
mod tunnel;
mod usage;

use std::process::ExitCode;

use self::report::Report;

/// What can be measured, in the order of the help text.
const BENCHES: [&str; 5] = ["path", "tunnel", "snapshot", "idle", "loss"];

fn main() -> anyhow::Result<ExitCode> {
    // cargo adds its own flag for programs that run benchmarks.
    let names: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    if names.is_empty() {
        anyhow::bail!("nothing to measure; name one or more of: {}", BENCHES.join(" "));
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new()?;
    let mut missed = false;
    for name in &names {
        let report = runtime.block_on(measure(name))?;
        report.write()?;
        println!("{report}");
        missed |= report.misses();
    }
    Ok(if missed {
        ExitCode::from(2)
    } else {
        ExitCode::SUCCESS
    })
}

async fn measure(name: &str) -> anyhow::Result<Report> {
    match name {
        "path" => path::run().await,
        "tunnel" => tunnel::run().await,
        "snapshot" => snapshot::run().await,
        "idle" => idle::run().await,
        "loss" => loss::run().await,
        unknown => anyhow::bail!("unknown bench {unknown}; there are: {}", BENCHES.join(" ")),
    }
}
