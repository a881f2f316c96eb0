//! (E) The delivered file: replaced whole, owned and closed to others before its name shows it, and only in a folder in
//! which nobody else can put something in its place.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, fchmod, fchown, openat, renameat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::MOST_BYTES;
use super::private::lies_in_memory;
use crate::secret::Secret;
use crate::way::{NoWay, Passed, Way, walk};

/// Where a file goes, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The file: absolute.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// What tells a file that was written from any other that may stand in its place later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    mode: u32,
    owner: (u32, u32),
}

impl Stamp {
    fn of(about: &Metadata) -> Self {
        Self {
            device: about.dev(),
            inode: about.ino(),
            size: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
            mode: about.mode() & 0o7777,
            owner: (about.uid(), about.gid()),
        }
    }
}

/// A file was not put, and what stood there is as it was.
#[derive(Debug, thiserror::Error)]
pub enum NotPut {
    /// The folder is not safe, or is none.
    #[error("`{}`: {what}; {help}", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        what: &'static str,
        /// What to do.
        help: &'static str,
    },
    /// Something else than a file stands there.
    #[error("`{}` is {what}, and stays: name another `path`, or take it away", .path.display())]
    Occupied {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The operating system refuses.
    #[error("`{}` cannot be {what}: {error}{}", .path.display(), help(.error))]
    Os {
        /// The file or folder.
        path: PathBuf,
        /// What was to be done with it.
        what: &'static str,
        /// Why not.
        error: io::Error,
    },
}

impl NotPut {
    /// The word in records.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Folder { .. } => "unsafe_folder",
            Self::Occupied { .. } => "not_a_file",
            Self::Os { error, .. } => known(error).map_or("io", |(code, _)| code),
        }
    }
}

/// What to do about an error of the operating system.
fn help(error: &io::Error) -> &'static str {
    known(error).map_or("", |(_, help)| help)
}

/// The code of an error, and what to do about it, where it is one that operators meet.
fn known(error: &io::Error) -> Option<(&'static str, &'static str)> {
    const FULL: (&str, &str) = ("disk_full", "; make room on that file system");
    const KNOWN: [(io::ErrorKind, (&str, &str)); 5] = [
        (io::ErrorKind::StorageFull, FULL),
        (io::ErrorKind::QuotaExceeded, FULL),
        (
            io::ErrorKind::ReadOnlyFilesystem,
            (
                "read_only",
                "; the unit of the agent has to open it (`ReadWritePaths=`), see the drop-in `delivery.conf`",
            ),
        ),
        (
            io::ErrorKind::PermissionDenied,
            (
                "no_privilege",
                "; the agent's user has to own the folder, and another owner of the file needs CAP_CHOWN: see the drop-in \
                 `delivery.conf`",
            ),
        ),
        (
            io::ErrorKind::NotFound,
            ("no_folder", "; the folder has to be there: the agent makes the file, and not its folder"),
        ),
    ];
    KNOWN.iter().find(|(kind, _)| *kind == error.kind()).map(|(_, known)| *known)
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is new.
    Written(Stamp),
    /// It was so already.
    Unchanged(Stamp),
}

impl Target {
    /// Makes the file hold `content`: a reader sees what stood there or all of this, and never half.
    ///
    /// # Errors
    /// [`NotPut`], with what stood there unchanged.
    pub fn put(&self, content: &Secret) -> Result<Put, NotPut> {
        let folder = self.folder()?;
        if let Some(stamp) = self.holds(&folder, content)? {
            return Ok(Put::Unchanged(stamp));
        }
        let (name, beside) = self.names()?;
        // A leftover of a crash.
        match unlinkat(&folder, &beside, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(self.os("written", errno.into())),
        }
        let written = self.write_beside(&folder, &beside, content);
        // A crash before this line leaves the old file; after it, the new one.
        let written =
            written.and_then(|stamp| renameat(&folder, &beside, &folder, &name).map(|()| stamp).map_err(Into::into));
        match written.and_then(|stamp| folder.sync_all().map(|()| stamp)) {
            Ok(stamp) => Ok(Put::Written(stamp)),
            Err(error) => {
                let _ = unlinkat(&folder, &beside, AtFlags::empty());
                Err(self.os("written", error))
            }
        }
    }

