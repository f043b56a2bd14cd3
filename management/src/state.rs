//! What all surfaces and reconcilers share.

use std::sync::Arc;

use meshgate_proto::Clock;

use crate::changes::Changes;
use crate::config::Config;
use crate::password::PasswordHasher;
use crate::secrets::AtRest;
use crate::store::Store;

/// What all surfaces and reconcilers share, in an `Arc`.
pub struct State {
    /// The database.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// News of committed changes.
    pub changes: Changes,
    /// Settings.
    pub config: Arc<Config>,
    /// Encryption of what is stored.
    pub at_rest: AtRest,
    /// Hashing of passwords and PINs.
    pub passwords: Arc<dyn PasswordHasher>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}
