//! From a loss until everything that was under way then is acknowledged.
//!
//! During a recovery the window shrinks with what arrives (proportional rate reduction, RFC 6937), so that there is
//! neither a pause nor a burst.

/// How far the repair of a loss is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Repair {
    /// Nothing is lost.
    #[default]
    None,
    /// Something is, and what arrives tells what.
    Recovery(Recovery),
    /// Nothing arrived for long; until this offset.
    Timeout(u64),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Recovery {
    /// Where it is over.
    until: u64,
    /// Bytes that were under way when it began.
    flight: u64,
    arrived: u64,
    sent: u64,
    window: u64,
}

/// What happened while a recovery is under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// Bytes that arrived.
    pub(super) arrived: u64,
    /// Bytes that are still under way.
    pub(super) flying: u64,
    /// The window it leads to.
    pub(super) target: u64,
    pub(super) segment: u64,
}

impl Repair {
    pub(super) fn recover(until: u64, flight: u64) -> Self {
        Self::Recovery(Recovery {
            until,
            flight: flight.max(1),
            arrived: 0,
            sent: 0,
            window: 0,
        })
    }

    /// Whether everything up to this offset being acknowledged ends it.
    pub(super) fn is_over(&self, acknowledged: u64) -> bool {
        match self {
            Self::None => false,
            Self::Recovery(recovery) => acknowledged >= recovery.until,
            Self::Timeout(until) => acknowledged >= *until,
        }
    }

    pub(super) fn window(&self) -> Option<u64> {
        match self {
            Self::Recovery(recovery) => Some(recovery.window),
            Self::None | Self::Timeout(_) => None,
        }
    }

    pub(super) fn handle_sent(&mut self, bytes: u64) {
        if let Self::Recovery(recovery) = self {
            recovery.sent += bytes;
        }
    }
}

impl Recovery {
    pub(super) fn handle_step(&mut self, step: &Step) {
        self.arrived += step.arrived;
        let allowed = if step.flying > step.target {
            let share = u128::from(self.arrived) * u128::from(step.target);
            let due = share.div_ceil(u128::from(self.flight));
            u64::try_from(due).unwrap_or(u64::MAX).saturating_sub(self.sent)
        } else {
            let owed = self.arrived.saturating_sub(self.sent).max(step.arrived);
            (owed + step.segment).min(step.target - step.flying)
        };
        // The first lost segment always leaves.
        let least = if self.sent == 0 { step.segment } else { 0 };
        self.window = step.flying + allowed.max(least);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_is_a_part_of_what_arrives() {
        let (segment, flight, target) = (1000, 100_000, 70_000);
        let mut repair = Repair::recover(200_000, flight);
        let mut flying = flight - 5000;
        let mut sent = 0;
        while let Repair::Recovery(recovery) = &mut repair
            && recovery.arrived < 90_000
        {
            flying -= segment;
            recovery.handle_step(&Step {
                arrived: segment,
                flying,
                target,
                segment,
            });
            while flying + segment <= repair.window().unwrap() {
                flying += segment;
                sent += segment;
                repair.handle_sent(segment);
            }
        }

        assert!((60_000..=70_000).contains(&sent), "{sent}");
        assert!(flying.abs_diff(target) <= 3000, "{flying}");
    }

    #[test]
    fn the_first_segment_leaves_at_once() {
        let mut repair = Repair::recover(1000, 100_000);
        if let Repair::Recovery(recovery) = &mut repair {
            recovery.handle_step(&Step {
                arrived: 0,
                flying: 95_000,
                target: 70_000,
                segment: 1000,
            });
        }

        assert_eq!(repair.window(), Some(96_000));
        assert!(!repair.is_over(999));
        assert!(repair.is_over(1000));
    }
}
