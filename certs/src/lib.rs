//! Certificates of the edge: a store by name, the resolver for TLS handshakes, files that reload
//! themselves, and an internal authority.
//!
//! The crate knows rustls, X.509, files and time. It knows nothing of routing: a name that no
//! certificate covers gets none, and the handshake ends with an alert.
//!
//! ```
//! use std::sync::Arc;
//! use meshgate_certs::{Authority, AuthorityOptions, CertResolver, CertStore, OnDemand};
//! use meshgate_proto::{Clock, DomainName, SystemClock};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let base = DomainName::new("proxy.localhost")?;
//! let options = AuthorityOptions { permitted: vec![base.clone()] };
//! let authority = Authority::open(dir.path(), &options, SystemClock.now())?;
//! let on_demand = OnDemand::new(authority, vec![base], Arc::new(SystemClock));
//!
//! let resolver = CertResolver::new(Arc::new(CertStore::new())).with_on_demand(Arc::new(on_demand));
//!
//! assert!(resolver.covers(&DomainName::new("whoami.proxy.localhost")?));
//! assert!(!resolver.covers(&DomainName::new("example.com")?));
//! # Ok(())
//! # }
//! ```

mod atomic_file;
mod authority;
mod bundle;
mod error;
mod files;
mod on_demand;
mod pattern;
mod resolver;
mod store;
#[cfg(test)]
mod test_pki;
mod watch;

pub use authority::{Authority, AuthorityOptions};
pub use bundle::Bundle;
pub use error::{AuthorityError, BundleError, LoadError};
pub use files::{CertificateFiles, Loaded, PairFiles};
pub use on_demand::OnDemand;
pub use pattern::NamePattern;
pub use resolver::{CertResolver, ChallengeCertificates};
pub use store::{CertStore, SourceName};
pub use watch::{FileWatcher, ReloadOutcome};
