//! Management as a proxy sees it: its mappings, and one stream of messages about them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt as _;
use meshgate_proto::ServiceId;
use meshgate_proto::pb::management as pb;
use meshgate_proto::pb::management::sync_mappings_request::Msg;
use rand::Rng;
use rand::rngs::SmallRng;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::link::Weather;
use super::said::{Message, Said, Told, removal};
use crate::control::stream::MappingStream;

/// Services that there may be.
const SERVICES: u32 = 12;
/// Messages that a proxy may be behind.
const MOST_WAITING: usize = 24;

#[derive(Debug)]
pub(super) struct Management {
    pub(super) weather: Weather,
    services: BTreeMap<ServiceId, Said>,
    /// What a backup holds.
    backup: BTreeMap<ServiceId, Said>,
    stream: Option<Stream>,
    told: Told,
    version: u32,
    tokens: u64,
    opened: u32,
    /// Something was taken since the last look.
    is_news: bool,
}

/// One mapping stream.
#[derive(Debug)]
struct Stream {
    /// Absent once it was let go.
    messages: Option<mpsc::Sender<Result<pb::SyncMappingsResponse, Status>>>,
    /// Absent on a stream of the older kind.
    acks: Option<mpsc::Receiver<pb::SyncMappingsRequest>>,
    waiting: VecDeque<Message>,
    /// Sent, and not known to be taken.
    sent: VecDeque<Message>,
    taken: Arc<AtomicUsize>,
    /// Counted as taken.
    told: usize,
    acknowledged: usize,
}

impl Management {
    pub(super) fn new(weather: Weather) -> Self {
        Self {
            weather,
            services: BTreeMap::new(),
            backup: BTreeMap::new(),
            stream: None,
            told: Told::default(),
            version: 0,
            tokens: 0,
            opened: 0,
            is_news: false,
        }
    }

    pub(super) fn told(&self) -> &Told {
        &self.told
    }

    /// Streams so far.
    pub(super) fn opened(&self) -> u32 {
        self.opened
    }

    /// The proxy holds a stream.
    pub(super) fn is_held(&self) -> bool {
        let messages = self.stream.as_ref().and_then(|stream| stream.messages.as_ref());
        messages.is_some_and(|messages| !messages.is_closed())
    }

    /// Everything has been said, taken and acknowledged.
    pub(super) fn is_in_step(&self) -> bool {
        let through = |stream: &Stream| stream.waiting.is_empty() && stream.sent.is_empty();
        let is_told = self.stream.as_ref().is_some_and(through) && self.told.is_complete();
        is_told && self.is_held() && self.told.services.len() == self.services.len()
    }

