use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;

const RELAY: Output = Output::Route(Route::Relay);
const NO_ROUTE: Output = Output::Route(Route::None);
const GONE: Output = Output::Reach(Reach::Gone);
const POSSIBLE: Output = Output::Reach(Reach::Possible);

#[test]
fn asks_the_relay_and_says_nothing_until_somebody_dials() {
    let mut sim = Sim::new(Role::Controller);

    assert_eq!(sim.relay_up(), [Output::Subscribe]);
    assert_eq!(sim.online(), []);
    assert_eq!(sim.pass(3600.0), []);
}

#[test]
fn the_controller_offers_and_starts_the_handshake_at_once() {
    let mut sim = Sim::new(Role::Controller);
    sim.relay_up();
    sim.online();

    let outputs = sim.dial();

    assert_eq!(outputs, [RELAY, Output::Initiate, Output::Offer]);
    assert_eq!(sim.handshake(), []);
    assert!(sim.peer.is_connected());
    assert_eq!(sim.pass(3600.0), []);
}

#[test]
fn the_follower_leaves_the_first_handshake_to_the_controller() {
    let mut sim = Sim::new(Role::Follower);
    sim.relay_up();
    sim.online();

    assert_eq!(sim.dial(), [Output::Offer]);
    assert_eq!(sim.answer(), [Output::Candidates]);
    assert_eq!(sim.pass(1.9), []);
    assert_eq!(sim.datagram(), [RELAY]);
    assert_eq!(sim.handshake(), []);
    assert_eq!(sim.pass(3600.0), []);
}

#[test]
fn the_follower_moves_itself_when_the_controller_does_not() {
    let mut sim = Sim::new(Role::Follower);
    sim.relay_up();
    sim.online();
    sim.dial();

    assert_eq!(sim.pass(2.0), [RELAY, Output::Initiate]);
}

#[test]
fn an_offer_is_answered_and_opens_the_connection() {
    let mut sim = Sim::new(Role::Controller);
    sim.relay_up();
    sim.online();

    let outputs = sim.offer();

    assert_eq!(
        outputs,
        [Output::Answer, Output::Candidates, RELAY, Output::Initiate]
    );
}

#[test]
fn a_first_offer_that_got_lost_is_sent_again() {
    let mut sim = Sim::new(Role::Follower);
    sim.relay_up();
    sim.online();
    assert_eq!(sim.dial(), [Output::Offer]);
    sim.datagram();

    assert!(!sim.pass(2.9).contains(&Output::Offer));
    assert!(sim.pass(0.1).contains(&Output::Offer));
}

#[test]
fn a_peer_that_the_relay_does_not_know_is_offline_within_a_second() {
    let mut sim = Sim::new(Role::Controller);
    sim.relay_up();
    sim.dial();

    assert!(sim.pass(1.0).contains(&GONE));
    assert_eq!(sim.dial(), []);
    assert_eq!(sim.online(), [POSSIBLE]);
    assert_eq!(sim.dial(), [RELAY, Output::Initiate, Output::Offer]);
}

#[test]
fn a_peer_that_leaves_fails_its_streams_after_a_grace_and_is_watched_again() {
    let mut sim = Sim::connected(Role::Controller);

    assert_eq!(sim.offline(), [Output::Subscribe, NO_ROUTE]);
    assert_eq!(sim.pass(0.9), []);
    assert_eq!(sim.pass(0.1), [GONE]);
}

#[test]
fn a_peer_that_comes_back_within_the_grace_keeps_its_streams_and_gets_new_keys() {
    for role in [Role::Controller, Role::Follower] {
        let mut sim = Sim::connected(role);
        sim.pass(10.0);
        sim.offline();
        sim.pass(0.5);

        let mut outputs = sim.online();
        outputs.extend(sim.pass(1.0));

        assert!(
            outputs.contains(&RELAY) && outputs.contains(&Output::Initiate),
            "{outputs:?}"
        );
        assert!(!outputs.contains(&GONE), "{outputs:?}");
    }
}

