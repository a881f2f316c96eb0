//! (E) The files of the log: the segment that is appended to, and the lock of the one who writes.
//!
//! Nothing here can shorten or overwrite a segment: they are opened for appending, and for nothing else.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};

use crate::durable;

use super::layout::{self, SegmentName};
use super::{AuditError, Mode, Sink};

/// The mode of the directory: the agent's group may read.
const DIR_MODE: u32 = 0o750;
/// The mode of a segment.
const FILE_MODE: u32 = 0o640;

/// The segment that is appended to, in its directory. Keeps the log locked as long as it lives.
#[derive(Debug)]
pub struct Files {
    dir: PathBuf,
    segment: Option<File>,
    _lock: Lock,
}

impl Files {
    /// The files of `dir`, under `lock`, with no segment yet.
    #[must_use]
    pub fn new(dir: &Path, lock: Lock) -> Self {
        Self { dir: dir.to_owned(), segment: None, _lock: lock }
    }

    /// Goes on in a segment that exists.
    ///
    /// # Errors
    /// The operating system's.
    pub fn resume(&mut self, name: SegmentName) -> io::Result<()> {
        self.segment = Some(OpenOptions::new().append(true).open(self.dir.join(name.to_string()))?);
        Ok(())
    }

    fn segment(&self) -> io::Result<&File> {
        self.segment.as_ref().ok_or_else(|| io::Error::other("no segment is open"))
    }
}

impl Sink for Files {
    fn create(&mut self, name: SegmentName, reserve: u64) -> io::Result<()> {
        let path = self.dir.join(name.to_string());
        let file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)?;
        if file.metadata()?.len() != 0 {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("`{name}` is not empty")));
        }
        if reserve > 0 {
            set_aside(&file, 0, reserve)?;
        }
        // A crash before this line leaves an empty file or none; both are taken for new.
        durable::sync_folder(&self.dir)?;
        self.segment = Some(file);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.segment()?.write(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.segment()?.sync_data()
    }

    fn reserve(&mut self, from: u64, to: u64) -> io::Result<()> {
        set_aside(self.segment()?, from, to.saturating_sub(from))
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.segment()?.metadata()?.len())
    }
}

/// `fallocate(2)` with `FALLOC_FL_KEEP_SIZE`; a file system that cannot do it goes without a reserve.
fn set_aside(file: &File, from: u64, length: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::KEEP_SIZE, from, length) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Lets the disk say what it holds of a segment whose writer died.
///
/// After a failed sync the page cache shows lines that the disk never took, and takes them for clean. So what
/// is dirty is written out, what is clean is dropped, and what is read afterwards comes from the disk.
///
/// # Errors
/// The operating system's: the disk fails.
pub fn settle(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    file.sync_data()?;
    // Advice only: a file system without a page cache has nothing to drop.
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    Ok(())
}

/// The right to write the log: `flock(2)` on the file `lock`, ended by the kernel when the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of `dir`, which is made if it does not exist, and says in it who has it.
    ///
    /// # Errors
    /// [`AuditError::Held`] with what the holder wrote; [`AuditError::Io`].
    pub fn take(dir: &Path, mode: Mode, pid: u32) -> Result<Self, AuditError> {
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir).map_err(AuditError::io(dir))?;
        let path = dir.join(layout::LOCK);
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE_MODE).clone();
        let mut file = options.open(&path).map_err(AuditError::io(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(AuditError::Held { dir: dir.to_owned(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(AuditError::Io { path, source }),
        }
        let text = format!("process {pid} ({})", mode.as_str());
        // Who holds it is a courtesy; the lock holds without.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
        Ok(Self { _file: file })
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(64).read_to_string(&mut text);
    let plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if read.is_ok() && plain && !text.is_empty() { text } else { "another process".to_owned() }
}
