//! The one binary: reads the command line, composes the packages and waits for the signal to stop.

mod admin;
mod agent;
mod cli;
mod commands;
mod demo;
mod logging;
mod proxy_args;
mod ready_file;
mod shutdown;
mod state_dir;
mod vitals;

use std::process::ExitCode;

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: cli::Cli) -> anyhow::Result<()> {
    logging::start(&cli.log)?;
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider is installed already"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("meshgate")
        .build()?;
    runtime.block_on(commands::run(cli.command))
}
