/// Prefix of every path that belongs to the edge and never reaches a service.
pub const RESERVED_PREFIX: &str = "/.meshgate/";

/// Path that the login forms post to.
pub const LOGIN_PATH: &str = "/.meshgate/login";

/// Name of the hidden form field that carries the asked path and query.
///
/// It comes back from the client: the receiver must check again that it names a path of its own host.
pub const RETURN_TO_FIELD: &str = "return_to";
