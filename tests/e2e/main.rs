//! End-to-end tests, one binary, modules by theme.
