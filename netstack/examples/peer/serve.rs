//! The server: sends, takes and answers whatever a client asks for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use clap::Args;
use tokio::task::JoinSet;

use crate::counter;
use crate::link::{Link, LinkArguments};
use crate::load::answer;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    link: LinkArguments,
    /// Where loads are answered.
    #[arg(long)]
    listen: SocketAddr,
    /// Where the counter of uploaded bytes is told, over ordinary sockets.
    #[arg(long)]
    counter: SocketAddr,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let link = Link::new(arguments.link)?;
    let mut listener = link.listen(arguments.listen)?;
    let sunk = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    tasks.spawn(counter::serve(arguments.counter, Arc::clone(&sunk)));
    loop {
        tokio::select! {
            connection = listener.accept() => {
                let (connection, sunk) = (connection?, Arc::clone(&sunk));
                tasks.spawn(async move { answer(connection, &sunk).await });
            }
            // Clients end their connections as they like.
            Some(_) = tasks.join_next() => {}
        }
    }
}
