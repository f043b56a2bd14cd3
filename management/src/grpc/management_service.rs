//! The service peers speak to.
