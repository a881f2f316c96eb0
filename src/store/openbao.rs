//! (E) OpenBao and HashiCorp Vault: the KV engine of version 2, with check-and-set.
//!
//! Readers of a path get its newest version, so what is Pending stands elsewhere: each secret has a [`book`] in
//! `<prefix>.bursar/<name>`, of which one version is kept. A verb is one check-and-set on the book; then what it decided
//! is written to the secret's path `<prefix>/<name>`, by check-and-set too. A crash in between leaves a debt that
//! the book tells of, and whoever comes next pays it. What somebody else writes to the path is Current from then on.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::time::timeout;
use url::Url;

use super::{
    Attempt, Notes, Noticeboard, Reserved, Store, StoreError, Version, VersionId, Versions, Which, check_value,
};
use crate::crypto::{Random, random_uuid};
use crate::name::StoredName;
use crate::secret::Secret;
use crate::time::{Clock, Wall};

#[doc(hidden)]
pub mod answer;
#[doc(hidden)]
pub mod book;
mod mark;
mod notices;
mod server;
mod session;

pub use session::Auth;

use answer::{Face, Said};
use book::{Book, Seen};
use server::{Asked, Server};
use session::Session;

/// The most time for one verb, all its requests together.
const MOST_TIME: Duration = Duration::from_secs(30);
/// How often a change begins anew because another came in between.
const TRIES: usize = 8;
/// How many secrets are listed, and how many folders are looked into for them.
const MOST_LISTED: usize = 10_000;
const MOST_FOLDERS: usize = 1_000;
/// What the folder of the books ends with. No secret lies in such a folder.
const BOOKS: &str = ".bursar";
/// The folder of the notices, among the books.
const NOTICES: &str = "holders.bursar";

/// Where it is, and who we are there.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its address: https, or http to this host alone. The caller's to check.
    pub address: Url,
    /// Where the KV engine is mounted.
    pub mount: StoredName,
    /// What the paths of our secrets begin with.
    pub prefix: Option<StoredName>,
    /// The namespace of all of it.
    pub namespace: Option<String>,
    /// How we log in.
    pub auth: Auth,
}

