//! (E) What proves to a provider who we are: read from its store or file each time, so that what was rotated is used at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::access::SecretId;
use crate::config::meant::{self, SecretRef};
use crate::document::bytes_of;
use crate::oauth::certificate::{CertificateChain, MOST_CHAIN_BYTES};
use crate::oauth::federated::MOST_ASSERTION_BYTES;
use crate::oauth::registration::Registration;
use crate::oauth::{Credential, Material, NoCredential};
use crate::secret::Secret;
use crate::store::{Place, Shelf, StoreError, Which};

/// How long a store or a file system may take: a disk that hangs must not hold a flight for ever.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The credential of an entry.
///
/// # Errors
/// The store that does not exist.
pub(super) fn of(credential: &meant::Credential, shelf: &Shelf) -> Result<Arc<dyn Credential>, String> {
    Ok(match credential {
        meant::Credential::ClientSecret(at) | meant::Credential::PrivateKey(at) => Arc::new(Stored::of(at, shelf)?),
        meant::Credential::Registration(at) => Arc::new(Registered(Stored::of(at, shelf)?)),
        meant::Credential::Certificate { file, key } => {
            Arc::new(Certified { file: file.clone(), key: Stored::of(key, shelf)? })
        }
        meant::Credential::Assertion(file) => Arc::new(Written(file.clone())),
    })
}

/// One that a store keeps.
struct Stored(Place);

impl Stored {
    fn of(at: &SecretRef, shelf: &Shelf) -> Result<Self, String> {
        let id = SecretId::Stored(at.store.clone(), at.name.clone());
        shelf.find(&id).map(Self).ok_or_else(|| format!("there is no store `{}`", at.store))
    }

    async fn read(&self) -> Result<Material, NoCredential> {
        let Place { store_name: store, store: open, name, fresh_for: _ } = &self.0;
        match timeout(READ_TIMEOUT, open.read(name, &Which::Current)).await {
            Ok(Ok((version, value))) => {
                Ok(Material { version: Some(version.id.to_string().into()), ..Material::from(value) })
            }
            Ok(Err(StoreError::NotFound(_))) => Err(NoCredential::Missing(format!(
                "the credential `{store}/{name}` is missing: an operator has to put it there, `bursar secret put {store}/{name}`"
            ))),
            Ok(Err(why)) => Err(NoCredential::Unusable(format!("the credential `{store}/{name}`: {why}"))),
            Err(_) => Err(NoCredential::Unusable(format!(
                "the credential `{store}/{name}`: the store did not answer within 10 s: look at its disk"
            ))),
        }
    }
}

impl Credential for Stored {
    fn current(&self) -> BoxFuture<'_, Result<Material, NoCredential>> {
        self.read().boxed()
    }
}

/// A client id and a client secret that a store keeps in one: neither is ever used with another's.
struct Registered(Stored);

impl Credential for Registered {
    fn current(&self) -> BoxFuture<'_, Result<Material, NoCredential>> {
        async {
            let kept = self.0.read().await?;
            let Place { store_name: store, name, .. } = &self.0.0;
            let registration = Registration::read(kept.secret.expose());
            let registration = registration
                .map_err(|why| NoCredential::Unusable(format!("the registration `{store}/{name}`: {why}")))?;
            Ok(Material { client: Some(registration.client), secret: Arc::new(registration.secret), ..kept })
        }
        .boxed()
    }
}

/// A certificate in a file, and its key in a store.
struct Certified {
    file: PathBuf,
    key: Stored,
}

impl Credential for Certified {
    fn current(&self) -> BoxFuture<'_, Result<Material, NoCredential>> {
        async {
            let file = &self.file;
            let pem = read(file, "certificate", MOST_CHAIN_BYTES).await?;
            let chain = CertificateChain::from_pem(&pem);
            let chain = chain.map_err(|why| NoCredential::Unusable(format!("`{}`: {why}", file.display())))?;
            Ok(Material { certificate: Some(chain), ..self.key.read().await? })
        }
        .boxed()
    }
}

/// An assertion that somebody else writes.
struct Written(PathBuf);

impl Credential for Written {
    fn current(&self) -> BoxFuture<'_, Result<Material, NoCredential>> {
        async {
            let text = read(&self.0, "assertion_file", MOST_ASSERTION_BYTES).await?;
            Ok(Material::from(Secret::new(text)))
        }
        .boxed()
    }
}

/// At most one byte more than `most`, so that what reads it sees that there are too many.
async fn read(path: &Path, key: &str, most: usize) -> Result<Vec<u8>, NoCredential> {
    let open = path.to_owned();
    let why = match timeout(READ_TIMEOUT, spawn_blocking(move || bytes_of(&open, most))).await {
        Ok(Ok(Ok(bytes))) => return Ok(bytes),
        Ok(Ok(Err(error))) if error.kind() == std::io::ErrorKind::NotFound => {
            "it is missing: what writes it has to run, and bursar's user to see it".to_owned()
        }
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(_)) => "reading it ended early".to_owned(),
        Err(_) => "it could not be read within 10 s: look at its disk".to_owned(),
    };
    Err(NoCredential::Unusable(format!("`{key}` `{}`: {why}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_as_it_is_now_and_nothing_that_might_never_end() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink(at("target"), at("link")).unwrap();
        for now in ["first", "second"] {
            std::fs::write(at("target"), now).unwrap();
            let read = Written(at("link")).current().await.unwrap();
            assert!(read.secret.matches(now.as_bytes()));
        }
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RUSR).unwrap();
        for (bad, why) in [("pipe", "not a regular file"), (".", "not a regular file"), ("none", "it is missing")] {
            let error = Written(at(bad)).current().await.unwrap_err().to_string();
            assert!(error.starts_with("`assertion_file` `") && error.contains(why), "{error}");
        }
    }
}
