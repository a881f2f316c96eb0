//! (E) What proves to a provider who we are: read from its store or file each time, so that what was rotated is used at once.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustix::fs::{Mode, OFlags};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::access::SecretId;
use crate::config::meant::{self, SecretRef};
use crate::oauth::certificate::{CertificateChain, MOST_CHAIN_BYTES};
use crate::oauth::federated::MOST_ASSERTION_BYTES;
use crate::oauth::{Credential, Material};
use crate::secret::Secret;
use crate::store::{Place, Shelf, Which};

/// How long a store or a file system may take: a disk that hangs must not hold a flight for ever.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The credential of an entry.
///
/// # Errors
/// The store that does not exist.
pub(super) fn of(credential: &meant::Credential, shelf: &Shelf) -> Result<Arc<dyn Credential>, String> {
    Ok(match credential {
        meant::Credential::ClientSecret(at) | meant::Credential::PrivateKey(at) => Arc::new(Stored::of(at, shelf)?),
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

    async fn read(&self) -> Result<Secret, String> {
        let Place { store_name: store, store: open, name } = &self.0;
        match timeout(READ_TIMEOUT, open.read(name, &Which::Current)).await {
            Ok(Ok((_, value))) => Ok(value),
            Ok(Err(why)) => {
                Err(format!("`{store}/{name}`: {why}; put it there with `bursar secret put {store}/{name}`"))
            }
            Err(_) => Err(format!("`{store}/{name}`: the store did not answer within 10 s: look at its disk")),
        }
    }
}

impl Credential for Stored {
    fn current(&self) -> BoxFuture<'_, Result<Material, String>> {
        async { Ok(Material::from(self.read().await?)) }.boxed()
    }
}

/// A certificate in a file, and its key in a store.
struct Certified {
    file: PathBuf,
    key: Stored,
}

impl Credential for Certified {
    fn current(&self) -> BoxFuture<'_, Result<Material, String>> {
        async {
            let file = &self.file;
            let pem = read(file, "certificate", MOST_CHAIN_BYTES).await?;
            let chain = CertificateChain::from_pem(pem.expose());
            let chain = chain.map_err(|why| format!("`{}`: {why}", file.display()))?;
            Ok(Material { certificate: Some(chain), ..Material::from(self.key.read().await?) })
        }
        .boxed()
    }
}

/// An assertion that somebody else writes.
struct Written(PathBuf);

impl Credential for Written {
    fn current(&self) -> BoxFuture<'_, Result<Material, String>> {
        async { Ok(Material::from(read(&self.0, "assertion_file", MOST_ASSERTION_BYTES).await?)) }.boxed()
    }
}

async fn read(path: &Path, key: &str, most: usize) -> Result<Secret, String> {
    let open = path.to_owned();
    let read = timeout(READ_TIMEOUT, spawn_blocking(move || read_regular(&open, most))).await;
    let why = match read {
        Ok(Ok(Ok(value))) => return Ok(value),
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(_)) => "reading it ended early".to_owned(),
        Err(_) => "it could not be read within 10 s: look at its disk".to_owned(),
    };
    Err(format!("`{key}` `{}`: {why}", path.display()))
}

/// The whole of a regular file. A pipe or device that stands there is not waited for.
fn read_regular(path: &Path, most: usize) -> std::io::Result<Secret> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    Secret::read_from(file, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn error(path: &Path) -> String {
        read(path, "assertion_file", 8).await.unwrap_err()
    }

    #[tokio::test]
    async fn only_a_regular_file_of_bounded_size_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("good"), "12345678").unwrap();
        std::os::unix::fs::symlink(at("good"), at("link")).unwrap();
        for good in ["good", "link"] {
            assert_eq!(read(&at(good), "assertion_file", 8).await.unwrap().expose(), b"12345678", "{good}");
        }
        std::fs::write(at("long"), "123456789").unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), Mode::RUSR).unwrap();
        for (bad, why) in
            [("long", "at most 8 bytes"), ("pipe", "not a file"), (".", "not a file"), ("none", "No such file")]
        {
            let error = error(&at(bad)).await;
            assert!(error.starts_with("`assertion_file` `") && error.contains(why), "{error}");
        }
    }
}
