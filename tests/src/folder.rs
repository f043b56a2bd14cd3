//! Folders that do not stay behind.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// What the name of every folder begins with; the process id of the test run follows.
const PREFIX: &str = "meshgate-tests-";

/// A folder that goes when it is dropped, or at the next test run.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Folder {
    /// A new empty folder.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new() -> Self {
        sweep();
        let prefix = format!("{PREFIX}{}-", std::process::id());
        Self(
            tempfile::Builder::new()
                .prefix(&prefix)
                .tempdir()
                .expect("a folder can be made"),
        )
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A path inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A path inside, as an argument for a program.
    ///
    /// # Panics
    /// Never: temporary folders have plain names.
    pub fn argument(&self, name: &str) -> String {
        self.join(name)
            .into_os_string()
            .into_string()
            .expect("temporary folders have plain names")
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

/// Removes what ended test runs left: folders in statics are never dropped.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .and_then(|rest| rest.split('-').next());
        let Some(owner) = owner.and_then(|owner| owner.parse::<u32>().ok()) else {
            continue;
        };
        if !Path::new("/proc").join(owner.to_string()).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
