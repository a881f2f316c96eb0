//! The embedded issuer, and the tour that shows the main job on embedded defaults.

pub mod issuer;
mod scene;
mod stage;
mod tour;

pub use scene::{NotSet, Scene};
pub use stage::Stage;
pub use tour::{farewell, tour};
