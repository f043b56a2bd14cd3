//! Data plane: edge, routing, access, login, upstreams and control stream.
