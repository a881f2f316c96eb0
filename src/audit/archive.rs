//! (E) The archive of policy snapshots beside the log: every set that ever decided, under its digest.
//!
//! `policies/<digest>/<entry>`: the bytes that were loaded, so that an old verdict can be reached again from
//! nothing else. What a digest is made of is the policy room's; here it is only a name.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use crate::crypto::Digest;
use crate::durable;

use super::{AuditError, layout};

/// The most that a snapshot may hold, in bytes and in entries.
const MAX_BYTES: u64 = 64 << 20;
const MAX_ENTRIES: usize = 10_000;

/// Writes a snapshot into the log directory `dir`, unless it stands there already.
///
/// When it returns, the snapshot survives a crash. An entry's name is a relative path without `..`.
///
/// # Errors
/// [`AuditError::Damaged`] for an entry that cannot be a file; [`AuditError::Io`].
pub fn store(dir: &Path, digest: &Digest, entries: &[(String, Vec<u8>)]) -> Result<(), AuditError> {
    let policies = dir.join(layout::POLICIES);
    let place = policies.join(digest.to_string());
    if place.is_dir() {
        return Ok(());
    }
    if let Some((name, _)) = entries.iter().find(|(name, _)| !is_entry(name)) {
        return Err(AuditError::damaged(place.join(name), "a snapshot holds plain relative paths"));
    }
    let beside = policies.join(format!("{digest}.new"));
    write_all(&policies, &beside, entries).map_err(AuditError::io(&beside))?;
    // A crash before this line leaves a `.new` directory, which is made again; after it, the whole snapshot.
    std::fs::rename(&beside, &place).and_then(|()| durable::sync_folder(&policies)).map_err(AuditError::io(&place))
}

fn write_all(policies: &Path, beside: &Path, entries: &[(String, Vec<u8>)]) -> io::Result<()> {
    match std::fs::remove_dir_all(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    DirBuilder::new().recursive(true).mode(0o750).create(policies)?;
    make_folder(beside)?;
    for (name, bytes) in entries {
        let path = beside.join(name);
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        path.parent().map_or(Ok(()), durable::sync_folder)?;
    }
    durable::sync_folder(beside)?;
    policies.parent().map_or(Ok(()), durable::sync_folder)
}

/// Makes a folder and its entry in the one above durable.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    folder.parent().map_or(Ok(()), make_folder)?;
    DirBuilder::new().mode(0o750).create(folder)?;
    folder.parent().map_or(Ok(()), durable::sync_folder)
}

/// Reads the snapshot with `digest` back: its entries, sorted by name.
///
/// The caller checks that they have that digest.
///
/// # Errors
/// [`AuditError::Io`], also where it was never archived; [`AuditError::Damaged`] where it is too large.
pub fn load(dir: &Path, digest: &Digest) -> Result<Vec<(String, Vec<u8>)>, AuditError> {
    let place = dir.join(layout::POLICIES).join(digest.to_string());
    let mut entries = Vec::new();
    let mut left = MAX_BYTES;
    for path in files(&place)? {
        let mut bytes = Vec::new();
        let file = File::open(&path).map_err(AuditError::io(&path))?;
        file.take(left + 1).read_to_end(&mut bytes).map_err(AuditError::io(&path))?;
        left = left
            .checked_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            .ok_or_else(|| AuditError::damaged(&place, "the archived snapshot is larger than 64 MiB"))?;
        let name = path.strip_prefix(&place).ok().and_then(Path::to_str);
        let name = name.ok_or_else(|| AuditError::damaged(&path, "the name is not text"))?;
        entries.push((name.to_owned(), bytes));
    }
    entries.sort();
    Ok(entries)
}

/// Every file under `place`.
fn files(place: &Path) -> Result<Vec<PathBuf>, AuditError> {
    let mut folders = vec![place.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(AuditError::io(&folder))? {
            let entry = entry.map_err(AuditError::io(&folder))?;
            let kind = entry.file_type().map_err(AuditError::io(entry.path()))?;
            let list = if kind.is_dir() { &mut folders } else { &mut files };
            list.push(entry.path());
            if folders.len() + files.len() > MAX_ENTRIES {
                return Err(AuditError::damaged(place, "the archived snapshot has more than 10000 entries"));
            }
        }
    }
    Ok(files)
}

fn is_entry(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<(String, Vec<u8>)> {
        [("a.cedar", "permit"), ("entities.json", "{}"), ("more/b.cedar", "")]
            .map(|(name, text)| (name.to_owned(), text.into()))
            .to_vec()
    }

    #[test]
    fn a_snapshot_is_stored_once_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"the set");
        store(dir.path(), &digest, &entries()).unwrap();
        assert_eq!(load(dir.path(), &digest).unwrap(), entries());
        store(dir.path(), &digest, &[]).unwrap();
        assert_eq!(load(dir.path(), &digest).unwrap(), entries(), "a second time changes nothing");
        assert!(load(dir.path(), &Digest::of(b"another")).is_err());
    }

    #[test]
    fn a_half_written_snapshot_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"the set");
        let beside = dir.path().join(layout::POLICIES).join(format!("{digest}.new"));
        std::fs::create_dir_all(&beside).unwrap();
        std::fs::write(beside.join("a.cedar"), "per").unwrap();
        store(dir.path(), &digest, &entries()).unwrap();
        assert_eq!(load(dir.path(), &digest).unwrap(), entries());
    }

    #[test]
    fn an_entry_cannot_leave_its_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["", "/etc/passwd", "../x", "a/../../x", "./x"] {
            let entries = [(name.to_owned(), Vec::new())];
            assert!(store(dir.path(), &Digest::of(name.as_bytes()), &entries).is_err(), "{name}");
        }
    }
}
