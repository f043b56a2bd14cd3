//! One port for gRPC, relay and REST.
