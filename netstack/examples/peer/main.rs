//! One end of a measured tunnel; `scripts/bench` starts it in its network namespaces.
//!
//! The same readers and writers run over our netstack and over ordinary sockets, so that a comparison of the two
//! compares nothing else. Results go to standard output as one line of JSON.

#![expect(clippy::print_stdout, reason = "the result goes to standard output")]

mod counter;
mod link;
mod load;
mod measure;
mod relay;
mod serve;
mod usage;

use clap::Parser;

/// What this process does.
#[derive(Debug, Parser)]
#[command(about = "One end of a measured tunnel")]
enum Role {
    /// Answers loads on a port until it is killed.
    Serve(serve::Arguments),
    /// Puts a load on a server, and tells what came of it.
    Measure(measure::Arguments),
    /// Passes UDP datagrams on, with delay and loss.
    Relay(relay::Arguments),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    match Role::parse() {
        Role::Serve(arguments) => serve::run(arguments).await,
        Role::Measure(arguments) => {
            let result = measure::run(arguments).await?;
            println!("{}", serde_json::to_string(&result)?);
            Ok(())
        }
        Role::Relay(arguments) => relay::run(arguments).await,
    }
}
