//! The embedded issuer and the tour.
