//! (E) AWS Secrets Manager: stages are its labels, and a [`book`] decides about them.
//!
//! A secret's versions never change and its labels move one by one, and none of it has room for attempts and notes: so each
//! secret has a book, in a secret of its own, `<prefix>.bursar/<name>`. A verb is one compare-and-set on the book: a new
//! version of it is written, and the label AWSCURRENT is moved to that from the version that was read, which AWS refuses
//! when it is elsewhere by then. What the book decided is then done to the labels of the secret. A crash in between leaves
//! a debt that the book tells of, and whoever comes next pays it. What somebody else does to the labels holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_secretsmanager::config::SharedCredentialsProvider;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustls::ClientConfig;
use tokio::time::timeout;
use url::Url;

use super::{Attempt, Notes, Reserved, Stage, Store, StoreError, Version, VersionId, Versions, Which, check_value};
use crate::name::StoredName;
use crate::secret::Secret;
use crate::time::{Clock, Wall};

#[doc(hidden)]
pub mod book;
mod client;
mod connector;
mod trouble;

use book::{Book, Face};
use client::{BOOK, CURRENT, PENDING, RESERVED, Site, Value, Wanted, Written};
use connector::Connector;

/// The most time for one verb, all its requests together.
const MOST_TIME: Duration = Duration::from_secs(30);
/// The most time for a read before the replica is asked: with it, within what a reader is given.
const MOST_TIME_BEFORE_THE_REPLICA: Duration = Duration::from_secs(2);
/// How often a change begins anew because another came in between.
const TRIES: usize = 8;
/// How many secrets are listed.
const MOST_LISTED: usize = 10_000;
/// What the folder of the books ends with. No secret lies in such a folder.
const BOOKS: &str = ".bursar";

/// Where it is, and who we are there.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The region.
    pub region: String,
    /// Another endpoint than the region's: https, or http to this host alone. The caller's to check.
    pub endpoint: Option<Url>,
    /// What the names of our secrets begin with; may be empty.
    pub prefix: String,
    /// Where secrets are read when the region cannot answer.
    pub replica_region: Option<String>,
    /// Who we are; none: who AWS's default chain finds (environment, profile, container, instance).
    pub credentials: Option<SharedCredentialsProvider>,
}

/// Secrets Manager of one account.
pub struct AwsStore {
    site: Site,
    replica: Option<Site>,
    prefix: String,
    clock: Arc<dyn Clock>,
}

/// A secret as it is found: its book held against its labels.
struct Found {
    book: Book,
    /// The version of the book that was read, for the compare-and-set of the next.
    base: Option<String>,
    /// None where the secret is not, or is deleted.
    face: Option<Face>,
}

impl AwsStore {
    /// The store that `settings` describe, over `tls`. Nothing is sent, and no credential sought, before the first request.
    ///
    /// # Errors
    /// [`StoreError::Setup`] where no request can be made of it.
    pub fn new(settings: &Settings, tls: ClientConfig, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let Settings { region, endpoint, prefix, replica_region, credentials } = settings;
        let connector = Connector::new(tls)?;
        let site = |region: &str| Site::new(region, endpoint.as_ref(), connector.clone(), credentials.clone());
        let replica = replica_region.as_deref().map(site);
        Ok(Self { site: site(region), replica, prefix: prefix.clone(), clock })
    }

    async fn in_time<T>(&self, verb: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let late = || format!("it did not answer everything within {} s: is it overloaded?", MOST_TIME.as_secs());
        timeout(MOST_TIME, verb).await.unwrap_or_else(|_| Err(StoreError::Unavailable(late())))
    }

    fn face_name(&self, name: &StoredName) -> String {
        format!("{}{name}", self.prefix)
    }

    fn book_name(&self, name: &str) -> String {
        format!("{}{BOOKS}/{name}", self.prefix.trim_end_matches('/'))
    }

    async fn book(&self, site: &Site, name: &StoredName) -> Result<(Book, Option<String>), StoreError> {
        match site.value(&self.book_name(name.as_str()), Wanted::Current).await? {
            Some(Value { id, value, .. }) => Ok((Book::read(name.clone(), value.expose())?, Some(id))),
            None => Ok((Book::none(name.clone()), None)),
        }
    }

