use std::error::Error as _;

use tonic::{Code, Status};

/// A call that failed: what was tried and what answered.
#[derive(Clone, Debug, thiserror::Error)]
#[error("tried {address}: {answer}")]
pub(crate) struct CallError {
    /// The management server.
    pub(crate) address: String,
    /// The status as a kind.
    pub(crate) code: Code,
    /// What came back, in words.
    pub(crate) answer: String,
}

impl CallError {
    /// Takes the words of a status and of everything below it.
    pub(super) fn new(address: &str, status: &Status) -> Self {
        Self {
            address: address.to_owned(),
            code: status.code(),
            answer: describe(status),
        }
    }

    /// True when the server does not know the call.
    pub(crate) fn is_unknown_call(&self) -> bool {
        self.code == Code::Unimplemented
    }

    /// True when nobody answered, or not in time.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(
            self.code,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled
        )
    }
}

/// The status with everything below it, because the cause of a broken connection stands at the bottom.
fn describe(status: &Status) -> String {
    let mut text = format!("{:?}", status.code());
    let mut last = String::new();
    let mut add = |part: String| {
        if !part.is_empty() && !last.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
            last = part;
        }
    };
    add(status.message().to_owned());
    let mut cause = status.source();
    while let Some(error) = cause {
        add(error.to_string());
        cause = error.source();
    }
    text
}
