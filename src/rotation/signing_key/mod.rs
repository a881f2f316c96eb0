//! The rotator `signing-key`: the private key with which a provider entry signs its assertions (`private_key_jwt`).
//!
//! The provider learns of keys from the JSON Web Key Set that is published here: it holds the Current, the Pending and,
//! until it is revoked, the Previous version, whatever the store says at that moment.

mod jwks;

pub use jwks::{Page, Published};

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::json;
use zeroize::Zeroizing;

use super::trial::Trial;
use super::{Created, Ended, FarId, Held, Invents, Label, Overlap, Rotator, Trouble};
use crate::crypto::keys::{self, Curve};
use crate::oauth::Material;
use crate::oauth::public_key::PublicKey;
use crate::secret::Secret;
use crate::store::{Place, Stage, StoreError, Which};

/// How often the set is published anew, for versions that another agent has made.
const PUBLISH_EVERY: Duration = Duration::from_secs(30);

/// Rotates a signing key.
pub struct SigningKeys {
    /// Which keys are made.
    curve: Curve,
    /// Where the key stands.
    place: Place,
    /// Where the set is published.
    published: Published,
    /// How a key is tried.
    trial: Trial,
    /// How long the provider may keep an older set.
    settles_within: Duration,
    /// The ids of the keys that were revoked: they are not published again.
    ended: Mutex<BTreeSet<String>>,
    /// Held while the set is read and published: what is published last is what was read last.
    publishing: tokio::sync::Mutex<()>,
}

impl SigningKeys {
    /// A rotator of the key at `place`.
    #[must_use]
    pub fn new(curve: Curve, place: Place, published: Published, trial: Trial, settles_within: Duration) -> Self {
        let (ended, publishing) = Default::default();
        Self { curve, place, published, trial, settles_within, ended, publishing }
    }

    /// Publishes the keys of the store.
    ///
    /// # Errors
    /// [`Trouble::Setup`]; what was published before stands.
    pub async fn publish(&self) -> Result<(), Trouble> {
        let _alone = self.publishing.lock().await;
        let keys = self.keys().await.map_err(|why| Trouble::Setup(format!("the keys to publish: {why}")))?;
        // An empty set would end what the provider knows from elsewhere.
        if keys.is_empty() {
            return Ok(());
        }
        let set = json!({ "keys": keys.iter().map(PublicKey::jwk).collect::<Vec<_>>() });
        self.published.publish(&format!("{set}\n")).await
    }

    /// The keys that are valid, or are to be: the newest version first.
    async fn keys(&self) -> Result<Vec<PublicKey>, StoreError> {
        let Place { store, name, .. } = &self.place;
        let versions = match store.versions(name).await {
            Err(StoreError::NotFound(_)) => return Ok(Vec::new()),
            versions => versions?,
        };
        let mut keys = Vec::new();
        let lives = |stage: &Stage| *stage != Stage::Retired;
        for version in versions.iter().filter(|it| it.filled && it.stages.iter().any(|stage| lives(&stage))) {
            let (_, value) = store.read(name, &Which::Id(version.id.clone())).await?;
            match PublicKey::of_pem(value.expose()) {
                Ok(key) if !self.ended().contains(&key.thumbprint()) => keys.push(key),
                Ok(_) => {}
                Err(why) => tracing::warn!(secret = %name, version = %version.id, "it is not published: {why}"),
            }
        }
        Ok(keys)
    }

    fn ended(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self) -> Result<Created, Trouble> {
        let der = keys::make(self.curve).map_err(|why| Trouble::Setup(why.to_string()))?;
        let pem = pem(&der);
        let key = PublicKey::of_pem(pem.as_bytes()).map_err(|why| Trouble::Setup(why.to_string()))?;
        Ok(Created { value: Secret::copy_of(pem.as_bytes()), far_id: key.thumbprint().parse::<FarId>().ok() })
    }
}

/// The PKCS #8 key as PEM text (RFC 7468 §10).
fn pem(der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    let mut pem = Zeroizing::new(String::with_capacity(base64.len() + 128));
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    let mut rest = base64.as_str();
    while let Some((line, more)) = rest.split_at_checked(64) {
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    if !rest.is_empty() {
        pem.push_str(rest);
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    pem
}

/// Publishes at once, and then what others have made, while the rotator is in force.
pub async fn keep_published(keys: Weak<SigningKeys>) {
    while let Some(keys) = keys.upgrade() {
        if let Err(why) = keys.publish().await {
            tracing::error!(secret = %keys.place.name, "its key set is not published: {why}");
        }
        drop(keys);
        tokio::time::sleep(PUBLISH_EVERY).await;
    }
}

impl Rotator for SigningKeys {
    fn kind(&self) -> &'static str {
        "signing-key"
    }

    fn overlap(&self) -> Overlap {
        Overlap::Two
    }

    fn invents(&self) -> Invents {
        Invents::Us
    }

    fn settles_within(&self) -> Duration {
        self.settles_within
    }

    fn create<'a>(&'a self, _: &'a Label, _: Option<&'a Held>) -> BoxFuture<'a, Result<Created, Trouble>> {
        async { self.make() }.boxed()
    }

    /// The Pending version stands in the store by now: it is published with the others.
    fn set<'a>(&'a self, _: &'a Held, _: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        self.publish().boxed()
    }

    fn test<'a>(&'a self, held: &'a Held) -> BoxFuture<'a, Result<bool, Trouble>> {
        let secret = Arc::clone(&held.value);
        self.trial.accepts(Material { secret, ..Material::from(Secret::new(Vec::new())) }).boxed()
    }

    fn revoke<'a>(&'a self, ended: &'a Ended, _: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        async {
            let of_value = ended.value.as_ref().and_then(|value| PublicKey::of_pem(value.expose()).ok());
            let of_value = of_value.map(|key| key.thumbprint());
            self.ended().extend(of_value.or(ended.far_id.as_ref().map(ToString::to_string)));
            self.publish().await
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::signing_key::SigningKey;

    #[test]
    fn a_key_that_is_made_is_one_that_signs() {
        for (curve, algorithm) in [(Curve::P256, "ES256"), (Curve::P384, "ES384"), (Curve::Ed25519, "EdDSA")] {
            let pem = pem(&keys::make(curve).unwrap());
            let signs = SigningKey::from_pem(pem.as_bytes()).unwrap().algorithm(None).unwrap();
            assert_eq!(format!("{signs:?}"), algorithm);
            assert_eq!(PublicKey::of_pem(pem.as_bytes()).unwrap().jwk()["alg"], algorithm);
            assert!(pem.lines().all(|line| line.len() <= 64));
        }
    }
}