    /// Takes the file away, if it looks like one that was delivered here; whether there was one.
    ///
    /// # Errors
    /// [`NotPut`].
    pub fn remove(&self) -> Result<bool, NotPut> {
        let folder = self.folder()?;
        let (name, _) = self.names()?;
        let stamp = self.seen(&folder)?.filter(Metadata::is_file).map(|about| Stamp::of(&about));
        // What was put there by somebody else, or was given to somebody else, is not ours to remove.
        if stamp.is_none_or(|stamp| stamp.mode != self.mode || stamp.owner != (self.uid, self.gid)) {
            return Ok(false);
        }
        match unlinkat(&folder, &name, AtFlags::empty()) {
            Ok(()) => folder.sync_all().map(|()| true).map_err(|error| self.os("removed", error)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.os("removed", errno.into())),
        }
    }

    /// What stands there now, if it is a file.
    #[must_use]
    pub fn stamp(&self) -> Option<Stamp> {
        std::fs::symlink_metadata(&self.path).ok().filter(Metadata::is_file).map(|about| Stamp::of(&about))
    }

    /// Whether the file lies in memory, and on no disk; none where that cannot be seen.
    #[must_use]
    pub fn lies_in_memory(&self) -> Option<bool> {
        self.path.parent().filter(|folder| folder.exists()).map(lies_in_memory)
    }

    /// Whether this process may give the file to its owner and group.
    #[must_use]
    pub fn may_be_given(&self) -> bool {
        use rustix::thread::{CapabilitySet, capabilities};
        capabilities(None).is_ok_and(|held| held.effective.contains(CapabilitySet::CHOWN)) || self.is_own()
    }

    fn is_own(&self) -> bool {
        let groups = rustix::process::getgroups().unwrap_or_default();
        let group_is_own = groups.iter().chain([&rustix::process::getegid()]).any(|gid| gid.as_raw() == self.gid);
        self.uid == geteuid().as_raw() && group_is_own
    }

    /// The folder, open, if nobody but root, the agent and the file's owner can change what stands in it or above it, and
    /// nobody but root and the agent where it is.
    fn folder(&self) -> Result<File, NotPut> {
        let folder = self.path.parent().unwrap_or(&self.path);
        let cannot = |NoWay { path, error }| NotPut::Os { path, what: "opened", error };
        let Way { passed, end } = walk(folder).map_err(cannot)?;
        if let Some((last, above)) = passed.split_last() {
            above.iter().try_for_each(|place| self.is_safe(place, place.is_sticky()))?;
            self.is_safe(last, false)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = openat(&end, ".", flags, Mode::empty());
        open.map(File::from).map_err(|errno| cannot(NoWay { path: folder.to_owned(), error: errno.into() }))
    }

    /// Whether `place` is well on the way to the file. In a sticky folder nobody renames what is another's.
    fn is_safe(&self, place: &Passed, sticky: bool) -> Result<(), NotPut> {
        let unsafe_as = |what, help| Err(NotPut::Folder { folder: place.path.clone(), what, help });
        let ours = [0, geteuid().as_raw()];
        if place.is_link() {
            // Else the file's owner would say in whose folder the agent writes.
            if [place.owner, place.owner_above].iter().all(|owner| ours.contains(owner)) {
                return Ok(());
            }
            let help = "write the folder itself into `path`";
            return unsafe_as("another user than root and the agent's can let this symbolic link lead elsewhere", help);
        }
        if !ours.contains(&place.owner) && place.owner != self.uid {
            let help = "let root, the agent's user or the file's owner own it";
            return unsafe_as("another user owns this folder, who could put something in the file's place", help);
        }
        if place.is_shared() && !sticky {
            let help = "take the permission away (`chmod go-w`), or have a `RuntimeDirectory=` made";
            return unsafe_as("not only its owner may write in this folder", help);
        }
        Ok(())
    }

    /// The file's name in its folder, and that of what is written first.
    fn names(&self) -> Result<(PathBuf, PathBuf), NotPut> {
        let name =
            self.path.file_name().ok_or_else(|| NotPut::Occupied { path: self.path.clone(), what: "a folder" })?;
        let mut beside = std::ffi::OsString::from(".");
        beside.push(name);
        beside.push(".bursar");
        Ok((name.into(), beside.into()))
    }

    /// What stands at the file's name in `folder`, whatever it is.
    fn seen(&self, folder: &File) -> Result<Option<Metadata>, NotPut> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (name, _) = self.names()?;
        let looked = match openat(folder, &name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            looked => looked.map_err(io::Error::from).and_then(|seen| File::from(seen).metadata()),
        };
        looked.map(Some).map_err(|error| self.os("looked at", error))
    }

