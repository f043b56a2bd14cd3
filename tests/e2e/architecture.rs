//! The house keeps its shape: who names whom, what may be linked, how files are laid out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// Who may name whom: every package of the workspace, and every package of the workspace it depends on.
const ALLOWED: &[(&str, &[&str])] = &[
    (
        "meshgate",
        &[
            "meshgate-certs",
            "meshgate-management",
            "meshgate-mesh",
            "meshgate-proto",
            "meshgate-proxy",
        ],
    ),
    ("meshgate-certs", &["meshgate-proto"]),
    (
        "meshgate-management",
        &["meshgate-certs", "meshgate-proto", "meshgate-web"],
    ),
    ("meshgate-mesh", &["meshgate-netstack", "meshgate-proto"]),
    ("meshgate-netstack", &["meshgate-netstack-core"]),
    ("meshgate-netstack-core", &[]),
    ("meshgate-proto", &[]),
    (
        "meshgate-proxy",
        &[
            "meshgate-certs",
            "meshgate-mesh",
            "meshgate-proto",
            "meshgate-web",
        ],
    ),
    ("meshgate-tests", &[]),
    ("meshgate-web", &[]),
];

#[test]
fn packages_name_only_whom_they_may() {
    let metadata = metadata();
    let workspace: BTreeSet<&str> = metadata
        .workspace_packages()
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let mut found = BTreeMap::new();
    for package in metadata.workspace_packages() {
        let names = package
            .dependencies
            .iter()
            .map(|dependency| dependency.name.as_str());
        let names: BTreeSet<&str> = names.filter(|name| workspace.contains(name)).collect();
        found.insert(package.name.as_str(), names);
    }

    let allowed: BTreeMap<&str, BTreeSet<&str>> = ALLOWED
        .iter()
        .map(|(package, names)| (*package, names.iter().copied().collect()))
        .collect();

    assert_eq!(found, allowed);
}

#[test]
fn pure_core_has_no_runtime() {
    let tree = Tree::of("meshgate-netstack-core", &metadata());

    for banned in [
        "tokio",
        "async-std",
        "smol",
        "mio",
        "quinn-udp",
        "socket2",
        "tracing-subscriber",
    ] {
        assert!(
            !tree.names().contains(banned),
            "{banned} is in the tree of the core"
        );
    }
}

#[test]
fn there_is_one_tls_provider_and_no_openssl() {
    let tree = Tree::of("meshgate", &metadata());

    assert!(tree.names().contains("ring"), "the provider is ring");
    for banned in [
        "aws-lc-rs",
        "aws-lc-sys",
        "openssl",
        "openssl-sys",
        "native-tls",
        "boring",
        "boring-sys",
    ] {
        assert!(
            !tree.names().contains(banned),
            "{banned} is in the tree of the binary"
        );
    }
    for (name, versions) in tree.versions() {
        let single = ["rustls", "tokio", "hyper", "h2", "ring"].contains(&name.as_str());
        assert!(
            !single || versions.len() == 1,
            "{name} is there more than once: {versions:?}"
        );
    }
}

#[test]
fn licences_are_on_the_list() {
    let allowed = allowed_licences();
    let metadata = metadata();
    let mut refused = Vec::new();
    for package in &metadata.packages {
        let ours = metadata.workspace_members.contains(&package.id);
        let licence = package.license.as_deref().unwrap_or("none named");
        if !ours && !satisfied(licence, &allowed) {
            refused.push(format!("{} {}: {licence}", package.name, package.version));
        }
        assert!(
            !ours || licence == "MIT OR Apache-2.0",
            "{}: {licence}",
            package.name
        );
    }
    assert!(refused.is_empty(), "not in deny.toml:\n{}", refused.join("\n"));
}

#[test]
fn dependencies_come_from_the_registry_and_stand_in_the_workspace_table() {
    let metadata = metadata();
    for package in &metadata.packages {
        let source = package.source.as_ref().map(|source| source.repr.as_str());
        let ours = metadata.workspace_members.contains(&package.id);
        assert!(
            ours || source.is_some_and(|source| source.starts_with("registry+")),
            "{}: {source:?}",
            package.name
        );
    }
    for package in metadata.workspace_packages() {
        let manifest = std::fs::read_to_string(&package.manifest_path).unwrap();
        let own = manifest.lines().skip_while(|line| *line != "[dependencies]");
        let own = own.take_while(|line| !line.starts_with("[lints]") && !line.starts_with("[["));
        for line in own.filter(|line| line.contains('=') && !line.trim_start().starts_with('#')) {
            assert!(line.contains("workspace = true"), "{}: {line}", package.name);
        }
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{} keeps the lints",
            package.name
        );
    }
}

