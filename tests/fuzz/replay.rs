//! Replays the corpus of a fuzz target in an ordinary test.

use std::path::{Path, PathBuf};

/// Runs the body of the target `name` on every file of its corpus.
///
/// # Panics
/// When there is no corpus; and the body panics, with the file's name before it, when a file shows a fault.
pub(crate) fn corpus(name: &str, body: fn(&[u8])) {
    let folder = folder().join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("the folder can be read").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in files {
        let data = std::fs::read(&file).expect("the file can be read");
        let _shown = Shown(&file);
        body(&data);
    }
}

/// Names the file when the body panics.
struct Shown<'a>(&'a Path);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the fault is shown by {}", self.0.display());
        }
    }
}

fn folder() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = package.ancestors().map(|folder| folder.join("tests/fuzz/corpus"));
    folders
        .find(|folder| folder.is_dir())
        .expect("the repository has tests/fuzz/corpus")
}
