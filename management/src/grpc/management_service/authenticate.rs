//! Who is calling, and what is said to whoever is not let in.

use std::net::IpAddr;

use tonic::{Request, Status};

use crate::grpc::status::status;
use crate::peers::registration::LoginError;
use crate::server::ClientAddress;

/// Where a call comes from, as far as the connection tells.
pub(super) fn caller_address<T>(request: &Request<T>) -> Option<IpAddr> {
    request
        .extensions()
        .get::<ClientAddress>()
        .map(|ClientAddress(address)| address.ip())
}

/// The status of a refused login. An unknown peer registers on 7 and on nothing else; a wrong setup key is 3,
/// on which clients stop trying.
pub(super) fn login_status(error: &LoginError) -> Status {
    let text = error.to_string();
    match error {
        LoginError::NotRegistered | LoginError::Expired => Status::permission_denied(text),
        LoginError::SetupKey | LoginError::TooLong(_) => Status::invalid_argument(text),
        LoginError::Registered | LoginError::Labels(_) => Status::failed_precondition(text),
        LoginError::Other(error) => status(error),
    }
}
