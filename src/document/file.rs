//! (E) A file that a person wrote: read whole, bounded, and without waiting for anyone.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// The bytes of the regular file at `path`: at most one more than `most`, enough to see that there are too many.
///
/// # Errors
/// The operating system's; that it is a pipe, a device, a socket or a folder, which might never end.
pub fn bytes_of(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    // Without NONBLOCK, opening a named pipe would wait for a writer; a terminal is not made ours.
    let careful = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(careful).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
