//! The files store.
