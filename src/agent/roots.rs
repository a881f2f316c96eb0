//! (E) The `ca_file` of a provider or a store: read, and made roots of.

use std::path::Path;

use crate::document::bytes_of;
use crate::wire::tls::{OwnRoots, Roots};

/// The largest `ca_file`, in bytes.
const LARGEST: usize = 1 << 20;

/// The bytes of a `ca_file`.
///
/// # Errors
/// What is wrong with it, naming it.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let said = |error: std::io::Error| format!("`ca_file` `{}` cannot be read: {error}", path.display());
    let pem = bytes_of(path, LARGEST).map_err(said)?;
    if pem.len() > LARGEST {
        return Err(format!("`ca_file` `{}` is larger than 1 MiB", path.display()));
    }
    Ok(pem)
}

/// The roots in the bytes of a `ca_file`; none: the system's.
///
/// # Errors
/// What is wrong with it.
pub(super) fn of(pem: Option<&[u8]>) -> Result<Roots, String> {
    match pem {
        Some(pem) => Ok(Roots::Own(OwnRoots::from_pem(pem).map_err(|why| format!("`ca_file` {why}"))?)),
        None => Ok(Roots::System),
    }
}
