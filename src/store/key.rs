//! (E) The store key: read from a file or a systemd credential, made at first start, kept in locked memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::StoreError;
use super::exposure::{Owned, Readers, check_file};
use super::sealed::Locked;
use super::upkeep::NewKey;
use crate::crypto::Random;
use crate::crypto::seal::KEY_BYTES;
use crate::durable;
use crate::secret::Secret;

/// Where the store key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file of mode 0600.
    File {
        /// The file.
        path: PathBuf,
        /// Whether it is made at first start: only inside `state_dir`.
        make: bool,
    },
    /// A systemd credential (`LoadCredential=`, `LoadCredentialEncrypted=`).
    Credential {
        /// The file of that name in `$CREDENTIALS_DIRECTORY`.
        path: PathBuf,
    },
}

impl KeySource {
    /// The file in which the key stands.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::File { path, .. } | Self::Credential { path } => path,
        }
    }

    /// The file in which the key stands that comes next: `.next` behind the name of this one. While a key is being
    /// changed, the store is sealed with one of the two.
    #[must_use]
    pub fn next_path(&self) -> PathBuf {
        self.path().with_added_extension("next")
    }

    /// The key that comes next, if there is one.
    ///
    /// # Errors
    /// As [`KeySource::load`].
    pub fn load_next(&self) -> Result<Option<Secret>, StoreError> {
        let path = self.next_path();
        match File::open(&path) {
            Ok(file) => read(&path, &file, self.readers()).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(&path, &error)),
        }
    }

    /// Puts the key that comes next in its place, where it survives a crash; nothing is sealed with it yet.
    ///
    /// # Errors
    /// [`StoreError::Setup`] when `to` is no key, or this source takes its keys from elsewhere;
    /// [`StoreError::Unavailable`] when it cannot be written.
    pub(super) fn lay_next(&self, to: &NewKey, random: &dyn Random) -> Result<Secret, StoreError> {
        let next = self.next_path();
        match (self, to) {
            (Self::File { .. }, NewKey::Made) => write(&next, random),
            (Self::File { .. }, NewKey::Given(text)) => {
                let not_a_key = || StoreError::Invalid("this is not a store key: it has 64 hexadecimal digits".into());
                let key = parse(text).ok_or_else(not_a_key)?;
                // The operator may have put it there, where this process cannot write.
                let is_there = self.load_next().is_ok_and(|there| there.is_some_and(|there| there.matches(key.expose())));
                if is_there { Ok(key) } else { write_key(&next, &key).map(|()| key) }
            }
            (Self::Credential { .. }, NewKey::Credential) => self.load_next()?.ok_or_else(|| {
                StoreError::Setup(format!(
                    "there is no credential `{name}`: give the unit `LoadCredentialEncrypted={name}` and start it again",
                    name = next.file_name().unwrap_or_default().display()
                ))
            }),
            (Self::File { .. }, NewKey::Credential) => Err(StoreError::Setup(format!(
                "the key of this store stands in the file `{}`: make that same key a credential first, and name it in the \
                 configuration",
                self.path().display()
            ))),
            (Self::Credential { .. }, NewKey::Made | NewKey::Given(_)) => Err(StoreError::Setup(format!(
                "the key of this store is a credential: pass the new one as the credential `{}`, and say \
                 `--key-credential`",
                next.file_name().unwrap_or_default().display()
            ))),
        }
    }

    /// Takes the key that was to come next away: nothing is sealed with it.
    pub(super) fn take_next_away(&self) {
        match self {
            // One that stays is not used: the store opens with the other.
            Self::File { .. } => drop(std::fs::remove_file(self.next_path())),
            Self::Credential { .. } => {}
        }
    }

    /// Makes the key that comes next the key; what is left to do by hand, where something is.
    pub(super) fn settle(&self) -> Option<String> {
        let (path, next) = (self.path(), self.next_path());
        match self {
            Self::Credential { .. } => Some(format!(
                "make what is `{next}` the credential `{name}` of the unit, and take `{next}` out; until then the store \
                 opens with `{next}`",
                next = next.file_name().unwrap_or_default().display(),
                name = path.file_name().unwrap_or_default().display(),
            )),
            // A crash before this line leaves both; the store opens with the one that it is sealed with.
            Self::File { .. } => {
                let folder = path.parent().unwrap_or(Path::new("."));
                let renamed = std::fs::rename(&next, path).and_then(|()| durable::sync_folder(folder));
                let by_hand = |error| format!("`mv {} {}`: {error}", next.display(), path.display());
                renamed.err().map(by_hand)
            }
        }
    }

    const fn readers(&self) -> Readers {
        match self {
            Self::File { .. } => Readers::Owner,
            Self::Credential { .. } => Readers::Group,
        }
    }

    /// The key, 32 bytes; made first where that is allowed and the store does not exist yet.
    ///
    /// It takes the store's lock, so that two processes do not each make one.
    ///
    /// # Errors
    /// [`StoreError::Setup`] when it is missing, malformed, or others can read it; [`StoreError::Unavailable`] when it
    /// cannot be read.
    pub fn load(&self, store: &Locked, random: &dyn Random) -> Result<Secret, StoreError> {
        let path = self.path();
        match File::open(path) {
            Ok(file) => read(path, &file, self.readers()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make(store, random),
            Err(error) => Err(unreadable(path, &error)),
        }
    }

    fn make(&self, store: &Locked, random: &dyn Random) -> Result<Secret, StoreError> {
        let missing = |what: String| Err(StoreError::Setup(what));
        match self {
            Self::Credential { path } => missing(format!(
                "there is no store key at `{}`: give the unit `LoadCredentialEncrypted={}`",
                path.display(),
                path.file_name().unwrap_or_default().display()
            )),
            Self::File { path, make: _ } if store.exists() => missing(format!(
                "the store `{}` is there, but its key `{}` is not: put the key back; without it no value can be read",
                store.path().display(),
                path.display()
            )),
            Self::File { path, make: false } => missing(format!(
                "there is no store key at `{path}`: make one with `(umask 077; openssl rand -hex 32 > {path})`",
                path = path.display()
            )),
            Self::File { path, make: true } => write(path, random),
        }
    }
}

