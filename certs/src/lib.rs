//! Certificate store, SNI resolver, internal authority, hot reload.
