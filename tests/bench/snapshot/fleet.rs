//! One account with many services.

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use meshgate_tests::deployment::CLUSTER;
use meshgate_tests::{Access, Deployment, Part, Rest};
use serde_json::{Value, json};

use super::probe::Prober;
use crate::usage::Usage;

/// Services that are made at once.
const AT_ONCE: usize = 4;
/// One of so many asks for a PIN: it shows its page without a tunnel.
const GUARDED: usize = 500;
/// The place of the guarded one among these.
const GUARDED_AT: usize = 7;

/// Both processes count as settled when they use less than this in a window.
const IDLE_CPU: f64 = 0.02;
const WINDOW: Duration = Duration::from_millis(500);
/// Longest wait for that.
const SETTLE: Duration = Duration::from_secs(40);

/// A deployment whose services are numbered.
#[derive(Debug)]
pub(super) struct Fleet {
    /// The three processes.
    pub(super) deployment: Deployment,
    /// The REST API.
    pub(super) rest: Rest,
    /// The request that makes an open service.
    pub(super) template: Value,
    /// How many services there are.
    pub(super) size: usize,
}

impl Fleet {
    /// Starts all three processes, without a service.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let deployment = Deployment::start().await;
        let template = deployment.service_request("template", Access::Open).await;
        Ok(Self {
            rest: deployment.rest(),
            deployment,
            template,
            size: 0,
        })
    }

    /// Adds services up to this number; the last one comes after all others.
    pub(super) async fn grow(&mut self, size: usize) -> anyhow::Result<()> {
        let begin = Instant::now();
        let before = self.management();
        stream::iter(self.size..size - 1)
            .map(|number| self.create(number))
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        self.create(size - 1).await?;
        let added = size - self.size;
        eprintln!(
            "{added} services made in {:.1} s; {:.2} ms of management's CPU each",
            begin.elapsed().as_secs_f64(),
            self.management().cpu_since(before) * 1000.0 / ratio(added, 1),
        );
        self.size = size;
        Ok(())
    }

    async fn create(&self, number: usize) -> anyhow::Result<Value> {
        let request = self.request(&name(number), is_guarded(number));
        let created = self.rest.post("/api/reverse-proxies/services", &request).await;
        created.map_err(|error| anyhow!("service {number}: {error}"))
    }

    /// The request that makes a service.
    pub(super) fn request(&self, name: &str, guarded: bool) -> Value {
        let mut request = self.template.clone();
        request["name"] = name.into();
        request["domain"] = host(name).into();
        if guarded {
            request["auth"] = json!({ "pin_auth": { "enabled": true, "pin": "4711" } });
        }
        request
    }

    /// Numbers of the services that ask for a PIN.
    pub(super) fn guarded(&self) -> impl Iterator<Item = usize> {
        (0..self.size).filter(|number| is_guarded(*number))
    }

    /// Numbers of so many open services, spread over all.
    pub(super) fn spread(&self, count: usize) -> impl Iterator<Item = usize> {
        let step = self.size / count;
        (0..count)
            .map(move |place| place * step)
            .filter(|number| !is_guarded(*number))
    }

    /// Opens connections to the edge; the authority's file is read once.
    pub(super) fn prober(&self) -> Prober {
        Prober::new(&self.deployment.ca_file(), self.deployment.edge())
    }

    /// What the proxy has used.
    pub(super) fn proxy(&self) -> Usage {
        Usage::of(self.deployment.process(Part::Proxy).pid())
    }

    /// What management has used.
    pub(super) fn management(&self) -> Usage {
        Usage::of(self.deployment.process(Part::Management).pid())
    }

    /// Waits until processes have nothing to do any more.
    pub(super) async fn settle(&self, parts: &[Part]) -> anyhow::Result<()> {
        let busy = || {
            parts
                .iter()
                .map(|part| Usage::of(self.deployment.process(*part).pid()))
        };
        let begin = Instant::now();
        loop {
            let before: Vec<Usage> = busy().collect();
            tokio::time::sleep(WINDOW).await;
            let used: f64 = busy()
                .zip(before)
                .map(|(now, before)| now.cpu_since(before))
                .sum();
            if used <= IDLE_CPU {
                return Ok(());
            }
            (begin.elapsed() < SETTLE)
                .then_some(())
                .context("the processes do not come to rest")?;
        }
    }
}

/// Name of a numbered service.
pub(super) fn name(number: usize) -> String {
    format!("n{number}")
}

/// Host of a service.
pub(super) fn host(name: &str) -> String {
    format!("{name}.{CLUSTER}")
}

fn is_guarded(number: usize) -> bool {
    number % GUARDED == GUARDED_AT
}

/// Numbers of things as a fraction.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(super) fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}
