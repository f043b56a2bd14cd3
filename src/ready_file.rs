//! Files that tell other programs that something is ready. They appear whole and are for their owner only.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

/// Writes JSON so that a reader sees the old file or the new one, never a part (mode 0600).
pub(crate) fn write(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let draft = draft_path(path);
    let result = write_draft(&draft, value).and_then(|()| Ok(std::fs::rename(&draft, path)?));
    if result.is_err() {
        let _ = std::fs::remove_file(&draft);
    }
    result.with_context(|| format!("cannot write {}", path.display()))
}

fn write_draft(draft: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_vec_pretty(value)?;
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(draft)?;
    file.write_all(&text)?;
    file.sync_all()?;
    Ok(())
}

fn draft_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn appears_whole_and_for_the_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ready.json");

        write(&path, &serde_json::json!({"a": 1})).unwrap();
        write(&path, &serde_json::json!({"a": 2})).unwrap();

        let value: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(value["a"], 2);
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn names_the_file_that_cannot_be_written() {
        let error = write(Path::new("/nonexistent/ready.json"), &1).unwrap_err();

        assert!(error.to_string().contains("/nonexistent/ready.json"));
    }
}
