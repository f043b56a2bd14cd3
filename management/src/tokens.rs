//! Personal access tokens and proxy tokens.
