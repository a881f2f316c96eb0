//! A secret is a type with one exit.
//!
//! Every value lies in one locked arena, is left out of core dumps, is not there in a forked
//! child, and is wiped when it is dropped. What this cannot reach is said here, so that nobody counts on it:
//! copies on the stack and in registers, and what the kernel buffers on a socket or pipe. Copies on the heap
//! are the [allocator]'s: it zeroes what it frees.

use std::fmt;
use std::hint::black_box;
use std::io::{self, Read};

mod arena;
mod slabs;

pub mod allocator;
pub mod process;

mod mdwe;

pub use arena::{Stats, stats};

use arena::Slot;

/// Bytes that must not be seen: no `Debug` of its content, no `Clone`, no `Serialize`; wiped on drop.
pub struct Secret(Slot);

impl Secret {
    /// Takes `bytes` over; what held them before is wiped.
    #[must_use]
    pub fn new(mut bytes: Vec<u8>) -> Self {
        let kept = Self::copy_of(&bytes);
        // Growing may have left an older part of the value behind the length.
        bytes.resize(bytes.capacity(), 0);
        wipe(&mut bytes);
        kept
    }

    /// Copies `bytes`; wiping them is the caller's.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut slot = Slot::take(bytes.len());
        slot.bytes_mut().copy_from_slice(bytes);
        Self(slot)
    }

    /// Makes a secret where it will lie: `write` is given `most` zero bytes, and says how many of them,
    /// from the first, are the value. So a value is decrypted or read without a copy elsewhere.
    ///
    /// # Errors
    /// Those of `write`; what it wrote is wiped.
    pub fn written<E>(most: usize, write: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<Self, E> {
        let mut slot = Slot::take(most);
        let len = write(slot.bytes_mut())?;
        Ok(Self(slot.cut(len)))
    }

    /// Reads all of `reader` (a file, standard input) into a secret of at most `most` bytes.
    ///
    /// # Errors
    /// The reader's; [`io::ErrorKind::FileTooLarge`] when there is more.
    pub fn read_from(mut reader: impl Read, most: usize) -> io::Result<Self> {
        Self::written(most.saturating_add(1), |room| {
            let mut len = 0;
            while let Some(rest) = room.get_mut(len..).filter(|rest| !rest.is_empty()) {
                match reader.read(rest) {
                    Ok(0) => return Ok(len),
                    Ok(more) => len += more,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("a secret holds at most {most} bytes")))
        })
    }

    /// The bytes. The one exit: `tests/house.rs` lists every place that calls it.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.bytes()
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.bytes().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is `other`, in a time that tells nothing but whether the lengths agree.
    #[must_use]
    pub fn matches(&self, other: &[u8]) -> bool {
        let ours = self.0.bytes();
        ours.len() == other.len() && ours.iter().zip(other).fold(0, |seen, (a, b)| black_box(seen | (a ^ b))) == 0
    }

    /// Whether both hold the same bytes, in time that depends on their lengths alone.
    #[must_use]
    pub fn equals(&self, other: &Self) -> bool {
        self.matches(other.expose())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Zeroes `bytes` in a way that the compiler must not leave out.
pub fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    zeroize::optimization_barrier(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_nothing_of_itself() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?} {:?} {:#?}", Some(&secret), [&secret]).matches("hunter2").count(), 0);
        assert_eq!(secret.expose(), b"hunter2");
    }

    #[test]
    fn written_keeps_what_was_said_and_no_more() {
        let secret = Secret::written::<()>(4_096, |room| {
            room.fill(b'x');
            Ok(10)
        });
        assert_eq!(secret.unwrap().expose(), b"xxxxxxxxxx");
        assert_eq!(Secret::written(8, |_| Err::<usize, _>("no")).unwrap_err(), "no");
        assert_eq!(Secret::written::<()>(8, |_| Ok(9)).unwrap().len(), 8, "a length beyond the room is cut");
    }

    #[test]
    fn reading_stops_at_its_bound() {
        assert_eq!(Secret::read_from(&b"12345678"[..], 8).unwrap().expose(), b"12345678");
        assert_eq!(Secret::read_from(&b""[..], 8).unwrap().len(), 0);
        let error = Secret::read_from(&b"123456789"[..], 8).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn equality_sees_every_byte_and_the_length() {
        let secret = Secret::new(b"abc".to_vec());
        assert!(secret.matches(b"abc"));
        for other in [&b"abd"[..], b"bbc", b"ab", b"abcd", b""] {
            assert!(!secret.matches(other));
        }
    }
}
