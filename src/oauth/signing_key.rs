//! The keys that sign our assertions: PEM in, a key of a known kind out. Pure.
//!
//! The outer shell of PKCS #8 (RFC 5958 §2) is read here, for the kind of key; the key itself is read by `ring` when it
//! signs.

use jsonwebtoken::{Algorithm, EncodingKey};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use crate::crypto::keys::{self, Curve, Public};

/// The longest PEM text of a key that is read, in bytes: an RSA key of 4096 bits has a quarter of it.
pub const MOST_KEY_BYTES: usize = 16 * 1024;

/// An algorithm that `signing_alg` may name (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
    /// RSA PKCS #1 v1.5 with SHA-256.
    Rs256,
    /// RSA PSS with SHA-256.
    Ps256,
}

impl SigningAlgorithm {
    /// The word in configuration and in a JWT's header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
        }
    }

    const fn kind(self) -> Kind {
        match self {
            Self::Es256 => Kind::P256,
            Self::Es384 => Kind::P384,
            Self::EdDsa => Kind::Ed25519,
            Self::Rs256 | Self::Ps256 => Kind::Rsa,
        }
    }

    const fn in_a_jwt(self) -> Algorithm {
        match self {
            Self::Es256 => Algorithm::ES256,
            Self::Es384 => Algorithm::ES384,
            Self::EdDsa => Algorithm::EdDSA,
            Self::Rs256 => Algorithm::RS256,
            Self::Ps256 => Algorithm::PS256,
        }
    }
}

/// A key that signs. No `Debug`, and nothing of it in an error.
pub struct SigningKey {
    kind: Kind,
    key: EncodingKey,
}

/// What a key is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Shared,
    P256,
    P384,
    Ed25519,
    Rsa,
}

impl SigningKey {
    /// The key that a client secret is (RFC 7518 §3.2): its bytes.
    #[must_use]
    pub fn of_secret(secret: &[u8]) -> Self {
        Self { kind: Kind::Shared, key: EncodingKey::from_secret(secret) }
    }

