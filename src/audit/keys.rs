//! (E) What bursar keeps for its log in `state_dir`: the log's id, and the keys of its fingerprints.
//!
//! ```text
//! bursar audit keys 1
//! log 6ba7b810-9dad-41d1-80b4-00c04fd430c8
//! fingerprint 1 <64 hexadecimal digits>
//! ```
//!
//! One file, `audit.keys`, mode 0600, replaced whole. The number in the first line is the version of this form,
//! so that a sealed one can follow. With several fingerprint keys the last one is in use; the others stay, so
//! that old records can still be compared.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use crate::crypto::{FingerprintKey, Random};
use crate::durable;

use super::{AuditError, LogId};

/// The file's name in `state_dir`.
pub const FILE: &str = "audit.keys";
const FIRST_LINE: &str = "bursar audit keys 1";
const MODE: u32 = 0o600;
const MAX_BYTES: u64 = 1 << 16;
/// The most fingerprint keys.
const MAX_KEYS: usize = 256;

/// The log's id and its keys.
#[derive(Debug)]
pub struct Keys {
    /// Which log they belong to.
    pub log: LogId,
    fingerprint: Vec<FingerprintKey>,
    current: FingerprintKey,
}

impl Keys {
    /// The key under which tokens are fingerprinted from here on.
    #[must_use]
    pub const fn current(&self) -> &FingerprintKey {
        &self.current
    }

    /// The former keys, oldest first.
    #[must_use]
    pub fn former(&self) -> &[FingerprintKey] {
        &self.fingerprint
    }
}

/// Reads the keys in `state_dir`, or makes them there: at first start.
///
/// # Errors
/// [`AuditError::Exposed`] where others may read them, [`AuditError::Damaged`], [`AuditError::Io`],
/// [`AuditError::NoRandomness`].
pub fn load_or_make(state_dir: &Path, random: &dyn Random) -> Result<Keys, AuditError> {
    match load(state_dir)? {
        Some(keys) => Ok(keys),
        None => make(state_dir, random),
    }
}

/// Reads the keys in `state_dir`, if they were made.
///
/// # Errors
/// As [`load_or_make`].
pub fn load(state_dir: &Path) -> Result<Option<Keys>, AuditError> {
    let path = state_dir.join(FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(AuditError::io(path)(error)),
    };
    let about = file.metadata().map_err(AuditError::io(&path))?;
    let mode = about.permissions().mode() & 0o7777;
    let ours = about.uid() == rustix::process::geteuid().as_raw() || about.uid() == 0;
    if mode & 0o077 != 0 || !ours {
        return Err(AuditError::Exposed { file: path, mode });
    }
    let mut text = Zeroizing::new(Vec::with_capacity(4_096));
    file.take(MAX_BYTES).read_to_end(&mut text).map_err(AuditError::io(&path))?;
    parse(&text).map(Some).map_err(|what| AuditError::damaged(path, what))
}

fn make(state_dir: &Path, random: &dyn Random) -> Result<Keys, AuditError> {
    let log = LogId::make(random)?;
    let mut key = Zeroizing::new([0; 32]);
    random.fill(&mut *key)?;
    let mut text = Zeroizing::new(String::with_capacity(256));
    // Writing to a string cannot fail, and parsing it back would show it.
    let _ = write!(text, "{FIRST_LINE}\nlog {log}\nfingerprint 1 ");
    for byte in key.iter() {
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    let path = state_dir.join(FILE);
    let keys = parse(text.as_bytes()).map_err(|what| AuditError::damaged(&path, what))?;
    durable::replace(&path, text.as_bytes(), MODE).map_err(AuditError::io(path))?;
    Ok(keys)
}

/// Reads the whole of a key file.
///
/// # Errors
/// What is wrong, without any of its bytes.
pub fn parse(text: &[u8]) -> Result<Keys, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not text")?;
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return Err("its first line is not `bursar audit keys 1`; use the version of bursar that wrote it");
    }
    let log = lines.next().and_then(|line| line.strip_prefix("log ")).ok_or("its second line names no log")?;
    let log = log.parse().map_err(|_| "its second line names no log")?;
    let mut fingerprint = Vec::new();
    for (line, number) in lines.zip(1..) {
        if fingerprint.len() == MAX_KEYS {
            return Err("it has too many keys");
        }
        fingerprint.push(key(line, number).ok_or("a line is not `fingerprint <number> <64 hexadecimal digits>`")?);
    }
    let current = fingerprint.pop().ok_or("it has no key")?;
    Ok(Keys { log, fingerprint, current })
}

fn key(line: &str, number: u32) -> Option<FingerprintKey> {
    let (given, digits) = line.strip_prefix("fingerprint ")?.split_once(' ')?;
    if given != number.to_string() || digits.len() != 64 {
        return None;
    }
    let mut key = Zeroizing::new([0; 32]);
    for (byte, digits) in key.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| digits.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(FingerprintKey::new(number, &key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SystemRandom;

    #[test]
    fn keys_are_made_once_and_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let made = load_or_make(dir.path(), &SystemRandom).unwrap();
        let again = load_or_make(dir.path(), &SystemRandom).unwrap();
        assert_eq!(made.log, again.log);
        assert_eq!(made.current().of(b"token"), again.current().of(b"token"));
        assert_eq!(made.current().of(b"token").key, 1);
        let path = dir.path().join(FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load(dir.path()), Err(AuditError::Exposed { .. })));
    }

    #[test]
    fn a_new_key_leaves_the_former_ones() {
        let (one, two) = ("1".repeat(64), "2".repeat(64));
        let text = format!(
            "{FIRST_LINE}\nlog 6ba7b810-9dad-41d1-80b4-00c04fd430c8\nfingerprint 1 {one}\nfingerprint 2 {two}\n"
        );
        let keys = parse(text.as_bytes()).unwrap();
        assert_eq!(keys.current().of(b"").key, 2);
        assert_eq!(keys.former().len(), 1);
    }

    #[test]
    fn a_damaged_key_file_is_refused_without_showing_it() {
        let key = "a".repeat(64);
        let log = "log 6ba7b810-9dad-41d1-80b4-00c04fd430c8";
        for bad in [
            String::new(),
            format!("bursar audit keys 2\n{log}\nfingerprint 1 {key}\n"),
            format!("{FIRST_LINE}\n{log}\n"),
            format!("{FIRST_LINE}\nlog x\nfingerprint 1 {key}\n"),
            format!("{FIRST_LINE}\n{log}\nfingerprint 2 {key}\n"),
            format!("{FIRST_LINE}\n{log}\nfingerprint 1 {key}a\n"),
            format!("{FIRST_LINE}\n{log}\nfingerprint 1 {}\n", key.replace('a', "x")),
        ] {
            let what = parse(bad.as_bytes()).unwrap_err();
            assert!(!what.contains(&key), "{what}");
        }
    }
}
