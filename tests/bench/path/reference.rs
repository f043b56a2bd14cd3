//! nginx and Caddy as they would be set up to end TLS in front of an origin on the same machine.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use meshgate_tests::{Folder, Process, eventually, ports};

use super::load::HOST;
use super::origin::{NGINX, Origin, preamble, temporary_paths};
use crate::usage::Usage;

const CADDY: &str = "/usr/bin/caddy";

/// A program that ends TLS in front of the origin.
#[derive(Debug)]
pub(super) struct Reference {
    port: u16,
    process: Process,
}

impl Reference {
    /// nginx with one worker per core and its log switched on.
    pub(super) async fn nginx(folder: &Folder, origin: &Origin) -> anyhow::Result<Self> {
        let (certificate, key) = certificate(folder)?;
        let port = ports::reserve();
        let preamble = preamble(folder.path(), "nginx", "auto");
        let temporary = temporary_paths(folder.path(), "nginx");
        let config = format!(
            "{preamble}http {{\n{temporary}access_log {log}; keepalive_requests 100000000;\n\
             upstream origin {{ server 127.0.0.1:{origin}; keepalive 256; keepalive_requests 100000000; }}\n\
             server {{ listen 127.0.0.1:{port} ssl http2 backlog=4096; server_name {HOST};\n\
             ssl_certificate {certificate}; ssl_certificate_key {key}; client_max_body_size 0;\n\
             location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
             proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;\n\
             proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;\n\
             proxy_request_buffering off; proxy_max_temp_file_size 0; }} }} }}\n",
            log = folder.argument("nginx-access.log"),
            origin = origin.port(),
        );
        std::fs::write(folder.join("nginx.conf"), config)?;
        let arguments = ["-p", &folder.argument(""), "-c", &folder.argument("nginx.conf")];
        let process = Process::start_program("nginx", folder.path(), Path::new(NGINX), &arguments);
        accepts(port).await;
        Ok(Self { port, process })
    }

    /// Caddy, which takes as many threads as there are cores and logs no requests unless told to.
    pub(super) async fn caddy(folder: &Folder, origin: &Origin) -> anyhow::Result<Self> {
        let (certificate, key) = certificate(folder)?;
        let port = ports::reserve();
        let config = format!(
            "{{\n admin off\n auto_https off\n storage file_system {storage}\n}}\n\
             https://{HOST}:{port} {{\n bind 127.0.0.1\n tls {certificate} {key}\n\
             reverse_proxy 127.0.0.1:{origin} {{\n transport http {{\n keepalive_idle_conns_per_host 256\n }}\n }}\n}}\n",
            storage = folder.argument("caddy"),
            origin = origin.port(),
        );
        std::fs::write(folder.join("Caddyfile"), config)?;
        let file = folder.argument("Caddyfile");
        let arguments = ["run", "--config", &file, "--adapter", "caddyfile"];
        let process = Process::start_program("caddy", folder.path(), Path::new(CADDY), &arguments);
        accepts(port).await;
        Ok(Self { port, process })
    }

    /// Port of the loopback address.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// What it has used, with its workers.
    pub(super) fn usage(&self) -> Usage {
        Usage::of(self.process.pid())
    }
}

/// Waits until something listens.
pub(super) async fn accepts(port: u16) {
    eventually(&format!("port {port} accepts"), async || {
        tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await
    })
    .await;
}

/// A certificate with the same kind of key that our own authority issues.
fn certificate(folder: &Folder) -> anyhow::Result<(String, String)> {
    let (certificate, key) = (folder.argument("tls.crt"), folder.argument("tls.key"));
    if Path::new(&certificate).exists() {
        return Ok((certificate, key));
    }
    let subject = format!("/CN={HOST}");
    let name = format!("subjectAltName=DNS:{HOST}");
    let curve = "ec_paramgen_curve:prime256v1";
    let output = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "ec", "-pkeyopt", curve, "-nodes", "-days", "2",
        ])
        .args([
            "-subj",
            &subject,
            "-addext",
            &name,
            "-keyout",
            &key,
            "-out",
            &certificate,
        ])
        .output()
        .context("openssl is needed")?;
    ensure!(
        output.status.success(),
        "openssl: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok((certificate, key))
}
