//! (E) The socket's file: it appears whole or not at all.
//!
//! A socket is bound inside a folder that only bursar can enter, given its owner and mode there, and then
//! renamed to its place: at no moment does it stand anywhere with wider permissions. A lock file beside it
//! says whether its owner lives, so a stale socket is replaced and a live one is not.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Gid, Mode, OFlags, Uid, chownat, flock, open, renameat};
use rustix::process::geteuid;

/// Where a socket stands, and who may open it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its path.
    pub path: PathBuf,
    /// Its mode, as in `0o660`.
    pub mode: u32,
    /// Its owner, if not the agent's own; needs CAP_CHOWN.
    pub owner: Option<u32>,
    /// Its group, if not the agent's own; needs CAP_CHOWN or membership.
    pub group: Option<u32>,
}

/// A socket that stands in its place; its file goes when it is dropped.
#[derive(Debug)]
pub struct Bound {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
    /// Held for as long as the socket is ours.
    _lock: File,
}

/// Why a socket does not stand.
#[derive(Debug, thiserror::Error)]
pub enum NotBound {
    /// Another process holds it.
    #[error("`{0}` belongs to a bursar that is running: stop it first, or configure another path")]
    Live(PathBuf),
    /// Something that is not a socket stands there.
    #[error("`{0}` exists and is not a socket: move it away, or configure another path")]
    NotASocket(PathBuf),
    /// The operating system refused.
    #[error("the socket `{path}` cannot be made ({what}): {error}")]
    Io {
        /// The socket's path.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the operating system said.
        error: io::Error,
    },
}

impl Bound {
    /// Binds a socket and puts it in its place.
    ///
    /// # Errors
    /// [`NotBound`]; whatever stood there before still stands.
    pub fn bind(place: &Place) -> Result<Self, NotBound> {
        let refused = |what| move |error| NotBound::Io { path: place.path.clone(), what, error };
        let lock = take_lock(&place.path)?;
        if let Ok(there) = std::fs::symlink_metadata(&place.path)
            && !is_socket(&there)
        {
            return Err(NotBound::NotASocket(place.path.clone()));
        }
        let workshop = Workshop::open(&place.path).map_err(refused("its folder"))?;
        let made = workshop.socket();
        let listener = UnixListener::bind(&made).map_err(refused("bind"))?;
        if place.owner.is_some() || place.group.is_some() {
            let (owner, group) = (place.owner.map(Uid::from_raw), place.group.map(Gid::from_raw));
            let chowned = chownat(&workshop.folder, "s", owner, group, AtFlags::SYMLINK_NOFOLLOW);
            chowned.map_err(|error| refused("owner and group")(error.into()))?;
        }
        std::fs::set_permissions(&made, PermissionsExt::from_mode(place.mode)).map_err(refused("mode"))?;
        let inode = std::fs::symlink_metadata(&made).map_err(refused("look"))?.ino();
        renameat(&workshop.folder, "s", CWD, &place.path)
            .map_err(|error| refused("put it in its place")(error.into()))?;
        Ok(Self { listener, path: place.path.clone(), inode, _lock: lock })
    }

    /// The listening socket.
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Only our own file: a successor may have put its socket there.
        if std::fs::symlink_metadata(&self.path).is_ok_and(|there| there.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A folder that only we can enter, beside the socket's place; it goes when it is dropped.
struct Workshop {
    path: PathBuf,
    folder: File,
}

impl Workshop {
    fn open(socket: &Path) -> io::Result<Self> {
        let path = beside(socket, "new");
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        DirBuilder::new().mode(0o700).create(&path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = File::from(open(&path, flags, Mode::empty())?);
        // Who may write to the folder above (a listener's may be its workload's own) can put another in its place.
        let about = folder.metadata()?;
        if about.uid() != geteuid().as_raw() || about.mode() & 0o077 != 0 {
            return Err(io::Error::other(format!("another user has put something at `{}`", path.display())));
        }
        Ok(Self { path, folder })
    }

    /// Through the open folder, since the path of a socket may have 107 bytes only.
    fn socket(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/s", self.folder.as_raw_fd()))
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn take_lock(socket: &Path) -> Result<File, NotBound> {
    let refused = |error| NotBound::Io { path: socket.to_owned(), what: "its lock file", error };
    // A link that another user put there is not followed, and a pipe is not waited for.
    let careful = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(careful)
        .open(beside(socket, "lock"))
        .map_err(refused)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(NotBound::Live(socket.to_owned())),
        Err(error) => Err(refused(error.into())),
    }
}

fn is_socket(file: &std::fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&file.file_type())
}

fn beside(socket: &Path, what: &str) -> PathBuf {
    let name = socket.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    socket.with_file_name(format!(".{name}.{what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_user_laid_out_beside_the_socket_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { path: folder.path().join("bursar.sock"), mode: 0o600, owner: None, group: None };
        let victim = folder.path().join("victim");
        std::os::unix::fs::symlink(&victim, beside(&place.path, "lock")).unwrap();
        assert!(matches!(Bound::bind(&place), Err(NotBound::Io { what: "its lock file", .. })));
        assert!(!victim.exists());
        std::fs::remove_file(beside(&place.path, "lock")).unwrap();

        std::fs::create_dir(&victim).unwrap();
        std::os::unix::fs::symlink(&victim, beside(&place.path, "new")).unwrap();
        let bound = Bound::bind(&place).unwrap();
        assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 0, "the link went, the socket was made elsewhere");
        assert_eq!(std::fs::symlink_metadata(&place.path).unwrap().mode() & 0o777, 0o600);
        drop(bound);
        assert!(!place.path.exists());
    }
}
