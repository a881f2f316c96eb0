//! `[provider.NAME]`: how we prove to it who we are.

use std::path::{Path, PathBuf};

use super::Reader;
use crate::config::meant::{ClientAuth, ClientId, Credential, KeyId, SecretRef, Server, Signing, SigningAlgorithm};
use crate::config::said;
use crate::name::Name;

/// What to do where a reference to a secret is missing.
const PUT: &str =
    "put it into a store (`bursar secret put STORE/NAME`) and write `{ store = \"STORE\", name = \"NAME\" }`";

impl Reader<'_> {
    /// Who we are there, unless the registration says it.
    pub(super) fn client_id(&mut self, entry: &str, said: &said::Provider) -> Option<ClientId> {
        let key = format!("{entry}.client_id");
        match (&said.client_id, &said.registration) {
            (Some(text), None) => self.address(&key, text, str::parse),
            (None, Some(_)) => None,
            (None, None) => {
                self.lacks(entry, "client_id", "write the id that the provider knows this client by");
                None
            }
            (Some(_), Some(_)) => {
                let what = "`client_id` has no effect beside `registration`, which holds one".to_owned();
                self.fault(&key, what, Some("keep one of the two".to_owned()));
                None
            }
        }
    }

    /// The way of client authentication, and what it proves us with; what belongs to another way is a fault.
    pub(super) fn proof(
        &mut self,
        entry: &str,
        said: &said::Provider,
        stores: &[Name],
    ) -> Option<(ClientAuth, Credential)> {
        let auth = client_auth(said.client_auth);
        self.nothing_without_effect(entry, said, auth);
        let credential = match auth {
            ClientAuth::ClientSecretBasic | ClientAuth::ClientSecretPost | ClientAuth::ClientSecretJwt
                if said.registration.is_some() =>
            {
                if said.client_secret.is_some() {
                    let what = "`client_secret` has no effect beside `registration`, which holds one".to_owned();
                    self.fault(&format!("{entry}.client_secret"), what, Some("keep one of the two".to_owned()));
                }
                Credential::Registration(self.stored(entry, "registration", said.registration.as_ref(), stores)?)
            }
            ClientAuth::ClientSecretBasic | ClientAuth::ClientSecretPost | ClientAuth::ClientSecretJwt => {
                Credential::ClientSecret(self.stored(entry, "client_secret", said.client_secret.as_ref(), stores)?)
            }
            ClientAuth::PrivateKeyJwt => {
                Credential::PrivateKey(self.stored(entry, "private_key", said.private_key.as_ref(), stores)?)
            }
            ClientAuth::TlsClientAuth | ClientAuth::SelfSignedTlsClientAuth => {
                let file = self.file(entry, "certificate", said.certificate.as_deref());
                let key = self.stored(entry, "certificate_key", said.certificate_key.as_ref(), stores);
                Credential::Certificate { file: file?, key: key? }
            }
            ClientAuth::FederatedAssertion => {
                Credential::Assertion(self.file(entry, "assertion_file", said.assertion_file.as_deref())?)
            }
        };
        Some((auth, credential))
    }

    /// A certificate is shown in the TLS handshake.
    pub(super) fn certificate_needs_tls(&mut self, entry: &str, server: &Server, auth: ClientAuth) {
        if auth.is_by_certificate() && server.is_plain() {
            let key = format!("{entry}.client_auth");
            let what = format!("`{}` needs TLS, and the provider is plain http", auth.as_str());
            self.fault(&key, what, Some("use `https`, or another way of client authentication".to_owned()));
        }
    }

    fn stored(&mut self, entry: &str, key: &str, said: Option<&said::SecretRef>, stores: &[Name]) -> Option<SecretRef> {
        let at = said.map(|said| self.secret_ref(&format!("{entry}.{key}"), said.clone(), stores));
        if at.is_none() {
            self.lacks(entry, key, PUT);
        }
        at
    }

    fn file(&mut self, entry: &str, key: &str, said: Option<&Path>) -> Option<PathBuf> {
        let file = said.map(|said| self.path(&format!("{entry}.{key}"), said));
        if file.is_none() {
            self.lacks(entry, key, "name the file");
        }
        file
    }

    fn lacks(&mut self, entry: &str, key: &str, help: &str) {
        let what = format!("`[{entry}]` lacks the required key `{key}`");
        self.fault(&format!("{entry}.{key}"), what, Some(help.to_owned()));
    }

    fn nothing_without_effect(&mut self, entry: &str, said: &said::Provider, auth: ClientAuth) {
        use ClientAuth as Way;
        const SECRET: &[Way] = &[Way::ClientSecretBasic, Way::ClientSecretPost, Way::ClientSecretJwt];
        const KEY: &[Way] = &[Way::PrivateKeyJwt];
        const SIGNED: &[Way] = &[Way::ClientSecretJwt, Way::PrivateKeyJwt];
        const TLS: &[Way] = &[Way::TlsClientAuth, Way::SelfSignedTlsClientAuth];
        const FILE: &[Way] = &[Way::FederatedAssertion];
        for (key, is_said, ways) in [
            ("client_secret", said.client_secret.is_some(), SECRET),
            ("registration", said.registration.is_some(), SECRET),
            ("private_key", said.private_key.is_some(), KEY),
            ("signing_alg", said.signing_alg.is_some(), KEY),
            ("key_id", said.key_id.is_some(), KEY),
            ("assertion_audience", said.assertion_audience.is_some(), SIGNED),
            ("certificate", said.certificate.is_some(), TLS),
            ("certificate_key", said.certificate_key.is_some(), TLS),
            ("assertion_file", said.assertion_file.is_some(), FILE),
        ] {
            if is_said && !ways.contains(&auth) {
                let what = format!("`{key}` has no effect with `client_auth = \"{}\"`", auth.as_str());
                let ways: Vec<_> = ways.iter().map(|way| format!("`{}`", way.as_str())).collect();
                let help = format!("take it out, or set `client_auth` to {}", ways.join(" or "));
                self.fault(&format!("{entry}.{key}"), what, Some(help));
            }
        }
    }
}

