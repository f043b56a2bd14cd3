//! A line with delay, a speed and a queue; a test decides what becomes of each segment.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::Buffers;
use crate::device::peer::Demand;
use crate::stack::packet::{Packet, Segment, Transport};
use crate::tcp::header::Options;
use crate::tcp::{Exit, Phase, Read, Setup, Tcp, Written};

/// The side that dials, and the other one.
pub(super) const A: usize = 0;
pub(super) const B: usize = 1;
pub(super) const MILLIS: Duration = Duration::from_millis(1);

pub(super) struct Line {
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) ends: [Option<Tcp>; 2],
    pub(super) settings: Settings,
    /// Sees each segment that leaves a side.
    pub(super) judge: Box<dyn FnMut(&Seen) -> Lot>,
    /// Everything that left.
    pub(super) log: Vec<Seen>,
    flying: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    /// When the line has carried what it took, for each side.
    busy: [Instant; 2],
    count: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) delay: Duration,
    pub(super) mtu: u16,
    pub(super) buffers: Buffers,
    /// Bytes in a second, and bytes that wait for the line at the most.
    pub(super) speed: Option<(u64, u64)>,
}

/// What becomes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lot {
    Arrives,
    Lost,
    /// So much later than others.
    Late(Duration),
    Twice,
}

/// A segment that left a side.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) at: Duration,
    pub(super) from: usize,
    pub(super) segment: Segment,
    pub(super) bytes: Vec<u8>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            delay: 10 * MILLIS,
            mtu: 1280,
            buffers: Buffers {
                receive: 256 << 10,
                transmit: 256 << 10,
            },
            speed: None,
        }
    }
}

/// What leaves in a turn.
struct Out {
    packets: Vec<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Exit for Out {
    fn has_room(&self) -> bool {
        true
    }

    fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    fn send(&mut self, len: usize, _demand: Demand) {
        self.packets.push(self.buffer[..len].to_vec());
    }
}

impl Line {
    /// Two ends; A dials.
    pub(super) fn new(settings: Settings) -> Self {
        let start = Instant::now();
        Self {
            start,
            now: start,
            ends: [Tcp::connect(&setup(A, settings)), None],
            settings,
            judge: Box::new(|_| Lot::Arrives),
            log: Vec::new(),
            flying: BTreeMap::new(),
            busy: [start; 2],
            count: 0,
        }
    }

    /// Two ends that are connected, and nothing in the log.
    pub(super) fn open(settings: Settings) -> Self {
        let mut line = Self::new(settings);
        line.run_until(Duration::from_secs(10), |line| {
            line.phase(A) == Some(Phase::Open) && line.phase(B) == Some(Phase::Open)
        });
        line.run_for(20 * MILLIS + 2 * line.settings.delay);
        line.log.clear();
        line
    }

    pub(super) fn phase(&self, side: usize) -> Option<Phase> {
        self.ends[side].as_ref().map(Tcp::phase)
    }

