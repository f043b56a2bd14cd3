//! Wires the control plane together and runs it.
