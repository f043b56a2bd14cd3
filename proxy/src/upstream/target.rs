//! One target of one service in one configuration, with the streams to it that wait for their next request.

use std::sync::Arc;

use super::dial::Dialer;
use super::spec::TargetSpec;

/// A target that requests can be sent to.
///
/// It owns its idle streams, so no other account, peer or revision can be given one of them; dropping
/// it closes them.
#[derive(Debug)]
pub struct Target {
    spec: TargetSpec,
    dialer: Arc<dyn Dialer>,
}

impl Target {
    /// Makes a target without any stream.
    pub fn new(spec: TargetSpec, dialer: Arc<dyn Dialer>) -> Arc<Self> {
        Arc::new(Self { spec, dialer })
    }

    /// What is configured.
    pub fn spec(&self) -> &TargetSpec {
        &self.spec
    }

    /// Who opens streams to it.
    pub fn dialer(&self) -> &Arc<dyn Dialer> {
        &self.dialer
    }
}