    /// The stamp of the file, if it holds `content` already and is as it should be.
    fn holds(&self, folder: &File, content: &Secret) -> Result<Option<Stamp>, NotPut> {
        let Some(about) = self.seen(folder)? else { return Ok(None) };
        if !about.is_file() {
            let what = if about.is_symlink() { "a symbolic link" } else { "no regular file" };
            return Err(NotPut::Occupied { path: self.path.clone(), what });
        }
        let stamp = Stamp::of(&about);
        let fits = stamp.mode == self.mode && stamp.owner == (self.uid, self.gid) && stamp.size == content.len() as u64;
        if !fits {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let (name, _) = self.names()?;
        // What this user cannot read is written anew.
        let Ok(open) = openat(folder, &name, flags, Mode::empty()) else { return Ok(None) };
        let held = Secret::read_from(File::from(open).take(content.len() as u64), MOST_BYTES);
        Ok(held.is_ok_and(|held| held.matches(content.expose())).then_some(stamp))
    }

    /// Writes the file under another name: its owner and mode are right before anybody can see it under its own.
    fn write_beside(&self, folder: &File, beside: &Path, content: &Secret) -> io::Result<Stamp> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(folder, beside, flags, Mode::RUSR | Mode::WUSR)?);
        file.write_all(content.expose())?;
        let about = file.metadata()?;
        // The mode while the file is still ours, and its owner last: one step later it may not be ours to change.
        if about.gid() != self.gid {
            fchown(&file, None, Some(Gid::from_raw(self.gid)))?;
        }
        fchmod(&file, Mode::from_bits_truncate(self.mode))?;
        if about.uid() != self.uid {
            fchown(&file, Some(Uid::from_raw(self.uid)), None)?;
        }
        file.sync_all()?;
        Ok(Stamp::of(&file.metadata()?))
    }

    fn os(&self, what: &'static str, error: io::Error) -> NotPut {
        NotPut::Os { path: self.path.clone(), what, error }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn target(folder: &Path) -> Target {
        let (uid, gid) = (geteuid().as_raw(), rustix::process::getegid().as_raw());
        Target { path: folder.join("file"), mode: 0o400, uid, gid }
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        folder
    }

    fn secret(text: &str) -> Secret {
        Secret::copy_of(text.as_bytes())
    }

    #[test]
    fn a_file_is_replaced_whole_and_not_rewritten_when_nothing_changed() {
        let folder = folder();
        let target = target(folder.path());
        let Put::Written(first) = target.put(&secret("one")).unwrap() else { panic!("it was not there") };
        assert_eq!(target.put(&secret("one")).unwrap(), Put::Unchanged(first));
        assert_eq!(target.stamp(), Some(first));
        let Put::Written(second) = target.put(&secret("two")).unwrap() else { panic!("it is another") };
        assert_ne!(first, second);
        assert_eq!(fs::read(&target.path).unwrap(), b"two");
        assert_eq!(fs::metadata(&target.path).unwrap().mode() & 0o7777, 0o400);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_leftover_of_a_crash_is_no_obstacle_and_is_not_followed() {
        let folder = folder();
        let target = target(folder.path());
        fs::write(folder.path().join("other"), "other").unwrap();
        symlink(folder.path().join("other"), folder.path().join(".file.bursar")).unwrap();
        target.put(&secret("one")).unwrap();
        assert_eq!(fs::read(folder.path().join("other")).unwrap(), b"other");
        assert_eq!(fs::read(&target.path).unwrap(), b"one");
    }

    #[test]
    fn what_is_no_file_stays() {
        let folder = folder();
        let target = target(folder.path());
        fs::write(folder.path().join("other"), "other").unwrap();
        symlink("other", &target.path).unwrap();
        let error = target.put(&secret("one")).unwrap_err();
        assert!(error.to_string().contains("a symbolic link, and stays"), "{error}");
        assert_eq!((error.code(), target.remove().unwrap()), ("not_a_file", false));
        assert_eq!(fs::read(folder.path().join("other")).unwrap(), b"other");
        fs::remove_file(&target.path).unwrap();
        fs::create_dir(&target.path).unwrap();
        assert_eq!(target.put(&secret("one")).unwrap_err().code(), "not_a_file");
    }

    #[test]
    fn a_folder_in_which_others_write_is_refused() {
        let folder = folder();
        let target = target(folder.path());
        for mode in [0o770, 0o707, 0o1777] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            let error = target.put(&secret("one")).unwrap_err();
            assert!(error.to_string().contains("not only its owner may write"), "{mode:o}: {error}");
        }
        assert!(!target.path.exists());
        let missing = Target { path: folder.path().join("no/file"), ..target };
        assert!(missing.put(&secret("one")).unwrap_err().to_string().contains("not its folder"));
    }

    #[test]
    fn a_link_on_the_way_is_root_s_or_the_agent_s() {
        use rustix::fs::FileType;

        let (folder, us) = (folder(), geteuid().as_raw());
        fs::create_dir(folder.path().join("real")).unwrap();
        symlink("real", folder.path().join("link")).unwrap();
        let target = Target { uid: us + 1, ..target(&folder.path().join("link")) };
        Target { uid: us, ..target.clone() }.put(&secret("one")).unwrap();
        assert_eq!(fs::read(folder.path().join("real/file")).unwrap(), b"one");
        let link = |owner, owner_above| Passed {
            path: "/link".into(),
            kind: FileType::Symlink,
            mode: 0o777,
            owner,
            owner_above,
        };
        assert!(target.is_safe(&link(us, 0), false).is_ok());
        // The file's owner may own the folder, and does not say which one it is.
        for (owner, owner_above) in [(us + 1, us), (us, us + 1)] {
            assert_eq!(target.is_safe(&link(owner, owner_above), false).unwrap_err().code(), "unsafe_folder");
        }
        // Only root can give a link away.
        if std::os::unix::fs::lchown(folder.path().join("link"), Some(us + 1), None).is_ok() {
            assert_eq!(target.put(&secret("two")).unwrap_err().code(), "unsafe_folder");
            assert_eq!(fs::read(folder.path().join("real/file")).unwrap(), b"one");
        }
    }

    #[test]
    fn only_what_looks_delivered_is_removed() {
        let folder = folder();
        let target = target(folder.path());
        fs::write(&target.path, "theirs").unwrap();
        assert!(!target.remove().unwrap(), "its mode is another");
        target.put(&secret("ours")).unwrap();
        assert!(target.remove().unwrap());
        assert!(!target.remove().unwrap() && !target.path.exists());
    }
}
