//! (E) The files store: a directory with one file a secret, mounted by somebody else, read-only.
//!
//! systemd's credentials, Kubernetes' projected volumes, `/run/secrets`. A file is opened below the directory by the
//! kernel's own rule (`RESOLVE_BENEATH`): symbolic links within it are followed (Kubernetes' `..data`), links out of
//! it are refused. Each read looks at the file anew.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use rustix::io::Errno;

use super::exposure::{Owned, Readers, check_file, check_folder};
use super::{
    Attempt, MOST_VALUE_BYTES, Notes, Reserved, Stage, Stages, Store, StoreError, Version, VersionId, Versions, Which,
    check_value,
};
use crate::crypto::Digest;
use crate::name::StoredName;
use crate::secret::Secret;
use crate::time::Wall;

/// How many directory entries are looked at to list secrets.
const MOST_ENTRIES: usize = 4_096;
/// How deep below the directory secrets are listed.
const MOST_DEPTH: usize = 8;
/// How long a file that was read is taken for what stands there: whoever wrote it tells nobody.
const REREAD_AFTER: Duration = Duration::from_secs(1);
/// How often a file that changes while it is read is read again.
const TRIES: usize = 3;

/// A directory of secrets.
pub struct FilesStore(Arc<Folder>);

impl FilesStore {
    /// The store of the files below `path`.
    ///
    /// # Errors
    /// [`StoreError::Setup`] when it is not a directory, or others can write to it; [`StoreError::Unavailable`] when
    /// it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let folder = Folder { path: path.into() };
        folder.open()?;
        Ok(Self(Arc::new(folder)))
    }

    /// Off the event loop: the directory may be a network's.
    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Folder) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let folder = Arc::clone(&self.0);
        let asked = tokio::task::spawn_blocking(move || ask(&folder)).await;
        asked.map_err(|_| StoreError::Unavailable("bursar is shutting down".into()))?
    }

    fn read_only<'a, T: Send + 'a>(&self) -> BoxFuture<'a, Result<T, StoreError>> {
        let what = format!("change the files in `{}` where they come from", self.0.path.display());
        async move { Err(StoreError::ReadOnly(what)) }.boxed()
    }
}

struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The directory, opened anew each time: a mount may have been replaced.
    fn open(&self) -> Result<File, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&self.path, flags, Mode::empty()).map_err(|error| match error {
            Errno::NOTDIR => StoreError::Setup(format!("`{}` is not a directory", self.path.display())),
            error => unavailable(&self.path, error),
        })?;
        let stat = fstat(&folder).map_err(|error| unavailable(&self.path, error))?;
        check_folder(&self.path, owned(&stat), our_uid())?;
        Ok(folder.into())
    }

    fn list_now(&self) -> Result<Vec<StoredName>, StoreError> {
        let mut names = Vec::new();
        let mut folders = vec![(String::new(), 0)];
        let root = self.open()?;
        let mut seen = 0;
        while let Some((prefix, depth)) = folders.pop() {
            for name in self.entries(&root, &prefix)? {
                seen += 1;
                if seen > MOST_ENTRIES {
                    let most = format!("`{}` has more than {MOST_ENTRIES} entries", self.path.display());
                    return Err(StoreError::Setup(most));
                }
                let name = format!("{prefix}{name}");
                match below(&root, &name, OFlags::PATH).and_then(|file| fstat(&file)).map(|stat| file_type(&stat)) {
                    Ok(FileType::RegularFile) => names.extend(name.parse::<StoredName>()),
                    Ok(FileType::Directory) if depth < MOST_DEPTH => folders.push((format!("{name}/"), depth + 1)),
                    // Not a secret, gone since, or a link out of the directory: reading it would say so.
                    Ok(_) | Err(_) => {}
                }
            }
        }
        names.sort();
        Ok(names)
    }

    /// The names in a directory, without those that begin with a dot: Kubernetes keeps its own there.
    fn entries(&self, root: &File, prefix: &str) -> Result<Vec<String>, StoreError> {
        let failed = |error| unavailable(&self.path.join(prefix), error);
        let folder = if prefix.is_empty() { "." } else { prefix };
        let folder = below(root, folder, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
        let entries = Dir::new(folder).map_err(failed)?.take(MOST_ENTRIES + 3);
        let names = entries.filter_map(|entry| match entry {
            Ok(entry) => {
                entry.file_name().to_str().ok().filter(|name| !name.starts_with('.')).map(|name| Ok(name.into()))
            }
            Err(error) => Some(Err(failed(error))),
        });
        names.collect()
    }

    fn look(&self, name: &StoredName) -> Result<(File, Version), StoreError> {
        let (root, path) = (self.open()?, self.path.join(name.as_str()));
        let failed = |error| match error {
            Errno::NOENT | Errno::NOTDIR => StoreError::NotFound(format!("secret `{name}`")),
            Errno::XDEV | Errno::LOOP => StoreError::Setup(format!(
                "`{}` leads out of the store's directory: put the file itself there",
                path.display()
            )),
            error => unavailable(&path, error),
        };
        // Who could write to a folder on the way could give one secret's file the name of another.
        for (end, _) in name.as_str().match_indices('/') {
            let between = name.as_str().get(..end).unwrap_or_default();
            let folder = below(&root, between, OFlags::PATH | OFlags::DIRECTORY).and_then(|folder| fstat(&folder));
            check_folder(&self.path.join(between), owned(&folder.map_err(failed)?), our_uid())?;
        }
        let file = below(&root, name.as_str(), OFlags::RDONLY).map_err(failed)?;
        let stat = fstat(&file).map_err(|error| unavailable(&path, error))?;
        if file_type(&stat) != FileType::RegularFile {
            return Err(StoreError::NotFound(format!("secret `{name}`: `{}` is not a file", path.display())));
        }
        check_file(&path, owned(&stat), our_uid(), Readers::Group)?;
        Ok((file, version(name, &stat)?))
    }

    fn read_now(&self, name: &StoredName, which: &Which) -> Result<(Version, Secret), StoreError> {
        let path = self.path.join(name.as_str());
        for _ in 0..TRIES {
            let (file, before) = self.look(name)?;
            let found = Versions::new(name.clone(), vec![before.clone()])?.find(which)?.clone();
            let value = Secret::read_from(&file, MOST_VALUE_BYTES + 2).map_err(|error| read_failed(&path, &error))?;
            let stat = fstat(&file).map_err(|error| unavailable(&path, error))?;
            if version(name, &stat)? == before {
                let value = without_line_end(value);
                check_value(&value).map_err(|error| StoreError::Setup(format!("`{}`: {error}", path.display())))?;
                return Ok((found, value));
            }
        }
        Err(StoreError::Unavailable(format!("`{}` changes while it is read: try again", path.display())))
    }
}

