//! One change among many services: request sent, answer of the API, enforced at the edge.

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use reqwest::Method;
use serde_json::{Value, json};

use super::fleet::{Fleet, host, ratio};
use super::probe::{Answer, Prober};
use crate::report::median;

/// How often each kind of change is made.
const ROUNDS: usize = 25;
/// Longest wait for a change.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two polls, so that the machine does something else as well.
const PAUSE: Duration = Duration::from_micros(500);

/// The kinds, in the order in which each round makes them: a new PIN costs the hash that is slow on purpose,
/// switching it off and on again does not.
const KINDS: [&str; 6] = ["add", "retarget", "new_pin", "open", "guard", "remove"];

const SERVICES: &str = "/api/reverse-proxies/services";

/// Milliseconds of several changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Times(Vec<f64>);

/// What changes of one kind took since their request was sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Kind {
    /// Until the API answered.
    pub(super) answered: Times,
    /// Until the edge did as told.
    pub(super) enforced: Times,
}

/// All changes.
#[derive(Debug)]
pub(super) struct Changes {
    /// By what they are called in the rows.
    pub(super) kinds: Vec<(&'static str, Kind)>,
    /// One poll, which is part of every figure above.
    pub(super) probe: Times,
    /// CPU of management for a change, in milliseconds.
    pub(super) management_cpu_ms: f64,
}

impl Times {
    /// The middle.
    pub(super) fn median(&self) -> f64 {
        median(self.0.clone())
    }

    /// The nearest rank.
    pub(super) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
    }
}

impl Changes {
    /// All kinds together.
    pub(super) fn all(&self) -> Kind {
        let mut all = Kind::default();
        for (_, kind) in &self.kinds {
            all.answered.0.extend(&kind.answered.0);
            all.enforced.0.extend(&kind.enforced.0);
        }
        all
    }
}

/// A change, and how the edge answers once it is enforced.
struct Change<'a> {
    method: Method,
    path: &'a str,
    body: Option<&'a Value>,
    host: &'a str,
    enforced: &'a (dyn Fn(&Answer) -> bool + Sync),
}

/// Adds, changes and removes services beside those that are there, one change at a time.
pub(super) async fn measure(fleet: &mut Fleet) -> anyhow::Result<Changes> {
    let prober = fleet.prober();
    let mut kinds = KINDS.map(|name| (name, Kind::default()));
    let [add, retarget, pin, open, guard, remove] = &mut kinds;
    let before = fleet.management();
    for round in 0..ROUNDS {
        let name = format!("extra{round}");
        let host = host(&name);
        let request = fleet.request(&name, false);
        let mut change = Change {
            method: Method::POST,
            path: SERVICES,
            body: Some(&request),
            host: &host,
            enforced: &|answer| answer.status == 200,
        };
        let created = add.1.note(fleet, &prober, &change).await?;
        let id = created["id"].as_str().context("the new service has an id")?;
        let path = format!("{SERVICES}/{id}");
        (change.method, change.path) = (Method::PUT, &path);

        let mut other = request.clone();
        other["targets"][0]["options"] = json!({ "custom_headers": { "X-Round": "second" } });
        change.body = Some(&other);
        change.enforced = &|answer| answer.body.contains("second");
        retarget.1.note(fleet, &prober, &change).await?;

        let with_pin = |enabled: bool, pin: &str| {
            let mut request = other.clone();
            request["auth"] = json!({ "pin_auth": { "enabled": enabled, "pin": pin } });
            request
        };
        let (new, off, on) = (with_pin(true, "4711"), with_pin(false, ""), with_pin(true, ""));
        change.body = Some(&new);
        change.enforced = &|answer| answer.status == 401;
        pin.1.note(fleet, &prober, &change).await?;
        change.body = Some(&off);
        change.enforced = &|answer| answer.status == 200;
        open.1.note(fleet, &prober, &change).await?;
        change.body = Some(&on);
        change.enforced = &|answer| answer.status == 401;
        guard.1.note(fleet, &prober, &change).await?;

        (change.method, change.body) = (Method::DELETE, None);
        change.enforced = &|answer| answer.status == 404;
        remove.1.note(fleet, &prober, &change).await?;
    }
    let management_cpu = fleet.management().cpu_since(before);
    Ok(Changes {
        kinds: kinds.into(),
        probe: probe_times(fleet, &prober).await?,
        management_cpu_ms: management_cpu * 1000.0 / ratio(ROUNDS * KINDS.len(), 1),
    })
}

impl Kind {
    /// Makes a change and polls from the moment its request is sent.
    async fn note(&mut self, fleet: &Fleet, prober: &Prober, change: &Change<'_>) -> anyhow::Result<Value> {
        let begin = Instant::now();
        let call = async {
            let answer = fleet.rest.call(change.method.clone(), change.path, change.body);
            let answer = answer.await.map_err(|error| anyhow!(error))?;
            anyhow::ensure!(answer.status == 200, "{}: {}", change.path, answer.body);
            Ok((milliseconds(begin), answer.body))
        };
        let (answered, enforced) = tokio::try_join!(call, enforced(prober, change, begin))?;
        let (answered, body) = answered;
        self.answered.0.push(answered);
        self.enforced.0.push(enforced);
        Ok(body)
    }
}

async fn enforced(prober: &Prober, change: &Change<'_>, begin: Instant) -> anyhow::Result<f64> {
    let mut last = None;
    while begin.elapsed() < PATIENCE {
        let answer = prober.once(change.host).await;
        match answer {
            Ok(answer) if (change.enforced)(&answer) => return Ok(milliseconds(begin)),
            other => last = Some(other),
        }
        tokio::time::sleep(PAUSE).await;
    }
    anyhow::bail!("{} {} is not enforced: {last:?}", change.method, change.host)
}

/// What one poll takes when nothing else happens.
async fn probe_times(fleet: &Fleet, prober: &Prober) -> anyhow::Result<Times> {
    let host = host(&super::fleet::name(fleet.size / 2));
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        prober.once(&host).await?;
        times.push(milliseconds(begin));
    }
    Ok(Times(times))
}

fn milliseconds(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1000.0
}
