//! (E) Executables: which file stands at a configured path, and what the digest of a running one is.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::procfs::{FileId, Process, Stamp};
use crate::crypto::Digest;

/// Of each configured path, this many files are remembered: the running versions of a package.
const VERIFIED_PER_PATH: usize = 8;
/// Paths of older registries are forgotten together when there are more.
const MAX_PATHS: usize = 4096;
/// Digests are forgotten together when there are more.
const MAX_DIGESTS: usize = 1024;
/// A larger executable has no digest.
const MAX_BYTES: u64 = 256 << 20;
/// How long a request waits for a digest.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of executables.
#[derive(Debug, Default)]
pub(super) struct Executables {
    verified: Mutex<HashMap<PathBuf, Vec<FileId>>>,
    digests: Mutex<HashMap<Stamp, [u8; 32]>>,
    turns: Mutex<HashMap<u32, Arc<tokio::sync::Mutex<()>>>>,
}

impl Executables {
    /// Whether `file` stands at `path` of the agent's mount namespace, or stood there when this agent looked before:
    /// a package is upgraded under a running service.
    pub(super) fn stands_at(&self, path: &Path, file: FileId) -> bool {
        if locked(&self.verified).get(path).is_some_and(|known| known.contains(&file)) {
            return true;
        }
        let stands = Stamp::of(path).is_ok_and(|there| there.file == file);
        if stands && file.lasts() {
            self.remember(path, file);
        }
        stands
    }

    fn remember(&self, path: &Path, file: FileId) {
        let mut verified = locked(&self.verified);
        if verified.len() >= MAX_PATHS {
            verified.clear();
        }
        let known = verified.entry(path.to_owned()).or_default();
        if known.len() >= VERIFIED_PER_PATH {
            known.remove(0);
        }
        known.push(file);
    }

    /// The digest of the file with this stamp, if it has been computed.
    pub(super) fn digest(&self, stamp: &Stamp) -> Option<[u8; 32]> {
        locked(&self.digests).get(stamp).copied()
    }

    /// Computes the digest of what `process` executes, off the event loop; waits for it at most [`PATIENCE`].
    ///
    /// One at a time for each uid: a file on a file system of its owner's making can be slow for ever, and then
    /// only its owner waits.
    pub(super) async fn compute(self: &Arc<Self>, process: Arc<Process>, uid: u32) {
        let turn = self.turn(uid);
        let _ = tokio::time::timeout(PATIENCE, async {
            let turn = turn.lock_owned().await;
            let known = Arc::clone(self);
            tokio::task::spawn_blocking(move || {
                known.learn(&process);
                drop(turn);
            })
            .await
        })
        .await;
    }

    fn turn(&self, uid: u32) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = locked(&self.turns);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(uid).or_default())
    }

    fn learn(&self, process: &Process) {
        let Some((stamp, digest)) = process.open_exe().ok().and_then(|file| digest_of(&file).ok()) else { return };
        let mut digests = locked(&self.digests);
        if digests.len() >= MAX_DIGESTS {
            digests.clear();
        }
        digests.insert(stamp, digest);
    }
}

/// The digest of `file`, with the stamp that it had before and after.
fn digest_of(file: &File) -> io::Result<(Stamp, [u8; 32])> {
    let before = Stamp::of_open(file)?;
    let digest = Digest::of_reader(file.take(MAX_BYTES))?;
    let whole = before.size < MAX_BYTES && Stamp::of_open(file)? == before;
    if whole { Ok((before, *digest.bytes())) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &tempfile::TempDir, name: &str, content: &str) -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn a_file_is_known_by_itself_and_not_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let (program, other) = (file(&folder, "program", "a"), file(&folder, "other", "a"));
        let known = Executables::default();
        assert!(known.stands_at(&program, Stamp::of(&program).unwrap().file));
        assert!(!known.stands_at(&program, Stamp::of(&other).unwrap().file));
    }

    #[test]
    fn an_upgrade_does_not_make_a_running_service_a_stranger() {
        let folder = tempfile::tempdir().unwrap();
        let (program, next) = (file(&folder, "program", "old"), file(&folder, "next", "new"));
        let running = Stamp::of(&program).unwrap().file;
        let (known, fresh) = (Executables::default(), Executables::default());
        assert!(known.stands_at(&program, running));
        std::fs::rename(next, &program).unwrap();
        assert!(known.stands_at(&program, running), "this agent saw it there");
        assert!(!fresh.stands_at(&program, running), "this one never did");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let known = Executables::default();
        let program = folder.path().join("program");
        for nth in 0..VERIFIED_PER_PATH + 3 {
            std::fs::rename(file(&folder, "next", &nth.to_string()), &program).unwrap();
            assert!(known.stands_at(&program, Stamp::of(&program).unwrap().file));
        }
        assert!(locked(&known.verified)[&program].len() <= VERIFIED_PER_PATH);
    }

    #[test]
    fn a_digest_is_of_the_file_and_dies_with_its_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let program = file(&folder, "program", "abc");
        let (stamp, digest) = digest_of(&File::open(&program).unwrap()).unwrap();
        assert_eq!(&digest, Digest::of(b"abc").bytes());
        std::fs::write(&program, "abcd").unwrap();
        assert_ne!(stamp, Stamp::of(&program).unwrap());
    }
}