/// A KV engine of version 2.
pub struct OpenBaoStore {
    server: Server,
    session: Session,
    mount: StoredName,
    prefix: Option<StoredName>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl OpenBaoStore {
    /// The store that `settings` describe, over `tls`. Nothing is sent before the first request.
    ///
    /// # Errors
    /// [`StoreError::Setup`] where no request can be made of it.
    pub fn new(
        settings: Settings,
        tls: ClientConfig,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, StoreError> {
        let Settings { address, mount, prefix, namespace, auth } = settings;
        let server = Server::new(&address, namespace.as_deref(), tls)?;
        let session = Session::new(auth, Arc::clone(&clock));
        Ok(Self { server, session, mount, prefix, clock, random })
    }

    async fn in_time<T>(&self, verb: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let late = || format!("it did not answer everything within {} s: is it overloaded?", MOST_TIME.as_secs());
        timeout(MOST_TIME, verb).await.unwrap_or_else(|_| Err(StoreError::Unavailable(late())))
    }

    /// Asks with our token; with another, once, where the token has come to its end.
    async fn ask(&self, asked: Asked) -> Result<(Said, Vec<u8>), StoreError> {
        let token = self.session.token(&self.server).await?;
        let (said, body) = self.server.ask(asked.again(), Some(&token)).await?;
        if said != Said::Denied {
            return Ok((said, body));
        }
        let denied = StoreError::Setup(format!(
            "permission denied at `{}`: give the role the policy of `docs/stores.md`, or look whether its token lives",
            asked.path()
        ));
        if !self.session.outlived(&self.server, &token).await {
            return Err(denied);
        }
        let token = self.session.token(&self.server).await?;
        let (said, body) = self.server.ask(asked, Some(&token)).await?;
        if said == Said::Denied { Err(denied) } else { Ok((said, body)) }
    }

    /// Where a secret is, its book, or a notice on it.
    fn path(&self, engine: &str, of: Of, name: &str) -> String {
        let prefix = self.prefix.as_ref().map_or("", StoredName::as_str);
        let folder = match of {
            Of::Face if prefix.is_empty() => String::new(),
            Of::Face => format!("{prefix}/"),
            Of::Book => format!("{prefix}{BOOKS}/"),
            Of::Notice => format!("{prefix}{BOOKS}/{NOTICES}/"),
        };
        format!("{}/{engine}/{folder}{name}", self.mount)
    }

    /// What the secret's path shows: its newest version, or a given one.
    async fn face(&self, name: &StoredName, version: Option<u64>) -> Result<Option<Face>, StoreError> {
        let path = self.path("data", Of::Face, name.as_str());
        let path = version.map_or(path.clone(), |version| format!("{path}?version={version}"));
        let (found, body) = self.found(Asked::get(path)).await?;
        answer::face(&body, found)
    }

    /// The book, and the number for the check-and-set of the next one.
    async fn book(&self, name: &StoredName) -> Result<(Book, u64), StoreError> {
        let (found, body) = self.found(Asked::get(self.path("data", Of::Book, name.as_str()))).await?;
        // Where it is KV's answer, what stands there is not a book; else it is not OpenBao that answers.
        let damaged = || StoreError::Damaged(format!("the book of `{name}` is not one that bursar wrote"));
        let unreadable = |error| if answer::shown::<Value>(&body, found).is_ok() { damaged() } else { error };
        match answer::shown::<book::Written>(&body, found).map_err(unreadable)? {
            Some(shown) => {
                let book = shown.data.map(|written| Book::read(name.clone(), written)).transpose()?;
                Ok((book.unwrap_or_else(|| Book::none(name.clone())), shown.version))
            }
            None => Ok((Book::none(name.clone()), 0)),
        }
    }

    async fn found(&self, asked: Asked) -> Result<(bool, Vec<u8>), StoreError> {
        let path = asked.path().to_owned();
        match self.ask(asked).await? {
            (Said::Done, body) => Ok((true, body)),
            (Said::Missing, body) => Ok((false, body)),
            (Said::Conflict | Said::Refused | Said::Denied, _) => Err(refused(&path)),
        }
    }

    /// Writes a version of a path if `cas` is the number of its newest; the new one's number, or none if it is not.
    async fn write(&self, path: String, cas: u64, data: &Value) -> Result<Option<u64>, StoreError> {
        let asked = Asked::post(path, &json!({ "options": { "cas": cas }, "data": data }));
        let path = asked.path().to_owned();
        match self.ask(asked).await? {
            (Said::Done, body) => answer::written(&body).map(Some),
            (Said::Conflict, _) => Ok(None),
            (Said::Missing | Said::Refused | Said::Denied, _) => Err(refused(&path)),
        }
    }

    /// The same, of a path that keeps one version: what has left it is nowhere any more.
    async fn write_alone(&self, of: Of, name: &str, cas: u64, data: &Value) -> Result<Option<u64>, StoreError> {
        if cas == 0 {
            let asked = Asked::post(self.path("metadata", of, name), &json!({ "max_versions": 1 }));
            self.done(asked).await?;
        }
        self.write(self.path("data", of, name), cas, data).await
    }

    async fn write_book(&self, name: &StoredName, cas: u64, book: &Book) -> Result<Option<u64>, StoreError> {
        let unwritable = |_| StoreError::Invalid(format!("the book of `{name}` cannot be written as JSON"));
        let data = serde_json::to_value(book.written()).map_err(unwritable)?;
        self.write_alone(Of::Book, name.as_str(), cas, &data).await
    }

    async fn done(&self, asked: Asked) -> Result<(), StoreError> {
        let path = asked.path().to_owned();
        let (said, _) = self.ask(asked).await?;
        if said == Said::Done { Ok(()) } else { Err(refused(&path)) }
    }

    /// The book, held against what the path shows, which is the second answer.
    async fn look(&self, name: &StoredName) -> Result<(Book, u64, Option<Face>), StoreError> {
        check_name(name)?;
        for _ in 0..TRIES {
            let (mut book, cas) = self.book(name).await?;
            let face = self.face(name, None).await?;
            if book.see(face.as_ref())? == Seen::Known {
                return Ok((book, cas, face));
            }
        }
        // A change between two reads is in the book at the next; what never is was put back from a backup.
        Err(StoreError::Damaged(format!(
            "the path of `{name}` shows a version of bursar's that its book does not have as Current: write the value \
             that is right with `bao kv put`, which makes it Current"
        )))
    }

    /// The book when nothing is owed, after paying what was.
    async fn settled(&self, name: &StoredName) -> Result<(Book, u64), StoreError> {
        for _ in 0..TRIES {
            let (mut book, cas, _) = self.look(name).await?;
            if !book.owes() {
                return Ok((book, cas));
            }
            let kv = match book.unwritten() {
                Some((id, value)) => match self.publish(name, id, value, cas).await? {
                    None => continue,
                    published => published,
                },
                None => None,
            };
            for (id, kv) in book.doomed() {
                self.destroy(name, id, kv).await?;
            }
            book.paid(kv);
            if let Some(cas) = self.write_book(name, cas, &book).await? {
                return Ok((book, cas));
            }
        }
        Err(busy(name))
    }

    /// Writes what is promoted to the path; its number there, or none where another came in between.
    async fn publish(
        &self,
        name: &StoredName,
        id: &VersionId,
        value: &Secret,
        cas_of_book: u64,
    ) -> Result<Option<u64>, StoreError> {
        let face = self.face(name, None).await?;
        // In this order: while the book is the same after the path was read, nobody has written there what comes later,
        // and if somebody does from here on, the check-and-set fails.
        let (_, cas) = self.book(name).await?;
        if cas != cas_of_book {
            return Ok(None);
        }
        let newest = face.as_ref().map_or(0, |face| face.version);
        if face.is_some_and(|face| face.ours && face.id == *id) {
            return Ok(Some(newest));
        }
        let data = book::data(id, value, newest + 1);
        self.write(self.path("data", Of::Face, name.as_str()), newest, &data).await
    }

    /// Destroys a version at the path, if it still is the one that is meant.
    async fn destroy(&self, name: &StoredName, id: &VersionId, kv: u64) -> Result<(), StoreError> {
        let meant = self.face(name, Some(kv)).await?.is_some_and(|face| face.id == *id || face.value.is_none());
        if !meant {
            return Ok(());
        }
        self.done(Asked::post(self.path("destroy", Of::Face, name.as_str()), &json!({ "versions": [kv] }))).await
    }

    /// Lets `verb` change the versions of `name`. `value` is for the version that is Pending afterwards.
    async fn change<T>(
        &self,
        name: &StoredName,
        value: Option<&Secret>,
        verb: impl Fn(&mut Versions) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        for _ in 0..TRIES {
            let (book, cas) = self.settled(name).await?;
            let before = book.versions()?;
            let mut after = before.clone();
            let answer = verb(&mut after)?;
            if value.is_none() && after == before {
                return Ok(answer);
            }
            let next = book.follow(&after, value);
            if self.write_book(name, cas, &next).await?.is_some() {
                // A crash here leaves what is owed to whoever comes next.
                if next.owes() {
                    self.settled(name).await?;
                }
                return Ok(answer);
            }
        }
        Err(busy(name))
    }

    async fn read_now(&self, name: &StoredName, which: &Which) -> Result<(Version, Secret), StoreError> {
        let (mut book, _, face) = self.look(name).await?;
        let version = book.versions()?.find(which)?.clone();
        if let Some(value) = book.take_value(&version.id) {
            return Ok((version, value));
        }
        let gone =
            || StoreError::NotFound(format!("version {} of `{name}`, which was deleted at OpenBao,", version.id));
        // Who deletes the newest version at OpenBao wants nothing served.
        if *which == Which::Current && face.as_ref().is_some_and(|face| face.value.is_none()) {
            return Err(gone());
        }
        let face = match face.filter(|face| face.id == version.id) {
            Some(face) => Some(face),
            None => self.face(name, Some(book.kv(&version.id).ok_or_else(gone)?)).await?,
        };
        let value = face.filter(|face| face.id == version.id).and_then(|face| face.value).ok_or_else(gone)?;
        check_value(&value)?;
        Ok((version, value))
    }

    async fn list_now(&self) -> Result<Vec<StoredName>, StoreError> {
        let mut names = Vec::new();
        for of in [Of::Face, Of::Book] {
            self.list_below(of, &mut names).await?;
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    async fn list_below(&self, of: Of, names: &mut Vec<StoredName>) -> Result<(), StoreError> {
        let (mut folders, mut looked) = (vec![String::new()], 0);
        while let Some(folder) = folders.pop() {
            looked += 1;
            let (found, body) = self.found(Asked::get(self.path("metadata", of, &folder) + "?list=true")).await?;
            let keys = if found { answer::keys(&body)? } else { Vec::new() };
            for key in keys {
                let path = format!("{folder}{key}");
                match path.strip_suffix('/') {
                    Some(inner) if inner.parse().is_ok_and(|inner| check_name(&inner).is_ok()) => folders.push(path),
                    Some(_) => {}
                    // What cannot be a name here is nobody's to ask for.
                    None => names.extend(path.parse::<StoredName>().ok().filter(|name| check_name(name).is_ok())),
                }
            }
            if names.len() > MOST_LISTED || looked + folders.len() > MOST_FOLDERS {
                return Err(StoreError::Setup(format!(
                    "it holds more than {MOST_LISTED} secrets or {MOST_FOLDERS} folders: give the store a narrower `prefix`"
                )));
            }
        }
        Ok(())
    }
}

/// What stands at a path.
#[derive(Clone, Copy)]
enum Of {
    /// The secret: what other readers get.
    Face,
    /// Its book.
    Book,
    /// What an agent tells of it.
    Notice,
}

fn check_name(name: &StoredName) -> Result<(), StoreError> {
    if name.as_str().split('/').all(|segment| !segment.ends_with(BOOKS)) {
        return Ok(());
    }
    Err(StoreError::Invalid(format!("`{name}` has a part that ends with `{BOOKS}`: there stand the books of secrets")))
}

fn busy(name: &StoredName) -> StoreError {
    StoreError::Unavailable(format!("other changes of `{name}` came in between {TRIES} times: try again later"))
}

fn refused(path: &str) -> StoreError {
    StoreError::Setup(format!("it does not take the request at `{path}`: is there a KV engine of version 2?"))
}

impl Store for OpenBaoStore {
    fn list(&self) -> BoxFuture<'_, Result<Vec<StoredName>, StoreError>> {
        self.in_time(self.list_now()).boxed()
    }

    fn versions<'a>(&'a self, name: &'a StoredName) -> BoxFuture<'a, Result<Versions, StoreError>> {
        let versions = async move {
            let (book, ..) = self.look(name).await?;
            let versions = book.versions()?;
            if versions.is_empty() { Err(StoreError::NotFound(format!("secret `{name}`"))) } else { Ok(versions) }
        };
        self.in_time(versions).boxed()
    }

    fn read<'a>(
        &'a self,
        name: &'a StoredName,
        which: &'a Which,
    ) -> BoxFuture<'a, Result<(Version, Secret), StoreError>> {
        self.in_time(self.read_now(name, which)).boxed()
    }

    fn reserve<'a>(
        &'a self,
        name: &'a StoredName,
        attempt: &'a Attempt,
        lease_ends: Wall,
        notes: &'a Notes,
    ) -> BoxFuture<'a, Result<Reserved, StoreError>> {
        let reserve = async move {
            let fresh: VersionId =
                random_uuid(&*self.random).map_err(|error| StoreError::Unavailable(error.to_string()))?.parse()?;
            let now = || self.clock.now().wall;
            self.change(name, None, |versions| versions.reserve(now(), fresh.clone(), attempt, lease_ends, notes)).await
        };
        self.in_time(reserve).boxed()
    }

    fn fill<'a>(
        &'a self,
        name: &'a StoredName,
        attempt: &'a Attempt,
        value: &'a Secret,
        notes: &'a Notes,
    ) -> BoxFuture<'a, Result<VersionId, StoreError>> {
        let fill = async move {
            check_value(value)?;
            self.change(name, Some(value), |versions| versions.fill(attempt, notes)).await
        };
        self.in_time(fill).boxed()
    }

    fn promote<'a>(
        &'a self,
        name: &'a StoredName,
        attempt: &'a Attempt,
    ) -> BoxFuture<'a, Result<VersionId, StoreError>> {
        let promote = self.change(name, None, |versions| versions.promote(self.clock.now().wall, attempt));
        self.in_time(promote).boxed()
    }

    fn retire<'a>(
        &'a self,
        name: &'a StoredName,
        version: &'a VersionId,
        attempt: &'a Attempt,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.in_time(self.change(name, None, |versions| versions.retire(version, attempt))).boxed()
    }

    fn note<'a>(
        &'a self,
        name: &'a StoredName,
        version: &'a VersionId,
        attempt: &'a Attempt,
        notes: &'a Notes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.in_time(self.change(name, None, |versions| versions.note(version, attempt, notes))).boxed()
    }

    fn noticeboard(&self) -> Option<&dyn Noticeboard> {
        Some(self)
    }
}
