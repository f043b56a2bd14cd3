//! The deployment under the drill, with everything that faults need between its parts.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use super::INTERVAL;
use super::dice::Dice;
use super::disk::Disk;
use super::fault::Fault;
use super::forwarder::{Flow, Forwarder};
use super::ledger::millis;
use super::vitals::Vitals;
use crate::deployment::{Access, Deployment, Detour, Part, Paths, Published};
use crate::{Folder, HttpVersion, raw};

/// The parts in the order in which they start.
pub(super) const PARTS: [Part; 3] = [Part::Management, Part::Proxy, Part::Agent];

/// Descriptors that idle clients may take until there are none.
const SPARE_DESCRIPTORS: u64 = 48;

/// Clients that come beyond that.
const TOO_MANY: u64 = 48;

/// Longest wait until descriptors are used up.
const TAKES_HOLD: Duration = Duration::from_secs(20);

/// Clients of each version that read nothing.
const SILENT_CLIENTS: usize = 12;

/// Longest wait for an answer of management whose disk is full.
const FULL_ANSWER: Duration = Duration::from_secs(10);

/// Management, proxy, agent and origin, and what stands between them.
#[derive(Debug)]
pub(super) struct Scene {
    // Comes off before its folder is removed.
    disk: Option<Disk>,
    pub(super) deployment: Deployment,
    pub(super) paths: Paths,
    pub(super) service: Published,
    pub(super) probe: Value,
    control: Forwarder,
    relay: Forwarder,
    limit: Option<u64>,
}

impl Scene {
    /// Sets everything up as a user would and publishes one service.
    pub(super) async fn start(paths: Paths, faults: &[Fault]) -> Result<Self, String> {
        let folder = Folder::new();
        let disk = if faults.contains(&Fault::DiskFull) {
            Some(Disk::mount(&folder.join("management"))?)
        } else {
            None
        };
        let mut deployment = Deployment::set_up_in(folder).await;
        let management = deployment.management_address();
        let forwarder = async || Forwarder::start(management).await.map_err(|e| e.to_string());
        let (control, relay) = (forwarder().await?, forwarder().await?);
        deployment.lead(Detour {
            control: Some(control.address()),
            relay: Some(relay.address()),
            paths,
        });
        for part in PARTS {
            deployment.launch(part);
            deployment.up(part).await;
        }
        let service = deployment.publish("drill", Access::Open).await;
        let probe = deployment.service_request("probe", Access::Open).await;
        Ok(Self {
            disk,
            deployment,
            paths,
            service,
            probe,
            control,
            relay,
            limit: None,
        })
    }

    /// Brings a fault about and ends it. What is worth a note comes back; an error when the fault did not
    /// take hold, or was answered in a way that it must not be.
    pub(super) async fn strike(&mut self, fault: Fault, dice: &mut Dice) -> Result<String, String> {
        let (shortest, longest) = fault.lasts();
        let hold = dice.between(shortest, longest);
        match fault {
            Fault::ManagementKill => self.restart(Part::Management, Way::Kill, hold).await,
            Fault::ManagementStop => self.restart(Part::Management, Way::Stop, hold).await,
            Fault::ProxyKill => self.restart(Part::Proxy, Way::Kill, hold).await,
            Fault::ProxyStop => self.restart(Part::Proxy, Way::Stop, hold).await,
            Fault::AgentKill => self.restart(Part::Agent, Way::Kill, hold).await,
            Fault::AgentStop => self.restart(Part::Agent, Way::Stop, hold).await,
            Fault::AgentFreeze => {
                let agent = self.deployment.process(Part::Agent);
                agent.signal("STOP");
                tokio::time::sleep(hold).await;
                agent.signal("CONT");
            }
            Fault::ControlCut => interrupt(&self.control, Flow::Cut, hold).await,
            Fault::ControlStall => interrupt(&self.control, Flow::Stalled, hold).await,
            Fault::RelayCut => interrupt(&self.relay, Flow::Cut, hold).await,
            Fault::RelayStall => interrupt(&self.relay, Flow::Stalled, hold).await,
            Fault::ClientStall => self.stall_clients(hold).await?,
            Fault::DiskFull => return self.fill_disk(hold).await,
            Fault::Descriptors => return self.exhaust_descriptors(hold).await,
        }
        Ok(format!("{} ms", millis(hold)))
    }

    /// Undoes what the drill itself has set for a fault, once everything works again.
    pub(super) fn tidy(&mut self) -> Result<(), String> {
        let Some(limit) = self.limit.take() else {
            return Ok(());
        };
        limit_descriptors(self.deployment.process(Part::Proxy).pid(), limit)
    }

