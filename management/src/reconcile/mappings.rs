//! Sends services to the proxies of their cluster.
