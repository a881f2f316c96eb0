//! Cryptography: `ring`, and nothing beside it.

mod jwt;

use std::fmt;

use ring::digest;

pub mod keys;
pub mod seal;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// SHA-256 of `bytes` (FIPS 180-4).
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        Self(out)
    }

    /// SHA-256 of everything that `reader` gives.
    ///
    /// # Errors
    /// The reader's.
    pub fn of_reader(mut reader: impl std::io::Read) -> std::io::Result<Self> {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut part = vec![0; 64 << 10];
        loop {
            let bytes = reader.read(&mut part)?;
            let Some(read) = part.get(..bytes).filter(|read| !read.is_empty()) else { break };
            context.update(read);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        Ok(Self(out))
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    /// 64 lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where randomness comes from.
pub trait Random: Send + Sync + 'static {
    /// Fills `bytes` from a cryptographically secure source.
    ///
    /// # Errors
    /// [`NoRandomness`] when the source fails; nothing may go on without it.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness>;
}

/// The kernel's generator, through `ring`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), bytes).map_err(|_| NoRandomness)
    }
}

/// The system's random generator failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system's random generator failed")]
pub struct NoRandomness;

/// A random UUID (version 4, RFC 9562 §5.4) as text: 36 lower-case characters.
///
/// # Errors
/// [`NoRandomness`] when the source fails.
pub fn random_uuid(random: &dyn Random) -> Result<String, NoRandomness> {
    let mut bytes = [0; 16];
    random.fill(&mut bytes)?;
    let number = u128::from_be_bytes(bytes) & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let digits = format!("{number:032x}");
    let mut text = String::with_capacity(36);
    for (nth, digit) in digits.chars().enumerate() {
        if matches!(nth, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    Ok(text)
}

/// What a record says of a token: the key's number and 16 bytes of HMAC-SHA256 under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// Which fingerprint key.
    pub key: u32,
    /// The first 16 bytes of the tag.
    pub tag: [u8; 16],
}

impl fmt::Display for Fingerprint {
    /// `<key number>:<32 hexadecimal digits>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.key)?;
        self.tag.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The key under which tokens are fingerprinted, so that a log does not help to guess them.
#[derive(Clone)]
pub struct FingerprintKey {
    number: u32,
    key: ring::hmac::Key,
}

impl FingerprintKey {
    /// Key `number`, from 32 bytes.
    #[must_use]
    pub fn new(number: u32, key: &[u8; 32]) -> Self {
        Self { number, key: ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key) }
    }

    /// The fingerprint of `token`.
    #[must_use]
    pub fn of(&self, token: &[u8]) -> Fingerprint {
        let full = ring::hmac::sign(&self.key, token);
        let mut tag = [0; 16];
        for (to, from) in tag.iter_mut().zip(full.as_ref()) {
            *to = *from;
        }
        Fingerprint { key: self.number, tag }
    }
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FingerprintKey({})", self.number)
    }
}

/// Makes `ring` the process's cryptography for TLS and for JWT. The first line of `main`; idempotent.
pub fn install() {
    // Both fail only where a provider stands already: then it is ours, since nothing else installs one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    jwt::install();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_uuid_has_its_version_and_variant() {
        struct Ones;
        impl Random for Ones {
            fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
                bytes.fill(0xff);
                Ok(())
            }
        }
        assert_eq!(random_uuid(&Ones).unwrap(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_ne!(random_uuid(&SystemRandom), random_uuid(&SystemRandom));
    }
}
