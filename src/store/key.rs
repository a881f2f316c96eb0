//! (E) The store key: read from a file or a systemd credential, made at first start, kept in locked memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::StoreError;
use super::exposure::{Owned, Readers, check_file};
use super::sealed::Locked;
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
    /// The key, 32 bytes; made first where that is allowed and the store does not exist yet.
    ///
    /// It takes the store's lock, so that two processes do not each make one.
    ///
    /// # Errors
    /// [`StoreError::Setup`] when it is missing, malformed, or others can read it; [`StoreError::Unavailable`] when it
    /// cannot be read.
    pub fn load(&self, store: &Locked, random: &dyn Random) -> Result<Secret, StoreError> {
        let (path, readers) = match self {
            Self::File { path, .. } => (path, Readers::Owner),
            Self::Credential { path } => (path, Readers::Group),
        };
        match File::open(path) {
            Ok(file) => read(path, &file, readers),
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
    let mut text = Zeroizing::new(Vec::with_capacity(2 * KEY_BYTES + 1));
    for byte in key.expose() {
        text.extend(
            [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef".get(usize::from(digit)).copied().unwrap_or(0)),
        );
    }
    text.push(b'\n');
    // A crash before this is done leaves no key and no store: the next start begins anew.
    durable::replace(path, &text, 0o600).map_err(|error| {
        StoreError::Unavailable(format!("cannot write the store key `{}`: {error}", path.display()))
    })?;
    Ok(key)
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
