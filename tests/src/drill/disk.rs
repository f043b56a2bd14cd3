//! A small file system that can be filled.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Room on it, in MiB: enough for a database that is in use.
const SIZE: u32 = 24;

/// What fills it.
const BALLAST: &str = "ballast";

/// A file system in memory; it is taken off when this is dropped.
#[derive(Debug)]
pub(super) struct Disk(PathBuf);

impl Disk {
    /// Mounts it over a folder, which is made.
    ///
    /// # Errors
    /// Names what is needed when it cannot be mounted.
    pub(super) fn mount(folder: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        let options = format!("size={SIZE}m,mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "meshgate-drill"])
            .arg(folder)
            .output();
        let why = match mounted {
            Ok(output) if output.status.success() => return Ok(Self(folder.to_owned())),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => format!("`mount`: {error}"),
        };
        Err(format!(
            "the fault disk-full mounts a small tmpfs and needs root with the right to mount \
             (CAP_SYS_ADMIN) for that; leave it out with --skip disk-full. {why}"
        ))
    }

    /// Takes all room that is left.
    pub(super) fn fill(&self) -> std::io::Result<()> {
        let mut ballast = File::create(self.0.join(BALLAST))?;
        for chunk in [vec![0; 1 << 20], vec![0; 1 << 12]] {
            loop {
                match ballast.write_all(&chunk) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Gives the room back.
    pub(super) fn free(&self) -> std::io::Result<()> {
        std::fs::remove_file(self.0.join(BALLAST))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
