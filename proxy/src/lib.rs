//! Data plane: edge, routing, access, login, upstreams and control stream.

mod access;
mod access_log;
mod config;
mod login;
mod routing;
mod upstream;

pub use config::{
    CertificateSource, Config, ConfigError, ForwardedProto, InsecureManagement, ListenAddress, SETTINGS,
    Setting,
};
