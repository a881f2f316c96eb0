//! What the benches share: floors, the load generator, the scene in which the agent runs, and figures.

pub(crate) mod append;
pub(crate) mod figures;
pub(crate) mod floor;
pub(crate) mod issuer;
pub(crate) mod load;
pub(crate) mod policies;
pub(crate) mod scene;
pub(crate) mod server;
