//! (E) A value that is written in an editor, without a trace on a disk.
//!
//! The editor works in a folder that is its user's alone, on a file system in memory, with that as its home and as its
//! place for temporary files: what editors keep beside a file, or in their home, goes there too. Known hole: pages of a
//! tmpfs may be swapped out, and a kill that cannot be caught leaves the folder until the next boot.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use tokio::signal::unix::{SignalKind, signal};

use super::Trouble;
use super::offline::runtime;
use crate::crypto::{SystemRandom, random_uuid};
use crate::deliver::private::lies_in_memory;
use crate::secret::Secret;
use crate::store::files::without_line_end;
use crate::store::{MOST_VALUE_BYTES, check_value};

/// Where such file systems are mounted, beside the user's own.
const PLACES: [&str; 3] = ["/dev/shm", "/run", "/tmp"];
/// What lets an editor write elsewhere, or run what others wrote.
const UNSET: [&str; 4] = ["VIMINIT", "EXINIT", "GVIMINIT", "NANORC"];
/// What tells an editor where its own files go.
const HOMES: [&str; 7] =
    ["HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"];

/// The value that is written in the user's editor. The file begins empty: no value is ever shown.
pub(super) fn value() -> Result<Secret, Trouble> {
    let editor = editor()?;
    let room = Room::make()?;
    let file = room.0.join("value");
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
    drop(made.map_err(|error| Trouble::failed(format!("`{}` cannot be made: {error}", file.display())))?);
    let ended = run(&editor, &room.0, &file)?;
    if !ended.success() {
        return Err(Trouble::failed(format!("the editor ended with {ended}: nothing is put")));
    }
    let read = File::open(&file).and_then(|file| Secret::read_from(file, MOST_VALUE_BYTES + 2));
    let value = read.map_err(|error| Trouble::failed(format!("what the editor wrote cannot be read: {error}")))?;
    let value = without_line_end(value);
    check_value(&value).map_err(|why| Trouble::failed(format!("{why}: nothing is put")))?;
    Ok(value)
}

/// `$VISUAL` or `$EDITOR`, in words: a program and its options.
fn editor() -> Result<Vec<OsString>, Trouble> {
    let said = ["VISUAL", "EDITOR"].into_iter().find_map(variable);
    let words: Vec<_> = said.iter().flat_map(|said| said.split_whitespace()).map(OsString::from).collect();
    if words.is_empty() {
        return Err(Trouble::failed("neither `$VISUAL` nor `$EDITOR` names an editor")
            .help("set one of them, or give the value on standard input"));
    }
    Ok(words)
}

fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "users say it in the environment, and here it is read")]
    let said = std::env::var(name);
    said.ok().filter(|said| !said.trim().is_empty())
}

/// Runs the editor on `file`, in `room`. What the terminal's user sends to stop it is the editor's to answer: this
/// process stays to wipe the room.
fn run(editor: &[OsString], room: &Path, file: &Path) -> Result<ExitStatus, Trouble> {
    let (program, options) = editor.split_first().ok_or_else(|| Trouble::failed("no editor is named"))?;
    let mut command = Command::new(program);
    command.args(options).arg(file).current_dir(room).envs(HOMES.map(|name| (name, room)));
    for name in UNSET {
        command.env_remove(name);
    }
    let ended = runtime()?.block_on(async {
        let caught = [SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate(), SignalKind::hangup()];
        let _caught = caught.map(signal);
        tokio::task::spawn_blocking(move || command.status()).await
    });
    let ended = ended.map_err(io::Error::other).and_then(|ended| ended);
    ended.map_err(|error| Trouble::failed(format!("the editor `{}` cannot be run: {error}", program.display())))
}

/// A folder in memory that is its user's alone. Whatever is in it is wiped and removed with it.
struct Room(PathBuf);

impl Room {
    fn make() -> Result<Self, Trouble> {
        let own = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
        let places = own.into_iter().chain(PLACES.map(PathBuf::from));
        let name = random_uuid(&SystemRandom).map_err(|why| Trouble::failed(why.to_string()))?;
        let make = |place: PathBuf| {
            let room = place.join(format!("bursar-{name}"));
            DirBuilder::new().mode(0o700).create(&room).ok().map(|()| Self(room))
        };
        places.into_iter().filter(|place| lies_in_memory(place)).find_map(make).ok_or_else(|| {
            let what = "there is no file system in memory (tmpfs) in which this user may write";
            Trouble::failed(what).help("give the value on standard input")
        })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // What cannot be wiped is removed all the same.
        let _ = wipe(&self.0);
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes zeroes over every file below `folder`; links are not followed.
fn wipe(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            wipe(&path)?;
        } else if kind.is_file() {
            let length = usize::try_from(entry.metadata()?.len()).unwrap_or(usize::MAX).min(64 << 20);
            OpenOptions::new().write(true).open(&path)?.write_all(&vec![0; length])?;
        }
    }
    Ok(())
}
