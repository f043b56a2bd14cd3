//! Setup keys: how new peers are let in.
