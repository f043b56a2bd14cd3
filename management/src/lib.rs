//! Control plane: store, REST, gRPC for proxies and peers, signal and relay.
