//! (E) The notices beside a secret: `<prefix>.bursar/holders.bursar/<name>/<author>`. No secret has such a name, so that
//! none of them is a book; and each has one writer, whose check-and-set fails only where it had forgotten itself.

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use serde_json::Value;

use super::server::Asked;
use super::{Of, OpenBaoStore, Said, TRIES, answer, busy, check_name, refused};
use crate::name::StoredName;
use crate::store::{Author, Noticeboard, Posted, StoreError};

/// How many notices of one secret are read, and how many at once.
const MOST_NOTICES: usize = 1_000;
const AT_ONCE: usize = 16;

impl OpenBaoStore {
    async fn put_up_now(&self, name: &StoredName, author: &Author, text: &str) -> Result<(), StoreError> {
        check_name(name)?;
        let unwritable = |_| StoreError::Invalid(format!("the notice on `{name}` is not JSON"));
        let (path, data) = (format!("{name}/{author}"), serde_json::from_str::<Value>(text).map_err(unwritable)?);
        for _ in 0..TRIES {
            let (found, body) = self.found(Asked::get(self.path("data", Of::Notice, &path))).await?;
            let newest = answer::shown::<Value>(&body, found)?.map_or(0, |shown| shown.version);
            if self.write_alone(Of::Notice, &path, newest, &data).await?.is_some() {
                return Ok(());
            }
        }
        Err(busy(name))
    }

    async fn posted_now(&self, name: &StoredName) -> Result<Vec<Posted>, StoreError> {
        check_name(name)?;
        let folder = self.path("metadata", Of::Notice, &format!("{name}/"));
        let (found, body) = self.found(Asked::get(folder.clone() + "?list=true")).await?;
        let keys = if found { answer::keys(&body)? } else { Vec::new() };
        // The folders are those of secrets further down.
        let authors = keys.iter().filter(|key| !key.ends_with('/')).map(|key| key.parse::<Author>());
        let authors = authors.collect::<Result<Vec<_>, _>>();
        let strange =
            |_| StoreError::Damaged(format!("among the notices in `{folder}` stands what is none: delete it"));
        let authors = authors.map_err(strange)?;
        if authors.len() > MOST_NOTICES {
            return Err(StoreError::Setup(format!(
                "more than {MOST_NOTICES} notices stand in `{folder}`: delete those of agents that are gone"
            )));
        }
        let mut posted = Vec::new();
        for some in authors.chunks(AT_ONCE) {
            for one in join_all(some.iter().map(|author| self.notice(name, author))).await {
                posted.extend(one?);
            }
        }
        Ok(posted)
    }

    async fn notice(&self, name: &StoredName, author: &Author) -> Result<Option<Posted>, StoreError> {
        let (found, body) = self.found(Asked::get(self.path("data", Of::Notice, &format!("{name}/{author}")))).await?;
        Ok(answer::notice(&body, found)?.map(|text| Posted { author: author.clone(), text }))
    }

    async fn take_down_now(&self, name: &StoredName, author: &Author) -> Result<(), StoreError> {
        let asked = Asked::delete(self.path("metadata", Of::Notice, &format!("{name}/{author}")));
        let path = asked.path().to_owned();
        match self.ask(asked).await? {
            (Said::Done | Said::Missing, _) => Ok(()),
            (Said::Conflict | Said::Refused | Said::Denied, _) => Err(refused(&path)),
        }
    }
}

impl Noticeboard for OpenBaoStore {
    fn put_up<'a>(
        &'a self,
        name: &'a StoredName,
        author: &'a Author,
        text: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.in_time(self.put_up_now(name, author, text)).boxed()
    }

    fn posted<'a>(&'a self, name: &'a StoredName) -> BoxFuture<'a, Result<Vec<Posted>, StoreError>> {
        self.in_time(self.posted_now(name)).boxed()
    }

    fn take_down<'a>(&'a self, name: &'a StoredName, author: &'a Author) -> BoxFuture<'a, Result<(), StoreError>> {
        self.in_time(self.take_down_now(name, author)).boxed()
    }
}
