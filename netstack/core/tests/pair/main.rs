//! Two nodes in virtual time, joined by a network that loses, delays, doubles and reorders.

mod faults;
mod hostile;
mod streams;
mod world;
