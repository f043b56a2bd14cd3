//! What is served: nginx with one worker, a small, a middling and a large file, and a place that reads uploads.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use meshgate_tests::{Folder, Process, ports};

use super::load::{LARGE, MEDIUM, SMALL};
use super::reference::accepts;

/// Where the programs of the system are.
pub(super) const NGINX: &str = "/usr/sbin/nginx";

/// A running origin.
#[derive(Debug)]
pub(super) struct Origin {
    port: u16,
    _process: Process,
}

impl Origin {
    /// Writes the files and starts.
    pub(super) async fn start(folder: &Folder) -> anyhow::Result<Self> {
        let root = folder.join("files");
        std::fs::create_dir(&root)?;
        for (name, size) in [("small", SMALL), ("medium", MEDIUM), ("large", LARGE)] {
            fill(&root.join(name), size)?;
        }
        let port = ports::reserve();
        let config = folder.join("origin.conf");
        std::fs::write(&config, configuration(folder.path(), &root, port))?;
        let arguments = ["-p", &folder.argument(""), "-c", &folder.argument("origin.conf")];
        let process = Process::start_program("origin", folder.path(), Path::new(NGINX), &arguments);
        accepts(port).await;
        Ok(Self {
            port,
            _process: process,
        })
    }

    /// Port of the loopback address.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

fn fill(path: &Path, size: u64) -> std::io::Result<()> {
    const BLOCK: [u8; 4096] = [b'x'; 4096];
    let mut file = std::io::BufWriter::new(File::create(path)?);
    let mut left = usize::try_from(size).unwrap_or(usize::MAX);
    while left > 0 {
        let piece = left.min(BLOCK.len());
        file.write_all(&BLOCK[..piece])?;
        left -= piece;
    }
    file.flush()
}

/// What nginx needs to run beside others, as root or not.
pub(super) fn preamble(folder: &Path, name: &str, workers: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off; pid {folder}/{name}.pid; error_log stderr warn; user root;\n\
         worker_processes {workers};\nevents {{ worker_connections 4096; }}\n"
    )
}

/// Where nginx may put what does not fit into memory.
pub(super) fn temporary_paths(folder: &Path, name: &str) -> String {
    ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{name}-{kind};\n", folder.display()))
        .concat()
}

/// An upload is read to its end into memory; the answer tells its length.
fn configuration(folder: &Path, root: &Path, port: u16) -> String {
    let preamble = preamble(folder, "origin", "1");
    let temporary = temporary_paths(folder, "origin");
    let root = root.display();
    format!(
        "{preamble}http {{\n{temporary}access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;\n\
         default_type application/octet-stream; open_file_cache max=16;\n\
         server {{ listen 127.0.0.1:{port} backlog=4096; root {root};\n\
         client_max_body_size 0; client_body_buffer_size 128m;\n\
         location = /upload {{ proxy_pass http://127.0.0.1:{port}/received; proxy_pass_request_body off;\n\
         proxy_set_header Content-Length \"\"; proxy_set_header X-Received $request_length; }}\n\
         location = /received {{ return 200 $http_x_received; }} }} }}\n"
    )
}
