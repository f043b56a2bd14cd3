//! Client hellos: two pieces say the same as the whole.

use tokio::io::{AsyncReadExt as _, join, sink};

use super::client_hello::{HelloError, read};

/// What became of a hello.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Read(Option<String>, bool),
    TooLarge,
    Closed,
    Malformed,
    Other,
}

/// The first two bytes say where the hello is cut.
pub(super) fn run(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first_chunk::<2>() else {
        return;
    };
    let cut = usize::from(u16::from_be_bytes(*cut)).min(bytes.len());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime on this thread needs nothing");
    runtime.block_on(async {
        let whole = outcome(bytes, bytes.len()).await;
        assert_ne!(whole, Outcome::Other);
        assert_eq!(whole, outcome(bytes, cut).await);
    });
}

async fn outcome(bytes: &[u8], cut: usize) -> Outcome {
    let (first, second) = bytes.split_at(cut);
    match read(&mut join(first.chain(second), sink())).await {
        Ok(hello) => {
            let name = hello.server_name.map(|name| name.as_str().to_owned());
            Outcome::Read(name, hello.is_challenge)
        }
        Err(HelloError::TooLarge) => Outcome::TooLarge,
        Err(HelloError::Closed) => Outcome::Closed,
        Err(HelloError::Malformed(_)) => Outcome::Malformed,
        Err(HelloError::TimedOut | HelloError::Io(_)) => Outcome::Other,
    }
}