    /// The book, and then the labels: a change of ours in between is in the book, whose compare-and-set then fails.
    async fn look(&self, site: &Site, name: &StoredName) -> Result<Found, StoreError> {
        let secret = self.face_name(name);
        for _ in 0..TRIES {
            let (mut book, base) = self.book(site, name).await?;
            let Some(labels) = site.labels(&secret).await? else { return Ok(Found { book, base, face: None }) };
            let face = Face::of(&labels);
            let mut created = BTreeMap::new();
            for id in face.ids().filter(|id| !book.knows(id)) {
                if let Some(value) = site.value(&secret, Wanted::Id(id)).await? {
                    created.insert(id.clone(), value.created);
                }
            }
            // A version that the book did not know may be ours by now.
            if !created.is_empty() && self.book(site, name).await?.1 != base {
                continue;
            }
            book.see(&face, &created)?;
            return Ok(Found { book, base, face: Some(face) });
        }
        Err(busy(name))
    }

    /// Writes the next book if the one that was read still is the newest; its id, or none if it is not.
    async fn write_book(
        &self,
        name: &StoredName,
        base: Option<&str>,
        book: &Book,
    ) -> Result<Option<String>, StoreError> {
        let (secret, text) = (self.book_name(name.as_str()), book.text()?);
        let bytes = String::from_utf8_lossy(text.expose()).into_owned();
        let id = book::derived(&["book", &secret, base.unwrap_or_default(), &bytes]);
        let written = match base {
            None => self.site.create(&secret, &id, &text).await?,
            Some(_) => self.site.put(&secret, &id, &text, &[BOOK]).await?,
        };
        match (written, base) {
            (Written::Exists | Written::Missing, _) => Ok(None),
            (Written::Done, None) => Ok(Some(id.into())),
            (Written::Done, Some(base)) => {
                // A request whose reply was lost was sent again, and found the label moved already: by us.
                let moved = self.site.move_label(&secret, CURRENT, base, Some(&id)).await?
                    || self.book(&self.site, name).await?.1.as_deref() == Some(&*id);
                Ok(moved.then(|| id.into()))
            }
        }
    }

    /// The secret when nothing is owed, after paying what was.
    async fn settled(&self, name: &StoredName) -> Result<Found, StoreError> {
        check_name(name)?;
        for _ in 0..TRIES {
            let mut found = self.look(&self.site, name).await?;
            if !found.book.owes() {
                self.unlabel(name, &found).await?;
                return Ok(found);
            }
            if !self.publish(name, &found).await? {
                continue;
            }
            found.book.paid();
            if let Some(id) = self.write_book(name, found.base.as_deref(), &found.book).await? {
                // The labels are others now; a crash from here on is none.
                let Found { book, .. } = found;
                let face = self.site.labels(&self.face_name(name)).await?.map(|labels| Face::of(&labels));
                return Ok(Found { book, base: Some(id), face });
            }
        }
        Err(busy(name))
    }

    /// Takes the labels from what is over, and from what never came into the book.
    async fn unlabel(&self, name: &StoredName, found: &Found) -> Result<(), StoreError> {
        for (label, id) in found.face.iter().flat_map(|face| found.book.doomed(face)) {
            self.site.move_label(&self.face_name(name), label, id, None).await?;
        }
        Ok(())
    }

    /// Makes the labels say what the book decided. False where another came in between.
    async fn publish(&self, name: &StoredName, found: &Found) -> Result<bool, StoreError> {
        let Some((id, true)) = found.book.current() else { return Ok(true) };
        let (secret, id) = (self.face_name(name), id.as_str());
        let mut face = found.face.clone();
        if found.book.waits(&id_of(id)) {
            if !self.bring(name, id, face.as_ref()).await? {
                return Ok(false);
            }
            face = self.site.labels(&secret).await?.map(|labels| Face::of(&labels));
        }
        let Some(Face { current: Some(current), pending, reserved, .. }) = face else { return Err(vanished(name)) };
        if current != id && !self.site.move_label(&secret, CURRENT, &current, Some(id)).await? {
            return Ok(false);
        }
        // A crash here leaves `Pending,Current` at AWS, as its own rotations do, and the book still owes.
        for (label, at) in [(PENDING, pending), (RESERVED, reserved)] {
            if at.as_deref() == Some(id) {
                self.site.move_label(&secret, label, id, None).await?;
            }
        }
        Ok(true)
    }