#[test]
fn losing_our_own_relay_fails_nothing_however_long_it_takes() {
    let mut sim = Sim::connected(Role::Controller);

    assert_eq!(sim.relay_down(), [NO_ROUTE]);
    assert_eq!(sim.pass(3600.0), []);
    assert_eq!(sim.relay_up(), [Output::Subscribe]);
    assert_eq!(sim.pass(5.0), []);
    let outputs = sim.online();
    assert!(
        outputs.contains(&RELAY) && outputs.contains(&Output::Initiate),
        "{outputs:?}"
    );
}

#[test]
fn a_relay_that_says_goodbye_for_everybody_before_it_goes_fails_nothing() {
    let mut sim = Sim::connected(Role::Controller);

    sim.offline();
    sim.pass(0.1);
    sim.relay_down();

    assert!(!sim.pass(60.0).contains(&GONE));
}

#[test]
fn a_peer_that_does_not_find_the_relay_again_is_offline_in_the_end() {
    let mut sim = Sim::connected(Role::Follower);
    sim.relay_down();
    sim.relay_up();

    assert_eq!(sim.pass(5.9), []);
    assert_eq!(sim.pass(0.2), [GONE]);
}

#[test]
fn the_follower_tests_a_session_that_it_kept_through_an_outage() {
    let mut sim = Sim::connected(Role::Follower);
    sim.pass(10.0);
    sim.relay_down();
    sim.relay_up();

    let outputs = sim.online();

    assert!(
        outputs.contains(&RELAY) && !outputs.contains(&Output::Initiate),
        "{outputs:?}"
    );
    assert!(sim.pass(1.0).contains(&Output::Initiate));
}

#[test]
fn a_frozen_peer_is_gone_until_it_answers_again() {
    let mut sim = Sim::connected(Role::Controller);

    assert_eq!(sim.silent(), [GONE, Output::Offer]);
    assert!(sim.pass(1.0).contains(&Output::Initiate));
    assert!(sim.pass(60.0).contains(&Output::Initiate));
    assert_eq!(sim.handshake(), [POSSIBLE]);
    assert_eq!(sim.pass(3600.0), []);
}

#[test]
fn a_dial_that_waits_for_a_frozen_peer_fails_within_six_seconds() {
    for role in [Role::Controller, Role::Follower] {
        let mut sim = Sim::new(role);
        sim.relay_up();
        sim.online();
        sim.dial();

        assert!(sim.pass(6.0).contains(&GONE));
    }
}

#[test]
fn a_dial_to_a_frozen_peer_tries_again_soon() {
    let mut sim = Sim::connected(Role::Controller);
    sim.silent();
    sim.pass(40.0);

    sim.dial();

    assert!(sim.pass(1.0).contains(&Output::Initiate));
}

#[test]
fn a_verdict_that_came_from_a_stuck_relay_is_reviewed_when_it_returns() {
    for role in [Role::Controller, Role::Follower] {
        let mut sim = Sim::connected(role);
        sim.silent();
        sim.pass(60.0);
        sim.relay_down();
        sim.relay_up();

        let mut outputs = sim.online();
        outputs.extend(sim.pass(0.0));

        assert!(outputs.contains(&Output::Initiate), "{outputs:?}");
    }
}

#[test]
fn go_idle_parks_the_connection_until_somebody_dials() {
    let mut sim = Sim::connected(Role::Controller);

    assert_eq!(sim.go_idle(), [Output::Route(Route::Parked)]);
    assert_eq!(sim.pass(3600.0), []);
    assert_eq!(sim.dial(), [RELAY, Output::Initiate, Output::Offer]);
}

#[test]
fn a_woken_peer_that_discards_what_woke_it_is_met_by_its_own_offer() {
    let mut sim = Sim::connected(Role::Follower);
    sim.go_idle();
    assert_eq!(sim.dial(), [NO_ROUTE, Output::Offer]);

    let outputs = sim.offer();

    assert!(outputs.contains(&Output::Answer), "{outputs:?}");
    assert_eq!(sim.datagram(), [RELAY]);
}

