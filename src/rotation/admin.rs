//! The credential with which a rotator acts: read from its store each time, so that what was rotated is used at once.

use std::time::Duration;

use tokio::time::timeout;

use super::Trouble;
use crate::secret::Secret;
use crate::store::{Place, StoreError, Which};

/// How long a store may take: one that hangs must not hold an act for ever.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the credential stands.
#[derive(Clone)]
pub struct Admin(Place);

impl Admin {
    /// The credential at `place`.
    #[must_use]
    pub const fn at(place: Place) -> Self {
        Self(place)
    }

    /// Its Current value.
    ///
    /// # Errors
    /// [`Trouble::Setup`]: the far side was not asked.
    pub async fn read(&self) -> Result<Secret, Trouble> {
        let Place { store_name, store, name, .. } = &self.0;
        let why = match timeout(READ_TIMEOUT, store.read(name, &Which::Current)).await {
            Ok(Ok((_, value))) => return Ok(value),
            Ok(Err(StoreError::NotFound(_))) => format!("is missing: `bursar secret put {store_name}/{name}`"),
            Ok(Err(why)) => format!("cannot be read: {why}"),
            Err(_) => format!("cannot be read: the store did not answer within {} s", READ_TIMEOUT.as_secs()),
        };
        Err(Trouble::Setup(format!("the admin credential `{self}` {why}")))
    }
}

impl std::fmt::Display for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.0.store_name, self.0.name)
    }
}
