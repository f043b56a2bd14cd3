//! Who is calling on the proxy service: bearer tokens and the failure limit.
