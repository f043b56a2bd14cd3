//! The engine's half of direct paths: own addresses, sealed probes and who sent them.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr, UdpSocket};

use meshgate_netstack::{Datagram, Netstack};
use meshgate_proto::envelope::Envelope;
use meshgate_proto::relay::PeerHash;
use meshgate_proto::{WgPrivateKey, WgPublicKey};

use crate::candidate;
use crate::probe::{self, Probe, Tag};

/// Probes of one peer whose answers are still welcome.
const MAX_OUTSTANDING: usize = 16;

/// Everything about direct paths but the decisions, which the peers' machines make.
#[derive(Debug)]
pub(super) struct Direct {
    enabled: bool,
    key: WgPrivateKey,
    tag: Tag,
    own: Option<SocketAddr>,
    tags: HashMap<Tag, WgPublicKey>,
    talks: HashMap<WgPublicKey, Talk>,
}

/// Probes with one peer.
#[derive(Debug)]
struct Talk {
    envelope: Envelope,
    outstanding: VecDeque<(u64, SocketAddr)>,
}

/// What a datagram told.
#[derive(Debug)]
pub(super) enum Heard {
    /// A peer probed us; it was answered.
    Asked { peer: WgPublicKey },
    /// A peer answered our probe to that address.
    Answered { peer: WgPublicKey, address: SocketAddr },
}

impl Direct {
    pub(super) fn new(key: &WgPrivateKey, enabled: bool) -> Self {
        Self {
            enabled,
            key: key.clone(),
            tag: Tag::of(&PeerHash::of(&key.public())),
            own: None,
            tags: HashMap::new(),
            talks: HashMap::new(),
        }
    }

    pub(super) fn add(&mut self, key: &WgPublicKey, hash: &PeerHash) {
        self.tags.insert(Tag::of(hash), *key);
    }

    pub(super) fn remove(&mut self, hash: &PeerHash) {
        if let Some(key) = self.tags.remove(&Tag::of(hash)) {
            self.talks.remove(&key);
        }
    }

    /// Whether peers may be reached without the relay.
    pub(super) fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Our address as peers on the way to the relay see it: the source address of packets to the relay.
    pub(super) fn learn_own_address(&mut self, relay: &[u8], port: Option<u16>) {
        self.own = None;
        let (true, Some(port), Some(relay)) = (self.enabled, port, address(relay)) else {
            return;
        };
        let any: IpAddr = if relay.is_ipv4() {
            [0, 0, 0, 0].into()
        } else {
            [0_u16; 8].into()
        };
        let local = UdpSocket::bind((any, 0)).and_then(|socket| {
            socket.connect((relay, 9))?;
            socket.local_addr()
        });
        match local {
            Ok(local) => self.own = Some(SocketAddr::new(local.ip(), port)),
            Err(error) => tracing::debug!(error = %error, "Own address not found"),
        }
    }

    /// The line that tells peers our address.
    pub(super) fn own_candidate(&self) -> Option<String> {
        self.own.map(candidate::format)
    }

    /// A peer's address, unless it lies inside the overlay.
    pub(super) fn parse_candidate(&self, line: &str, overlay: &[IpAddr]) -> Option<SocketAddr> {
        let address = candidate::parse(line, self.own?.ip())?;
        (!overlay.contains(&address.ip())).then_some(address)
    }

    /// Sends a probe; one that cannot leave is as good as unanswered.
    pub(super) fn probe(&mut self, peer: &WgPublicKey, to: SocketAddr, netstack: &Netstack) {
        let id = rand::random();
        let tag = self.tag;
        let talk = self.talk(peer);
        talk.outstanding.push_back((id, to));
        if talk.outstanding.len() > MAX_OUTSTANDING {
            talk.outstanding.pop_front();
        }
        let datagram = Probe::Ask(id).seal(tag, &talk.envelope);
        if let Err(error) = netstack.send_raw(to, &datagram) {
            tracing::trace!(error = %error, "Probe did not leave");
        }
    }

    /// Answers probes and recognises answers.
    pub(super) fn handle_datagram(&mut self, datagram: &Datagram, netstack: &Netstack) -> Option<Heard> {
        if !self.enabled {
            return None;
        }
        let (tag, sealed) = probe::split(&datagram.payload)?;
        let peer = *self.tags.get(&tag)?;
        let own_tag = self.tag;
        let talk = self.talk(&peer);
        match Probe::open(sealed, &talk.envelope)? {
            Probe::Ask(id) => {
                let answer = Probe::Answer(id).seal(own_tag, &talk.envelope);
                netstack.send_raw(datagram.source, &answer).ok()?;
                Some(Heard::Asked { peer })
            }
            Probe::Answer(id) => {
                let index = talk.outstanding.iter().position(|(asked, _)| *asked == id)?;
                let (_, address) = talk.outstanding.remove(index)?;
                Some(Heard::Answered { peer, address })
            }
        }
    }

    fn talk(&mut self, peer: &WgPublicKey) -> &mut Talk {
        self.talks.entry(*peer).or_insert_with(|| Talk {
            envelope: Envelope::new(&self.key, peer),
            outstanding: VecDeque::new(),
        })
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(Into::into)
}
