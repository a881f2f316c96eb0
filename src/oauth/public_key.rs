//! The public half of a signing key, as a provider is told it (RFC 7517), and the id that follows from it (RFC 7638). Pure.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::signing_key::{NotAKey, SigningKey};
use crate::crypto::Digest;
use crate::crypto::keys::{Curve, Public};

/// The public half of a key that signs assertions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// The members that RFC 7638 §3.2 requires, in its order: no text of them needs an escape.
    members: Vec<(&'static str, String)>,
    /// With which algorithm it signs, where its kind leaves no choice.
    algorithm: Option<&'static str>,
}

impl PublicKey {
    /// The public half of the first private key in PEM text.
    ///
    /// # Errors
    /// [`NotAKey`], as [`SigningKey::from_pem`].
    pub fn of_pem(pem: &[u8]) -> Result<Self, NotAKey> {
        Ok(Self::of(&SigningKey::public_of_pem(pem)?))
    }

    fn of(public: &Public) -> Self {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let named = str::to_owned;
        match public {
            Public::Ec { curve, x, y } => {
                let (name, algorithm) = if *curve == Curve::P384 { ("P-384", "ES384") } else { ("P-256", "ES256") };
                let members = vec![("crv", named(name)), ("kty", named("EC")), ("x", text(x)), ("y", text(y))];
                Self { members, algorithm: Some(algorithm) }
            }
            Public::Ed25519(x) => {
                let members = vec![("crv", named("Ed25519")), ("kty", named("OKP")), ("x", text(x))];
                Self { members, algorithm: Some("EdDSA") }
            }
            Public::Rsa { n, e } => {
                let members = vec![("e", text(e)), ("kty", named("RSA")), ("n", text(n))];
                Self { members, algorithm: None }
            }
        }
    }

    /// Its id: SHA-256 of the required members, in base64url (RFC 7638 §3).
    #[must_use]
    pub fn thumbprint(&self) -> String {
        let members: Vec<_> = self.members.iter().map(|(name, value)| format!("\"{name}\":\"{value}\"")).collect();
        URL_SAFE_NO_PAD.encode(Digest::of(format!("{{{}}}", members.join(",")).as_bytes()).bytes())
    }

    /// The JSON Web Key (RFC 7517 §4), its `kid` the thumbprint.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let mut jwk: Map<_, _> =
            self.members.iter().map(|(name, value)| ((*name).into(), value.clone().into())).collect();
        jwk.insert("use".into(), "sig".into());
        jwk.insert("kid".into(), self.thumbprint().into());
        jwk.extend(self.algorithm.map(|algorithm| ("alg".to_owned(), algorithm.into())));
        Value::Object(jwk)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    use super::*;

    #[test]
    fn the_thumbprint_of_rfc_7638_is_that_of_its_example() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMst\
                 n64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n9\
                 1CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let [n, e] = [n, "AQAB"].map(|text| URL_SAFE_NO_PAD.decode(text).unwrap());
        assert_eq!(PublicKey::of(&Public::Rsa { n, e }).thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn a_key_is_told_with_its_algorithm_and_nothing_private() {
        for (kind, algorithm) in
            [(&PKCS_ECDSA_P256_SHA256, "ES256"), (&PKCS_ECDSA_P384_SHA384, "ES384"), (&PKCS_ED25519, "EdDSA")]
        {
            let pair = KeyPair::generate_for(kind).unwrap();
            let jwk = PublicKey::of_pem(pair.serialize_pem().as_bytes()).unwrap().jwk();
            assert_eq!((&jwk["alg"], jwk.get("d")), (&algorithm.into(), None));
            let x = URL_SAFE_NO_PAD.decode(jwk["x"].as_str().unwrap()).unwrap();
            assert!(pair.public_key_raw().windows(x.len()).any(|part| part == x));
        }
    }
}