#[test]
fn a_controller_repeats_the_handshake_for_a_follower_that_offers_again() {
    let mut sim = Sim::connected(Role::Controller);
    sim.pass(10.0);

    assert!(sim.offer().contains(&Output::Initiate));
    assert!(!sim.offer().contains(&Output::Initiate));
}

#[test]
fn a_direct_path_takes_over_and_the_relay_is_kept_as_fallback() {
    let mut sim = Sim::connected(Role::Controller);

    assert_eq!(sim.candidate(1), []);
    assert_eq!(sim.pass(0.0), [Output::Probe(address(1))]);
    assert_eq!(sim.probe_answer(1), [Output::Route(Route::Direct(address(1)))]);

    let outputs = sim.pass(3.0);
    assert!(outputs.contains(&RELAY), "{outputs:?}");
    assert!(
        outputs.contains(&Output::Initiate) && outputs.contains(&Output::Offer),
        "{outputs:?}"
    );
    assert!(!outputs.contains(&GONE), "{outputs:?}");
}

#[test]
fn a_direct_path_outlives_the_relay() {
    let mut sim = Sim::connected(Role::Controller);
    sim.candidate(1);
    sim.probe_answer(1);

    assert_eq!(sim.relay_down(), []);
    for _ in 0..100 {
        sim.probe_answer(1);
        let outputs = sim.pass(0.7);
        assert!(
            outputs.iter().all(|output| matches!(output, Output::Probe(_))),
            "{outputs:?}"
        );
    }
    assert!(sim.peer.is_connected());
}

#[test]
fn a_peer_killed_on_a_direct_path_is_gone_within_two_seconds_of_the_relays_word() {
    let mut sim = Sim::connected(Role::Controller);
    sim.candidate(1);
    sim.probe_answer(1);

    sim.offline();

    assert!(sim.pass(1.5).contains(&GONE));
}

#[test]
fn a_peer_that_lost_only_the_relay_stays_on_its_direct_path() {
    let mut sim = Sim::connected(Role::Controller);
    sim.candidate(1);
    sim.probe_answer(1);

    sim.offline();
    for _ in 0..20 {
        sim.probe_answer(1);
        assert!(!sim.pass(0.4).contains(&GONE));
    }

    assert_eq!(sim.peer.route(), Route::Direct(address(1)));
}

#[test]
fn a_peer_that_left_and_came_back_is_met_at_the_relay_first() {
    let mut sim = Sim::connected(Role::Controller);
    sim.candidate(1);
    sim.probe_answer(1);
    sim.pass(5.0);
    sim.probe_answer(1);
    sim.offline();

    let mut outputs = sim.online();
    outputs.extend(sim.pass(1.0));

    assert!(outputs.contains(&RELAY), "{outputs:?}");
    assert!(
        outputs.contains(&Output::Initiate) && outputs.contains(&Output::Offer),
        "{outputs:?}"
    );
}

#[test]
fn a_handshake_that_got_lost_is_repeated_on_a_direct_path_too() {
    let mut sim = Sim::connected(Role::Follower);
    sim.offline();
    sim.online();
    sim.candidate(1);
    sim.probe_answer(1);
    assert_eq!(sim.peer.route(), Route::Direct(address(1)));

    assert!(sim.pass(1.0).contains(&Output::Initiate));
}

#[test]
fn a_peer_given_up_is_taken_back_when_it_speaks_straight_to_us() {
    for role in [Role::Controller, Role::Follower] {
        let mut sim = Sim::connected(role);
        sim.offline();
        assert!(sim.pass(1.0).contains(&GONE));

        let mut outputs = sim.endpoint_changed(3);
        outputs.extend(sim.pass(1.0));

        let direct = Output::Route(Route::Direct(address(3)));
        assert!(
            outputs.contains(&POSSIBLE) && outputs.contains(&direct),
            "{outputs:?}"
        );
        assert!(outputs.contains(&Output::Initiate), "{outputs:?}");
        sim.handshake();
        assert!(sim.peer.is_connected());
    }
}

