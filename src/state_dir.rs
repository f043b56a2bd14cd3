//! Where programs keep what outlives them.

use std::path::PathBuf;

use anyhow::Context as _;

/// The default directory of a program's state: the system's for root, the user's otherwise.
pub(crate) fn default_state_dir(program: &str) -> anyhow::Result<PathBuf> {
    if is_root() {
        return Ok(PathBuf::from("/var/lib/meshgate").join(program));
    }
    let base = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let base = base.or_else(|| std::env::home_dir().map(|home| home.join(".local/state")));
    let base = base.context("no home directory is known; give --state-dir")?;
    Ok(base.join("meshgate").join(program))
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