    async fn restart(&mut self, part: Part, way: Way, hold: Duration) {
        match way {
            Way::Kill => self.deployment.kill(part),
            Way::Stop => self.deployment.stop(part).await,
        }
        tokio::time::sleep(hold).await;
        self.deployment.launch(part);
    }

    async fn stall_clients(&self, hold: Duration) -> Result<(), String> {
        let domain = &self.service.domain;
        let mut silent = Vec::new();
        for version in HttpVersion::ALL {
            let client = self.deployment.client(version);
            for _ in 0..SILENT_CLIENTS {
                silent.push(client.fetch(domain, "/bytes/7/67108864").await?);
            }
        }
        let mut halves = Vec::new();
        for _ in 0..SILENT_CLIENTS {
            let (ca, edge) = (self.deployment.ca_file(), self.deployment.edge());
            let opened = raw::tls(&ca, edge, domain, &["http/1.1"]).await;
            let mut half = opened.map_err(|error| error.to_string())?;
            let head = format!("POST /half HTTP/1.1\r\nHost: {domain}\r\nContent-Le");
            half.write_all(head.as_bytes())
                .await
                .map_err(|error| error.to_string())?;
            halves.push(half);
        }
        tokio::time::sleep(hold).await;
        Ok(())
    }

    async fn fill_disk(&self, hold: Duration) -> Result<String, String> {
        let disk = self
            .disk
            .as_ref()
            .ok_or("the scene was set without a small disk")?;
        disk.fill()
            .map_err(|error| format!("the disk cannot be filled: {error}"))?;
        let rest = self.deployment.rest();
        let asked = Instant::now();
        let change = rest.call(
            reqwest::Method::POST,
            "/api/reverse-proxies/services",
            Some(&self.probe),
        );
        let answer = tokio::time::timeout(FULL_ANSWER, change).await;
        let took = millis(asked.elapsed());
        tokio::time::sleep(hold).await;
        disk.free().map_err(|error| error.to_string())?;
        match answer {
            Ok(Ok(answer)) => Ok(format!("a change was answered {} in {took} ms", answer.status)),
            Ok(Err(error)) => Err(format!(
                "a change was not answered while the disk was full: {error}"
            )),
            Err(_) => Err(format!(
                "a change was not answered within {FULL_ANSWER:?} while the disk was full"
            )),
        }
    }

    async fn exhaust_descriptors(&mut self, hold: Duration) -> Result<String, String> {
        let pid = self.deployment.process(Part::Proxy).pid();
        let limit = Vitals::read(pid).descriptors + SPARE_DESCRIPTORS;
        self.limit = Some(descriptor_limit(pid)?);
        limit_descriptors(pid, limit)?;
        let mut idle = JoinSet::new();
        for _ in 0..SPARE_DESCRIPTORS + TOO_MANY {
            let (ca, edge) = (self.deployment.ca_file(), self.deployment.edge());
            let domain = self.service.domain.clone();
            idle.spawn(async move {
                let _open = raw::tls(&ca, edge, &domain, &["http/1.1"]).await;
                std::future::pending::<()>().await;
            });
        }
        let used = used_up(pid, limit).await;
        if used.is_ok() {
            tokio::time::sleep(hold).await;
        }
        idle.shutdown().await;
        used
    }
}

/// How a process ends.
#[derive(Clone, Copy, Debug)]
enum Way {
    Kill,
    Stop,
}

async fn interrupt(forwarder: &Forwarder, flow: Flow, hold: Duration) {
    forwarder.set(flow);
    tokio::time::sleep(hold).await;
    forwarder.set(Flow::Open);
}

/// Waits until a process has no descriptors left.
async fn used_up(pid: u32, limit: u64) -> Result<String, String> {
    let deadline = Instant::now() + TAKES_HOLD;
    loop {
        let used = Vitals::read(pid).descriptors;
        if used + 2 >= limit {
            return Ok(format!("{used} of {limit} in use"));
        }
        if Instant::now() >= deadline {
            return Err(format!(
                "the fault did not take hold: {used} of {limit} descriptors in use"
            ));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The soft limit of a process.
fn descriptor_limit(pid: u32) -> Result<u64, String> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).map_err(|error| error.to_string())?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| "the limit of descriptors cannot be read".to_owned())
}

fn limit_descriptors(pid: u32, limit: u64) -> Result<(), String> {
    let set = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &format!("--nofile={limit}:")])
        .output();
    match set {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "prlimit: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Err(format!(
            "the fault descriptors needs `prlimit` of util-linux: {error}"
        )),
    }
}
