//! The one binary: thin composition of the packages.

fn main() {}
