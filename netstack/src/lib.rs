//! Async shell of the netstack: one UDP socket, a driver task, stream and listener handles.
