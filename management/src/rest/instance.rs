//! `/api/instance`: what may be known before logging in.

use serde::Serialize;

use super::answer::Answer;
use super::caller::Caller;

/// Whether somebody has to set the installation up.
#[derive(Debug, Serialize)]
pub(super) struct InstanceStatus {
    setup_required: bool,
}

/// Which version runs.
#[derive(Debug, Serialize)]
pub(super) struct InstanceVersion {
    management_current_version: &'static str,
    management_update_available: bool,
}

/// The first account is made on the command line, so there is nothing to set up here.
pub(super) async fn status() -> Answer<InstanceStatus> {
    Answer(InstanceStatus {
        setup_required: false,
    })
}

/// Nobody is asked for newer versions.
pub(super) async fn version(_caller: Caller) -> Answer<InstanceVersion> {
    Answer(InstanceVersion {
        management_current_version: env!("CARGO_PKG_VERSION"),
        management_update_available: false,
    })
}
