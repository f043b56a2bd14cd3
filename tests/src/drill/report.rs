//! What a drill found, as a table and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::ledger::Tally;
use super::vitals::Held;

/// Everything that a drill found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub(super) seed: u64,
    pub(super) rounds: Vec<Round>,
    pub(super) held: Vec<HeldOn>,
    pub(super) broken: Vec<String>,
}

/// One fault and what came of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Round {
    pub(super) paths: &'static str,
    pub(super) fault: String,
    pub(super) note: String,
    pub(super) http: Tally,
    pub(super) websocket: Tally,
    pub(super) stream: Tally,
    /// From the end of the fault until every lane succeeded again.
    pub(super) service_ms: Option<u64>,
    /// From the end of the fault until everything worked, changes included.
    pub(super) whole_ms: Option<u64>,
    /// Reasons of some losses.
    pub(super) examples: Vec<String>,
    /// Rules that did not hold.
    pub(super) broken: Vec<String>,
}

impl Round {
    /// A line about it, and more for losses and broken rules.
    pub(super) fn line(&self) -> String {
        let kinds = [&self.http, &self.websocket, &self.stream];
        let lost = kinds.map(|tally| tally.lost.to_string()).join("/");
        let time = |ms: Option<u64>| ms.map_or("never".to_owned(), |ms| format!("{ms} ms"));
        let mut text = format!(
            "{:6} {:16} {:40} lost {lost}, service {}, whole {}",
            self.paths,
            self.fault,
            self.note,
            time(self.service_ms),
            time(self.whole_ms)
        );
        for example in &self.examples {
            let _ = write!(text, "\n      {example}");
        }
        for rule in &self.broken {
            let _ = write!(text, "\n    BROKEN {rule}");
        }
        text
    }
}

/// What the parts held in one run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct HeldOn {
    pub(super) paths: &'static str,
    #[serde(flatten)]
    pub(super) held: Held,
}

impl Report {
    /// Rules that did not hold.
    pub fn broken(&self) -> &[String] {
        &self.broken
    }

    /// All of it as JSON.
    ///
    /// # Panics
    /// Never: it is made of numbers and texts.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and texts make JSON")
    }

    /// A line for each fault and path, then one for each process, then what did not hold.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{:7}{:17}{:>3}  {:>14} {:>13} {:>13}  {:>20}  {:>6} {:>7} {:>7}",
            "path",
            "fault",
            "n",
            "http lost/sent",
            "ws lost/sent",
            "streams l/s",
            "longest gap s h/w/s",
            "told",
            "service",
            "whole"
        );
        for line in self.lines() {
            let part = |tally: &Tally| format!("{}/{}", tally.lost, tally.sent);
            let gaps = [&line.http, &line.websocket, &line.stream].map(|tally| seconds(tally.gap_ms));
            let told = line.http.told_ms.max(line.websocket.told_ms);
            let time = |ms: Option<u64>| ms.map_or("never".to_owned(), seconds);
            let _ = writeln!(
                text,
                "{:7}{:17}{:>3}  {:>14} {:>13} {:>13}  {:>20}  {:>6} {:>7} {:>7}",
                line.paths,
                line.fault,
                line.note,
                part(&line.http),
                part(&line.websocket),
                part(&line.stream),
                gaps.join(" / "),
                seconds(told),
                time(line.service_ms),
                time(line.whole_ms)
            );
        }
        text.push_str(&self.held_table());
        for broken in &self.broken {
            let _ = writeln!(text, "BROKEN: {broken}");
        }
        text
    }

    /// The rounds of each fault and path as one; the note counts them.
    fn lines(&self) -> Vec<Round> {
        let mut lines: Vec<(Round, u32)> = Vec::new();
        for round in &self.rounds {
            let same = lines
                .iter_mut()
                .find(|(line, _)| (line.paths, &line.fault) == (round.paths, &round.fault));
            let Some((line, count)) = same else {
                lines.push((round.clone(), 1));
                continue;
            };
            line.http.add(&round.http);
            line.websocket.add(&round.websocket);
            line.stream.add(&round.stream);
            // A time that is missing in one round is missing in all.
            line.service_ms = line.service_ms.zip(round.service_ms).map(|(a, b)| a.max(b));
            line.whole_ms = line.whole_ms.zip(round.whole_ms).map(|(a, b)| a.max(b));
            *count += 1;
        }
        lines.sort_by(|(a, _), (b, _)| (a.paths, &a.fault).cmp(&(b.paths, &b.fault)));
        let counted = lines.into_iter().map(|(mut line, count)| {
            line.note = count.to_string();
            line
        });
        counted.collect()
    }

    fn held_table(&self) -> String {
        let mut text = format!(
            "\n{:7}{:12}{:>24}{:>20}{:>20}{:>30}\n",
            "path",
            "process",
            "descriptors b/max/end",
            "threads b/max/end",
            "tasks b/max/end",
            "memory MiB b/max/end"
        );
        for HeldOn { paths, held } in &self.held {
            let all = [held.base, held.highest, held.end];
            let descriptors = all.map(|vitals| vitals.descriptors.to_string()).join(" / ");
            let threads = all.map(|vitals| vitals.threads.to_string()).join(" / ");
            let tasks = all.map(|vitals| vitals.tasks.to_string()).join(" / ");
            let memory = all.map(|vitals| mib(vitals.memory_kib)).join(" / ");
            let _ = writeln!(
                text,
                "{paths:7}{:12}{descriptors:>24}{threads:>20}{tasks:>20}{memory:>30}",
                held.part
            );
        }
        text
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:02}", ms / 1000, ms % 1000 / 10)
}

fn mib(kib: u64) -> String {
    format!("{}.{}", kib / 1024, kib % 1024 * 10 / 1024)
}
