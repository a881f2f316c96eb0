//! JSON Web Signatures (RFC 7515) on `ring`: the provider through which `jsonwebtoken` signs and verifies.
//!
//! Keys are as that crate hands them over: EC and Ed25519 private keys as PKCS #8, RSA as PKCS #1, public
//! EC keys as an uncompressed point, Ed25519 as its 32 bytes, RSA as PKCS #1 or as modulus and exponent.
#![expect(clippy::wildcard_enum_match_arm, reason = "the crate's enums grow: what is not listed here is refused")]

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, Result};
use jsonwebtoken::jwk::{EllipticCurve, ThumbprintHash};
use jsonwebtoken::signature::{Error as SignatureError, Signer, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair, RsaParameters,
    UnparsedPublicKey, VerificationAlgorithm,
};
use ring::{digest, hmac};

/// Makes `ring` the cryptography of `jsonwebtoken` in this process. Idempotent.
pub(super) fn install() {
    // Fails only where a provider stands already: then it is ours, since nothing else installs one.
    let _ = PROVIDER.install_default();
}

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: rsa_components,
        // `ring` reads no public RSA key apart from a signature, and nothing here needs it.
        rsa_pub_components_from_public_key: |_| Err(ErrorKind::InvalidKeyFormat.into()),
        ec_pub_components_from_private_key: ec_components,
        ed_pub_components_from_private_key: ed_component,
        compute_digest: thumbprint_digest,
    },
};

/// What an algorithm (RFC 7518 §3.1, RFC 8037 §3.1) is in `ring`: the one table of what bursar signs and verifies.
enum Scheme {
    Hmac(hmac::Algorithm),
    Ecdsa(&'static EcdsaSigningAlgorithm, &'static dyn VerificationAlgorithm),
    Ed25519,
    Rsa(&'static dyn RsaEncoding, &'static RsaParameters),
}

impl Scheme {
    /// The scheme of `algorithm`, if the key is of its family.
    fn of(algorithm: Algorithm, family: AlgorithmFamily) -> Result<Self> {
        let scheme = match algorithm {
            Algorithm::HS256 => Self::Hmac(hmac::HMAC_SHA256),
            Algorithm::ES256 => {
                Self::Ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &signature::ECDSA_P256_SHA256_FIXED)
            }
            Algorithm::ES384 => {
                Self::Ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, &signature::ECDSA_P384_SHA384_FIXED)
            }
            Algorithm::EdDSA => Self::Ed25519,
            Algorithm::RS256 => Self::Rsa(&signature::RSA_PKCS1_SHA256, &signature::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::PS256 => Self::Rsa(&signature::RSA_PSS_SHA256, &signature::RSA_PSS_2048_8192_SHA256),
            _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
        };
        if algorithm.family() == family { Ok(scheme) } else { Err(ErrorKind::InvalidKeyFormat.into()) }
    }
}

struct RingSigner {
    algorithm: Algorithm,
    key: SigningKey,
}

enum SigningKey {
    Hmac(hmac::Key),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    let bytes = key.as_bytes();
    let key = match Scheme::of(*algorithm, key.family())? {
        Scheme::Hmac(hash) => SigningKey::Hmac(hmac::Key::new(hash, bytes)),
        Scheme::Ecdsa(signing, _) => SigningKey::Ecdsa(ecdsa_pair(signing, bytes)?),
        Scheme::Ed25519 => SigningKey::Ed25519(ed25519_pair(bytes)?),
        Scheme::Rsa(encoding, _) => SigningKey::Rsa(rsa_pair(bytes)?, encoding),
    };
    Ok(Box::new(RingSigner { algorithm: *algorithm, key }))
}

impl Signer<Vec<u8>> for RingSigner {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, SignatureError> {
        let random = SystemRandom::new();
        match &self.key {
            SigningKey::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            SigningKey::Ecdsa(pair) => {
                Ok(pair.sign(&random, message).map_err(|_| SignatureError::new())?.as_ref().to_vec())
            }
            SigningKey::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            SigningKey::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature).map_err(|_| SignatureError::new())?;
                Ok(signature)
            }
        }
    }
}

