//! (E) Durability in one place: how a small file is replaced so that a crash leaves the old one or the new one.
//!
//! Known hole: a file system that lies about `fsync` lies to us too.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Replaces `path` by a file of `mode` that holds `bytes`.
///
/// When it returns, the new content survives a crash; until then the old file stands whole.
///
/// # Errors
/// The operating system's, with the old file unchanged; a leftover `.new` beside it is overwritten next time.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    match std::fs::remove_file(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(beside)?;
    // Whatever the umask: who has to read it depends on these bits.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    // A crash before this line leaves the old file; after it, the new one.
    std::fs::rename(beside, path)?;
    sync_folder(folder)
}

/// Makes the entries of `folder` (created, renamed, removed files) durable.
///
/// # Errors
/// The operating system's.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
