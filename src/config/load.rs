//! (E) The configuration's files: `bursar.toml`, and `conf.d/*.toml` beside it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::reading::{self, Read};
use crate::document::{Source, bytes_of, glimpse};
use crate::fault::{AS_THE_AGENT, Fault, Faults, Place};

/// Where the configuration is looked for.
pub const DEFAULT_FILE: &str = "/etc/bursar/bursar.toml";
/// The folder beside the configuration whose `*.toml` files belong to it.
pub const FOLDER: &str = "conf.d";
/// How large one file may be, in bytes.
pub const MOST_BYTES: usize = 1 << 20;
/// How many files `conf.d` may have.
pub const MOST_FILES: usize = 256;

/// Reads the configuration that begins at `file`.
///
/// # Errors
/// Every fault in every file, and every file that cannot be read.
pub fn load(file: &Path) -> Result<Read, Faults> {
    let (sources, mut faults) = sources(file);
    let cwd = std::path::absolute(".").unwrap_or_else(|_| PathBuf::from("/"));
    match reading::read(&sources, &cwd) {
        Ok(read) => faults.or(read),
        Err(more) => {
            faults.append(more);
            Err(faults.or(()).err().unwrap_or_default())
        }
    }
}

/// The path that `[agent]` says under `key`, though the configuration may have faults: to have them named by the agent
/// that runs, one has to find its socket first.
#[must_use]
pub fn socket(file: &Path, key: &str) -> Option<PathBuf> {
    sources(file).0.iter().find_map(|source| {
        let said = glimpse(&source.text, "agent", key)?;
        Some(source.file.parent().unwrap_or(Path::new("")).join(said))
    })
}

/// The files that can be read, and a fault for each that cannot.
fn sources(file: &Path) -> (Vec<Source>, Faults) {
    let mut texts = vec![source(file)];
    match folder(file) {
        Ok(files) => texts.extend(files.iter().map(|file| source(file))),
        Err(fault) => texts.push(Err(fault)),
    }
    let mut faults = Faults::default();
    let sources = texts.into_iter().filter_map(|text| text.map_err(|fault| faults.push(fault)).ok()).collect();
    (sources, faults)
}

/// The text of one file of the configuration.
///
/// # Errors
/// A fault that says why it cannot be read: missing, forbidden, no regular file, too large, not UTF-8.
pub fn text_of(file: &Path) -> Result<String, Fault> {
    let bytes = bytes_of(file, MOST_BYTES).map_err(|error| unreadable(file, &error))?;
    if bytes.len() > MOST_BYTES {
        let what = format!("`{}` is larger than {} KiB", file.display(), MOST_BYTES >> 10);
        return Err(Fault::new(Place::file(file), what).help("split it into files of `conf.d`"));
    }
    String::from_utf8(bytes).map_err(|error| not_utf8(file, &error))
}

fn source(file: &Path) -> Result<Source, Fault> {
    text_of(file).map(|text| Source { file: file.to_owned(), text })
}

/// The files of `conf.d`, in the order of their names; none where there is no such folder.
fn folder(file: &Path) -> Result<Vec<PathBuf>, Fault> {
    let folder = file.parent().unwrap_or(Path::new("")).join(FOLDER);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(&folder, &error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(&folder, &error))?.path();
        if is_ours(&path) {
            files.push(path);
        }
        if files.len() > MOST_FILES {
            let what = format!("`{}` has more than {MOST_FILES} files", folder.display());
            return Err(Fault::new(Place::file(&folder), what));
        }
    }
    files.sort();
    Ok(files)
}

/// `NAME.toml`, and not what an editor hides beside it.
fn is_ours(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension().is_some_and(|extension| extension == "toml")
}

fn unreadable(file: &Path, error: &io::Error) -> Fault {
    let shown = file.display();
    let place = Place::file(file);
    if error.kind() == io::ErrorKind::NotFound {
        return Fault::new(place, format!("there is no `{shown}`"))
            .help("write it, or name another place: `--config FILE` for the configuration, `agent.policies` in it");
    }
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Fault::new(place, format!("`{shown}` may not be read by this user")).help(AS_THE_AGENT);
    }
    Fault::new(place, format!("`{shown}` cannot be read: {error}"))
}

fn not_utf8(file: &Path, error: &std::string::FromUtf8Error) -> Fault {
    let valid = error.utf8_error().valid_up_to();
    let before = String::from_utf8_lossy(error.as_bytes().get(..valid).unwrap_or_default()).into_owned();
    Fault::new(Place::of_offset(file, &before, valid), "this byte is not UTF-8")
        .help("save the file as UTF-8, which TOML is always written in")
}
