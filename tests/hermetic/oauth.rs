//! The room `oauth` against answers that no real server can be made to give. What a real one gives is in `tests/real`.

mod answers;
mod fake;
mod http;
mod proofs;
mod tls;