    /// Reads the first private key of PEM text: PKCS #8 (RFC 7468 §10), or PKCS #1 for RSA. At most
    /// [`MOST_KEY_BYTES`].
    ///
    /// # Errors
    /// [`NotAKey`] for what is no such text, has a passphrase, or is of a kind that bursar does not sign with.
    pub fn from_pem(pem: &[u8]) -> Result<Self, NotAKey> {
        if pem.len() > MOST_KEY_BYTES {
            return Err(NotAKey::TooLong);
        }
        match PrivateKeyDer::from_pem_slice(pem) {
            Ok(PrivateKeyDer::Pkcs8(der)) => Self::from_pkcs8(der.secret_pkcs8_der()),
            Ok(PrivateKeyDer::Pkcs1(der)) => {
                Ok(Self { kind: Kind::Rsa, key: EncodingKey::from_rsa_der(der.secret_pkcs1_der()) })
            }
            Ok(PrivateKeyDer::Sec1(_)) => Err(NotAKey::Sec1),
            Ok(_) | Err(_) => Err(NotAKey::NotPem),
        }
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, NotAKey> {
        let (kind, inner) = shell(der).ok_or(NotAKey::NotPkcs8)?;
        let kind = kind.ok_or(NotAKey::Kind)?;
        let key = match kind {
            Kind::Rsa => EncodingKey::from_rsa_der(inner),
            Kind::Ed25519 => EncodingKey::from_ed_der(der),
            Kind::P256 | Kind::P384 => EncodingKey::from_ec_der(der),
            Kind::Shared => return Err(NotAKey::Kind),
        };
        Ok(Self { kind, key })
    }

    /// What of the first private key in PEM text is public.
    ///
    /// # Errors
    /// [`NotAKey`], as [`Self::from_pem`].
    pub(super) fn public_of_pem(pem: &[u8]) -> Result<Public, NotAKey> {
        if pem.len() > MOST_KEY_BYTES {
            return Err(NotAKey::TooLong);
        }
        let public = match PrivateKeyDer::from_pem_slice(pem) {
            Ok(PrivateKeyDer::Pkcs8(der)) => {
                let der = der.secret_pkcs8_der();
                let (kind, inner) = shell(der).ok_or(NotAKey::NotPkcs8)?;
                match kind.ok_or(NotAKey::Kind)? {
                    Kind::P256 => keys::public(Curve::P256, der),
                    Kind::P384 => keys::public(Curve::P384, der),
                    Kind::Ed25519 => keys::public(Curve::Ed25519, der),
                    Kind::Rsa => keys::public_of_rsa(inner),
                    Kind::Shared => None,
                }
            }
            Ok(PrivateKeyDer::Pkcs1(der)) => keys::public_of_rsa(der.secret_pkcs1_der()),
            Ok(PrivateKeyDer::Sec1(_)) => return Err(NotAKey::Sec1),
            Ok(_) | Err(_) => return Err(NotAKey::NotPem),
        };
        public.ok_or(NotAKey::CannotSign)
    }

    /// The algorithm with which it signs: the one that is `wanted`, else what its kind says; for RSA that is RS256, which
    /// every server knows.
    ///
    /// # Errors
    /// [`NotAKey::Algorithm`], when a key of this kind does not sign so.
    pub fn algorithm(&self, wanted: Option<SigningAlgorithm>) -> Result<Algorithm, NotAKey> {
        match (self.kind, wanted) {
            (Kind::Shared, _) => Ok(Algorithm::HS256),
            (kind, Some(wanted)) if wanted.kind() == kind => Ok(wanted.in_a_jwt()),
            (_, Some(wanted)) => Err(NotAKey::Algorithm(wanted.as_str())),
            (Kind::P256, None) => Ok(Algorithm::ES256),
            (Kind::P384, None) => Ok(Algorithm::ES384),
            (Kind::Ed25519, None) => Ok(Algorithm::EdDSA),
            (Kind::Rsa, None) => Ok(Algorithm::RS256),
        }
    }

    pub(super) fn key(&self) -> &EncodingKey {
        &self.key
    }
}

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// 1.2.840.113549.1.1.1 (RFC 8017 appendix C).
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.10045.2.1, 1.2.840.10045.3.1.7, 1.3.132.0.34 (RFC 5480 §2.1.1).
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
/// 1.3.101.112 (RFC 8410 §3).
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// The kind that a PKCS #8 shell names, if it is one of ours, and what is in the shell; none for what is no such shell.
fn shell(der: &[u8]) -> Option<(Option<Kind>, &[u8])> {
    let (mut fields, _) = element(SEQUENCE, der)?;
    let (_, rest) = element(INTEGER, fields)?;
    let (algorithm, rest) = element(SEQUENCE, rest)?;
    fields = rest;
    let (inner, _) = element(OCTET_STRING, fields)?;
    let (name, parameters) = element(OBJECT_ID, algorithm)?;
    let curve = || element(OBJECT_ID, parameters).map(|(curve, _)| curve);
    let kind = match name {
        RSA => Some(Kind::Rsa),
        ED25519 => Some(Kind::Ed25519),
        EC if curve() == Some(P256) => Some(Kind::P256),
        EC if curve() == Some(P384) => Some(Kind::P384),
        _ => None,
    };
    Some((kind, inner))
}

/// The content of the element with this tag at the start of `der`, and what follows it (X.690 §8.1, lengths below 64 KiB).
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match der {
        [first, short @ 0..=0x7f, rest @ ..] if *first == tag => (usize::from(*short), rest),
        [first, 0x81, length, rest @ ..] if *first == tag => (usize::from(*length), rest),
        [first, 0x82, high, low, rest @ ..] if *first == tag => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// The store holds no key that could sign. No text holds any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAKey {
    /// It is no PEM text with a private key.
    #[error(
        "the private key is not PEM text with `-----BEGIN PRIVATE KEY-----`, without a passphrase: \
         `openssl pkcs8 -topk8 -nocrypt` makes that of other forms"
    )]
    NotPem,
    /// It is in the older form of EC keys.
    #[error("the private key is an `EC PRIVATE KEY`, not PKCS #8: convert it with `openssl pkcs8 -topk8 -nocrypt`")]
    Sec1,
    /// It is longer than any key.
    #[error("the private key is longer than 16 KiB of PEM: keep one key in the secret")]
    TooLong,
    /// What stands in the PEM text is damaged.
    #[error("the private key is damaged: it is not PKCS #8 (RFC 5958)")]
    NotPkcs8,
    /// It is of a kind that bursar does not sign with.
    #[error("the private key is of a kind that bursar does not sign with: use P-256, P-384, Ed25519, or RSA")]
    Kind,
    /// It does not sign as `signing_alg` says.
    #[error("the private key does not sign with `signing_alg = \"{0}\"`: change the one, or the other")]
    Algorithm(&'static str),
    /// It was read, and cannot sign.
    #[error("the private key cannot sign: it is damaged, or an RSA key that has not 2048 to 4096 bits")]
    CannotSign,
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    use super::*;

    /// Of 2048 bits; made for this test with OpenSSL, and used nowhere else.
    const RSA_KEY: &str = include_str!("../../tests/hermetic/oauth/rsa-test-key");

    fn algorithm(pem: &str, wanted: Option<SigningAlgorithm>) -> Result<Algorithm, NotAKey> {
        SigningKey::from_pem(pem.as_bytes())?.algorithm(wanted)
    }

    #[test]
    fn a_key_says_with_which_algorithm_it_signs() {
        for (kind, signs) in [
            (&PKCS_ECDSA_P256_SHA256, Algorithm::ES256),
            (&PKCS_ECDSA_P384_SHA384, Algorithm::ES384),
            (&PKCS_ED25519, Algorithm::EdDSA),
        ] {
            let pem = KeyPair::generate_for(kind).unwrap().serialize_pem();
            assert_eq!(algorithm(&pem, None), Ok(signs));
            assert_eq!(algorithm(&pem, Some(SigningAlgorithm::Ps256)), Err(NotAKey::Algorithm("PS256")));
        }
        assert_eq!(algorithm(RSA_KEY, None), Ok(Algorithm::RS256));
        assert_eq!(algorithm(RSA_KEY, Some(SigningAlgorithm::Ps256)), Ok(Algorithm::PS256));
        assert_eq!(algorithm(RSA_KEY, Some(SigningAlgorithm::Es256)), Err(NotAKey::Algorithm("ES256")));
    }

    #[test]
    fn what_is_no_key_is_told_for_what_it_is() {
        let pem = |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
        for (bad, why) in [
            (String::new(), NotAKey::NotPem),
            ("hunter2".to_owned(), NotAKey::NotPem),
            (pem("ENCRYPTED PRIVATE KEY", "MAA="), NotAKey::NotPem),
            (pem("EC PRIVATE KEY", "MAA="), NotAKey::Sec1),
            (pem("PRIVATE KEY", "MAA="), NotAKey::NotPkcs8),
            // An X25519 key (RFC 8410 §3): it agrees on keys, and signs nothing.
            (pem("PRIVATE KEY", "MAwCAQAwBQYDK2VuBAA="), NotAKey::Kind),
            ("x".repeat(MOST_KEY_BYTES + 1), NotAKey::TooLong),
        ] {
            assert_eq!(algorithm(&bad, None), Err(why), "{bad:.60}");
        }
    }
}
