//! Access logs: what proxies report and what operators ask.

pub mod retention;
pub mod query;
pub mod writer;