    /// Brings a value that waited beside the book to the secret itself. False where another came in between.
    async fn bring(&self, name: &StoredName, id: &str, face: Option<&Face>) -> Result<bool, StoreError> {
        let (secret, beside) = (self.face_name(name), self.book_name(name.as_str()));
        if face.and_then(|face| face.current.as_deref()) == Some(id) {
            self.site.move_label(&beside, RESERVED, id, None).await?;
            return Ok(true);
        }
        let lost = || StoreError::Damaged(format!("the value of version {id} of `{name}` was deleted: put it again"));
        let Value { value, .. } = self.site.value(&beside, Wanted::Id(id)).await?.ok_or_else(lost)?;
        let written = match face {
            None => self.site.create(&secret, id, &value).await?,
            Some(Face { current: None, .. }) => self.site.put(&secret, id, &value, &[CURRENT]).await?,
            Some(_) => self.site.put(&secret, id, &value, &[PENDING, RESERVED]).await?,
        };
        if written == Written::Done {
            self.site.move_label(&beside, RESERVED, id, None).await?;
        }
        Ok(written == Written::Done)
    }

    /// Lets `verb` change the versions of `name`.
    async fn change<T>(
        &self,
        name: &StoredName,
        verb: impl Fn(&Book, &mut Versions) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        for _ in 0..TRIES {
            let Found { book, base, .. } = self.settled(name).await?;
            let before = book.versions()?;
            let mut after = before.clone();
            let answer = verb(&book, &mut after)?;
            if after == before {
                return Ok(answer);
            }
            let next = book.follow(&after);
            if self.write_book(name, base.as_deref(), &next).await?.is_some() {
                // A crash here leaves what is owed to whoever comes next.
                if next.owes() {
                    self.settled(name).await?;
                }
                return Ok(answer);
            }
        }
        Err(busy(name))
    }

    async fn fill_now(
        &self,
        name: &StoredName,
        attempt: &Attempt,
        value: &Secret,
        notes: &Notes,
    ) -> Result<VersionId, StoreError> {
        for _ in 0..TRIES {
            let Found { book, base, face } = self.settled(name).await?;
            let mut after = book.versions()?;
            after.fill(attempt, notes)?;
            let born = face.filter(|face| face.current.is_some());
            if let Some(face) = &born
                && book.is_crossed(face)
            {
                return Err(StoreError::Taken(name.clone(), None));
            }
            let Some(id) = self.write_value(name, &book, attempt, value, born.is_some()).await? else { continue };
            let mut next = book.follow(&after);
            next.filled(id.clone(), born.is_none());
            if self.write_book(name, base.as_deref(), &next).await?.is_some() {
                return Ok(id);
            }
        }
        Err(busy(name))
    }

    /// Writes a value where it waits for its promotion: at the secret, or beside the book where the secret has no version
    /// yet, since its first would be Current at once.
    async fn write_value(
        &self,
        name: &StoredName,
        book: &Book,
        attempt: &Attempt,
        value: &Secret,
        is_born: bool,
    ) -> Result<Option<VersionId>, StoreError> {
        let (secret, labels): (_, &[&str]) = if is_born {
            (self.face_name(name), &[PENDING, RESERVED])
        } else {
            (self.book_name(name.as_str()), &[RESERVED])
        };
        for nth in 0..TRIES {
            let id = book.fresh(attempt, nth);
            match self.site.put(&secret, id.as_str(), value, labels).await? {
                Written::Done => return Ok(Some(id)),
                // This attempt has filled it with another value before.
                Written::Exists => {}
                Written::Missing => return Ok(None),
            }
        }
        Err(busy(name))
    }

    async fn read_at(&self, site: &Site, name: &StoredName, which: &Which) -> Result<(Version, Secret), StoreError> {
        check_name(name)?;
        if *which == Which::Current
            && let Some(read) = self.read_current(site, name).await?
        {
            return Ok(read);
        }
        let Found { book, face, .. } = self.look(site, name).await?;
        let version = book.versions()?.find(which)?.clone();
        let is_deleted = face.is_none() && !book.waits(&version.id);
        let beside = book.waits(&version.id);
        let secret = if beside { self.book_name(name.as_str()) } else { self.face_name(name) };
        let gone = || StoreError::NotFound(format!("version {} of `{name}`, which was deleted at AWS,", version.id));
        if is_deleted {
            return Err(gone());
        }
        let Value { value, .. } = site.value(&secret, Wanted::Id(version.id.as_str())).await?.ok_or_else(gone)?;
        check_value(&value)?;
        Ok((version, value))
    }

    /// The Current version, in two calls, where its book and its label agree, or nothing is owed.
    async fn read_current(&self, site: &Site, name: &StoredName) -> Result<Option<(Version, Secret)>, StoreError> {
        let (book, _) = self.book(site, name).await?;
        let Some(found) = site.value(&self.face_name(name), Wanted::Current).await? else { return Ok(None) };
        let ours = book.versions()?.at(Stage::Current).filter(|version| version.id == book::id_of(&found.id)).cloned();
        if ours.is_none() && book.owes() {
            return Ok(None);
        }
        let version = match ours {
            Some(version) => version,
            None => book::another_s(&found.id, Stage::Current, found.created)?,
        };
        check_value(&found.value)?;
        Ok(Some((version, found.value)))
    }

