//! (E) A folder of this process alone, in memory: for the files of a program that runs under bursar. It goes with its owner.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FsWord, fstatfs};

use crate::crypto::Random;

/// Where there is one on every Linux that is not very small.
const SHARED_MEMORY: &str = "/dev/shm";

/// The folder. What stands in it is removed with it.
#[derive(Debug)]
pub struct PrivateFolder(PathBuf);

/// There is no place for a private folder.
#[derive(Debug, thiserror::Error)]
pub enum NoFolder {
    /// None of the places is in memory.
    #[error(
        "there is no folder in memory for files: give the unit `RuntimeDirectory=`, or set `XDG_RUNTIME_DIR` to a tmpfs"
    )]
    NoPlace,
    /// It cannot be made.
    #[error("no private folder can be made in `{}`: {error}", .place.display())]
    NotMade {
        /// Where.
        place: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

impl PrivateFolder {
    /// Makes one in `RUNTIME_DIRECTORY`, which systemd sets, in `XDG_RUNTIME_DIR`, or in `/dev/shm`: the first that is a
    /// file system in memory.
    ///
    /// # Errors
    /// [`NoFolder`].
    pub fn make(random: &dyn Random) -> Result<Self, NoFolder> {
        let of = |name| std::env::var_os(name).filter(|value: &std::ffi::OsString| !value.is_empty());
        let runtime = of("RUNTIME_DIRECTORY").and_then(|all| std::env::split_paths(&all).next());
        let places = runtime.into_iter().chain(of("XDG_RUNTIME_DIR").map(PathBuf::from)).chain([SHARED_MEMORY.into()]);
        let place = places.into_iter().find(|place| lies_in_memory(place)).ok_or(NoFolder::NoPlace)?;
        let mut dice = [0; 8];
        let not_made = |error| NoFolder::NotMade { place: place.clone(), error };
        random.fill(&mut dice).map_err(|_| not_made(io::Error::other("the random generator failed")))?;
        let folder = place.join(format!("bursar-exec-{:016x}", u64::from_ne_bytes(dice)));
        // Not one that is there: somebody else may have made it.
        DirBuilder::new().mode(0o700).create(&folder).map_err(not_made)?;
        Ok(Self(folder))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        // Its owner ends: there is nobody to tell.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether the file system of `folder` is in memory, and on no disk.
pub(crate) fn lies_in_memory(folder: &Path) -> bool {
    const TMPFS: FsWord = 0x0102_1994;
    const RAMFS: FsWord = 0x8584_58f6;
    let kind = File::open(folder).and_then(|folder| Ok(fstatfs(&folder)?.f_type));
    kind.is_ok_and(|kind| [TMPFS, RAMFS].contains(&kind))
}
