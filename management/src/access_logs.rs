//! Access logs: what proxies report and what operators ask.

pub mod query;
pub mod retention;
pub mod writer;
