//! What peers say to each other before they have a path.

use crate::WgPublicKey;

/// One clear signal message with its sender and receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalMessage {
    /// Sender.
    pub from: WgPublicKey,
    /// Receiver.
    pub to: WgPublicKey,
    /// What is said.
    pub body: SignalBody,
}

/// What a signal message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignalBody {
    /// Here is how to reach me; answer.
    Offer(Connectivity),
    /// Here is how to reach me.
    Answer(Connectivity),
    /// One ICE candidate line without its `candidate:` prefix.
    Candidate(String),
    /// The mode message of old; without meaning.
    Mode,
    /// The sender has parked the connection.
    GoIdle,
    /// Sent to oneself to see that the stream lives.
    Heartbeat,
}

/// How the sender of an OFFER or ANSWER can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connectivity {
    /// `None` is the form `:` of peers without ICE.
    pub ice: Option<IceCredentials>,
    /// The sender's WireGuard port; 0 when it has none.
    pub wg_listen_port: u16,
    /// Version of the sender's program.
    pub version: String,
    /// Instance URL of the sender's relay, byte for byte.
    pub relay_address: Option<String>,
    /// Address bytes of the sender's relay.
    pub relay_ip: Option<Vec<u8>>,
    /// Names the sender's ICE session (five bytes).
    pub session_id: Option<Vec<u8>>,
    /// Rosenpass key; empty without.
    pub rosenpass_key: Vec<u8>,
    /// Rosenpass address; empty without.
    pub rosenpass_address: String,
}

/// ICE user fragment and password.
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// User fragment.
    pub ufrag: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IceCredentials({})", self.ufrag)
    }
}
