//! The clients: wrk, h2load and curl, and what they say about a run.

use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use meshgate_tests::Folder;
use tokio::process::Command;
use tokio::time::timeout;

/// The name that is asked for. Nothing resolves it; clients are told where it is.
pub(super) const HOST: &str = "bench.proxy.test";

/// Bytes of the files.
pub(super) const SMALL: u64 = 100;
pub(super) const MEDIUM: u64 = 64 * 1024;
pub(super) const LARGE: u64 = 100_000_000;

/// Seconds of small and of middling requests.
const SMALL_SECONDS: u32 = 4;
const MEDIUM_SECONDS: u32 = 3;

/// Transfers of the large file in a row.
const TRANSFERS: u32 = 3;

/// Longest time for one piece of work.
const PATIENCE: Duration = Duration::from_mins(1);

/// Makes wrk, which knows no such option, connect to the loopback address under the asked name.
const TO_LOOPBACK: &str =
    "function wrk.resolve(host, service) wrk.addrs = wrk.lookup('127.0.0.1', service) end\n";

/// A piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// 100 bytes over HTTP/1.1, 32 connections.
    H1Small,
    /// 100 bytes over HTTP/2, 16 connections with 16 streams each.
    H2Small,
    /// 64 KiB over HTTP/1.1, 16 connections.
    Medium,
    /// 100 MB to the client, one at a time.
    Down,
    /// 100 MB from the client, one at a time.
    Up,
}

/// What was done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    /// Requests or bytes.
    pub(super) amount: f64,
    /// Requests or megabytes a second.
    pub(super) rate: f64,
    /// 99th percentile in milliseconds.
    pub(super) p99: Option<f64>,
}

/// The clients.
#[derive(Debug)]
pub(super) struct Client {
    script: PathBuf,
    upload: PathBuf,
}

impl Work {
    pub(super) const ALL: [Self; 5] = [Self::H1Small, Self::H2Small, Self::Medium, Self::Down, Self::Up];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::H1Small => "h1_small",
            Self::H2Small => "h2_small",
            Self::Medium => "64k",
            Self::Down => "bulk_down",
            Self::Up => "bulk_up",
        }
    }

    pub(super) fn is_bulk(self) -> bool {
        matches!(self, Self::Down | Self::Up)
    }

    /// From seconds per request or byte to the unit of the report.
    pub(super) fn scale(self) -> f64 {
        if self.is_bulk() { 1e9 } else { 1e6 }
    }

    pub(super) fn rate_unit(self) -> &'static str {
        if self.is_bulk() { "MB/s" } else { "requests/s" }
    }

    fn path(self) -> &'static str {
        match self {
            Self::H1Small | Self::H2Small => "small",
            Self::Medium => "medium",
            Self::Down => "large",
            Self::Up => "upload",
        }
    }

    fn size(self) -> u64 {
        match self {
            Self::H1Small | Self::H2Small => SMALL,
            Self::Medium => MEDIUM,
            Self::Down | Self::Up => LARGE,
        }
    }
}

impl Client {
    /// Writes what the clients need.
    pub(super) fn new(folder: &Folder) -> anyhow::Result<Self> {
        let script = folder.join("loopback.lua");
        std::fs::write(&script, TO_LOOPBACK)?;
        Ok(Self {
            script,
            upload: folder.join("files").join("large"),
        })
    }

    /// Does it once, looking at the answer.
    pub(super) async fn check(&self, port: u16, work: Work) -> anyhow::Result<()> {
        self.transfer(port, work).await.map(|_| ())
    }

    /// Does it for a while.
    pub(super) async fn run(&self, port: u16, work: Work) -> anyhow::Result<Done> {
        match work {
            Work::H1Small => self.wrk(port, work, 32, SMALL_SECONDS).await,
            Work::Medium => self.wrk(port, work, 16, MEDIUM_SECONDS).await,
            Work::H2Small => h2load(port, work).await,
            Work::Down | Work::Up => {
                let mut seconds = 0.0;
                for _ in 0..TRANSFERS {
                    seconds += self.transfer(port, work).await?;
                }
                let amount = number(work.size()) * f64::from(TRANSFERS);
                Ok(Done {
                    amount,
                    rate: amount / 1e6 / seconds,
                    p99: None,
                })
            }
        }
    }

    async fn wrk(&self, port: u16, work: Work, connections: u32, seconds: u32) -> anyhow::Result<Done> {
        let mut wrk = Command::new("wrk");
        wrk.args([
            "-t1",
            &format!("-c{connections}"),
            &format!("-d{seconds}s"),
            "--latency",
            "-s",
        ])
        .arg(&self.script)
        .arg(url(port, work));
        let text = said(wrk).await?;
        let requests = before(&text, " requests in ").context("wrk counts its requests")?;
        ensure!(
            requests > 0.0 && !text.contains("Non-2xx") && !text.contains("Socket errors"),
            "requests failed: {text}"
        );
        let read = text
            .split_once(" requests in ")
            .and_then(|(_, rest)| rest.split_once(", "))
            .and_then(|(_, rest)| size(rest.split_whitespace().next()?))
            .context("wrk tells the bytes")?;
        // Its figure is rounded.
        ensure!(
            read > 0.98 * requests * number(work.size()),
            "answers are too short: {text}"
        );
        Ok(Done {
            amount: requests,
            rate: after(&text, "Requests/sec:").context("wrk tells the rate")?,
            p99: text
                .lines()
                .find_map(|line| milliseconds(line.trim().strip_prefix("99%")?)),
        })
    }

