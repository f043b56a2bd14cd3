//! Data plane: edge, routing, access, login, upstreams and control stream.

mod access;
mod access_log;
mod app;
mod config;
mod control;
mod edge;
mod errors;
mod handler;
mod health;
mod login;
mod metrics;
mod routing;
mod tunnels;
mod upstream;
mod workers;

pub use app::{Drained, Proxy, Running, StartError};
pub use config::{
    CertificateSource, Config, ConfigError, ForwardedProto, InsecureManagement, InvalidListenAddress,
    ListenAddress, SETTINGS, Setting,
};
