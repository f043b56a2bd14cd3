//! The corpora of the fuzz targets around network maps and probes, replayed.

use super::{network_map, probe};

#[path = "../../../tests/fuzz/bodies/network_map.rs"]
mod network_map_body;
#[path = "../../../tests/fuzz/replay.rs"]
mod replay;
#[path = "../../../tests/fuzz/bodies/sealed.rs"]
mod sealed_body;

#[test]
fn network_map_corpus_shows_no_fault() {
    replay::corpus("network_map", network_map_body::run);
}

#[test]
fn sealed_corpus_shows_no_fault() {
    replay::corpus("sealed", sealed_body::run);
}
