//! The stores that need nobody else: sealed and files.

mod files;
mod sealed;
