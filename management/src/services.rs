//! Services: what is published, where it leads and who may pass.
