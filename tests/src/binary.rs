//! The binary under test, built once per test run so that it is never stale.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Names a finished binary that is tested instead of a fresh build, such as one about to be released.
const READY_MADE: &str = "MESHGATE_TEST_BINARY";

/// Path of the `meshgate` binary, freshly built with the profile of the tests.
///
/// # Panics
/// When it does not build; the compiler's words are shown.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os(READY_MADE).map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package lies in the workspace");
    let test = std::env::current_exe().expect("a process knows its program");
    let profile_dir = test.ancestors().nth(2).expect("tests lie in target/PROFILE/deps");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .current_dir(root)
        .args(["build", "--workspace", "--bin", "meshgate"]);
    if profile_dir.ends_with("release") {
        build.arg("--release");
    }
    let built = build.output().expect("cargo runs");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    profile_dir.join("meshgate")
}
