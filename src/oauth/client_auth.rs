//! How we prove to a provider who we are (RFC 6749 §2.3): the closed set of ways, and the place to add one.
//!
//! A new way is one variant, its arms here, and one vector test. The ways that are known by name but not
//! built are listed in [`PLANNED`], so that configuration can say which of the two a word is.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::settings::ClientId;
use super::shown::Withheld;
use crate::secret::Secret;

/// A way of client authentication; the words are those of RFC 7591 §2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// HTTP Basic, id and secret form-urlencoded before base64 (RFC 6749 §2.3.1).
    #[default]
    ClientSecretBasic,
    /// `client_id` and `client_secret` in the request's body (RFC 6749 §2.3.1).
    ClientSecretPost,
}

/// The ways that this version does not know yet.
pub const PLANNED: [&str; 5] =
    ["client_secret_jwt", "private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth", "federated_assertion"];

impl ClientAuth {
    /// Every way that is built.
    pub const ALL: [Self; 2] = [Self::ClientSecretBasic, Self::ClientSecretPost];

    /// The word in configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
        }
    }

    /// Makes the credential ready to be sent for `client`.
    ///
    /// # Errors
    /// [`NotASecret`] for what cannot be a client secret; nothing of it is in the text.
    pub fn prove(self, client: &ClientId, secret: &Secret) -> Result<Proof, NotASecret> {
        let text = std::str::from_utf8(secret.expose()).map_err(|_| NotASecret("is not UTF-8 text"))?;
        if text.is_empty() {
            return Err(NotASecret("is empty"));
        }
        if text.chars().any(char::is_control) {
            return Err(NotASecret("holds a control character, such as a line break at its end"));
        }
        Ok(Proof { auth: self, secret: Zeroizing::new(text.to_owned()), withheld: self.withheld(client, text) })
    }

    /// The forms in which the credential goes out, so that no error repeats one.
    fn withheld(self, client: &ClientId, secret: &str) -> Withheld {
        let encoded = Zeroizing::new(form_encoded(secret));
        let basic = match self {
            Self::ClientSecretBasic => {
                let pair = Zeroizing::new(format!("{}:{}", form_encoded(client.as_str()), encoded.as_str()));
                STANDARD.encode(pair.as_bytes())
            }
            Self::ClientSecretPost => String::new(),
        };
        Withheld::new(
            [secret.as_bytes(), encoded.as_bytes(), basic.as_bytes()].map(|form| Zeroizing::new(form.to_vec())),
        )
    }
}

fn form_encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

impl FromStr for ClientAuth {
    type Err = NotAClientAuth;

    fn from_str(text: &str) -> Result<Self, NotAClientAuth> {
        let built = Self::ALL.into_iter().find(|auth| auth.as_str() == text);
        built.ok_or(if PLANNED.contains(&text) { NotAClientAuth::Planned } else { NotAClientAuth::Unknown })
    }
}

/// A credential ready to be sent. It lives for one request.
pub struct Proof {
    /// How it is sent.
    pub auth: ClientAuth,
    /// What no message may repeat.
    pub withheld: Withheld,
    secret: Zeroizing<String>,
}

impl Proof {
    /// The client secret, for the request that is being built.
    pub(super) fn secret(&self) -> &str {
        &self.secret
    }
}

/// The word is not a way of client authentication that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAClientAuth {
    /// It will be one.
    #[error("is not available in this version: use `client_secret_basic` or `client_secret_post`")]
    Planned,
    /// Nobody knows it.
    #[error("is not a way of client authentication: use `client_secret_basic` or `client_secret_post`")]
    Unknown,
}

/// What the store holds cannot be a client secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client secret {0}: write it again with `bursar secret put`, without a line break at the end")]
pub struct NotASecret(&'static str);

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(auth: ClientAuth, secret: &str) -> Result<Proof, NotASecret> {
        auth.prove(&"ba:sic+weird".parse().unwrap(), &Secret::new(secret.as_bytes().to_vec()))
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
    fn the_words_are_read_back_and_planned_ones_are_told_from_unknown_ones() {
        for auth in ClientAuth::ALL {
            assert_eq!(auth.as_str().parse(), Ok(auth));
        }
        assert_eq!("private_key_jwt".parse::<ClientAuth>(), Err(NotAClientAuth::Planned));
        assert_eq!("none".parse::<ClientAuth>(), Err(NotAClientAuth::Unknown));
    }
}
