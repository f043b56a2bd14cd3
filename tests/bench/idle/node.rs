//! Two nodes of the tunnel as processes of their own.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use meshgate_tests::ports;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Names the example program `idle` of the netstack.
const PROGRAM: &str = "MESHGATE_BENCH_IDLE";
/// Longest wait for the answer to an order.
const PATIENCE: Duration = Duration::from_secs(90);

/// A node that answers and one that dials.
pub(crate) struct Pair {
    port: u16,
    server: Node,
    client: Node,
}

struct Node {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Pair {
    /// Starts both and lets one request through.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let port = ports::reserve();
        let mut pair = Self {
            port,
            server: Node::start("serve", port)?,
            client: Node::start("dial", port)?,
        };
        pair.server.answer().await?;
        pair.order("reach").await?;
        Ok(pair)
    }

    /// Gives the dialing node an order; returns the seconds that it took.
    pub(crate) async fn order(&mut self, order: &str) -> anyhow::Result<f64> {
        let answer = self.client.order(order).await;
        let answer = answer.with_context(|| format!("the order {order:?} failed"))?;
        Ok(answer.parse()?)
    }

    /// Kills the answering node and starts it again at once; returns the seconds until it answers again.
    pub(crate) async fn restart_server(&mut self) -> anyhow::Result<f64> {
        self.server.child.kill().await?;
        let begin = Instant::now();
        self.server = Node::start("serve", self.port)?;
        self.order("reach").await?;
        Ok(begin.elapsed().as_secs_f64())
    }

    /// Lets both stand still, or go on.
    pub(crate) async fn signal(&self, name: &str) -> anyhow::Result<()> {
        for pid in self.pids() {
            let pid = pid.to_string();
            let status = Command::new("kill")
                .args([&format!("-{name}"), &pid])
                .status()
                .await?;
            anyhow::ensure!(status.success(), "process {pid} is gone");
        }
        Ok(())
    }

    /// Answering node, dialing node.
    pub(crate) fn pids(&self) -> [u32; 2] {
        [&self.server, &self.client].map(|node| node.child.id().unwrap_or_default())
    }
}

impl Node {
    fn start(role: &str, port: u16) -> anyhow::Result<Self> {
        let program: PathBuf = std::env::var_os(PROGRAM)
            .with_context(|| format!("{PROGRAM} does not name the example program; start scripts/bench"))?
            .into();
        let mut child = Command::new(program)
            .args([role, &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let orders = child.stdin.take().context("its input is a pipe")?;
        let answers = child.stdout.take().context("its output is a pipe")?;
        Ok(Self {
            child,
            orders,
            answers: BufReader::new(answers).lines(),
        })
    }

    async fn order(&mut self, order: &str) -> anyhow::Result<String> {
        self.orders.write_all(format!("{order}\n").as_bytes()).await?;
        self.answer().await
    }

    async fn answer(&mut self) -> anyhow::Result<String> {
        let line = tokio::time::timeout(PATIENCE, self.answers.next_line()).await;
        line.context("no answer in time")??.context("the node has ended")
    }
}
