//! REST: translation between HTTP and the use-cases.