#[test]
fn files_are_laid_out_as_agreed() {
    let mut wrong = Vec::new();
    for file in rust_files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap_or_default();
        if name == "mod.rs" {
            wrong.push(format!("{}: foo.rs + foo/ instead of mod.rs", file.display()));
        }
        let is_test = file.components().any(|part| part.as_os_str() == "tests") || name == "tests.rs";
        if !is_test && text.lines().count() > 100 && !text.starts_with("//!") {
            wrong.push(format!(
                "{}: more than 100 lines and no //! at the top",
                file.display()
            ));
        }
        if name == "lib.rs"
            && text
                .lines()
                .any(|line| line.starts_with("pub fn ") || line.starts_with("pub struct "))
        {
            wrong.push(format!(
                "{}: lib.rs holds doc, mods and re-exports only",
                file.display()
            ));
        }
        let generated = file.ends_with("proto/src/pb.rs");
        if !generated && (text.contains(concat!("#[", "allow(")) || text.contains(concat!("#![", "allow("))) {
            wrong.push(format!(
                "{}: expect with a reason instead of allow",
                file.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn there_is_no_room_for_everything() {
    for package in metadata().workspace_packages() {
        assert!(
            !package.name.contains("common") && !package.name.contains("util"),
            "{}",
            package.name
        );
    }
}

/// A package and everything that is linked or built for it.
struct Tree(Vec<(String, String)>);

impl Tree {
    fn of(package: &str, metadata: &Metadata) -> Self {
        let root = metadata
            .workspace_packages()
            .into_iter()
            .find(|found| found.name.as_str() == package);
        let resolve = metadata
            .resolve
            .as_ref()
            .expect("metadata has the resolved graph");
        let mut open = vec![root.expect("the package is there").id.clone()];
        let mut seen: BTreeSet<PackageId> = BTreeSet::new();
        while let Some(id) = open.pop() {
            let node = resolve
                .nodes
                .iter()
                .find(|node| node.id == id)
                .expect("every package has a node");
            let used = node.deps.iter().filter(|edge| {
                edge.dep_kinds
                    .iter()
                    .any(|kind| kind.kind != DependencyKind::Development)
            });
            open.extend(used.map(|edge| edge.pkg.clone()).filter(|id| !seen.contains(id)));
            seen.insert(id);
        }
        let packages = seen.iter().map(|id| {
            let package = &metadata[id];
            (package.name.to_string(), package.version.to_string())
        });
        Self(packages.collect())
    }

    fn names(&self) -> BTreeSet<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn versions(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, version) in &self.0 {
            versions.entry(name.clone()).or_default().insert(version.clone());
        }
        versions
    }
}

fn metadata() -> Metadata {
    let mut command = MetadataCommand::new();
    command
        .current_dir(root())
        .other_options(vec!["--offline".to_owned(), "--locked".to_owned()]);
    command.exec().expect("cargo tells the packages")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package lies in the workspace")
}

/// The quoted words of `allow` under `[licenses]`.
fn allowed_licences() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml is there");
    let (_, section) = text
        .split_once("[licenses]")
        .expect("deny.toml has a section of licences");
    let (_, list) = section.split_once("allow = [").expect("the section has a list");
    let (list, _) = list.split_once("\n]").expect("the list ends");
    let quoted = list.lines().filter_map(|line| {
        line.trim()
            .strip_prefix('"')?
            .split('"')
            .next()
            .map(str::to_owned)
    });
    quoted.collect()
}

/// Whether an SPDX expression can be met with the allowed licences. `AND` binds tighter than `OR`.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let words = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = words.split_whitespace().collect();
    let (met, rest) = any_of(&words, allowed);
    met && rest.is_empty()
}

fn any_of<'a>(words: &'a [&'a str], allowed: &BTreeSet<String>) -> (bool, &'a [&'a str]) {
    let (mut met, mut rest) = all_of(words, allowed);
    while let ["OR", next @ ..] = rest {
        let (also, after) = all_of(next, allowed);
        (met, rest) = (met || also, after);
    }
    (met, rest)
}

fn all_of<'a>(words: &'a [&'a str], allowed: &BTreeSet<String>) -> (bool, &'a [&'a str]) {
    let (mut met, mut rest) = one(words, allowed);
    while let ["AND", next @ ..] = rest {
        let (also, after) = one(next, allowed);
        (met, rest) = (met && also, after);
    }
    (met, rest)
}

fn one<'a>(words: &'a [&'a str], allowed: &BTreeSet<String>) -> (bool, &'a [&'a str]) {
    match words {
        ["(", inner @ ..] => {
            let (met, rest) = any_of(inner, allowed);
            (
                met && rest.first() == Some(&")"),
                rest.get(1..).unwrap_or_default(),
            )
        }
        [name, "WITH", exception, rest @ ..] => (allowed.contains(&format!("{name} WITH {exception}")), rest),
        [name, rest @ ..] => (allowed.contains(*name), rest),
        [] => (false, words),
    }
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = ["MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"]
        .map(str::to_owned)
        .into();
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT OR GPL-3.0", true),
        ("MIT/Apache-2.0", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND Zlib", true),
        ("GPL-3.0 AND (MIT OR Zlib)", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
        ("(MIT", false),
        ("", false),
    ] {
        assert_eq!(satisfied(expression, &allowed), met, "{expression:?}");
    }
}

fn rust_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)
            .expect("the folder can be read")
            .flatten()
        {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}
