//! `[store.NAME]`, `[secret.NAME]`, and references to secrets.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::{Reader, guess};
use crate::config::address::NotUsable;
use crate::config::meant::{Aws, Encoding, EndpointUrl, OpenBao, Secret, SecretRef, Store, StoreKey};
use crate::config::said;
use crate::document::below;
use crate::kept::MOST_STALE;
use crate::name::{Name, StoredName};
use crate::store::REREAD_AFTER;
use crate::store::openbao::Auth;

/// The shortest time for which a value may be taken for the one that its store has.
const SHORTEST_FRESH: Duration = Duration::from_secs(1);

impl Reader<'_> {
    pub(super) fn store(&mut self, name: &Name, said: said::Store, state_dir: &Path) -> Store {
        let entry = below("store", name.as_str());
        match said {
            said::Store::Sealed { path, key, stale_after: _ } => Store::Sealed {
                path: match path {
                    Some(path) => self.path(&format!("{entry}.path"), &path),
                    None => state_dir.join(format!("{name}.db")),
                },
                key: self.store_key(&entry, name, key, state_dir),
            },
            said::Store::Files { path, stale_after: _ } => {
                Store::Files { path: self.path(&format!("{entry}.path"), &path) }
            }
            said::Store::Openbao { address, mount, prefix, namespace, ca_file, auth, stale_after: _ } => {
                let Some(address) = self.bare_address(&format!("{entry}.address"), &address) else {
                    return Store::Files { path: PathBuf::new() };
                };
                let ca_file = ca_file.map(|path| self.path(&format!("{entry}.ca_file"), &path));
                let auth = self.openbao_auth(&format!("{entry}.auth"), auth);
                Store::OpenBao(Box::new(OpenBao { address, mount, prefix, namespace, ca_file, auth }))
            }
            said::Store::AwsSecretsmanager { region, endpoint, prefix, replica_region, stale_after: _ } => {
                let endpoint = endpoint.and_then(|said| self.bare_address(&format!("{entry}.endpoint"), &said));
                let prefix = prefix.unwrap_or_default();
                self.aws_prefix(&format!("{entry}.prefix"), &prefix);
                self.aws_region(&format!("{entry}.region"), &region);
                if let Some(replica) = &replica_region {
                    self.aws_replica(&format!("{entry}.replica_region"), replica, &region);
                }
                Store::Aws(Box::new(Aws { region, endpoint, prefix, replica_region }))
            }
        }
    }

    /// How long a cached value of the store counts as fresh, where that is said.
    pub(super) fn fresh_for(&mut self, name: &Name, said: &said::Store) -> Option<Duration> {
        let (said::Store::Sealed { stale_after, .. }
        | said::Store::Files { stale_after, .. }
        | said::Store::Openbao { stale_after, .. }
        | said::Store::AwsSecretsmanager { stale_after, .. }) = said;
        let stale_after = stale_after.as_ref()?;
        if !(SHORTEST_FRESH..=MOST_STALE).contains(&stale_after.0) {
            let key = format!("{}.stale_after", below("store", name.as_str()));
            let help = "below `1s` the store would be read for each request, and after `1d` nothing is served that it does not confirm";
            self.fault(&key, format!("`{key}` is `{stale_after}`: it is `1s` to `1d`"), Some(help.to_owned()));
        }
        Some(stale_after.0)
    }

    /// An address to which paths are added.
    fn bare_address(&mut self, key: &str, said: &str) -> Option<EndpointUrl> {
        self.address(key, said, |text| {
            let address = text.parse::<EndpointUrl>()?;
            let help = "write it without what follows the `?`";
            let plain = address.url().query().is_none();
            if plain { Ok(address) } else { Err(NotUsable { what: "has a query", help }) }
        })
    }

    fn aws_region(&mut self, key: &str, said: &str) {
        let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if said.is_empty() || said.len() > 32 || !said.bytes().all(is_word) {
            self.fault(key, format!("`{key}` is not a region"), Some("write it as in `eu-central-1`".to_owned()));
        }
    }

    fn aws_replica(&mut self, key: &str, said: &str, region: &str) {
        self.aws_region(key, said);
        if said == region {
            let help = "name the other region to which the secrets are replicated, or leave it out".to_owned();
            self.fault(key, format!("`{key}` is the region itself"), Some(help));
        }
    }

    fn aws_prefix(&mut self, key: &str, said: &str) {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"/_+=.@-".contains(&b);
        if said.len() > 200 || said.starts_with('/') || !said.bytes().all(fits) {
            let help = "use at most 200 of `A-Z a-z 0-9 / _ + = . @ -`, as in `prod/`".to_owned();
            self.fault(key, format!("`{key}` does not fit into the name of a secret at AWS"), Some(help));
        }
    }

    fn openbao_auth(&mut self, key: &str, said: said::OpenbaoAuth) -> Auth {
        match said {
            said::OpenbaoAuth::Approle(said::AppRole { role_id, secret_id_file }) => Auth::AppRole {
                role_id,
                secret_id_file: self.path(&format!("{key}.approle.secret_id_file"), &secret_id_file),
            },
            said::OpenbaoAuth::TokenFile(path) => Auth::TokenFile(self.path(&format!("{key}.token_file"), &path)),
        }
    }

    fn store_key(&mut self, entry: &str, name: &Name, said: Option<said::KeySource>, state_dir: &Path) -> StoreKey {
        match said {
            None => StoreKey::File { path: state_dir.join(format!("{name}.key")), made: true },
            Some(said::KeySource::File(path)) => {
                let path = self.path(&format!("{entry}.key.file"), &path);
                let inside = path.strip_prefix(state_dir);
                let made = inside.is_ok_and(|rest| rest.components().all(|part| matches!(part, Component::Normal(_))));
                StoreKey::File { path, made }
            }
            Some(said::KeySource::Credential(credential)) => {
                let plain = credential.parse::<StoredName>().is_ok() && !credential.contains('/');
                if !plain {
                    let key = format!("{entry}.key.credential");
                    let help = "write the name alone, as `LoadCredential=` of the unit does";
                    self.fault(&key, format!("`{key}` is not the name of a credential"), Some(help.to_owned()));
                }
                StoreKey::Credential(credential)
            }
        }
    }

    /// Two sealed stores in one file would each take the other's change for damage.
    pub(super) fn stores_differ(&mut self, stores: &BTreeMap<Name, Store>) {
        let mut seen: BTreeMap<&Path, &Name> = BTreeMap::new();
        for (name, store) in stores {
            let Store::Sealed { path, .. } = store else { continue };
            if let Some(first) = seen.insert(path, name) {
                let what = format!("the stores `{first}` and `{name}` are one file");
                let help = "give each a `path` of its own, or keep one store".to_owned();
                self.fault(&format!("{}.path", below("store", name.as_str())), what, Some(help));
            }
        }
    }

    pub(super) fn secrets(
        &mut self,
        said: BTreeMap<Name, said::Secret>,
        stores: &[Name],
        fresh_for: &BTreeMap<Name, Duration>,
    ) -> BTreeMap<Name, Secret> {
        let mut secrets = BTreeMap::new();
        for (name, said) in said {
            self.store_exists(&format!("{}.store", below("secret", name.as_str())), &said.store, stores);
            let stored = said.path.unwrap_or_else(|| name.clone().into());
            let at = SecretRef { store: said.store, name: stored };
            let encoding = said.encoding.map(|said| match said {
                said::Encoding::Utf8 => Encoding::Utf8,
                said::Encoding::Base64 => Encoding::Base64,
            });
            let (tags, field) = (said.tags.into_iter().collect(), said.field.map(String::into_boxed_str));
            let entry = below("secret", name.as_str());
            let reread_after = fresh_for.get(&at.store).copied().unwrap_or(REREAD_AFTER);
            let rotation = said.rotation.and_then(|said| self.rotation(&entry, *said, &at, reread_after, stores));
            secrets.insert(name, Secret { at, tags, field, encoding, rotation });
        }
        secrets
    }

    pub(super) fn secret_ref(&mut self, key: &str, said: said::SecretRef, stores: &[Name]) -> SecretRef {
        self.store_exists(&format!("{key}.store"), &said.store, stores);
        SecretRef { store: said.store, name: said.name }
    }

    fn store_exists(&mut self, key: &str, store: &Name, stores: &[Name]) {
        if stores.contains(store) {
            return;
        }
        let guess = guess(store.as_str(), stores.iter().map(Name::as_str));
        self.fault(
            key,
            format!("there is no store `{store}`"),
            Some(format!("{guess}a store is made by `[store.{store}]`")),
        );
    }
}
