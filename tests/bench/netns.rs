//! Network namespaces that exist as long as the bench.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

/// What all our namespaces are called; the process id follows.
const PREFIX: &str = "mgbench";

/// A network namespace of this process, removed when dropped.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one; `mark` tells it from the others.
    pub(crate) fn new(mark: char) -> anyhow::Result<Self> {
        let name = format!("{PREFIX}{}{mark}", std::process::id());
        ip(&["netns", "add", &name]).context("network namespaces need root")?;
        let this = Self { name };
        this.ip(&["link", "set", "lo", "up"])?;
        Ok(this)
    }

    /// Joins two of them with an Ethernet link that has these addresses.
    pub(crate) fn join(&self, ours: Ipv4Addr, other: &Self, theirs: Ipv4Addr) -> anyhow::Result<()> {
        self.ip(&[
            "link",
            "add",
            "wire",
            "type",
            "veth",
            "peer",
            "name",
            "wire",
            "netns",
            &other.name,
        ])?;
        for (namespace, address) in [(self, ours), (other, theirs)] {
            namespace.ip(&["address", "add", &format!("{address}/24"), "dev", "wire"])?;
            namespace.ip(&["link", "set", "wire", "up"])?;
        }
        Ok(())
    }

    /// Runs `ip` inside.
    pub(crate) fn ip(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let inside = ["-netns", &self.name];
        ip(&[inside.as_slice(), arguments].concat())
    }

    /// A command line of `ip` that starts a program inside.
    pub(crate) fn enter<'a>(&'a self, program: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
        [["netns", "exec", &self.name, program].as_slice(), arguments].concat()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

/// Removes namespaces of benches that were killed.
pub(crate) fn remove_leftovers() {
    let Ok(output) = Command::new("ip").args(["netns", "list"]).output() else {
        return;
    };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let Some(owner) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let owner = owner.trim_end_matches(char::is_alphabetic);
        if !Path::new("/proc").join(owner).exists() {
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

/// Where the program is; the environment of services may lack the path.
pub(crate) fn program() -> &'static Path {
    let usual = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"].map(Path::new);
    usual
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or(Path::new("ip"))
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program()).args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        said.trim()
    );
    Ok(())
}
