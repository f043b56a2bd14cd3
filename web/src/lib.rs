//! Pages that the edge answers itself: login and errors, as typed templates without IO.
//!
//! The crate knows strings, numbers and HTML. It knows nothing of requests, sessions or sockets: the
//! caller fills a page struct, picks a [`Format`] and sends the text with [`security_headers`].
//!
//! ```
//! use meshgate_web::{ErrorContext, ErrorKind, ErrorPage, Format, Nonce, Via};
//!
//! let context = ErrorContext { host: "app.example.com".into(), request_id: "r1".into(), via: Via::Peer };
//! let page = ErrorPage::new(ErrorKind::PeerNotConnected, context);
//! let nonce = Nonce::from_bytes([7; 16]);
//!
//! let body = page.render(Format::Html, &nonce);
//!
//! assert_eq!(page.status(), 502);
//! assert!(body.contains("peer not connected"));
//! ```

mod accept;
mod error_kind;
mod error_page;
mod headers;
mod hop;
mod login;
mod nonce;
mod paths;
#[cfg(test)]
mod tests;

pub use accept::{Format, preferred};
pub use error_kind::ErrorKind;
pub use error_page::{ErrorContext, ErrorPage};
pub use headers::security_headers;
pub use hop::{Hop, HopState, Step, Via};
pub use login::{LoginError, LoginMethod, LoginPage};
pub use nonce::Nonce;
pub use paths::{LOGIN_PATH, RESERVED_PREFIX, RETURN_TO_FIELD};
