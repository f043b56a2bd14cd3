//! Log lines on standard error, as text or JSON.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// How much is logged, and how it looks.
#[derive(Args, Clone, Debug)]
pub(crate) struct LogArgs {
    /// What to log: a level (error, warn, info, debug, trace) or a filter such as `info,meshgate_proxy=debug`.
    #[arg(
        long,
        global = true,
        env = "NB_LOG_LEVEL",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub(crate) log_level: String,

    /// How log lines look.
    #[arg(long, global = true, env = "MESHGATE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// How log lines look.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging for the whole process.
///
/// Lines of the libraries below are kept to warnings unless the filter names them.
pub(crate) fn start(args: &LogArgs) -> anyhow::Result<()> {
    let level = match args.log_level.as_str() {
        "panic" | "fatal" => "error",
        other => other,
    };
    let filter = if level.contains(['=', ',']) {
        EnvFilter::try_new(level)
    } else {
        EnvFilter::try_new(format!("warn,{BELOW},{}", own_packages(level)))
    };
    let filter = filter.with_context(|| format!("--log-level {:?} is not a log filter", args.log_level))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}

/// Libraries whose errors are the visitor's or the network's and are told by our own lines.
const BELOW: &str = "boringtun=off,pingora_core=off,pingora_proxy=off";

fn own_packages(level: &str) -> String {
    let packages = [
        "meshgate",
        "meshgate_certs",
        "meshgate_management",
        "meshgate_mesh",
        "meshgate_netstack",
        "meshgate_netstack_core",
        "meshgate_proto",
        "meshgate_proxy",
    ];
    packages.map(|package| format!("{package}={level}")).join(",")
}
