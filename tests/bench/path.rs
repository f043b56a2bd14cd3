//! Requests and transfers through edge, tunnel and agent, beside nginx and Caddy that end TLS for the same origin
//! without a tunnel.
//!
//! All three take turns within each round, and the middle of the rounds counts. Every program has one worker per
//! core and keeps its idle connections to the origin. All log what they serve but Caddy, which does not by
//! default. Requests that fail or have another length than asked for end the bench.

mod load;
mod origin;
mod ours;
mod reference;

use std::fmt;

use meshgate_tests::Folder;

use self::load::{Client, Work};
use self::origin::Origin;
use self::ours::Ours;
use self::reference::Reference;
use crate::report::{Bar, Report, median};
use crate::usage::Usage;

/// Rounds; each gives every program the same work.
const ROUNDS: usize = 3;

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// Our edge, with the tunnel and the agent behind it.
    Ours,
    /// nginx in front of the origin.
    Nginx,
    /// Caddy in front of the origin.
    Caddy,
}

/// The running programs.
#[derive(Debug)]
struct Programs {
    ours: Ours,
    nginx: Reference,
    caddy: Reference,
    client: Client,
}

/// What one piece of work came to.
#[derive(Clone, Copy, Debug)]
struct Sample {
    subject: Subject,
    work: Work,
    /// CPU of the program that ends TLS: microseconds a request, or seconds a GB.
    edge: f64,
    /// CPU of the agent, in the same unit.
    agent: f64,
    /// Resident megabytes of the program that ends TLS, right after the work.
    rss: f64,
    /// Requests or megabytes a second.
    rate: f64,
    /// 99th percentile of the time that a request took, in milliseconds, where the client tells it.
    p99: Option<f64>,
}

/// Measures the whole path.
pub(crate) async fn run() -> anyhow::Result<Report> {
    let folder = Folder::new();
    let origin = Origin::start(&folder).await?;
    let programs = Programs {
        ours: Ours::start(&origin).await?,
        nginx: Reference::nginx(&folder, &origin).await?,
        caddy: Reference::caddy(&folder, &origin).await?,
        client: Client::new(&folder)?,
    };
    let mut subjects = [Subject::Ours, Subject::Nginx, Subject::Caddy];
    for subject in subjects {
        programs.warm_up(subject).await?;
    }
    let before = subjects.map(|subject| programs.edge(subject).rss_mb());

    let mut samples = Vec::new();
    for round in 0..ROUNDS {
        for subject in subjects {
            for work in Work::ALL {
                let sample = programs.sample(subject, work).await?;
                eprintln!("round {}: {sample}", round + 1);
                samples.push(sample);
            }
        }
        subjects.rotate_left(1);
    }
    let agent = programs.ours.agent();
    Ok(report(agent, before, &Samples(samples)))
}

fn report(agent_after: Usage, before: [f64; 3], samples: &Samples) -> Report {
    let mut report = Report::new("path");
    for (work, name) in [(Work::H1Small, "h1_small"), (Work::H2Small, "h2_small")] {
        samples
            .compare(
                &mut report,
                &format!("path.{name}.edge_cpu_us"),
                "us/request",
                work,
                |s| s.edge,
            )
            .bar(Bar::AtMostTimes(1.6, "nginx"))
            .bar(Bar::AtMostTimes(0.5, "caddy"));
    }
    let agent = |work| samples.middle(Subject::Ours, work, |s| s.agent);
    report
        .row("path.small.agent_cpu_us", "us/request", agent(Work::H1Small))
        .bar(Bar::AtMost(25.0));
    for (work, name) in [(Work::Down, "bulk_down"), (Work::Up, "bulk_up")] {
        samples
            .compare(
                &mut report,
                &format!("path.{name}.edge_cpu_s_per_gb"),
                "s/GB",
                work,
                |s| s.edge,
            )
            .bar(Bar::AtMost(3.0));
    }
    report
        .row(
            "path.edge_rss_mb",
            "MB",
            samples.memory_after_round(Subject::Ours),
        )
        .beside("nginx", samples.memory_after_round(Subject::Nginx))
        .beside("caddy", samples.memory_after_round(Subject::Caddy))
        .bar(Bar::AtMost(60.0));
    report
        .row("path.edge_rss_peak_mb", "MB", samples.most_memory(Subject::Ours))
        .beside("nginx", samples.most_memory(Subject::Nginx))
        .beside("caddy", samples.most_memory(Subject::Caddy));

    let [ours, nginx, caddy] = before;
    report
        .row("path.edge_rss_before_mb", "MB", ours)
        .beside("nginx", nginx)
        .beside("caddy", caddy);
    report.row("path.agent_rss_mb", "MB", agent_after.rss_mb());
    report.row("path.h2_small.agent_cpu_us", "us/request", agent(Work::H2Small));
    samples.compare(
        &mut report,
        "path.64k.edge_cpu_us",
        "us/request",
        Work::Medium,
        |s| s.edge,
    );
    report.row("path.64k.agent_cpu_us", "us/request", agent(Work::Medium));
    report.row("path.bulk_down.agent_cpu_s_per_gb", "s/GB", agent(Work::Down));
    report.row("path.bulk_up.agent_cpu_s_per_gb", "s/GB", agent(Work::Up));
    for work in Work::ALL {
        let (id, unit) = (format!("path.{}.rate", work.name()), work.rate_unit());
        samples.compare(&mut report, &id, unit, work, |s| s.rate);
    }
    samples.compare(&mut report, "path.h1_small.p99_ms", "ms", Work::H1Small, |s| {
        s.p99.unwrap_or(f64::NAN)
    });
    report
}

