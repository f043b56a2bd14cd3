//! No fuzz target is forgotten: each has a body, a place in the manifest, a small corpus, and a replay of it
//! among the ordinary tests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Most files of a corpus, and most bytes of one.
const MAX_FILES: usize = 40;
const MAX_BYTES: u64 = 4 * 1024;

#[test]
fn every_target_is_replayed_by_the_ordinary_tests() {
    let folder = root().join("tests/fuzz");
    let targets = names(&folder.join("fuzz_targets"));
    let sources = sources();

    assert!(!targets.is_empty());
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for target in &targets {
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")),
            "tests/fuzz/Cargo.toml has no [[bin]] for {target}"
        );
        let replay = format!("corpus(\"{target}\", ");
        let body = format!("tests/fuzz/bodies/{target}.rs\"]");
        assert!(
            sources
                .iter()
                .any(|text| text.contains(&replay) && text.contains(&body)),
            "no test of the workspace replays the corpus of {target}"
        );
    }
    assert_eq!(names(&folder.join("bodies")), targets, "bodies and targets");
    assert_eq!(names(&folder.join("corpus")), targets, "corpora and targets");
}

#[test]
fn corpora_are_small() {
    let corpora = root().join("tests/fuzz/corpus");
    for target in names(&corpora) {
        let folder = corpora.join(&target);
        let files: Vec<PathBuf> = entries(&folder);
        assert!(
            (1..=MAX_FILES).contains(&files.len()),
            "{target} has {} files",
            files.len()
        );
        for file in files {
            let size = file.metadata().unwrap().len();
            assert!(size <= MAX_BYTES, "{} has {size} bytes", file.display());
        }
    }
}

/// Rust sources of the workspace outside the fuzz targets' folder.
fn sources() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = entries(&root());
    while let Some(path) = folders.pop() {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_dir() && !matches!(name, "target" | "fuzz") && !name.starts_with('.') {
            folders.extend(entries(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(std::fs::read_to_string(&path).expect("sources can be read"));
        }
    }
    found
}

/// What the entries of a folder are called; those of a body's own folder count as the body's.
fn names(folder: &Path) -> BTreeSet<String> {
    let stems = entries(folder)
        .into_iter()
        .filter_map(|path| path.file_stem()?.to_str().map(str::to_owned));
    stems.collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries
        .map(|entry| entry.expect("the folder can be read").path())
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
