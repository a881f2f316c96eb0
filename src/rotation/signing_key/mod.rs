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
use crate::store::{Attempt, Place, Stage, StoreError, VersionId, Which};

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
    /// Held while the set is read and published: what is published last is what was read last. What was read: a value that
    /// stands is not read again.
    publishing: tokio::sync::Mutex<Vec<Known>>,
}

/// A version by its id and attempt, and its public key; none where it has none, which was said.
type Known = ((VersionId, Attempt), Option<PublicKey>);

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
        let mut known = self.publishing.lock().await;
        *known = self.keys(&known).await.map_err(|why| Trouble::Setup(format!("the keys to publish: {why}")))?;
        let ended = self.ended().clone();
        let keys = known.iter().filter_map(|(_, key)| key.as_ref());
        let keys: Vec<_> = keys.filter(|key| !ended.contains(&key.thumbprint())).map(PublicKey::jwk).collect();
        // An empty set would end what the provider knows from elsewhere.
        if keys.is_empty() {
            return Ok(());
        }
        let set = json!({ "keys": keys });
        self.published.publish(&format!("{set}\n")).await
    }

    /// The keys that are valid, or are to be: the newest version first.
    async fn keys(&self, before: &[Known]) -> Result<Vec<Known>, StoreError> {
        let Place { store, name, .. } = &self.place;
        let versions = match store.versions(name).await {
            Err(StoreError::NotFound(_)) => return Ok(Vec::new()),
            versions => versions?,
        };
        let mut keys = Vec::new();
        let lives = |stage: &Stage| *stage != Stage::Retired;
        for version in versions.iter().filter(|it| it.filled && it.stages.iter().any(|stage| lives(&stage))) {
            // What another attempt took over may have another value.
            let which = (version.id.clone(), version.attempt.clone());
            let key = match before.iter().find(|(known, _)| *known == which) {
                Some((_, key)) => key.clone(),
                None => self.key_of(&version.id).await?,
            };
            keys.push((which, key));
        }
        Ok(keys)
    }

    async fn key_of(&self, version: &VersionId) -> Result<Option<PublicKey>, StoreError> {
        let Place { store, name, .. } = &self.place;
        let (_, value) = store.read(name, &Which::Id(version.clone())).await?;
        let key = PublicKey::of_pem(value.expose());
        Ok(key.inspect_err(|why| tracing::warn!(secret = %name, %version, "it is not published: {why}")).ok())
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::access::{Audiences, Scopes};
    use crate::name::StoredName;
    use crate::oauth::Ask;
    use crate::oauth::signing_key::SigningKey;
    use crate::store::{Notes, Reserved, Stages, Store, Version, Versions};
    use crate::time::Wall;

    /// One secret with one version, which is Current, and how often it was read.
    struct Fake {
        version: Mutex<Version>,
        value: Mutex<String>,
        reads: AtomicUsize,
    }

    impl Fake {
        fn puts(&self, id: &str, attempt: u8) {
            let mut version = self.version.lock().unwrap();
            (version.id, version.attempt) = (id.parse().unwrap(), Attempt::from_bytes([attempt; 16]));
            *self.value.lock().unwrap() = pem(&keys::make(Curve::Ed25519).unwrap()).to_string();
        }
    }

    fn no<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T, StoreError>> {
        async { Err(StoreError::ReadOnly("nothing is written here".into())) }.boxed()
    }

    impl Store for Fake {
        fn list(&self) -> BoxFuture<'_, Result<Vec<StoredName>, StoreError>> {
            no()
        }

        fn versions<'a>(&'a self, name: &'a StoredName) -> BoxFuture<'a, Result<Versions, StoreError>> {
            async { Versions::new(name.clone(), vec![self.version.lock().unwrap().clone()]) }.boxed()
        }

        fn read<'a>(&'a self, _: &'a StoredName, _: &'a Which) -> BoxFuture<'a, Result<(Version, Secret), StoreError>> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let value = Secret::copy_of(self.value.lock().unwrap().as_bytes());
            async { Ok((self.version.lock().unwrap().clone(), value)) }.boxed()
        }

        fn reserve<'a>(
            &'a self,
            _: &'a StoredName,
            _: &'a Attempt,
            _: Wall,
            _: &'a Notes,
        ) -> BoxFuture<'a, Result<Reserved, StoreError>> {
            no()
        }

        fn fill<'a>(
            &'a self,
            _: &'a StoredName,
            _: &'a Attempt,
            _: &'a Secret,
            _: &'a Notes,
        ) -> BoxFuture<'a, Result<VersionId, StoreError>> {
            no()
        }

        fn promote<'a>(&'a self, _: &'a StoredName, _: &'a Attempt) -> BoxFuture<'a, Result<VersionId, StoreError>> {
            no()
        }

        fn note<'a>(
            &'a self,
            _: &'a StoredName,
            _: &'a VersionId,
            _: &'a Attempt,
            _: &'a Notes,
        ) -> BoxFuture<'a, Result<(), StoreError>> {
            no()
        }

        fn retire<'a>(
            &'a self,
            _: &'a StoredName,
            _: &'a VersionId,
            _: &'a Attempt,
        ) -> BoxFuture<'a, Result<(), StoreError>> {
            no()
        }
    }

    #[tokio::test]
    async fn a_value_is_read_once_for_as_long_as_it_stands() {
        let version = Version {
            id: "v0".parse().unwrap(),
            stages: Stages::of(Stage::Current),
            attempt: Attempt::from_bytes([0; 16]),
            notes: Notes::default(),
            created: Wall::default(),
            filled: true,
        };
        let (value, reads) = Default::default();
        let store = Arc::new(Fake { version: Mutex::new(version), value, reads });
        let held: Arc<dyn Store> = Arc::<Fake>::clone(&store);
        let place =
            Place { store_name: "s".parse().unwrap(), store: held, name: "key".parse().unwrap(), fresh_for: None };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwks.json");
        let published = Published { file: Some(file.clone()), page: None };
        let ask = Ask { scopes: Scopes::default(), audience: Audiences::default() };
        let trial = Trial { endpoints: Box::new(|_| Ok(Vec::new())), ask };
        let keys = SigningKeys::new(Curve::Ed25519, place, published, trial, Duration::ZERO);
        // Another version, and the same one that another attempt took over.
        for (reads, (id, attempt)) in (1..).zip([("v1", 1), ("v2", 1), ("v2", 2)]) {
            store.puts(id, attempt);
            let thumbprint = PublicKey::of_pem(store.value.lock().unwrap().as_bytes()).unwrap().thumbprint();
            for _ in 0..3 {
                keys.publish().await.unwrap();
                assert!(std::fs::read_to_string(&file).unwrap().contains(&thumbprint), "{id}");
            }
            assert_eq!(store.reads.load(Ordering::Relaxed), reads, "{id}");
        }
    }

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
