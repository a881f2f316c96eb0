//! The door: HTTP/1.1 over unix sockets, for applications and for operators.

mod admin;
mod body;
pub mod client;
pub mod connection;
mod form;
mod routes;
pub mod scrape;
pub mod socket;
mod stream;

pub use admin::operators;
pub use form::{Carrier, Malformed, RejectForm, SecretQuery, TokenForm, form_guarded, guarded};
pub use routes::applications;