#[test]
fn a_peer_that_moved_is_followed_unless_nothing_leads_there() {
    let mut sim = Sim::connected(Role::Controller);
    sim.candidate(1);
    sim.probe_answer(1);

    assert_eq!(
        sim.endpoint_changed(2),
        [Output::Route(Route::Direct(address(2)))]
    );
    assert!(sim.pass(3.0).contains(&RELAY));

    assert_eq!(sim.endpoint_changed(2), [RELAY]);
}

#[test]
fn a_lost_renewal_of_keys_is_repeated_until_it_is_made() {
    let mut sim = Sim::connected(Role::Follower);
    sim.candidate(1);
    sim.probe_answer(1);
    sim.offline();
    sim.online();
    sim.candidate(1);
    sim.probe_answer(1);
    sim.offline();

    let mut initiations = 0;
    for _ in 0..40 {
        sim.probe_answer(1);
        let outputs = sim.pass(0.4);
        initiations += outputs
            .iter()
            .filter(|output| **output == Output::Initiate)
            .count();
    }

    assert!(initiations >= 3, "{initiations}");
}

#[derive(Debug, Clone, Copy)]
enum Input {
    RelayUp,
    RelayDown,
    Online,
    Offline,
    Dial,
    Offer(bool),
    Answer,
    GoIdle,
    Candidate(u16),
    ProbeAnswer(u16),
    EndpointChanged(u16),
    Datagram,
    Handshake,
    Silent,
    Pass(u16),
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        Just(Input::RelayUp),
        Just(Input::RelayDown),
        Just(Input::Online),
        Just(Input::Offline),
        Just(Input::Dial),
        any::<bool>().prop_map(Input::Offer),
        Just(Input::Answer),
        Just(Input::GoIdle),
        (1..4u16).prop_map(Input::Candidate),
        (1..4u16).prop_map(Input::ProbeAnswer),
        (1..6u16).prop_map(Input::EndpointChanged),
        Just(Input::Datagram),
        Just(Input::Handshake),
        Just(Input::Silent),
        (0..8000u16).prop_map(Input::Pass),
    ]
}

proptest! {
    #[test]
    fn any_order_of_events_leaves_one_path_and_no_lie(
        controller: bool,
        inputs in proptest::collection::vec(input(), 1..120),
        seed: u64,
    ) {
        let mut sim = Sim::new(if controller { Role::Controller } else { Role::Follower });
        sim.rng = StdRng::seed_from_u64(seed);
        let mut route = Route::None;
        let mut reach = Reach::Possible;
        let mut relay = false;
        for input in inputs {
            match input {
                Input::RelayUp => relay = true,
                Input::RelayDown => relay = false,
                Input::Online | Input::Offline if !relay => continue,
                _ => {}
            }
            for output in sim.apply(input) {
                match output {
                    Output::Route(new) => {
                        let told_again = matches!(input, Input::EndpointChanged(_));
                        prop_assert!(told_again || new != route, "told twice");
                        route = new;
                    }
                    Output::Reach(new) => {
                        prop_assert_ne!(new, reach, "told twice");
                        reach = new;
                    }
                    Output::Initiate => prop_assert!(!matches!(route, Route::None | Route::Parked)),
                    Output::Offer | Output::Answer | Output::Candidates | Output::Subscribe | Output::Probe(_) => {}
                }
            }
            prop_assert_eq!(route, sim.peer.route());
            prop_assert!(relay || !matches!(route, Route::Relay | Route::Parked), "no relay, but {:?}", route);
        }

        let offers = sim.pass(3600.0).into_iter().filter(|output| *output == Output::Offer).count();
        prop_assert!(offers < 130, "{} offers in an hour", offers);
    }
}

/// A machine in virtual time.
struct Sim {
    peer: PeerConnection,
    now: Instant,
    rng: StdRng,
}

impl Sim {
    fn new(role: Role) -> Self {
        let now = Instant::now();
        Self {
            peer: PeerConnection::new(role),
            now,
            rng: StdRng::seed_from_u64(7),
        }
    }

