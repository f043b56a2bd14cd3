//! Hands connection offers from peer to peer.