    /// Moves one body with curl and tells the seconds.
    async fn transfer(&self, port: u16, work: Work) -> anyhow::Result<f64> {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-k", "--noproxy", "*", "-w"])
            .arg("\n%{http_code} %{size_download} %{size_upload} %{time_total}")
            .args(["--resolve", &format!("{HOST}:{port}:127.0.0.1")]);
        match work {
            Work::H2Small => curl.arg("--http2"),
            Work::H1Small | Work::Medium | Work::Down | Work::Up => curl.arg("--http1.1"),
        };
        if work == Work::Up {
            let upload = format!("@{}", self.upload.display());
            curl.args(["-X", "POST", "-H", "Expect:", "--data-binary", &upload]);
        } else {
            curl.args(["-o", "/dev/null"]);
        }
        curl.arg(url(port, work));
        let text = said(curl).await?;
        let (answer, figures) = text.trim_end().rsplit_once('\n').unwrap_or(("", text.trim()));
        let (status, figures) = figures.split_once(' ').unwrap_or((figures, ""));
        let figures: Vec<f64> = figures.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [down, up, seconds] = figures[..] else {
            bail!("curl tells three figures, not {text}");
        };
        // The origin counts the head of an upload too.
        let moved = match work {
            Work::Up => up.min(answer.trim().parse().unwrap_or(0.0)),
            Work::H1Small | Work::H2Small | Work::Medium | Work::Down => down,
        };
        let whole = moved >= number(work.size()) && moved < number(work.size()) + 1.0;
        ensure!(status == "200" && whole, "{} came back as: {text}", work.name());
        Ok(seconds)
    }
}

async fn h2load(port: u16, work: Work) -> anyhow::Result<Done> {
    let mut h2load = Command::new("h2load");
    let connect_to = format!("--connect-to=127.0.0.1:{port}");
    h2load.args([
        "-t1",
        "-c16",
        "-m16",
        "-D",
        &SMALL_SECONDS.to_string(),
        &connect_to,
    ]);
    h2load.arg(url(port, work));
    let text = said(h2load).await?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("requests: "))
        .context("h2load counts its requests")?;
    let count = |word: &str| {
        let field = line.split(", ").find_map(|field| field.strip_suffix(word));
        field.and_then(|count| count.trim().parse::<f64>().ok())
    };
    let (done, failed, errored) = (count(" done"), count(" failed"), count(" errored"));
    let statuses = after(&text, "status codes:");
    let bytes = text.split_once("space savings ").and_then(|(_, rest)| {
        let data = rest.split(", ").nth(1)?;
        data.split(['(', ')']).nth(1)?.parse::<f64>().ok()
    });
    let (Some(done), Some(bytes)) = (done, bytes) else {
        bail!("h2load tells more than: {text}");
    };
    let fine = failed == Some(0.0) && errored == Some(0.0) && statuses >= Some(done);
    ensure!(
        fine && bytes >= done * number(work.size()),
        "requests failed: {text}"
    );
    Ok(Done {
        amount: done,
        rate: done / f64::from(SMALL_SECONDS),
        p99: None,
    })
}

fn url(port: u16, work: Work) -> String {
    format!("https://{HOST}:{port}/{}", work.path())
}

async fn said(mut command: Command) -> anyhow::Result<String> {
    let name = format!("{command:?}");
    let output = timeout(PATIENCE, command.kill_on_drop(true).output()).await;
    let Output {
        status,
        stdout,
        stderr,
    } = output
        .with_context(|| format!("{name} did not end"))?
        .with_context(|| format!("{name} did not start"))?;
    let text = String::from_utf8_lossy(&stdout).into_owned();
    ensure!(
        status.success(),
        "{name}: {text}{}",
        String::from_utf8_lossy(&stderr)
    );
    Ok(text)
}

/// The number right before some words.
fn before(text: &str, words: &str) -> Option<f64> {
    let (front, _) = text.split_once(words)?;
    front.split_whitespace().last()?.parse().ok()
}

/// The number right after some words.
fn after(text: &str, words: &str) -> Option<f64> {
    let (_, rest) = text.split_once(words)?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Bytes as wrk writes them, such as `12.5MB`.
fn size(text: &str) -> Option<f64> {
    scaled(
        text,
        &[
            ("GB", 1_073_741_824.0),
            ("MB", 1_048_576.0),
            ("KB", 1024.0),
            ("B", 1.0),
        ],
    )
}

/// A time as wrk writes it, such as `1.25ms`.
fn milliseconds(text: &str) -> Option<f64> {
    scaled(
        text.trim(),
        &[("us", 0.001), ("ms", 1.0), ("s", 1000.0), ("m", 60_000.0)],
    )
}

fn scaled(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    units
        .iter()
        .find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor))
}

#[expect(clippy::cast_precision_loss, reason = "sizes of files are small")]
fn number(size: u64) -> f64 {
    size as f64
}
