//! Meshgate's vocabulary: wire messages, domain types and the conversions between them.
//!
//! It knows names and shapes, and the few pure functions that belong to a wire format (boxes, relay
//! frames, token checksums). It never opens sockets, spawns tasks, reads the environment or speaks SQL.

pub mod access;
pub mod access_log;
pub mod clock;
pub mod convert;
pub mod domain_name;
pub mod envelope;
pub mod id;
pub mod key;
pub mod mapping;
pub mod network_map;
pub mod pb;
pub mod relay;
pub mod secret;
pub mod signal;
pub mod token;

pub use access::{
    Authentication, Cidr, CountryCode, CrowdsecMode, HeaderAuth, Restrictions, SessionPublicKey,
};
pub use access_log::AccessLog;
pub use clock::{Clock, ManualClock, SystemClock, UnixTime};
pub use convert::InvalidMessage;
pub use domain_name::{DomainName, InvalidDomainName};
pub use id::{
    AccessLogId, AccountId, GroupId, PeerId, PolicyId, ProxyId, ServiceId, SetupKeyId, TargetId, TokenId,
    UserId, Xid,
};
pub use key::{InvalidKey, WgPrivateKey, WgPublicKey};
pub use mapping::{
    BrokenMapping, InboundListener, Mapping, MappingBatch, MappingChange, PathMapping, PathRewrite,
    ProxyCapabilities, ProxyHello, Removal, ServiceMode, ServiceStatus, StatusUpdate, TargetOptions,
};
pub use secret::Secret;
