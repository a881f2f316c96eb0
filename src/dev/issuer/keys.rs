//! The issuer's keys: one signs, and the one before it is still listed, so that its tokens can be verified.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde::Serialize;
use serde_json::{Value, json};

/// A key could not be made, or has not signed: the random generator or the library failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the issuer's key could not be made or has not signed")]
pub struct NoKey;

/// The key that signs, and the one before.
pub(super) struct Keys {
    signing: Key,
    before: Option<Key>,
    made: u32,
}

struct Key {
    id: String,
    secret: EncodingKey,
    /// Its public half (RFC 7517).
    jwk: Value,
}

impl Keys {
    pub(super) fn new() -> Result<Self, NoKey> {
        Ok(Self { signing: Key::new(1)?, before: None, made: 1 })
    }

    /// A new key signs from now on. The one before the last is forgotten.
    pub(super) fn roll(&mut self) -> Result<(), NoKey> {
        let next = Key::new(self.made.saturating_add(1))?;
        self.made = self.made.saturating_add(1);
        self.before = Some(std::mem::replace(&mut self.signing, next));
        Ok(())
    }

    /// The key set (RFC 7517 §5), the newest first.
    pub(super) fn set(&self) -> Value {
        let keys: Vec<_> = std::iter::once(&self.signing).chain(&self.before).map(|key| &key.jwk).collect();
        json!({ "keys": keys })
    }

    /// An access token (RFC 9068 §2).
    pub(super) fn sign(&self, claims: &impl Serialize) -> Result<String, NoKey> {
        let id = self.signing.id.clone();
        let head = Header { typ: Some("at+jwt".into()), kid: Some(id), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&head, claims, &self.signing.secret).map_err(|_| NoKey)
    }
}

impl Key {
    fn new(nth: u32) -> Result<Self, NoKey> {
        let random = ring::rand::SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(|_| NoKey)?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).map_err(|_| NoKey)?;
        // SEC 1 §2.3.3: 0x04, then x and y of 32 bytes each.
        let point = pair.public_key().as_ref();
        let coordinate = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default());
        let id = format!("dev-{nth}");
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": id,
            "x": coordinate(1..33), "y": coordinate(33..65),
        });
        Ok(Self { id, secret: EncodingKey::from_ec_der(pkcs8.as_ref()), jwk })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_before_stays_listed_and_no_other() {
        let mut keys = Keys::new().unwrap();
        let listed = |keys: &Keys| {
            let set = keys.set();
            let ids = set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned());
            ids.collect::<Vec<_>>()
        };
        assert_eq!(listed(&keys), ["dev-1"]);
        keys.roll().unwrap();
        assert_eq!(listed(&keys), ["dev-2", "dev-1"]);
        keys.roll().unwrap();
        assert_eq!(listed(&keys), ["dev-3", "dev-2"]);
    }
}