fn read(path: &Path, file: &File, readers: Readers) -> Result<Secret, StoreError> {
    let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
    let owned = Owned { mode: metadata.mode(), uid: metadata.uid() };
    check_file(path, owned, rustix::process::geteuid().as_raw(), readers)?;
    // Twice 32 digits and a line's end.
    let text = Secret::read_from(file, 2 * KEY_BYTES + 2).map_err(|error| unreadable(path, &error))?;
    parse(&text).ok_or_else(|| {
        StoreError::Setup(format!("`{}` is not a store key: it has 64 hexadecimal digits, or 32 bytes", path.display()))
    })
}

/// Reads a key: 64 hexadecimal digits, perhaps with a line's end, or 32 bytes as they are.
#[must_use]
pub fn parse(text: &Secret) -> Option<Secret> {
    let bytes = text.expose();
    if bytes.len() == KEY_BYTES {
        return Some(Secret::copy_of(bytes));
    }
    let digits = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != KEY_BYTES || !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let key = Secret::written(KEY_BYTES, |room| {
        for (byte, [high, low]) in room.iter_mut().zip(pairs) {
            *byte = digit(*high).ok_or(())? << 4 | digit(*low).ok_or(())?;
        }
        Ok::<_, ()>(KEY_BYTES)
    });
    key.ok()
}

fn write(path: &Path, random: &dyn Random) -> Result<Secret, StoreError> {
    let key = Secret::written(KEY_BYTES, |room| random.fill(room).map(|()| KEY_BYTES))
        .map_err(|error| StoreError::Unavailable(error.to_string()))?;
    write_key(path, &key).map(|()| key)
}

fn write_key(path: &Path, key: &Secret) -> Result<(), StoreError> {
    let mut text = Zeroizing::new(Vec::with_capacity(2 * KEY_BYTES + 1));
    for byte in key.expose() {
        text.extend(
            [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef".get(usize::from(digit)).copied().unwrap_or(0)),
        );
    }
    text.push(b'\n');
    // A crash before this is done leaves no new key, and nothing that is sealed with it.
    durable::replace(path, &text, 0o600)
        .map_err(|error| StoreError::Unavailable(format!("cannot write the store key `{}`: {error}", path.display())))
}

fn unreadable(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("cannot read the store key `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_64_digits_or_32_bytes() {
        let digits = b"00FF".repeat(16);
        let key = b"\x00\xff".repeat(16);
        let parsed = |text: &[u8]| parse(&Secret::copy_of(text)).map(|key| key.expose().to_vec());
        for good in [digits.clone(), [&digits[..], b"\n"].concat(), [&digits[..], b"\r\n"].concat(), key.clone()] {
            assert_eq!(parsed(&good), Some(key.clone()));
        }
        for bad in [&digits[1..], &[&digits[..], b"0"].concat(), &[&digits[..63], b"g"].concat(), b"", &key[1..]] {
            assert_eq!(parsed(bad), None);
        }
    }
}
