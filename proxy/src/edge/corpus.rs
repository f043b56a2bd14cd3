//! The corpora of the fuzz targets around the edge, replayed.

use super::{client_hello, guard, head, proxy_header};
use crate::handler as path;

#[path = "../../../tests/fuzz/bodies/client_hello.rs"]
mod client_hello_body;
#[path = "../../../tests/fuzz/bodies/http_head.rs"]
mod http_head_body;
#[path = "../../../tests/fuzz/bodies/proxy_header.rs"]
mod proxy_header_body;
#[path = "../../../tests/fuzz/replay.rs"]
mod replay;
#[path = "../../../tests/fuzz/bodies/request_path.rs"]
mod request_path_body;

#[test]
fn client_hello_corpus_shows_no_fault() {
    replay::corpus("client_hello", client_hello_body::run);
}

#[test]
fn http_head_corpus_shows_no_fault() {
    replay::corpus("http_head", http_head_body::run);
}

#[test]
fn proxy_header_corpus_shows_no_fault() {
    replay::corpus("proxy_header", proxy_header_body::run);
}

#[test]
fn request_path_corpus_shows_no_fault() {
    replay::corpus("request_path", request_path_body::run);
}
