//! The door: HTTP over unix sockets.