/// Opens `name` below `folder`, without waiting (a FIFO would) and without leaving it.
fn below(folder: &File, name: &str, flags: OFlags) -> Result<File, Errno> {
    let flags = flags | OFlags::CLOEXEC | if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK };
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut opened = openat2(folder, name, flags, Mode::empty(), within);
    for _ in 1..TRIES {
        // The kernel asks to try again where a rename elsewhere kept it from being sure.
        if opened.as_ref().err() == Some(&Errno::AGAIN) {
            opened = openat2(folder, name, flags, Mode::empty(), within);
        }
    }
    opened.map(File::from)
}

/// The one version of a file. Its id is a digest of what the kernel says of the file and of nothing in it, so that it
/// tells nothing of the value; it changes when the file is written or replaced.
fn version(name: &StoredName, stat: &Stat) -> Result<Version, StoreError> {
    let seen = format!(
        "bursar files v1 {name} {} {} {} {}.{} {}.{}",
        stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec
    );
    let digest = Digest::of(seen.as_bytes());
    let (id, _) = digest.bytes().split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
    let attempt = Attempt::from_bytes(*id);
    let micros = i64::try_from(stat.st_mtime_nsec).unwrap_or(0) / 1_000;
    Ok(Version {
        id: attempt.as_str().parse()?,
        stages: Stages::of(Stage::Current),
        attempt,
        notes: Notes::default(),
        created: Wall::from_micros(stat.st_mtime.saturating_mul(1_000_000).saturating_add(micros)),
        filled: true,
    })
}

/// Without the line end that an editor or `echo` left: one `\n` or `\r\n` at the end of UTF-8 text. Other bytes stay
/// as they are.
#[must_use]
pub fn without_line_end(value: Secret) -> Secret {
    let bytes = value.expose();
    let Some(line) = bytes.strip_suffix(b"\n") else { return value };
    if std::str::from_utf8(bytes).is_err() {
        return value;
    }
    Secret::copy_of(line.strip_suffix(b"\r").unwrap_or(line))
}

fn owned(stat: &Stat) -> Owned {
    Owned { mode: stat.st_mode, uid: stat.st_uid }
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn our_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn unavailable(path: &Path, error: Errno) -> StoreError {
    StoreError::Unavailable(format!("cannot read `{}`: {}", path.display(), io::Error::from(error)))
}

fn read_failed(path: &Path, error: &io::Error) -> StoreError {
    if error.kind() == io::ErrorKind::FileTooLarge {
        return StoreError::Setup(format!(
            "`{}` is too long: {MOST_VALUE_BYTES} bytes can be a secret",
            path.display()
        ));
    }
    StoreError::Unavailable(format!("cannot read `{}`: {error}", path.display()))
}

impl Store for FilesStore {
    fn list(&self) -> BoxFuture<'_, Result<Vec<StoredName>, StoreError>> {
        self.ask(Folder::list_now).boxed()
    }

    fn versions<'a>(&'a self, name: &'a StoredName) -> BoxFuture<'a, Result<Versions, StoreError>> {
        let name = name.clone();
        self.ask(move |folder| Versions::new(name.clone(), vec![folder.look(&name)?.1])).boxed()
    }

    fn read<'a>(
        &'a self,
        name: &'a StoredName,
        which: &'a Which,
    ) -> BoxFuture<'a, Result<(Version, Secret), StoreError>> {
        let (name, which) = (name.clone(), which.clone());
        self.ask(move |folder| folder.read_now(&name, &which)).boxed()
    }

    fn reserve<'a>(
        &'a self,
        _: &'a StoredName,
        _: &'a Attempt,
        _: Wall,
        _: &'a Notes,
    ) -> BoxFuture<'a, Result<Reserved, StoreError>> {
        self.read_only()
    }

    fn fill<'a>(
        &'a self,
        _: &'a StoredName,
        _: &'a Attempt,
        _: &'a Secret,
        _: &'a Notes,
    ) -> BoxFuture<'a, Result<VersionId, StoreError>> {
        self.read_only()
    }

    fn promote<'a>(&'a self, _: &'a StoredName, _: &'a Attempt) -> BoxFuture<'a, Result<VersionId, StoreError>> {
        self.read_only()
    }

    fn retire<'a>(
        &'a self,
        _: &'a StoredName,
        _: &'a VersionId,
        _: &'a Attempt,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.read_only()
    }

    fn note<'a>(
        &'a self,
        _: &'a StoredName,
        _: &'a VersionId,
        _: &'a Attempt,
        _: &'a Notes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.read_only()
    }

    fn reread_after(&self) -> Duration {
        REREAD_AFTER
    }
}