    /// A stream opens: a snapshot in messages of so many services, and what changes from now on.
    pub(super) fn connect(&mut self, size: usize, with_acks: bool, address: &str) -> MappingStream {
        self.look();
        self.opened += 1;
        self.told.begin();
        let services: Vec<_> = self.services.clone().into_iter().collect();
        let mut waiting: VecDeque<Message> = services
            .chunks(size)
            .map(|part| Message {
                services: part.iter().cloned().map(|(id, said)| (id, Some(said))).collect(),
                complete: false,
            })
            .collect();
        match waiting.back_mut() {
            Some(last) => last.complete = true,
            None => waiting.push_back(Message {
                complete: true,
                ..Message::default()
            }),
        }
        let (messages, receiver) = mpsc::channel(64);
        let (outgoing, acks) = mpsc::channel(64);
        let taken = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&taken);
        let received = ReceiverStream::new(receiver).inspect(move |message: &Result<_, _>| {
            counter.fetch_add(usize::from(message.is_ok()), Ordering::Relaxed);
        });
        self.stream = Some(Stream {
            messages: Some(messages),
            acks: with_acks.then_some(acks),
            waiting,
            sent: VecDeque::new(),
            taken,
            told: 0,
            acknowledged: 0,
        });
        MappingStream::new(received, with_acks.then_some(outgoing), address)
    }

    /// Looks at what the proxy took, and whether it said so; true when it took something since the last time.
    pub(super) fn settle(&mut self) -> bool {
        self.look();
        std::mem::take(&mut self.is_news)
    }

    fn look(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        while stream.told < stream.taken.load(Ordering::Relaxed) {
            stream.told += 1;
            self.told.take(stream.sent.pop_front().expect("it was sent"));
            self.is_news = true;
        }
        if let Some(acks) = &mut stream.acks {
            while let Ok(ack) = acks.try_recv() {
                assert!(matches!(ack.msg, Some(Msg::Ack(_))), "{ack:?}");
                stream.acknowledged += 1;
            }
            assert_eq!(stream.acknowledged, stream.told, "acknowledged and taken");
        }
        if !self.is_held() {
            self.stream = None;
        }
    }

    /// Says what there is to say: in a snapshot one message after the other, then all.
    pub(super) fn deliver(&mut self, rng: &mut SmallRng) {
        let Some(stream) = &mut self.stream else { return };
        let Some(messages) = &stream.messages else { return };
        if stream.waiting.len() > MOST_WAITING {
            return self.disconnect();
        }
        let many = if self.told.is_complete() {
            rng.random_range(1..4)
        } else {
            1
        };
        for _ in 0..many {
            let Some(message) = stream.waiting.pop_front() else {
                return;
            };
            let mapping = message.services.iter().map(|(id, said)| {
                self.tokens += 1;
                match said {
                    Some(said) => said.encode(id, self.tokens),
                    None => removal(id),
                }
            });
            let encoded = pb::SyncMappingsResponse {
                mapping: mapping.collect(),
                initial_sync_complete: message.complete,
            };
            if messages.try_send(Ok(encoded)).is_ok() {
                stream.sent.push_back(message);
            }
        }
    }

    /// Somebody changes some services.
    pub(super) fn change(&mut self, rng: &mut SmallRng) {
        let mut message = Message::default();
        for _ in 0..rng.random_range(1..4) {
            let id = ServiceId::new(format!("s{}", rng.random_range(0..SERVICES)));
            if rng.random_bool(0.25) {
                self.services.remove(&id);
            } else {
                self.version += 1;
                let said = Said::draw(rng, self.services.get(&id), self.version);
                self.services.insert(id.clone(), said);
            }
            let said = self.services.get(&id).cloned();
            message.services.insert(id, said);
        }
        self.say(message);
    }

    pub(super) fn remove_all(&mut self) {
        let ids = std::mem::take(&mut self.services).into_keys();
        let message = Message {
            services: ids.map(|id| (id, None)).collect(),
            complete: false,
        };
        self.say(message);
    }

    /// The next message comes twice.
    pub(super) fn repeat(&mut self) {
        if let Some(stream) = &mut self.stream
            && let Some(next) = stream.waiting.front().cloned()
        {
            stream.waiting.push_front(next);
        }
    }

    /// Removes what never was, and says that the snapshot is whole when it long is.
    pub(super) fn talk_nonsense(&mut self) {
        if self.told.is_complete() {
            self.say(Message {
                services: [(ServiceId::new("nobody"), None)].into(),
                complete: true,
            });
        }
    }

    /// The stream fails, or ends without a reason; what was not taken is lost.
    pub(super) fn fail(&mut self, rng: &mut SmallRng) {
        const CODES: [Code; 4] = [
            Code::Unavailable,
            Code::Internal,
            Code::Cancelled,
            Code::Unauthenticated,
        ];
        if let Some(messages) = self.stream.as_ref().and_then(|stream| stream.messages.as_ref())
            && rng.random_bool(0.7)
        {
            let status = Status::new(CODES[rng.random_range(0..CODES.len())], "bad luck");
            // A proxy that has left hears nothing.
            let _ = messages.try_send(Err(status));
        }
        self.disconnect();
    }

    /// Keeps a copy of what is.
    pub(super) fn remember(&mut self) {
        self.backup = self.services.clone();
    }

    /// Management starts again, sometimes from its backup.
    pub(super) fn restart(&mut self, rng: &mut SmallRng) {
        self.disconnect();
        if rng.random_bool(0.5) {
            self.services = self.backup.clone();
        }
    }

    fn say(&mut self, message: Message) {
        if let Some(stream) = &mut self.stream {
            stream.waiting.push_back(message);
        }
    }

    /// Lets the stream go; the proxy may still take what was sent.
    fn disconnect(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.messages = None;
            stream.waiting.clear();
        }
    }
}
