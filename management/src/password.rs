//! Passwords, PINs and header secrets: hashing, checking and a limit on guesses.
//!
//! argon2id is meant to be expensive, so nobody may start as much of it as he likes. All of it runs in a
//! [`PasswordPool`]: few threads of its own, memory that is allocated once per thread, a bounded queue. Wrong
//! guesses are counted by [`GuessLimiter`] before they reach the pool.

pub mod guesses;
pub mod phc;
pub mod pool;

pub use guesses::{GuessLimiter, TooManyGuesses};
pub use phc::PasswordHash;
pub use pool::{PasswordError, PasswordFault, PasswordHasher, PasswordPool, PoolLimits, PoolStats};
