//! Key pairs that sign: how they are made, and what of them is public.

use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use zeroize::Zeroizing;

use super::NoRandomness;

/// The curve of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Curve {
    /// P-256, for ES256.
    #[default]
    P256,
    /// P-384, for ES384.
    P384,
    /// Ed25519, for EdDSA.
    Ed25519,
}

/// What of a key pair is public, in big-endian bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Public {
    /// The coordinates of a point, each at its full length.
    Ec {
        /// On which curve.
        curve: Curve,
        /// The first coordinate.
        x: Vec<u8>,
        /// The second.
        y: Vec<u8>,
    },
    /// The 32 bytes of an Ed25519 key.
    Ed25519(Vec<u8>),
    /// An RSA key.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The exponent.
        e: Vec<u8>,
    },
}

/// A new key pair on `curve`: PKCS #8 (RFC 5958).
///
/// # Errors
/// [`NoRandomness`].
pub fn make(curve: Curve) -> Result<Zeroizing<Vec<u8>>, NoRandomness> {
    let random = SystemRandom::new();
    let made = match curve {
        Curve::P256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random),
        Curve::P384 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random),
        Curve::Ed25519 => Ed25519KeyPair::generate_pkcs8(&random),
    };
    made.map(|der| Zeroizing::new(der.as_ref().to_vec())).map_err(|_| NoRandomness)
}

/// The public half of a PKCS #8 key on `curve`; none, if it is no such key.
#[must_use]
pub fn public(curve: Curve, pkcs8: &[u8]) -> Option<Public> {
    match curve {
        Curve::P256 => point(curve, &ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8),
        Curve::P384 => point(curve, &ECDSA_P384_SHA384_FIXED_SIGNING, pkcs8),
        Curve::Ed25519 => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).ok()?;
            Some(Public::Ed25519(pair.public_key().as_ref().to_vec()))
        }
    }
}

/// The public half of an RSA key (PKCS #1); none, if it is no such key.
#[must_use]
pub fn public_of_rsa(pkcs1: &[u8]) -> Option<Public> {
    let pair = RsaKeyPair::from_der(pkcs1).ok()?;
    let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(pair.public());
    Some(Public::Rsa { n, e })
}

fn point(curve: Curve, algorithm: &'static EcdsaSigningAlgorithm, pkcs8: &[u8]) -> Option<Public> {
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &SystemRandom::new()).ok()?;
    // SEC 1 §2.3.3: 0x04, then both coordinates at their full length.
    let (_, point) = pair.public_key().as_ref().split_first().filter(|(form, _)| **form == 0x04)?;
    let (x, y) = point.split_at(point.len() / 2);
    Some(Public::Ec { curve, x: x.to_vec(), y: y.to_vec() })
}