impl Programs {
    fn edge(&self, subject: Subject) -> Usage {
        match subject {
            Subject::Ours => self.ours.edge(),
            Subject::Nginx => self.nginx.usage(),
            Subject::Caddy => self.caddy.usage(),
        }
    }

    fn agent(&self, subject: Subject) -> Usage {
        match subject {
            Subject::Ours => self.ours.agent(),
            Subject::Nginx | Subject::Caddy => Usage::default(),
        }
    }

    /// Opens connections and checks once that answers have the right length.
    async fn warm_up(&self, subject: Subject) -> anyhow::Result<()> {
        for work in Work::ALL {
            self.client.check(self.port(subject), work).await?;
        }
        Ok(())
    }

    async fn sample(&self, subject: Subject, work: Work) -> anyhow::Result<Sample> {
        let (edge, agent) = (self.edge(subject), self.agent(subject));
        let done = self.client.run(self.port(subject), work).await?;
        let after = self.edge(subject);
        Ok(Sample {
            subject,
            work,
            edge: after.cpu_since(edge) / done.amount * work.scale(),
            rss: after.rss_mb(),
            agent: self.agent(subject).cpu_since(agent) / done.amount * work.scale(),
            rate: done.rate,
            p99: done.p99,
        })
    }

    fn port(&self, subject: Subject) -> u16 {
        match subject {
            Subject::Ours => self.ours.port(),
            Subject::Nginx => self.nginx.port(),
            Subject::Caddy => self.caddy.port(),
        }
    }
}

struct Samples(Vec<Sample>);

impl Samples {
    /// The middle of one program's figures.
    fn middle(&self, subject: Subject, work: Work, figure: impl Fn(&Sample) -> f64) -> f64 {
        let own = self.0.iter().filter(|s| s.subject == subject && s.work == work);
        median(own.map(figure).collect())
    }

    /// The most memory that a program had right after the last work of a round.
    fn memory_after_round(&self, subject: Subject) -> f64 {
        let last = Work::ALL.last().copied();
        let own = self
            .0
            .iter()
            .filter(|s| s.subject == subject && Some(s.work) == last);
        own.map(|s| s.rss).fold(f64::NAN, f64::max)
    }

    /// The most memory that a program had right after any piece of work.
    fn most_memory(&self, subject: Subject) -> f64 {
        let own = self.0.iter().filter(|s| s.subject == subject);
        own.map(|s| s.rss).fold(f64::NAN, f64::max)
    }

    /// Adds a row of all three.
    fn compare<'a>(
        &self,
        report: &'a mut Report,
        id: &str,
        unit: &'static str,
        work: Work,
        figure: impl Fn(&Sample) -> f64,
    ) -> &'a mut crate::report::Row {
        let middle = |subject| self.middle(subject, work, &figure);
        report
            .row(id, unit, middle(Subject::Ours))
            .beside("nginx", middle(Subject::Nginx))
            .beside("caddy", middle(Subject::Caddy))
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.work.is_bulk() { "s/GB" } else { "us/request" };
        write!(
            f,
            "{:?} {}: edge {:.2} {unit}, {:.0} MB, agent {:.2} {unit}, {:.0} {}",
            self.subject,
            self.work.name(),
            self.edge,
            self.rss,
            self.agent,
            self.rate,
            self.work.rate_unit(),
        )
    }
}