    fn connected(role: Role) -> Self {
        let mut sim = Self::new(role);
        sim.relay_up();
        sim.online();
        sim.dial();
        sim.datagram();
        sim.handshake();
        assert!(sim.peer.is_connected());
        sim
    }

    fn apply(&mut self, input: Input) -> Vec<Output> {
        let ice = |offered: bool| if offered { Ice::Offered } else { Ice::Absent };
        match input {
            Input::RelayUp => self.relay_up(),
            Input::RelayDown => self.relay_down(),
            Input::Online => self.online(),
            Input::Offline => self.offline(),
            Input::Dial => self.dial(),
            Input::Offer(offered) => self.run(|peer, now| peer.handle_offer(now, ice(offered))),
            Input::Answer => self.answer(),
            Input::GoIdle => self.go_idle(),
            Input::Candidate(port) => self.candidate(port),
            Input::ProbeAnswer(port) => self.probe_answer(port),
            Input::EndpointChanged(port) => self.endpoint_changed(port),
            Input::Datagram => self.datagram(),
            Input::Handshake => self.handshake(),
            Input::Silent => self.silent(),
            Input::Pass(millis) => self.pass(f64::from(millis) / 1000.0),
        }
    }

    fn relay_up(&mut self) -> Vec<Output> {
        self.run(PeerConnection::handle_relay_up)
    }

    fn relay_down(&mut self) -> Vec<Output> {
        self.run(PeerConnection::handle_relay_down)
    }

    fn online(&mut self) -> Vec<Output> {
        self.run(PeerConnection::handle_online)
    }

    fn offline(&mut self) -> Vec<Output> {
        self.run(PeerConnection::handle_offline)
    }

    fn dial(&mut self) -> Vec<Output> {
        let mut outputs = self.run(PeerConnection::handle_wake);
        outputs.extend(self.pass(0.0));
        outputs
    }

    fn offer(&mut self) -> Vec<Output> {
        self.run(|peer, now| peer.handle_offer(now, Ice::Absent))
    }

    fn answer(&mut self) -> Vec<Output> {
        self.run(|peer, now| peer.handle_answer(now, Ice::Absent))
    }

    fn go_idle(&mut self) -> Vec<Output> {
        self.run(PeerConnection::handle_go_idle)
    }

    fn candidate(&mut self, port: u16) -> Vec<Output> {
        self.run(|peer, now| peer.handle_candidate(now, address(port)))
    }

    fn probe_answer(&mut self, port: u16) -> Vec<Output> {
        self.run(|peer, now| peer.handle_probe_answer(now, address(port)))
    }

    fn endpoint_changed(&mut self, port: u16) -> Vec<Output> {
        self.run(|peer, now| peer.handle_endpoint_changed(now, address(port)))
    }

    fn datagram(&mut self) -> Vec<Output> {
        self.run(PeerConnection::handle_datagram)
    }

    fn handshake(&mut self) -> Vec<Output> {
        self.run(PeerConnection::handle_handshake)
    }

    fn silent(&mut self) -> Vec<Output> {
        let mut outputs = self.run(PeerConnection::handle_silent);
        outputs.extend(self.pass(0.0));
        outputs
    }

    /// Lets time pass, serving every timer.
    fn pass(&mut self, seconds: f64) -> Vec<Output> {
        let end = self.now + Duration::from_secs_f64(seconds);
        let mut outputs = Vec::new();
        for _ in 0..10_000 {
            let Some(due) = self.peer.poll_timeout().filter(|due| *due <= end) else {
                self.now = end;
                return outputs;
            };
            self.now = self.now.max(due);
            let now = self.now;
            self.peer.handle_timeout(now, &mut self.rng);
            outputs.extend(std::iter::from_fn(|| self.peer.poll_output()));
        }
        panic!("timers without end");
    }

    fn run(&mut self, change: impl FnOnce(&mut PeerConnection, Instant)) -> Vec<Output> {
        change(&mut self.peer, self.now);
        std::iter::from_fn(|| self.peer.poll_output()).collect()
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
