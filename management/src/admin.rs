//! What the command line does on a data directory.
