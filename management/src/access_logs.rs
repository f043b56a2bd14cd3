//! Access logs: what proxies report and what operators ask.

pub mod writer;
