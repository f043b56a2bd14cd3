//! Packets from peers: to their connection, to a new one, or answered and forgotten.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use rustc_hash::FxHashSet;

use super::four_tuple::{Ending, FourTuple};
use super::link::Link;
use super::packet::{Packet, Segment, Transport};
use super::reply;
use super::turn::Cause;
use super::{Origin, Stack, Stage};
use crate::batch::TxBatch;
use crate::connection::ConnectionId;
use crate::device::peer::{Demand, Peer, PeerId};
use crate::tcp::header::Options;
use crate::tcp::seq::SeqNr;
use crate::tcp::{Exit, Setup, Tcp};
use crate::{Failure, Flow, Inbound, Protocol, Verdict};

/// Connections that others began and that are not established yet.
const MAX_HALF_OPEN: usize = 4096;
/// The same for one peer, so that no peer takes the places of all.
const MAX_HALF_OPEN_PER_PEER: usize = 1024;
/// Connections of one peer beyond which it opens no more; all visitors of an agent come from one proxy.
const MAX_PER_PEER: usize = 16_384;
/// How long a connection may stay half open.
const HALF_OPEN_TIME: Duration = Duration::from_secs(30);
/// Received bytes after which a connection gets a turn before the batch is through, so that the sender's
/// acknowledgement clock keeps ticking.
const ACK_EVERY: usize = 48 << 10;

impl Stack {
    /// Takes an inner packet whose source was checked to be `peer`'s.
    pub(crate) fn handle_packet(
        &mut self,
        now: Instant,
        peer: &mut Peer,
        packet: &Packet<'_>,
        batch: &mut TxBatch,
        rng: &mut StdRng,
    ) {
        match packet.transport {
            Transport::Tcp(segment) => {
                let tuple = FourTuple {
                    local: packet.local(&segment),
                    remote: packet.remote(&segment),
                };
                if let Some(id) = self.forgotten(&tuple, peer.id(), &segment) {
                    self.fail(id, Failure::Reset);
                    self.remove(now, id);
                }
                match self.flows.get(&tuple) {
                    Some(id) => self.handle_segment(now, *id, peer, packet, &segment, batch),
                    None => self.handle_stray(now, tuple, peer, packet, &segment, batch, rng),
                }
            }
            Transport::Icmp(at) => {
                let flow = Flow {
                    source: packet.source,
                    protocol: Protocol::Icmp,
                    port: 0,
                };
                if self.admits(flow) && reply::echo(packet, at, &mut self.reply) {
                    self.send_reply(now, peer, batch);
                }
            }
            Transport::Other => self.refused += 1,
        }
    }

    /// Says whether somebody else may start this flow.
    pub(super) fn admits(&self, flow: Flow) -> bool {
        match self.inbound {
            Inbound::DenyAll => false,
            Inbound::Firewall => self.firewall.judge(flow) == Verdict::Accept,
        }
    }

    /// The connection that the segment's sender has forgotten: it opens another one from the same port. The tunnel
    /// proves who sent it, so nothing has to be asked back.
    fn forgotten(&self, tuple: &FourTuple, peer: PeerId, segment: &Segment) -> Option<ConnectionId> {
        if !segment.opens() {
            return None;
        }
        let id = *self.flows.get(tuple)?;
        let entry = self.connections.get(&id).filter(|entry| entry.peer == peer)?;
        let syn = entry.connection.lock().tcp.remote_syn();
        let syn = syn.filter(|_| entry.origin == Origin::Theirs)?;
        (syn != SeqNr(segment.sequence)).then_some(id)
    }

    fn handle_segment(
        &mut self,
        now: Instant,
        id: ConnectionId,
        peer: &mut Peer,
        packet: &Packet<'_>,
        segment: &Segment,
        batch: &mut TxBatch,
    ) {
        let Some(entry) = self
            .connections
            .get_mut(&id)
            .filter(|entry| entry.peer == peer.id())
        else {
            return;
        };
        if segment.payload_len > 0 {
            entry.last_data = now;
            entry.received += packet.bytes.len();
        }
        let due = entry.received >= ACK_EVERY;
        let connection = Arc::clone(&entry.connection);
        let mut state = connection.lock();
        state.tcp.receive(self.epoch, now, packet, segment);
        self.observe(id, &mut state, Cause::Received);
        drop(state);
        if due {
            self.turn(now, id, Some(peer), batch);
        } else {
            self.mark(id);
        }
    }

    /// Handles a segment that belongs to no connection.
    #[expect(clippy::too_many_arguments, reason = "everything a new connection is made of")]
    fn handle_stray(
        &mut self,
        now: Instant,
        tuple: FourTuple,
        peer: &mut Peer,
        packet: &Packet<'_>,
        segment: &Segment,
        batch: &mut TxBatch,
        rng: &mut StdRng,
    ) {
        let flags = segment.flags;
        if flags.rst() {
            return;
        }
        if !segment.opens() {
            match self.quarantine.ending(now, &tuple) {
                Some(Ending::Agreed) if !flags.fin() => return,
                Some(Ending::Agreed) => reply::final_ack(packet, segment, &mut self.reply),
                Some(Ending::Broken) | None => reply::reset(packet, segment, &mut self.reply),
            }
            self.send_reply(now, peer, batch);
            return;
        }
        if !self.admits(tcp_flow(packet.source, segment.destination_port)) || self.is_crowded(peer.id()) {
            self.refused += 1;
            return;
        }
        let Some(listener) = self.listeners.lookup(segment.destination_port) else {
            self.refused += 1;
            reply::reset(packet, segment, &mut self.reply);
            self.send_reply(now, peer, batch);
            return;
        };

        self.quarantine.release(&tuple);
        let setup = Setup {
            local: tuple.local,
            remote: tuple.remote,
            mtu: self.mtu,
            buffers: self.buffers,
            sequence: rng.random(),
        };
        let options = Options::parse(segment.options(packet));
        let Some(tcp) = Tcp::accept(&setup, segment, &options) else {
            return;
        };
        *self.half_open.entry(peer.id()).or_default() += 1;
        let stage = Stage::HalfOpen(listener);
        self.insert(now, peer, &setup, tcp, stage, Origin::Theirs, HALF_OPEN_TIME);
    }

    /// Says whether the peer, or everybody, has too many connections to open another one.
    fn is_crowded(&self, peer: PeerId) -> bool {
        let half_open = self.half_open.get(&peer).copied().unwrap_or(0);
        let open = self.by_peer.get(&peer).map_or(0, FxHashSet::len);
        self.half_open() >= MAX_HALF_OPEN || half_open >= MAX_HALF_OPEN_PER_PEER || open >= MAX_PER_PEER
    }

    fn send_reply(&mut self, now: Instant, peer: &mut Peer, batch: &mut TxBatch) {
        let len = self.reply.len();
        if len <= usize::from(self.mtu) {
            self.scratch[..len].copy_from_slice(&self.reply);
            let mut link = Link {
                now,
                peer,
                batch,
                scratch: &mut self.scratch,
            };
            link.send(len, Demand::Nothing);
        }
    }
}

pub(super) fn tcp_flow(source: IpAddr, port: u16) -> Flow {
    Flow {
        source,
        protocol: Protocol::Tcp,
        port,
    }
}
