//! The service proxies speak to.
