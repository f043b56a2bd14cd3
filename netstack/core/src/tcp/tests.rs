//! Two machines joined by a line in virtual time.

mod caution;
mod line;
mod random;
mod recovery;
mod speed;
mod windows;
