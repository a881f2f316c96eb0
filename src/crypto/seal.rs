//! Sealing: a data key per value (AES-256-GCM), wrapped by a key that is derived for one purpose.
//!
//! What a sealed value belongs to is *bound* to it as associated data: opened under anything else, it does
//! not open. A data key seals one value and nothing more, so its nonce is zero; wraps have random nonces,
//! and one key may make 2^32 of them (NIST SP 800-38D §8.3): one a second for 136 years.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::error::Unspecified;
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

use super::{NoRandomness, Random};
use crate::secret::Secret;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// A sealed value: useless without the key, and without what it is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The data key, wrapped: nonce (12 bytes), sealed key (32), tag (16).
    pub wrapped: Vec<u8>,
    /// The value under the data key, and its tag (16): its length tells the value's.
    pub text: Vec<u8>,
}

/// What seals and opens for one purpose.
pub struct SealKey {
    wrap: LessSafeKey,
    tag: hmac::Key,
}

impl SealKey {
    /// The key for `purpose`, derived from `key` by HKDF-SHA256 (RFC 5869): what is sealed for one purpose
    /// does not open for another.
    ///
    /// # Errors
    /// [`NotAKey`] when `key` is not [`KEY_BYTES`] long.
    pub fn derive(key: &Secret, purpose: &str) -> Result<Self, NotAKey> {
        if key.len() != KEY_BYTES {
            return Err(NotAKey);
        }
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"bursar seal v1").extract(key.expose());
        let (wrap, tag) = ([b"wrap ", purpose.as_bytes()], [b"tag ", purpose.as_bytes()]);
        let wrap = UnboundKey::from(root.expand(&wrap, &AES_256_GCM)?);
        let tag = hmac::Key::from(root.expand(&tag, hmac::HMAC_SHA256)?);
        Ok(Self { wrap: LessSafeKey::new(wrap), tag })
    }

    /// Seals `value`, bound to `bound`.
    ///
    /// # Errors
    /// [`CannotSeal`] when the source of randomness fails, or for a value of more than 64 GiB.
    pub fn seal(&self, random: &dyn Random, value: &Secret, bound: &[u8]) -> Result<Sealed, CannotSeal> {
        let mut data_key = Zeroizing::new([0; KEY_BYTES]);
        random.fill(&mut *data_key)?;
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce)?;
        let wrapped = encrypt(&self.wrap, nonce, &nonce, &*data_key, bound)?;
        let text = encrypt(&data_key_of(&*data_key)?, [0; NONCE_LEN], &[], value.expose(), bound)?;
        Ok(Sealed { wrapped, text })
    }

    /// Opens what was sealed by this key and bound to `bound`. The value is decrypted where it will lie.
    ///
    /// # Errors
    /// [`NotSealedSo`] when key, bytes or bound are not what they were.
    pub fn open(&self, sealed: &Sealed, bound: &[u8]) -> Result<Secret, NotSealedSo> {
        let (nonce, wrapped) = sealed.wrapped.split_first_chunk::<NONCE_LEN>().ok_or(NotSealedSo)?;
        let data_key = decrypt(&self.wrap, *nonce, wrapped, bound)?;
        decrypt(&data_key_of(data_key.expose())?, [0; NONCE_LEN], &sealed.text, bound)
    }

    /// The data key in `wrapped`, wrapped by `to` instead. What it seals stays as it is.
    ///
    /// # Errors
    /// [`CannotRewrap`].
    pub fn rewrap(
        &self,
        to: &Self,
        random: &dyn Random,
        wrapped: &[u8],
        bound: &[u8],
    ) -> Result<Vec<u8>, CannotRewrap> {
        let (nonce, wrapped) = wrapped.split_first_chunk::<NONCE_LEN>().ok_or(NotSealedSo)?;
        let data_key = decrypt(&self.wrap, *nonce, wrapped, bound)?;
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce).map_err(CannotSeal::from)?;
        Ok(encrypt(&to.wrap, nonce, &nonce, data_key.expose(), bound).map_err(CannotSeal::from)?)
    }

    /// A keyed tag over `parts` (HMAC-SHA256, each part preceded by its length in 8 bytes): who lacks the key
    /// can neither make it nor move a byte from one part to the next.
    #[must_use]
    pub fn tag<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.tag);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(…)")
    }
}

fn data_key_of(bytes: &[u8]) -> Result<LessSafeKey, Unspecified> {
    UnboundKey::new(&AES_256_GCM, bytes).map(LessSafeKey::new)
}

/// `head`, then `plain` encrypted, then its tag. The plain bytes are copied once and encrypted there.
fn encrypt(
    key: &LessSafeKey,
    nonce: [u8; NONCE_LEN],
    head: &[u8],
    plain: &[u8],
    bound: &[u8],
) -> Result<Vec<u8>, Unspecified> {
    let mut sealed = Vec::with_capacity(head.len() + plain.len() + AES_256_GCM.tag_len());
    sealed.extend_from_slice(head);
    sealed.extend_from_slice(plain);
    let body = sealed.get_mut(head.len()..).unwrap_or_default();
    let tag = key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), body)?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

