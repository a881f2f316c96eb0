//! The rotators of a provider's own credential: `oauth-client-secret` and `signing-key`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::Method;

use crate::config::meant::{
    ClientSecret, ClientSecretBy, KeyId, Provider, Rotator, Secret, SecretRef, SigningAlgorithm, SigningKey,
};
use crate::config::reading::{Reader, guess};
use crate::config::said;
use crate::config::words::Period;
use crate::crypto::keys::Curve;
use crate::document::below;
use crate::name::Name;
use crate::rotation::client_secret::{Body, Call};

/// How long a provider may keep an older key set, where nobody says.
const SETTLES_WITHIN: Duration = Duration::from_secs(900);

impl Reader<'_> {
    pub(super) fn client_secret(
        &mut self,
        key: &str,
        said: said::OauthClientSecret,
        at: &SecretRef,
        stores: &[Name],
    ) -> Option<Rotator> {
        let admin = said.admin.map(|admin| self.secret_ref(&format!("{key}.admin"), admin, stores));
        if admin.as_ref() == Some(at) {
            let what = format!("`{key}.admin` is the secret that it rotates");
            let help =
                "give bursar a token of its own at the server: a credential that rotates itself locks itself out";
            self.fault(&format!("{key}.admin"), what, Some(help.into()));
        }
        let by = match (said.two_secrets, said.register) {
            (Some(two), None) => self.two_secrets(&format!("{key}.two_secrets"), &two),
            (None, Some(register)) => self.register(&format!("{key}.register"), &register),
            (both, _) => {
                let has = if both.is_some() { "both" } else { "neither" };
                let what = format!("`{key}` needs one of `two_secrets` and `register`, and has {has}");
                let help = "`two_secrets` where the server holds two secrets of a client at once, else `register`";
                self.fault(key, what, Some(help.into()));
                None
            }
        };
        Some(Rotator::ClientSecret(Box::new(ClientSecret { provider: said.provider, admin, by: by? })))
    }

    fn two_secrets(&mut self, key: &str, said: &said::TwoSecrets) -> Option<ClientSecretBy> {
        let url = self.address(&format!("{key}.url"), &said.url, str::parse);
        let mut body = |name: &str, text: &str| match text.parse::<Body>() {
            Ok(body) if body.has_old() == (name == "both") => Some(body),
            read => {
                let what = match read {
                    Err(why) => format!("`{key}.{name}` {why}"),
                    Ok(_) if name == "both" => format!("`{key}.both` has no place for `{{old}}`"),
                    Ok(_) => format!("`{key}.only` has a place for `{{old}}`, which is to end"),
                };
                let help = "write it as in `{\"secrets\":[\"{new}\",\"{old}\"]}`, and `only` without `{old}`";
                self.fault(&format!("{key}.{name}"), what, Some(help.into()));
                None
            }
        };
        let (both, only) = (body("both", &said.both), body("only", &said.only));
        let method = match said.method {
            said::Method::Put => Method::PUT,
            said::Method::Post => Method::POST,
            said::Method::Patch => Method::PATCH,
        };
        Some(ClientSecretBy::TwoSecrets(Call { url: url?, method, both: both?, only: only? }))
    }

    fn register(&mut self, key: &str, said: &said::Register) -> Option<ClientSecretBy> {
        let endpoint = self.address(&format!("{key}.endpoint"), &said.endpoint, str::parse);
        let metadata = said.metadata.as_deref().map(serde_json::from_str);
        if let Some(Err(_)) = metadata {
            let what = format!("`{key}.metadata` is not a JSON object");
            self.fault(&format!("{key}.metadata"), what, None);
        }
        let metadata = metadata.and_then(Result::ok).unwrap_or_default();
        Some(ClientSecretBy::Registration { endpoint: endpoint?, metadata, exclusive: said.exclusive })
    }

    pub(super) fn signing_key(&mut self, key: &str, said: said::SigningKey) -> Option<Rotator> {
        if said.jwks_file.is_none() && said.jwks_listen.is_none() {
            let what = format!("`{key}` publishes the keys nowhere");
            let help = "give `jwks_file` or `jwks_listen`, and tell the provider its address as `jwks_uri`";
            self.fault(key, what, Some(help.into()));
        }
        let listen = said.jwks_listen.as_deref();
        let jwks_listen = listen.and_then(|text| self.loopback(&format!("{key}.jwks_listen"), text));
        let curve = match said.algorithm {
            said::KeyAlgorithm::Es256 => Curve::P256,
            said::KeyAlgorithm::Es384 => Curve::P384,
            said::KeyAlgorithm::EdDsa => Curve::Ed25519,
        };
        Some(Rotator::SigningKey(Box::new(SigningKey {
            provider: said.provider,
            curve,
            jwks_file: said.jwks_file.map(|file| self.path(&format!("{key}.jwks_file"), &file)),
            jwks_listen,
            settles_within: said.settles_within.map_or(SETTLES_WITHIN, |Period(period)| period),
        })))
    }

    /// That each rotator of a provider's credential names the provider that has it. A key that is rotated is known by its
    /// thumbprint.
    pub(in crate::config::reading) fn rotators_fit(
        &mut self,
        providers: &mut BTreeMap<Name, Provider>,
        secrets: &BTreeMap<Name, Secret>,
    ) {
        for (name, secret) in secrets {
            let key = format!("{}.rotation", below("secret", name.as_str()));
            match secret.rotation.as_ref().map(|rotation| &rotation.rotator) {
                Some(Rotator::ClientSecret(rotator)) => {
                    let key = format!("{key}.oauth-client-secret");
                    let wants = match rotator.by {
                        ClientSecretBy::TwoSecrets(_) => "client_secret",
                        ClientSecretBy::Registration { .. } => "registration",
                    };
                    let _ = self.user_of(&key, &rotator.provider, wants, &secret.at, providers);
                }
                Some(Rotator::SigningKey(rotator)) => {
                    let key = format!("{key}.signing-key");
                    let provider = self.user_of(&key, &rotator.provider, "private_key", &secret.at, providers);
                    if let Some(provider) = provider {
                        self.key_fits(&rotator.provider, provider, rotator.curve);
                    }
                }
                Some(
                    Rotator::Random { .. }
                    | Rotator::Postgres { .. }
                    | Rotator::RedisAcl { .. }
                    | Rotator::Http(_)
                    | Rotator::Exec(_)
                    | Rotator::AccessKey(_),
                )
                | None => {}
            }
        }
        self.published_apart(secrets);
    }

    /// The provider, if it takes `wants` from the secret `at`.
    fn user_of<'p>(
        &mut self,
        key: &str,
        name: &Name,
        wants: &str,
        at: &SecretRef,
        providers: &'p mut BTreeMap<Name, Provider>,
    ) -> Option<&'p mut Provider> {
        let key = format!("{key}.provider");
        let entry = below("provider", name.as_str());
        let Some(provider) = providers.get(name) else {
            // One that has a fault of its own is named there.
            if !self.places.said(&entry) {
                let guess = guess(name.as_str(), providers.keys().map(Name::as_str));
                let help = format!("{guess}a provider is made by `[{entry}]`");
                self.fault(&key, format!("there is no provider `{name}`"), Some(help));
            }
            return None;
        };
        if provider.credential.stored() != Some((wants, at)) {
            let what = format!("`[{entry}]` does not use this secret as its `{wants}`");
            let SecretRef { store, name } = at;
            let help = format!("write `{wants} = {{ store = \"{store}\", name = \"{name}\" }}` there");
            self.fault(&key, what, Some(help));
            return None;
        }
        providers.get_mut(name)
    }

    fn key_fits(&mut self, name: &Name, provider: &mut Provider, curve: Curve) {
        let entry = below("provider", name.as_str());
        let signs = match curve {
            Curve::P256 => SigningAlgorithm::Es256,
            Curve::P384 => SigningAlgorithm::Es384,
            Curve::Ed25519 => SigningAlgorithm::EdDsa,
        };
        if let Some(other) = provider.signing.algorithm.filter(|said| *said != signs) {
            let what =
                format!("`signing_alg` is `{}`, and the keys that are made sign `{}`", other.as_str(), signs.as_str());
            self.fault(&format!("{entry}.signing_alg"), what, Some("take it out: the key says it".into()));
        }
        if provider.signing.key_id != KeyId::None {
            let what = "`key_id` would be that of one key, and this one is rotated".to_owned();
            let help = "take it out: each key is published under its thumbprint (RFC 7638), and used by that";
            self.fault(&format!("{entry}.key_id"), what, Some(help.into()));
        }
        provider.signing.key_id = KeyId::Thumbprint;
    }

    /// Two rotators that publish in one place would each take out the other's keys.
    fn published_apart(&mut self, secrets: &BTreeMap<Name, Secret>) {
        let mut taken = BTreeSet::new();
        for (name, secret) in secrets {
            let Some(Rotator::SigningKey(it)) = secret.rotation.as_ref().map(|rotation| &rotation.rotator) else {
                continue;
            };
            let file = it.jwks_file.as_ref().map(|file| ("jwks_file", file.display().to_string()));
            let listen = it.jwks_listen.filter(|at| at.port() != 0).map(|at| ("jwks_listen", at.to_string()));
            for place in file.into_iter().chain(listen) {
                let key = format!("{}.rotation.signing-key.{}", below("secret", name.as_str()), place.0);
                if !taken.insert(place.clone()) {
                    let what = format!("`{}` is where another key is published", place.1);
                    self.fault(&key, what, Some("give each a place of its own".into()));
                }
            }
        }
    }
}
