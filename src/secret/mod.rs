//! A secret is a type with one exit.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

/// Bytes that must not be seen: no `Debug` of its content, no `Clone`, no `Serialize`; wiped on drop.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes `bytes` over; what held them before is wiped.
    #[must_use]
    pub fn new(mut bytes: Vec<u8>) -> Self {
        let kept = Zeroizing::new(bytes.clone());
        bytes.zeroize();
        Self(kept)
    }

    /// The bytes. The one exit: `tests/house.rs` lists every place that calls it.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