impl JwtSigner for RingSigner {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

struct RingVerifier {
    algorithm: Algorithm,
    key: VerifyingKey,
}

enum VerifyingKey {
    Hmac(hmac::Key),
    Public(UnparsedPublicKey<Vec<u8>>),
    RsaParts(PublicKeyComponents<Vec<u8>>, &'static RsaParameters),
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let public =
        |how| Ok::<_, Error>(VerifyingKey::Public(UnparsedPublicKey::new(how, key.try_get_as_bytes()?.to_vec())));
    let key = match Scheme::of(*algorithm, key.family())? {
        Scheme::Hmac(hash) => VerifyingKey::Hmac(hmac::Key::new(hash, key.try_get_as_bytes()?)),
        Scheme::Ecdsa(_, verifying) => public(verifying)?,
        Scheme::Ed25519 => public(&signature::ED25519)?,
        Scheme::Rsa(_, parameters) => match key.kind() {
            DecodingKeyKind::SecretOrDer(_) => public(parameters)?,
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                VerifyingKey::RsaParts(PublicKeyComponents { n: n.clone(), e: e.clone() }, parameters)
            }
        },
    };
    Ok(Box::new(RingVerifier { algorithm: *algorithm, key }))
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), SignatureError> {
        let verdict = match &self.key {
            VerifyingKey::Hmac(key) => hmac::verify(key, message, signature),
            VerifyingKey::Public(key) => key.verify(message, signature),
            VerifyingKey::RsaParts(parts, parameters) => parts.verify(parameters, message, signature),
        };
        verdict.map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

fn ecdsa_pair(algorithm: &'static EcdsaSigningAlgorithm, pkcs8: &[u8]) -> Result<EcdsaKeyPair> {
    EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &SystemRandom::new()).map_err(|_| ErrorKind::InvalidEcdsaKey.into())
}

/// PKCS #8 of either version: OpenSSL writes version 1, without the public key.
fn ed25519_pair(pkcs8: &[u8]) -> Result<Ed25519KeyPair> {
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(|_| ErrorKind::InvalidEddsaKey.into())
}

fn rsa_pair(pkcs1: &[u8]) -> Result<RsaKeyPair> {
    RsaKeyPair::from_der(pkcs1).map_err(|why| ErrorKind::InvalidRsaKey(why.to_string()).into())
}

fn rsa_components(pkcs1: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let parts = PublicKeyComponents::<Vec<u8>>::from(rsa_pair(pkcs1)?.public());
    Ok((parts.n, parts.e))
}

fn ec_components(pkcs8: &[u8], algorithm: Algorithm) -> Result<(EllipticCurve, Vec<u8>, Vec<u8>)> {
    let Scheme::Ecdsa(signing, _) = Scheme::of(algorithm, AlgorithmFamily::Ec)? else {
        return Err(ErrorKind::InvalidEcdsaKey.into());
    };
    let pair = ecdsa_pair(signing, pkcs8)?;
    // SEC 1 §2.3.3: 0x04, then both coordinates at their full length.
    let Some((0x04, point)) = pair.public_key().as_ref().split_first() else {
        return Err(ErrorKind::InvalidEcdsaKey.into());
    };
    let (x, y) = point.split_at(point.len() / 2);
    let curve = if x.len() == 32 { EllipticCurve::P256 } else { EllipticCurve::P384 };
    Ok((curve, x.to_vec(), y.to_vec()))
}

fn ed_component(pkcs8: &[u8], curve: &EllipticCurve) -> Result<Vec<u8>> {
    if *curve != EllipticCurve::Ed25519 {
        return Err(ErrorKind::InvalidEddsaKey.into());
    }
    Ok(ed25519_pair(pkcs8)?.public_key().as_ref().to_vec())
}

#[expect(clippy::needless_pass_by_value, reason = "the signature is the crate's")]
fn thumbprint_digest(bytes: &[u8], hash: ThumbprintHash) -> Result<Vec<u8>> {
    let algorithm = match hash {
        ThumbprintHash::SHA256 => &digest::SHA256,
        ThumbprintHash::SHA384 => &digest::SHA384,
        ThumbprintHash::SHA512 => &digest::SHA512,
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    };
    Ok(digest::digest(algorithm, bytes).as_ref().to_vec())
}
