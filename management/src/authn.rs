//! Who is calling: personal access tokens.