    async fn read_now(&self, name: &StoredName, which: &Which) -> Result<(Version, Secret), StoreError> {
        let Some(replica) = &self.replica else { return self.read_at(&self.site, name, which).await };
        let late = || StoreError::Unavailable("no answer in time".into());
        let first = timeout(MOST_TIME_BEFORE_THE_REPLICA, self.read_at(&self.site, name, which)).await;
        match first.unwrap_or_else(|_| Err(late())) {
            Err(StoreError::Unavailable(why)) => {
                let both = |error| match error {
                    StoreError::Unavailable(replica) => {
                        StoreError::Unavailable(format!("{why}; and in `replica_region`: {replica}"))
                    }
                    StoreError::NotFound(_) => StoreError::Unavailable(format!("{why}; `replica_region` lacks it")),
                    other @ (StoreError::Fenced(_)
                    | StoreError::Taken(..)
                    | StoreError::ReadOnly(_)
                    | StoreError::Invalid(_)
                    | StoreError::Setup(_)
                    | StoreError::Damaged(_)) => other,
                };
                self.read_at(replica, name, which).await.map_err(both)
            }
            answer => answer,
        }
    }

    async fn list_now(&self) -> Result<Vec<StoredName>, StoreError> {
        let mut names = Vec::new();
        for start in [self.prefix.clone(), self.book_name("")] {
            let found = self.site.names(&start, MOST_LISTED).await?;
            if found.len() > MOST_LISTED {
                return Err(StoreError::Setup(format!(
                    "it holds more than {MOST_LISTED} secrets: give the store a narrower `prefix`"
                )));
            }
            // What cannot be a name here is nobody's to ask for.
            let ours = found.iter().filter_map(|name| name.strip_prefix(&start)?.parse::<StoredName>().ok());
            names.extend(ours.filter(|name| check_name(name).is_ok()));
        }
        names.sort();
        names.dedup();
        Ok(names)
    }
}

fn id_of(aws_id: &str) -> VersionId {
    book::id_of(aws_id)
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

fn vanished(name: &StoredName) -> StoreError {
    StoreError::Setup(format!(
        "`{name}` was deleted at AWS while it was changed: `aws secretsmanager restore-secret` brings it back"
    ))
}

impl Store for AwsStore {
    fn list(&self) -> BoxFuture<'_, Result<Vec<StoredName>, StoreError>> {
        self.in_time(self.list_now()).boxed()
    }

    fn versions<'a>(&'a self, name: &'a StoredName) -> BoxFuture<'a, Result<Versions, StoreError>> {
        let versions = async move {
            check_name(name)?;
            let versions = self.look(&self.site, name).await?.book.versions()?;
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
        let now = || self.clock.now().wall;
        let reserve = self.change(name, move |book, versions| {
            versions.reserve(now(), book.fresh(attempt, 0), attempt, lease_ends, notes)
        });
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
            self.fill_now(name, attempt, value, notes).await
        };
        self.in_time(fill).boxed()
    }

    fn promote<'a>(
        &'a self,
        name: &'a StoredName,
        attempt: &'a Attempt,
    ) -> BoxFuture<'a, Result<VersionId, StoreError>> {
        let now = || self.clock.now().wall;
        self.in_time(self.change(name, move |_, versions| versions.promote(now(), attempt))).boxed()
    }

    fn retire<'a>(
        &'a self,
        name: &'a StoredName,
        version: &'a VersionId,
        attempt: &'a Attempt,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let retire = async move {
            self.change(name, |_, versions| versions.retire(version, attempt)).await?;
            // What is over loses its labels at the secret, or beside the book.
            let found = self.look(&self.site, name).await?;
            self.unlabel(name, &found).await?;
            if found.face.is_none_or(|face| face.current.is_none()) {
                self.site.move_label(&self.book_name(name.as_str()), RESERVED, version.as_str(), None).await?;
            }
            Ok(())
        };
        self.in_time(retire).boxed()
    }

    fn note<'a>(
        &'a self,
        name: &'a StoredName,
        version: &'a VersionId,
        attempt: &'a Attempt,
        notes: &'a Notes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.in_time(self.change(name, |_, versions| versions.note(version, attempt, notes))).boxed()
    }
}
