//! (E) The way to a file: each folder and symbolic link that decides where a path leads, in the order of the walk.
//!
//! Every step starts in the folder that was just opened and follows no link unseen. So what is told here is what was
//! walked through: a name that is changed meanwhile changes nothing of it.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat, open, openat, readlinkat};
use rustix::io::Errno;

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;
const ROOT: &str = "/";
/// A look, and no more: it needs no permission on what is looked at.
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A folder or symbolic link on a way, or what stands at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Where it is, without links on the way to it.
    pub path: PathBuf,
    /// What it is.
    pub kind: FileType,
    /// Its permission bits, with those for sticky, set-user-id and set-group-id.
    pub mode: u32,
    /// Its owner.
    pub owner: u32,
    /// The owner of the folder that it is in.
    pub owner_above: u32,
}

/// A way that was walked.
#[derive(Debug)]
pub struct Way {
    /// What was passed, the root first and the end last.
    pub passed: Vec<Passed>,
    /// The end, as opened with `O_PATH`.
    pub end: OwnedFd,
}

/// A way cannot be walked.
#[derive(Debug, thiserror::Error)]
#[error("`{}`: {error}", .path.display())]
pub struct NoWay {
    /// How far it goes.
    pub path: PathBuf,
    /// Why not on.
    pub error: io::Error,
}

impl Passed {
    fn of(path: &Path, opened: &OwnedFd, owner_above: Option<u32>) -> Result<Self, NoWay> {
        let stat = fstat(opened).map_err(|errno| no_way(path, errno))?;
        let owner_above = owner_above.unwrap_or(stat.st_uid);
        let (kind, mode) = (FileType::from_raw_mode(stat.st_mode), stat.st_mode & 0o7777);
        Ok(Self { path: path.to_owned(), kind, mode, owner: stat.st_uid, owner_above })
    }

    /// Whether it is a symbolic link.
    #[must_use]
    pub fn is_link(&self) -> bool {
        self.kind == FileType::Symlink
    }

    /// Whether its group or others may write it. A link has no permissions of its own.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        !self.is_link() && self.mode & 0o022 != 0
    }

    /// Whether nobody renames or removes in it what is another's.
    #[must_use]
    pub fn is_sticky(&self) -> bool {
        self.kind == FileType::Directory && self.mode & 0o1000 != 0
    }
}

/// Walks from the root to `path`, which is absolute.
///
/// # Errors
/// [`NoWay`]: the operating system's, and where it goes round in circles.
pub fn walk(path: &Path) -> Result<Way, NoWay> {
    if !path.is_absolute() {
        return Err(no_way(path, Errno::INVAL));
    }
    let (mut at, mut end, mut passed) = (PathBuf::from(ROOT), root()?, Vec::new());
    passed.push(Passed::of(&at, &end, None)?);
    let (mut parts, mut links) = (parts_of(path), 0);
    while let Some(part) = parts.pop() {
        let owner_above = passed.iter().rev().find(|place| !place.is_link()).map(|folder| folder.owner);
        at.push(&part);
        let next = openat(&end, &part, LOOK, Mode::empty()).map_err(|errno| no_way(&at, errno))?;
        if part == ".." {
            at.pop();
            at.pop();
        }
        let place = Passed::of(&at, &next, owner_above)?;
        let is_link = place.is_link();
        passed.push(place);
        if !is_link {
            end = next;
            continue;
        }
        links += 1;
        let target = readlinkat(&next, "", Vec::new()).map_err(|errno| no_way(&at, errno))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if links > MOST_LINKS {
            return Err(no_way(&at, Errno::LOOP));
        }
        at.pop();
        if target.is_absolute() {
            (at, end) = (PathBuf::from(ROOT), root()?);
            passed.push(Passed::of(&at, &end, None)?);
        }
        parts.extend(parts_of(&target));
    }
    Ok(Way { passed, end })
}

fn root() -> Result<OwnedFd, NoWay> {
    open(ROOT, LOOK, Mode::empty()).map_err(|errno| no_way(Path::new(ROOT), errno))
}

/// The steps of a path, the last first.
fn parts_of(path: &Path) -> Vec<OsString> {
    let part = |part: Component<'_>| match part {
        Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(part).collect()
}

fn no_way(path: &Path, errno: Errno) -> NoWay {
    NoWay { path: path.to_owned(), error: errno.into() }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(way: &Way, below: &Path) -> Vec<(String, bool)> {
        let inside = way
            .passed
            .iter()
            .filter_map(|place| Some((place.path.strip_prefix(below).ok()?.to_str()?.to_owned(), place.is_link())));
        inside.filter(|(name, _)| !name.is_empty()).collect()
    }

    #[test]
    fn every_link_and_folder_on_the_way_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        fs::create_dir_all(real.join("a/b")).unwrap();
        fs::write(real.join("a/file"), "").unwrap();
        symlink("a/b", real.join("near")).unwrap();
        symlink(real.join("near/../file"), real.join("far")).unwrap();
        let way = walk(&real.join("far")).unwrap();
        let told: Vec<_> =
            [("far", true), ("near", true), ("a", false), ("a/b", false), ("a", false), ("a/file", false)]
                .map(|(name, is_link)| (name.to_owned(), is_link))
                .into();
        assert_eq!(names(&way, &real), told);
        assert_eq!(way.passed.last().unwrap().path, real.join("a/file"));
        assert_eq!(way.passed.iter().filter(|place| place.path == Path::new("/")).count(), 2, "a link begins anew");
    }

    #[test]
    fn a_way_without_an_end_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        symlink("round", real.join("round")).unwrap();
        fs::write(real.join("file"), "").unwrap();
        assert_eq!(walk(&real.join("round")).unwrap_err().error.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
        assert_eq!(walk(&real.join("none/x")).unwrap_err().path, real.join("none"));
        assert_eq!(walk(&real.join("file/x")).unwrap_err().error.kind(), io::ErrorKind::NotADirectory);
        assert!(walk(Path::new("relative")).is_err());
    }
}
