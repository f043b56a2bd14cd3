//! The relay between the two, and restarts, which it notices.

use super::super::super::{PeerConnection, Role};
use super::{Message, Side, World};

impl World {
    pub(super) fn return_to_relay(&mut self, which: usize) {
        self.sequence += 1;
        self.sides[which].relay = Some(self.sequence);
        self.change(which, PeerConnection::handle_relay_up);
        if self.sides[1 - which].subscribed {
            self.tell(1 - which, Message::Online);
        }
    }

    pub(super) fn leave_relay(&mut self, which: usize, millis: u64) {
        if self.sides[which].relay.take().is_none() {
            return;
        }
        self.sides[which].subscribed = false;
        self.change(which, PeerConnection::handle_relay_down);
        if self.sides[1 - which].subscribed {
            self.tell(1 - which, Message::Offline);
        }
        self.fly(which, millis, None, None, Message::RelayReturns);
    }

    pub(super) fn subscribe(&mut self, which: usize) {
        if self.sides[which].relay.is_none() {
            return;
        }
        self.sides[which].subscribed = true;
        if self.sides[1 - which].relay.is_some() {
            self.tell(which, Message::Online);
        }
    }

    /// The relay's own words are neither lost nor reordered while the connection holds.
    fn tell(&mut self, which: usize, message: Message) {
        let relay = self.sides[which].relay;
        if relay.is_some() {
            self.fly(which, 20, None, relay, message);
        }
    }

    pub(super) fn restart(&mut self, which: usize, millis: u64) {
        let boot = self.sides[which].boot + 1;
        self.leave_relay(which, millis);
        let role = if which == 0 {
            Role::Controller
        } else {
            Role::Follower
        };
        let relay = self.sides[which].relay;
        self.sides[which] = Side::new(role, boot, self.now);
        self.sides[which].relay = relay;
    }
}
