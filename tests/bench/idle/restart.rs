//! How long nobody answers when a peer was killed without notice and started again at once.

use std::time::{Duration, Instant};

use meshgate_tests::{Access, Deployment, HttpVersion, Part};
use tokio::task::JoinSet;

use super::node::Pair;
use super::{Bar, Report};

/// How often each is killed.
const ROUNDS: usize = 3;
/// Between two requests while nobody answers.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest wait for any answer.
const PATIENCE: Duration = Duration::from_mins(1);

pub(super) async fn measure(report: &mut Report) -> anyhow::Result<()> {
    let mut pair = Pair::start().await?;
    let mut node = Vec::new();
    for _ in 0..ROUNDS {
        node.push(pair.restart_server().await?);
    }
    drop(pair);

    let mut deployment = Deployment::start().await;
    let service = deployment.publish("restart", Access::Open).await;
    let mut agent = Vec::new();
    for _ in 0..ROUNDS {
        deployment.kill(Part::Agent);
        let begin = Instant::now();
        deployment.launch(Part::Agent);
        answered(&deployment, &service.domain).await?;
        agent.push(begin.elapsed().as_secs_f64());
    }

    let (node, agent) = (worst(&node), worst(&agent));
    report
        .row("restart.peer_recover_s", "s", node.max(agent))
        .bar(Bar::AtMost(6.0));
    report.row("restart.agent_recover_s", "s", agent);
    report.row("restart.node_recover_s", "s", node);
    Ok(())
}

/// Waits for the first answer to any of the requests that begin one after another.
async fn answered(deployment: &Deployment, domain: &str) -> anyhow::Result<()> {
    let client = deployment.client(HttpVersion::H1);
    let mut asked = JoinSet::new();
    let deadline = Instant::now() + PATIENCE;
    let mut next = tokio::time::interval(PAUSE);
    loop {
        tokio::select! {
            Some(answer) = asked.join_next() => if let Ok(Ok(_)) = answer {
                return Ok(());
            },
            _ = next.tick() => {
                let (client, domain) = (client.clone(), domain.to_owned());
                asked.spawn(async move { client.expect(&domain, "/", 200).await });
            }
        }
        anyhow::ensure!(Instant::now() < deadline, "no answer came in time");
    }
}

fn worst(seconds: &[f64]) -> f64 {
    seconds.iter().copied().fold(0.0, f64::max)
}