    pub(super) fn end(&mut self, side: usize) -> &mut Tcp {
        self.ends[side].as_mut().unwrap()
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Writes as much as there is room for; it leaves with the next step.
    pub(super) fn write(&mut self, side: usize, bytes: &[u8]) -> usize {
        match self.end(side).write(bytes, Waker::noop()) {
            Written::Bytes(len) => len,
            Written::Pending => 0,
            Written::Broken => panic!("the stream is broken"),
        }
    }

    /// Reads what is there.
    pub(super) fn read(&mut self, side: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Read::Data(_) = self
            .end(side)
            .read(usize::MAX, Waker::noop(), |piece| bytes.extend_from_slice(piece))
        {}
        bytes
    }

    /// Moves so many bytes and says how long it took.
    pub(super) fn carry(&mut self, from: usize, len: usize) -> Duration {
        let bytes = pattern(len);
        let (begun, mut written, mut received) = (self.now, 0, Vec::new());
        self.run_until(Duration::from_hours(1), |line| {
            written += line.write(from, &bytes[written..]);
            received.extend(line.read(1 - from));
            received.len() >= len
        });
        assert!(received == bytes, "other bytes came out");
        self.now - begun
    }

    /// Runs until `done` holds.
    pub(super) fn run_until(&mut self, patience: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = self.now + patience;
        while !done(self) {
            assert!(
                self.step(deadline),
                "not done after {patience:?}: {:#?}\n{:#?}",
                self.ends,
                self.log
                    .iter()
                    .rev()
                    .take(6)
                    .map(|seen| (seen.at, seen.from, seen.segment))
                    .collect::<Vec<_>>()
            );
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let deadline = self.now + time;
        while self.step(deadline) {}
    }

    /// Payloads of segments with data that left a side, as offsets from its first byte.
    pub(super) fn data(&self, from: usize) -> Vec<(u32, usize)> {
        let first = isn(from).wrapping_add(1);
        self.log
            .iter()
            .filter(|seen| seen.from == from && seen.segment.payload_len > 0)
            .map(|seen| {
                (
                    seen.segment.sequence.wrapping_sub(first),
                    seen.segment.payload_len,
                )
            })
            .collect()
    }

    /// Bytes that left a side more than once.
    pub(super) fn repeated(&self, from: usize) -> usize {
        let mut reached = 0;
        let mut repeated = 0;
        for (start, len) in self.data(from) {
            let end = start as usize + len;
            repeated += reached.min(end).saturating_sub(start as usize);
            reached = reached.max(end);
        }
        repeated
    }

    /// Hands a segment to a side as if the other one had sent it.
    pub(super) fn inject(&mut self, to: usize, bytes: &[u8]) {
        self.deliver(to, bytes);
    }

    /// The turn of both, and the next thing that happens.
    pub(super) fn step(&mut self, deadline: Instant) -> bool {
        self.turn();
        let (epoch, now) = (self.start, self.now);
        let timers = self.ends.iter().flatten().filter_map(|end| end.poll_at(epoch));
        let timers = timers.map(|at| at.max(now + MILLIS));
        let arrival = self.flying.keys().next().map(|(at, _)| *at);
        let next = timers.chain(arrival).min().filter(|next| *next <= deadline);
        let Some(next) = next else {
            self.now = deadline;
            return false;
        };
        self.now = next;
        while let Some(entry) = self.flying.first_entry()
            && entry.key().0 <= next
        {
            let (to, bytes) = entry.remove();
            self.deliver(to, &bytes);
        }
        self.turn();
        true
    }

    /// Lets both send.
    pub(super) fn turn(&mut self) {
        for side in [A, B] {
            let mut out = Out {
                packets: Vec::new(),
                buffer: vec![0; 2048],
            };
            if let Some(end) = &mut self.ends[side] {
                end.transmit(self.start, self.now, &mut out);
            }
            for packet in out.packets {
                self.take(side, &packet);
            }
        }
    }

    fn take(&mut self, from: usize, bytes: &[u8]) {
        let packet = Packet::parse(bytes).unwrap();
        let Transport::Tcp(segment) = packet.transport else {
            panic!("not TCP")
        };
        let seen = Seen {
            at: self.now - self.start,
            from,
            segment,
            bytes: bytes.to_vec(),
        };
        let lot = (self.judge)(&seen);
        self.log.push(seen);
        let Some(carried) = self.carried(from, bytes.len()) else {
            return;
        };
        let (copies, late) = match lot {
            Lot::Lost => return,
            Lot::Arrives => (1, Duration::ZERO),
            Lot::Late(late) => (1, late),
            Lot::Twice => (2, Duration::ZERO),
        };
        for _ in 0..copies {
            self.count += 1;
            let arrival = carried + self.settings.delay + late;
            self.flying
                .insert((arrival, self.count), (1 - from, bytes.to_vec()));
        }
    }

    /// When the line has carried a packet; `None` when its queue is full.
    fn carried(&mut self, from: usize, len: usize) -> Option<Instant> {
        let Some((speed, queue)) = self.settings.speed else {
            return Some(self.now);
        };
        let begins = self.busy[from].max(self.now);
        let waiting = (begins - self.now).as_secs_f64() * f64::from(u32::try_from(speed).unwrap());
        if waiting > f64::from(u32::try_from(queue).unwrap()) {
            return None;
        }
        let nanos = len as u64 * 1_000_000_000 / speed;
        self.busy[from] = begins + Duration::from_nanos(nanos);
        Some(self.busy[from])
    }

    fn deliver(&mut self, to: usize, bytes: &[u8]) {
        let packet = Packet::parse(bytes).unwrap();
        let Transport::Tcp(segment) = packet.transport else {
            panic!("not TCP")
        };
        match &mut self.ends[to] {
            Some(end) => end.receive(self.start, self.now, &packet, &segment),
            None if segment.opens() => {
                let options = Options::parse(segment.options(&packet));
                self.ends[to] = Tcp::accept(&setup(to, self.settings), &segment, &options);
            }
            None => {}
        }
    }
}

/// The initial sequence numbers wrap soon.
pub(super) fn isn(side: usize) -> u32 {
    [u32::MAX - 5000, 77][side]
}

pub(super) fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| u8::try_from(at * 7919 % 251).unwrap())
        .collect()
}

fn setup(side: usize, settings: Settings) -> Setup {
    let address = |side: u8| (Ipv4Addr::new(10, 0, 0, side), 1000).into();
    Setup {
        local: address(u8::try_from(side).unwrap()),
        remote: address(u8::try_from(1 - side).unwrap()),
        mtu: settings.mtu,
        buffers: settings.buffers,
        sequence: isn(side),
    }
}
