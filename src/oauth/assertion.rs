//! The assertions that we sign ourselves (RFC 7523 §2.2, §3). Pure: time and randomness come in.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Header, encode};
use serde::Serialize;
use zeroize::Zeroizing;

use super::client_auth::{NoProof, Occasion};
use super::signing_key::{NotAKey, SigningAlgorithm, SigningKey};

/// How long an assertion may be used: for one request, on a slow day.
pub const LIFETIME: Duration = Duration::from_secs(60);

/// What is configured of our assertions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signing {
    /// The algorithm, where the kind of the key leaves a choice or should be held to.
    pub algorithm: Option<SigningAlgorithm>,
    /// The id under which the provider knows the key: the header's `kid`.
    pub key_id: KeyId,
    /// Whom they are for, where that is neither the issuer nor the token endpoint.
    pub audience: Option<Box<str>>,
}

/// The `kid` of an assertion's header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeyId {
    /// There is none.
    #[default]
    None,
    /// This one, whatever the key.
    Named(Box<str>),
    /// The key's own: its thumbprint (RFC 7638), under which bursar publishes it.
    Thumbprint,
}

/// The claims, in the order of RFC 7523 §3.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    /// One text: an assertion for several could be taken by one of them to another (RFC 7523bis).
    aud: &'a str,
    jti: &'a str,
    iat: u64,
    exp: u64,
}

/// Signs an assertion for this one occasion, under a key that the provider knows by `key_id`.
///
/// # Errors
/// [`NoProof::Key`], when the key does not sign as configured; [`NoProof::Random`].
pub fn sign(on: &Occasion<'_>, key: &SigningKey, key_id: Option<String>) -> Result<Zeroizing<String>, NoProof> {
    let mut id = [0; 16];
    on.random.fill(&mut id)?;
    let now = u64::try_from(on.now.micros()).unwrap_or_default() / 1_000_000;
    let claims = Claims {
        iss: on.client.as_str(),
        sub: on.client.as_str(),
        aud: on.signing.audience.as_deref().unwrap_or(on.audience),
        jti: &URL_SAFE_NO_PAD.encode(id),
        iat: now,
        exp: now + LIFETIME.as_secs(),
    };
    let mut header = Header::new(key.algorithm(on.signing.algorithm)?);
    header.kid = key_id;
    encode(&header, &claims, key.key()).map(Zeroizing::new).map_err(|_| NotAKey::CannotSign.into())
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
    use serde_json::{Value, json};

    use super::*;
    use crate::crypto::{NoRandomness, Random, SystemRandom};
    use crate::time::Wall;

    /// Counts up, so that a test sees which bytes were drawn.
    struct Counting;
    impl Random for Counting {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
            (0..).zip(bytes).for_each(|(count, byte)| *byte = count);
            Ok(())
        }
    }

    fn signed(signing: &Signing, random: &dyn Random, key_id: Option<&str>) -> String {
        crate::crypto::install();
        let (client, now) = ("bursar".parse().unwrap(), Wall::from_micros(1_795_240_800_999_999));
        let on = Occasion { client: &client, audience: "https://login.example.com", signing, now, random };
        sign(&on, &SigningKey::of_secret(b"a secret of at least thirty-two bytes"), key_id.map(str::to_owned))
            .unwrap()
            .to_string()
    }

    fn claims(jwt: &str) -> Value {
        let mut validation = Validation::new(Algorithm::HS256);
        (validation.validate_exp, validation.validate_aud) = (false, false);
        let key = DecodingKey::from_secret(b"a secret of at least thirty-two bytes");
        decode(jwt, &key, &validation).unwrap().claims
    }

    #[test]
    fn an_assertion_says_who_to_whom_and_for_how_long() {
        let jwt = signed(&Signing::default(), &Counting, None);
        assert_eq!(
            claims(&jwt),
            json!({
                "iss": "bursar", "sub": "bursar", "aud": "https://login.example.com",
                "jti": "AAECAwQFBgcICQoLDA0ODw", "iat": 1_795_240_800, "exp": 1_795_240_860,
            })
        );
        let header = decode_header(&jwt).unwrap();
        assert_eq!((header.alg, header.typ.as_deref(), header.kid), (Algorithm::HS256, Some("JWT"), None));
    }

    #[test]
    fn key_id_and_audience_are_as_configured() {
        let signing = Signing { audience: Some("urn:idp".into()), ..Signing::default() };
        let jwt = signed(&signing, &Counting, Some("ec1"));
        assert_eq!(decode_header(&jwt).unwrap().kid.as_deref(), Some("ec1"));
        assert_eq!(claims(&jwt)["aud"], "urn:idp");
    }

    #[test]
    fn no_two_assertions_have_one_id() {
        let [one, other] = [(); 2].map(|()| claims(&signed(&Signing::default(), &SystemRandom, None)));
        assert_ne!(one["jti"], other["jti"]);
    }
}
