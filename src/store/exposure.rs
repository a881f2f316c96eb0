//! Whether a file that holds a secret shows it to others: pure.

use std::path::Path;

use super::StoreError;

/// What matters of a file's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owned {
    /// The permission bits.
    pub(super) mode: u32,
    /// The owner.
    pub(super) uid: u32,
}

/// Who may read a file beside its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// Nobody.
    Owner,
    /// Its group too: a systemd credential shows its access list as group bits, and Kubernetes uses `fsGroup`.
    Group,
}

/// Refuses a file that somebody else can read or change.
///
/// # Errors
/// [`StoreError::Setup`], with the command that mends it.
pub(super) fn check_file(path: &Path, file: Owned, our_uid: u32, readers: Readers) -> Result<(), StoreError> {
    check_owner(path, file, our_uid)?;
    let (allowed, mend) = match readers {
        Readers::Owner => (0o700, "0600"),
        Readers::Group => (0o740, "0440"),
    };
    if file.mode & 0o777 & !allowed == 0 {
        return Ok(());
    }
    let mode = file.mode & 0o777;
    Err(StoreError::Setup(format!(
        "`{path}` has mode {mode:04o}, which opens it to others: run `chmod {mend} {path}`, and replace the secret if \
         somebody else may have read it",
        path = path.display()
    )))
}

/// Refuses a directory in which somebody else can replace files.
///
/// # Errors
/// [`StoreError::Setup`], with the command that mends it.
pub(super) fn check_folder(path: &Path, folder: Owned, our_uid: u32) -> Result<(), StoreError> {
    check_owner(path, folder, our_uid)?;
    let sticky = folder.mode & 0o1000 != 0;
    if folder.mode & 0o022 == 0 || sticky {
        return Ok(());
    }
    Err(StoreError::Setup(format!(
        "others can write to the directory `{path}`: run `chmod go-w {path}`",
        path = path.display()
    )))
}

fn check_owner(path: &Path, owned: Owned, our_uid: u32) -> Result<(), StoreError> {
    if owned.uid == our_uid || owned.uid == 0 {
        return Ok(());
    }
    Err(StoreError::Setup(format!(
        "`{path}` belongs to uid {uid}, who can change it: run `chown {our_uid} {path}`",
        path = path.display(),
        uid = owned.uid
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(mode: u32, uid: u32, readers: Readers) -> bool {
        check_file(Path::new("f"), Owned { mode, uid }, 7, readers).is_ok()
    }

    #[test]
    fn a_file_that_others_can_read_or_change_is_refused() {
        for mode in [0o600, 0o400, 0o100_600, 0o700] {
            assert!(file(mode, 7, Readers::Owner) && file(mode, 0, Readers::Owner), "{mode:o}");
        }
        for mode in [0o640, 0o604, 0o620, 0o601, 0o644, 0o777] {
            assert!(!file(mode, 7, Readers::Owner), "{mode:o}");
        }
        assert!(file(0o440, 0, Readers::Group) && file(0o640, 0, Readers::Group));
        assert!(!file(0o444, 0, Readers::Group) && !file(0o660, 0, Readers::Group));
        assert!(!file(0o600, 8, Readers::Owner), "another user owns it");
    }

    #[test]
    fn a_folder_that_others_can_write_is_refused() {
        let folder = |mode, uid| check_folder(Path::new("d"), Owned { mode, uid }, 7).is_ok();
        assert!(folder(0o700, 7) && folder(0o755, 0) && folder(0o1777, 0));
        assert!(!folder(0o777, 0) && !folder(0o775, 7) && !folder(0o700, 8));
    }
}