/// How assertions are signed. An issuer beside a token endpoint says whom they are for.
pub(super) fn signing(said: &said::Provider) -> Signing {
    let signs = matches!(said.client_auth, said::ClientAuth::ClientSecretJwt | said::ClientAuth::PrivateKeyJwt);
    let issuer = said.issuer.as_deref().filter(|_| signs && said.token_endpoint.is_some());
    Signing {
        algorithm: said.signing_alg.map(signing_algorithm),
        key_id: said.key_id.as_deref().map_or(KeyId::None, |key_id| KeyId::Named(key_id.into())),
        audience: said.assertion_audience.as_ref().map(|audience| audience.as_str()).or(issuer).map(Into::into),
    }
}

const fn client_auth(said: said::ClientAuth) -> ClientAuth {
    match said {
        said::ClientAuth::ClientSecretBasic => ClientAuth::ClientSecretBasic,
        said::ClientAuth::ClientSecretPost => ClientAuth::ClientSecretPost,
        said::ClientAuth::ClientSecretJwt => ClientAuth::ClientSecretJwt,
        said::ClientAuth::PrivateKeyJwt => ClientAuth::PrivateKeyJwt,
        said::ClientAuth::TlsClientAuth => ClientAuth::TlsClientAuth,
        said::ClientAuth::SelfSignedTlsClientAuth => ClientAuth::SelfSignedTlsClientAuth,
        said::ClientAuth::FederatedAssertion => ClientAuth::FederatedAssertion,
    }
}

const fn signing_algorithm(said: said::SigningAlg) -> SigningAlgorithm {
    match said {
        said::SigningAlg::Es256 => SigningAlgorithm::Es256,
        said::SigningAlg::Es384 => SigningAlgorithm::Es384,
        said::SigningAlg::EdDsa => SigningAlgorithm::EdDsa,
        said::SigningAlg::Rs256 => SigningAlgorithm::Rs256,
        said::SigningAlg::Ps256 => SigningAlgorithm::Ps256,
    }
}
