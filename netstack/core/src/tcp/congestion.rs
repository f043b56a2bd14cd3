//! How much may be under way, and how fast it may leave.

mod cubic;
mod hystart;

pub(super) use self::cubic::Cubic;
use super::pacer::Rate;
use super::time::Time;

/// Segments that a new connection may send at once (RFC 6928).
const INITIAL_SEGMENTS: u64 = 10;
/// Largest window; no path that is paced like this needs more.
const MAX_WINDOW: u64 = 64 << 20;

/// Something arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivery {
    pub(super) now: Time,
    /// Bytes that arrived.
    pub(super) bytes: u64,
    /// How long the newest of them took there and back.
    pub(super) round_trip: Option<u64>,
    pub(super) smoothed: Option<u64>,
    /// Everything that was under way at the last one of these arrived.
    pub(super) new_round: bool,
    /// The window was used.
    pub(super) limited: bool,
}

/// A way to find out what a path carries.
pub(super) trait Congestion: std::fmt::Debug + Send + Sync {
    /// Bytes that may be under way.
    fn window(&self) -> u64;

    /// Bytes in a second; `None` while nothing is known of the path.
    fn pace(&self, smoothed: Option<u64>) -> Option<Rate>;

    /// Whether the window still opens with everything that arrives.
    fn is_starting(&self) -> bool;

    /// Something leaves, and nothing was under way.
    fn handle_restart(&mut self, now: Time);

    /// Something arrived, and nothing is lost, or it was after a timeout.
    fn handle_delivery(&mut self, delivery: &Delivery);

    /// Something of what was under way is lost. Called once for each round trip.
    fn handle_loss(&mut self);

    /// Nothing arrived for long.
    fn handle_timeout(&mut self);

    /// The last loss or timeout was none.
    fn undo(&mut self);
}
