//! How we prove to a provider who we are (RFC 6749 §2.3): the closed set of ways, and the place to add one.
//!
//! A new way is one variant, its arms here, and one vector test.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::Material;
use super::assertion::{self, KeyId, Signing};
use super::federated::{self, NotAnAssertion};
use super::public_key::PublicKey;
use super::settings::ClientId;
use super::shown::Withheld;
use super::signing_key::{NotAKey, SigningKey};
use crate::crypto::{NoRandomness, Random};
use crate::secret::Secret;
use crate::time::Wall;

/// A way of client authentication; the words are those of RFC 7591 §2 and RFC 8705 §2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// HTTP Basic, id and secret form-urlencoded before base64 (RFC 6749 §2.3.1).
    #[default]
    ClientSecretBasic,
    /// `client_id` and `client_secret` in the request's body (RFC 6749 §2.3.1).
    ClientSecretPost,
    /// An assertion under the client secret: HS256 (RFC 7523 §2.2).
    ClientSecretJwt,
    /// An assertion under a private key (RFC 7523 §2.2).
    PrivateKeyJwt,
    /// A certificate of an authority that the provider trusts (RFC 8705 §2.1).
    TlsClientAuth,
    /// A certificate that the provider knows (RFC 8705 §2.2).
    SelfSignedTlsClientAuth,
    /// An assertion that somebody else made for us (RFC 7521 §4.2).
    FederatedAssertion,
}

/// What one proof is made for: an assertion holds it.
#[derive(Clone, Copy)]
pub struct Occasion<'a> {
    /// Who we are there.
    pub client: &'a ClientId,
    /// Whom an assertion is for, unless `signing` names another.
    pub audience: &'a str,
    /// How our assertions are signed.
    pub signing: &'a Signing,
    /// When.
    pub now: Wall,
    /// Where the id of an assertion comes from.
    pub random: &'a dyn Random,
}

impl ClientAuth {
    /// Every way.
    pub const ALL: [Self; 7] = [
        Self::ClientSecretBasic,
        Self::ClientSecretPost,
        Self::ClientSecretJwt,
        Self::PrivateKeyJwt,
        Self::TlsClientAuth,
        Self::SelfSignedTlsClientAuth,
        Self::FederatedAssertion,
    ];

    /// The word in configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::ClientSecretJwt => "client_secret_jwt",
            Self::PrivateKeyJwt => "private_key_jwt",
            Self::TlsClientAuth => "tls_client_auth",
            Self::SelfSignedTlsClientAuth => "self_signed_tls_client_auth",
            Self::FederatedAssertion => "federated_assertion",
        }
    }

    /// Whether the TLS connection itself is the proof.
    #[must_use]
    pub const fn is_by_certificate(self) -> bool {
        matches!(self, Self::TlsClientAuth | Self::SelfSignedTlsClientAuth)
    }

    /// Makes the proof for one request: an assertion is never sent twice.
    ///
    /// # Errors
    /// [`NoProof`] for what `material` cannot prove; nothing of it is in the text.
    pub fn prove(self, on: &Occasion<'_>, material: &Material) -> Result<Proof, NoProof> {
        match self {
            Self::ClientSecretBasic | Self::ClientSecretPost => self.with_secret(on.client, &material.secret),
            Self::ClientSecretJwt => {
                let secret = secret_text(&material.secret)?;
                let signed = assertion::sign(on, &SigningKey::of_secret(secret.as_bytes()), None)?;
                Ok(Proof::assertion(signed, &[secret.as_bytes()]))
            }
            Self::PrivateKeyJwt => {
                let key = SigningKey::from_pem(material.secret.expose())?;
                let key_id = match &on.signing.key_id {
                    KeyId::None => None,
                    KeyId::Named(key_id) => Some(key_id.to_string()),
                    KeyId::Thumbprint => Some(PublicKey::of_pem(material.secret.expose())?.thumbprint()),
                };
                Ok(Proof::assertion(assertion::sign(on, &key, key_id)?, &[]))
            }
            Self::TlsClientAuth | Self::SelfSignedTlsClientAuth => {
                Ok(Proof { shape: Shape::Certificate, withheld: Withheld::default() })
            }
            Self::FederatedAssertion => {
                let text = federated::read(material.secret.expose(), on.now)?;
                Ok(Proof::assertion(Zeroizing::new(text.to_owned()), &[]))
            }
        }
    }

    /// The proof by a client secret that is itself sent: in the form for `client_secret_post`, in the header else.
    ///
    /// # Errors
    /// [`NoProof::Secret`] for what cannot be a client secret; nothing of it is in the text.
    pub fn with_secret(self, client: &ClientId, secret: &Secret) -> Result<Proof, NoProof> {
        let secret = secret_text(secret)?;
        let encoded = Zeroizing::new(form_encoded(&secret));
        let pair = Zeroizing::new(format!("{}:{}", form_encoded(client.as_str()), encoded.as_str()));
        let basic = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
        let withheld = Withheld::new(
            [secret.as_bytes(), encoded.as_bytes(), basic.as_bytes()].map(|form| Zeroizing::new(form.to_vec())),
        );
        let shape = if self == Self::ClientSecretPost { Shape::Post(secret) } else { Shape::Basic { secret, basic } };
        Ok(Proof { shape, withheld })
    }
}

