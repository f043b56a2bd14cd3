//! What this machine says of itself. Stable from one login to the next, as servers watch for changes.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use meshgate_proto::network_map::{FileState, MetaFlags, PeerCapability, SystemMeta};

/// Newest form of network map that this client asks for: the classic one, which every server has.
const SYNC_MESSAGE_VERSION: i32 = 0;

/// Describes the machine.
pub(crate) fn collect(hostname: &str, version: &str, flags: MetaFlags) -> SystemMeta {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let kernel_version = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut capabilities = vec![PeerCapability::SourcePrefixes];
    if !flags.disable_ipv6 {
        capabilities.push(PeerCapability::Ipv6Overlay);
    }
    SystemMeta {
        hostname: hostname.to_owned(),
        go_os: match std::env::consts::OS {
            "macos" => "darwin",
            other => other,
        }
        .to_owned(),
        kernel: if cfg!(target_os = "linux") {
            "Linux"
        } else {
            std::env::consts::OS
        }
        .to_owned(),
        core: release_field(&release, "VERSION_ID"),
        platform: std::env::consts::ARCH.to_owned(),
        os: release_field(&release, "NAME"),
        agent_version: version.to_owned(),
        kernel_version: kernel_version.trim().to_owned(),
        os_version: release_field(&release, "VERSION_ID"),
        flags: Some(flags),
        capabilities,
        sync_message_version: SYNC_MESSAGE_VERSION,
        ..SystemMeta::default()
    }
}

/// Looks at the files that posture checks ask for. Blocks on the file system.
pub(crate) fn inspect(paths: &[String]) -> Vec<FileState> {
    let running = if paths.is_empty() {
        HashSet::new()
    } else {
        running_programs()
    };
    paths
        .iter()
        .map(|path| FileState {
            path: path.clone(),
            exists: Path::new(path).exists(),
            process_is_running: running.contains(Path::new(path)),
        })
        .collect()
}

fn running_programs() -> HashSet<PathBuf> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return HashSet::new();
    };
    processes
        .filter_map(Result::ok)
        .filter_map(|process| fs::read_link(process.path().join("exe")).ok())
        .collect()
}

fn release_field(release: &str, name: &str) -> String {
    release
        .lines()
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.trim_matches('"').to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_only_what_the_client_can_do() {
        let flags = MetaFlags {
            disable_ipv6: true,
            ..MetaFlags::default()
        };

        let with_v6 = collect("host", "0.77.1", MetaFlags::default());
        let without = collect("host", "0.77.1", flags);

        assert_eq!(
            with_v6.capabilities,
            [PeerCapability::SourcePrefixes, PeerCapability::Ipv6Overlay]
        );
        assert_eq!(without.capabilities, [PeerCapability::SourcePrefixes]);
        assert_eq!(with_v6.sync_message_version, 0);
    }

    #[test]
    fn stays_the_same_from_one_login_to_the_next() {
        let once = collect("host", "0.77.1", MetaFlags::default());

        assert_eq!(once, collect("host", "0.77.1", MetaFlags::default()));
    }

    #[test]
    fn sees_files_and_running_programs() {
        let program = std::env::current_exe().unwrap().canonicalize().unwrap();
        let paths = [program.display().to_string(), "/nowhere/at/all".to_owned()];

        let files = inspect(&paths);

        assert!(files[0].exists && files[0].process_is_running);
        assert!(!files[1].exists && !files[1].process_is_running);
    }
}
