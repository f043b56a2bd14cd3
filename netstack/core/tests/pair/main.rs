//! Two nodes in virtual time, joined by a network that loses, delays, doubles and reorders.
//!
//! The clock that WireGuard's own timers read is moved too ([`clock`]), so that minutes pass in milliseconds.
//!
//! # What WireGuard and TCP leave to us
//!
//! boringtun does none of these by itself, and our own TCP is where the rest comes from. Each has a test; most of them
//! live here.
//!
//! | duty | tests |
//! |---|---|
//! | keys are renewed at 120 s under load, lost handshakes or not | [`sessions`]: `keys_are_renewed_under_load_without_a_pause`, `keys_are_renewed_under_load_although_handshakes_get_lost` |
//! | keepalives keep their interval and the keys young | [`faults`]: `keepalives_keep_their_interval`, `keepalives_keep_the_keys_young` |
//! | a dead peer is found in 5 s, by whoever waits | [`faults`]: `a_waiting_request_notices_a_dead_peer`, `a_dial_to_a_dead_peer_fails_early`; [`sessions`]: `an_idle_stream_notices_a_dead_peer_within_twenty_seconds` |
//! | a restarted peer answers within 6 s | [`faults`]: `a_restarted_peer_answers_again_within_six_seconds`, `a_restarted_peer_resets_what_it_forgot`, `a_restarted_peer_resets_what_it_forgot_although_others_are_busy` |
//! | a clock that went back locks nobody out whom we call | [`sessions`]: `a_peer_whose_clock_went_back_is_met_when_we_call` |
//! | the shared handshake limit is reset every second | [`sessions`]: `a_flood_of_handshakes_is_forgotten_after_a_second`, `a_flood_never_disturbs_a_peer_that_is_here` |
//! | an expired peer is met again at once | [`sessions`]: `a_peer_that_was_away_for_minutes_is_met_at_once`, `the_keys_of_a_pair_that_rested_are_made_anew` |
//! | endpoints move only with authenticated packets, never with a cookie | [`faults`]: `a_moved_peer_is_followed`, `a_cookie_reply_never_moves_an_endpoint`; [`sessions`]: `nobody_but_the_peer_moves_its_endpoint`, `a_pair_survives_a_move_of_both_sides` |
//! | inner sources and destinations are checked | [`hostile`]: `a_spoofed_source_is_dropped`, `a_foreign_destination_is_dropped` |
//! | inner packets are padded | [`sessions`]: `lengths_say_no_more_than_sixteen_bytes_do` |
//! | a destination without a peer fails at once, one that is silent at its deadline | [`sessions`]: `a_destination_of_nobody_is_refused_at_once`; [`streams`]: `a_denied_flow_meets_its_deadline`, `a_closed_port_refuses` |
//! | the first SYN is never lost, in whatever order two nodes meet | [`first_contact`], all |
//! | a SYN into a session that the peer forgot is sent again with the next handshake | [`first_contact`]: `a_dial_that_left_before_a_restarted_peers_handshake_follows_it`, `a_dial_to_a_peer_that_restarted_in_silence_waits_a_second_at_the_most` |
//! | local ports are random and rest after use | `four_tuple` (unit): `draws_differ_and_avoid_taken_ports`, `a_flow_rests_for_a_minute`; [`segments`]: `a_late_segment_of_an_ended_connection_is_not_reset`, `the_other_side_may_use_its_port_again` |
//! | a port that a restarted peer draws again works | [`segments`]: `a_restarted_peer_may_draw_a_port_that_we_still_hold`, `a_late_copy_of_a_syn_harms_nothing` |
//! | sequence numbers start at random | [`segments`]: `sequence_numbers_start_anywhere` |
//! | a reset is an error, a FIN is an end | [`streams`]: `a_reset_is_no_end`, `dropping_with_unread_data_resets`; [`segments`]: `a_reset_that_got_lost_is_repeated_when_asked` |
//! | half-close | [`streams`]: `half_close_ends_one_direction`, `the_end_is_still_read_long_after_it_came`, `a_lost_last_acknowledgement_is_sent_again` |
//! | 32 holes are reassembled | [`segments`]: `thirty_two_holes_are_reassembled` |
//! | acknowledgements that come with old data count | [`segments`]: `both_sides_recover_when_both_lost_something` |
//! | packets fit the path; a black hole ends the stream | [`segments`]: `the_default_size_passes_a_path_of_1400_bytes`, `a_peer_that_takes_more_than_our_size_gets_no_more`, `our_syn_says_what_fits_our_size`, `a_path_that_swallows_large_packets_ends_the_stream`, `a_path_that_narrows_and_widens_again_loses_nothing` |
//! | connections are made on demand, half-open ones are bounded | [`hostile`]: `half_open_connections_are_bounded` |
//! | churn leaves nothing behind | [`segments`]: `churn_leaves_nothing_behind` |
//! | a window is never exceeded, and no peer panics us | [`hostile`]: `data_beyond_the_first_window_is_dropped`; [`random`], all |
//! | everything together, at random | [`simulation`] |
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod clock;
mod evil;
mod faults;
mod first_contact;
mod hostile;
mod random;
mod segments;
mod sessions;
mod simulation;
mod streams;
mod world;