fn secret_text(secret: &Secret) -> Result<Zeroizing<String>, NoProof> {
    let text = std::str::from_utf8(secret.expose()).map_err(|_| NoProof::Secret("is not UTF-8 text"))?;
    if text.is_empty() {
        return Err(NoProof::Secret("is empty"));
    }
    if text.chars().any(char::is_control) {
        return Err(NoProof::Secret("holds a control character, such as a line break at its end"));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

fn form_encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// A proof ready to be sent. It lives for one request.
pub struct Proof {
    /// What no message may repeat.
    pub withheld: Withheld,
    pub(super) shape: Shape,
}

/// How a proof goes out.
pub(super) enum Shape {
    /// In the header `Authorization: Basic`: the secret, and the header's value with the id.
    Basic { secret: Zeroizing<String>, basic: Zeroizing<String> },
    /// In the form.
    Post(Zeroizing<String>),
    /// In the form.
    Assertion(Zeroizing<String>),
    /// By the connection.
    Certificate,
}

impl Proof {
    /// Without its signature an assertion proves nothing: that is what is withheld.
    fn assertion(assertion: Zeroizing<String>, more: &[&[u8]]) -> Self {
        let signature = assertion.rsplit('.').next().unwrap_or_default().as_bytes();
        let forms = std::iter::once(signature).chain(more.iter().copied());
        let withheld = Withheld::new(forms.map(|form| Zeroizing::new(form.to_vec())));
        Self { shape: Shape::Assertion(assertion), withheld }
    }

    /// The value of `Authorization`, where the proof stands there.
    pub(super) fn authorization(&self) -> Option<Zeroizing<String>> {
        match &self.shape {
            Shape::Basic { basic, .. } => Some(Zeroizing::new(format!("Basic {}", basic.as_str()))),
            Shape::Post(_) | Shape::Assertion(_) | Shape::Certificate => None,
        }
    }

    /// What stands in the form of a request that the `oauth2` crate does not build.
    pub(super) fn fields<'a>(&'a self, client: &'a ClientId) -> Vec<(&'static str, &'a str)> {
        let id = ("client_id", client.as_str());
        match &self.shape {
            Shape::Basic { .. } => Vec::new(),
            Shape::Post(secret) => vec![id, ("client_secret", secret)],
            Shape::Assertion(jwt) => vec![id, ("client_assertion_type", ASSERTION_TYPE), ("client_assertion", jwt)],
            Shape::Certificate => vec![id],
        }
    }
}

/// `client_assertion_type` of a JWT (RFC 7523 §2.2).
pub(super) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What we have proves nothing. No text holds any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoProof {
    /// The store holds what cannot be a client secret.
    #[error("the client secret {0}: write it again with `bursar secret put`, without a line break at the end")]
    Secret(&'static str),
    /// The store holds what is no private key, or one that does not sign as configured.
    #[error(transparent)]
    Key(#[from] NotAKey),
    /// The file holds no assertion that could be sent.
    #[error(transparent)]
    Assertion(#[from] NotAnAssertion),
    /// An assertion needs an id that was never used.
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(auth: ClientAuth, secret: &str) -> Result<Proof, NoProof> {
        auth.with_secret(&"ba:sic+weird".parse().unwrap(), &Secret::new(secret.as_bytes().to_vec()))
    }

    #[test]
    fn every_form_of_the_secret_is_withheld() {
        let proof = proof(ClientAuth::ClientSecretBasic, "p%40ss w+rd:/&=?~").unwrap();
        for echo in [
            "p%40ss w+rd:/&=?~",
            "p%2540ss+w%2Brd%3A%2F%26%3D%3F%7E",
            "YmElM0FzaWMlMkJ3ZWlyZDpwJTI1NDBzcyt3JTJCcmQlM0ElMkYlMjYlM0QlM0YlN0U=",
        ] {
            assert!(proof.withheld.show(echo, 200).starts_with("(not shown"), "{echo}");
        }
    }

    #[test]
    fn what_cannot_be_a_client_secret_is_said_and_not_sent() {
        for bad in ["", "secret\n", "a\0b"] {
            let error = proof(ClientAuth::ClientSecretPost, bad).err().unwrap().to_string();
            assert!(error.contains("bursar secret put") && !error.contains("a\0b"), "{error}");
        }
    }

    #[test]
    fn a_request_of_our_own_carries_the_proof_as_the_token_request_does() {
        let client: ClientId = "ba:sic+weird".parse().unwrap();
        let basic = proof(ClientAuth::ClientSecretBasic, "a+b").unwrap();
        assert_eq!(basic.authorization().unwrap().as_str(), "Basic YmElM0FzaWMlMkJ3ZWlyZDphJTJCYg==");
        assert_eq!(basic.fields(&client), []);
        let post = proof(ClientAuth::ClientSecretPost, "a+b").unwrap();
        assert!(post.authorization().is_none());
        assert_eq!(post.fields(&client), [("client_id", "ba:sic+weird"), ("client_secret", "a+b")]);
    }
}