fn decrypt(key: &LessSafeKey, nonce: [u8; NONCE_LEN], sealed: &[u8], bound: &[u8]) -> Result<Secret, NotSealedSo> {
    Secret::written(sealed.len(), |room| {
        room.copy_from_slice(sealed);
        let plain = key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(bound), room)?;
        Ok(plain.len())
    })
}

/// The key is not [`KEY_BYTES`] long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key is not 32 bytes long")]
pub struct NotAKey;

impl From<Unspecified> for NotAKey {
    fn from(_: Unspecified) -> Self {
        Self
    }
}

/// A value could not be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotSeal {
    /// There is no randomness.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// `ring` refused: the value is longer than AES-GCM allows.
    #[error("the value is too long to be sealed")]
    TooLong,
}

impl From<Unspecified> for CannotSeal {
    fn from(_: Unspecified) -> Self {
        Self::TooLong
    }
}

/// A data key could not be wrapped by another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotRewrap {
    /// It is not wrapped by this key.
    #[error(transparent)]
    NotSealedSo(#[from] NotSealedSo),
    /// It cannot be sealed.
    #[error(transparent)]
    CannotSeal(#[from] CannotSeal),
}

/// Not sealed by this key, not bound to this, or changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it was sealed by another key or for another purpose, or it has been changed")]
pub struct NotSealedSo;

impl From<Unspecified> for NotSealedSo {
    fn from(_: Unspecified) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SystemRandom;

    #[test]
    fn what_is_rewrapped_opens_with_the_other_key_alone() {
        let (old, new) = (key(1, "store"), key(2, "store"));
        let mut sealed = old.seal(&SystemRandom, &Secret::new(b"value".to_vec()), b"bound").unwrap();
        let rewrap = |from: &SealKey, bound: &[u8], wrapped: &[u8]| from.rewrap(&new, &SystemRandom, wrapped, bound);
        assert!(rewrap(&old, b"another", &sealed.wrapped).is_err() && rewrap(&new, b"bound", &sealed.wrapped).is_err());
        sealed.wrapped = rewrap(&old, b"bound", &sealed.wrapped).unwrap();
        assert!(new.open(&sealed, b"bound").unwrap().matches(b"value"));
        assert!(old.open(&sealed, b"bound").is_err());
    }

    fn key(byte: u8, purpose: &str) -> SealKey {
        SealKey::derive(&Secret::new(vec![byte; KEY_BYTES]), purpose).unwrap()
    }

    fn sealed() -> Sealed {
        key(1, "p").seal(&SystemRandom, &Secret::new(b"hunter2".to_vec()), b"bound").unwrap()
    }

    #[test]
    fn what_is_sealed_opens_under_the_same_key_and_binding_only() {
        let sealed = sealed();
        assert_eq!(key(1, "p").open(&sealed, b"bound").unwrap().expose(), b"hunter2");
        assert!(key(2, "p").open(&sealed, b"bound").is_err(), "another key");
        assert!(key(1, "q").open(&sealed, b"bound").is_err(), "another purpose");
        assert!(key(1, "p").open(&sealed, b"other").is_err(), "another binding");
    }

    #[test]
    fn a_flipped_bit_anywhere_does_not_open() {
        let whole = sealed();
        assert_eq!((whole.wrapped.len(), whole.text.len()), (60, 23));
        for bit in 0..(60 + 23) * 8 {
            let mut changed = whole.clone();
            let Sealed { wrapped, text } = &mut changed;
            wrapped.iter_mut().chain(text).nth(bit / 8).map(|byte| *byte ^= 1 << (bit % 8)).unwrap();
            assert!(key(1, "p").open(&changed, b"bound").is_err(), "bit {bit}");
        }
    }

    #[test]
    fn cut_text_does_not_open() {
        for (wrapped, text) in [(0, 23), (11, 23), (59, 23), (60, 0), (60, 15)] {
            let mut cut = sealed();
            cut.wrapped.truncate(wrapped);
            cut.text.truncate(text);
            assert!(key(1, "p").open(&cut, b"bound").is_err(), "{wrapped} {text}");
        }
    }

    #[test]
    fn the_same_value_never_looks_the_same() {
        let (one, two) = (sealed(), sealed());
        assert_ne!(one.text, two.text);
        assert_ne!(one.wrapped, two.wrapped);
    }

    #[test]
    fn a_tag_tells_where_its_parts_end() {
        let key = key(1, "p");
        assert_eq!(key.tag([&b"ab"[..], b"c"]), key.tag([&b"ab"[..], b"c"]));
        assert_ne!(key.tag([&b"ab"[..], b"c"]), key.tag([&b"a"[..], b"bc"]));
        assert_ne!(key.tag([&b"abc"[..]]), key.tag([&b"abc"[..], b""]));
    }

    #[test]
    fn no_randomness_no_seal() {
        struct Broken;
        impl Random for Broken {
            fn fill(&self, _: &mut [u8]) -> Result<(), NoRandomness> {
                Err(NoRandomness)
            }
        }
        let refused = key(1, "p").seal(&Broken, &Secret::new(vec![1]), b"");
        assert_eq!(refused, Err(CannotSeal::NoRandomness(NoRandomness)));
    }
}
