//! WireGuard keys of one bench.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// Who has keys.
#[derive(Debug)]
pub(crate) struct Keys {
    /// wireguard-go on the client's side.
    pub(crate) client: Pair,
    /// wireguard-go on the server's side.
    pub(crate) server: Pair,
    /// Our client.
    pub(crate) ours: Pair,
    /// Our client that runs beside the others.
    pub(crate) beside: Pair,
    /// Our server.
    pub(crate) our_server: Pair,
}

/// A private and a public key in base64; the private one also in a file.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) private: String,
    pub(crate) public: String,
    pub(crate) file: PathBuf,
}

impl Keys {
    pub(crate) fn generate(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            client: Pair::generate(folder, "client")?,
            server: Pair::generate(folder, "server")?,
            ours: Pair::generate(folder, "ours")?,
            beside: Pair::generate(folder, "beside")?,
            our_server: Pair::generate(folder, "our-server")?,
        })
    }
}

impl Pair {
    fn generate(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let private = wg("genkey", "")?;
        let public = wg("pubkey", &private)?;
        let file = folder.join(format!("{name}.key"));
        let mut options = File::options();
        let mut open = options.create_new(true).write(true).mode(0o600).open(&file)?;
        writeln!(open, "{private}")?;
        Ok(Self {
            private,
            public,
            file,
        })
    }
}

fn wg(subcommand: &str, input: &str) -> anyhow::Result<String> {
    let mut child = Command::new("wg")
        .arg(subcommand)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("wg of wireguard-tools is missing")?;
    if let Some(mut stdin) = child.stdin.take() {
        writeln!(stdin, "{input}")?;
    }
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "wg {subcommand} failed");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
