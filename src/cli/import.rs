//! (E) `bursar secret import`: secrets of a directory or of another store, put into a store.

use std::path::Path;

use serde::Serialize;
use serde_json::json;

use super::ask::{as_operator, granted};
use super::offline::{failed, on_stores, runtime};
use super::secret::{Listed, place};
use super::{Exit, Globals, Outcome, Trouble, show};
use crate::access::{Action, Resource, SecretId};
use crate::agent::Rooms;
use crate::api::client::Call;
use crate::fault::counted;
use crate::name::{Name, StoredName};
use crate::secret::Secret;
use crate::store::files::FilesStore;
use crate::store::import::Shown;
use crate::store::{Store, StoreError, Which};

/// What is imported, and where to.
#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// A store of the configuration, or a directory with one file a secret, as a `files` store reads it
    ///
    /// What is both is the store: write `./NAME` for the directory.
    #[arg(long, value_name = "DIR|STORE")]
    from: String,
    /// The store, `STORE`, or the names in it that begin with a prefix, `STORE/PREFIX`
    to: SecretId,
    /// Say what would be put, and put nothing
    #[arg(long)]
    dry_run: bool,
}

/// What became of one secret.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    /// `put`, `unchanged`, `would_put`, `failed`, or `not_tried` after a failure that the others would share.
    outcome: String,
    version: Option<String>,
    error: Option<String>,
}

/// Where the secrets come from: their names, and how one of them is imported.
enum Source {
    Directory(FilesStore),
    Store(Name),
}

impl Import {
    pub(super) fn run(&self, globals: &Globals, agent: bool) -> Outcome {
        let lines = if agent { self.through_the_agent(globals)? } else { self.on_the_stores(globals)? };
        self.shown(globals, &lines)
    }

    fn through_the_agent(&self, globals: &Globals) -> Result<Vec<Line>, Trouble> {
        let stores: Listed = granted(as_operator(globals, Call::get("/secrets"))?)?;
        let source = self.source(|name| stores.contains_key(name)).map_err(|why| failed(&why))?;
        let names = match &source {
            Source::Directory(folder) => listed(folder)?,
            Source::Store(name) => {
                stores.get(name).into_iter().flatten().filter_map(|name| name.parse().ok()).collect()
            }
        };
        let ask = |name: &StoredName, id: &SecretId| {
            let call = match &source {
                Source::Directory(folder) => {
                    let value = bytes::Bytes::copy_from_slice(read(folder, name)?.expose());
                    Call::put(format!("/secrets/{id}?unless_same=1{}", self.dry()), value)
                }
                Source::Store(store) => {
                    let from = format!("{store}/{name}");
                    let from: String = form_urlencoded::byte_serialize(from.as_bytes()).collect();
                    Call::post(format!("/secrets/{id}?from={from}{}", self.dry()))
                }
            };
            granted::<Shown>(as_operator(globals, call)?)
        };
        Ok(self.each(names, ask))
    }

    const fn dry(&self) -> &'static str {
        if self.dry_run { "&dry_run=1" } else { "" }
    }

    fn on_the_stores(&self, globals: &Globals) -> Result<Vec<Line>, Trouble> {
        let done_to = (Action::Put, Resource::Secret(self.to.clone()));
        on_stores(globals, done_to, async |rooms| {
            let lines = self.on_rooms(rooms).await?;
            let summary = summary(&lines);
            Ok((lines, summary))
        })
    }

    async fn on_rooms(&self, rooms: &Rooms) -> Result<Vec<Line>, StoreError> {
        let source = self.source(|name| rooms.shelf.stores.contains_key(name))?;
        let from: &dyn Store = match &source {
            Source::Directory(folder) => folder,
            Source::Store(name) => {
                let gone = || StoreError::Invalid(format!("there is no store `{name}` in the configuration"));
                &**rooms.shelf.stores.get(name).ok_or_else(gone)?
            }
        };
        let mut lines = Vec::new();
        for name in from.list().await? {
            let imported = async {
                let id = self.target(&name)?;
                let place = place(rooms, &id)?;
                let (_, value) = from.read(&name, &Which::Current).await?;
                rooms.import(&id, &place, &value, self.dry_run).await
            };
            let imported = imported.await.map(|imported| Shown::from(&imported));
            lines.push(self.line(&name, imported.map_err(|why| failed(&why))));
        }
        Ok(lines)
    }

    fn source(&self, is_store: impl FnOnce(&Name) -> bool) -> Result<Source, StoreError> {
        match self.from.parse::<Name>() {
            Ok(name) if is_store(&name) => Ok(Source::Store(name)),
            Ok(_) | Err(_) => FilesStore::open(Path::new(&self.from)).map(Source::Directory),
        }
    }

    /// The name that a secret has where it is put.
    fn target(&self, name: &StoredName) -> Result<SecretId, StoreError> {
        let id = format!("{}/{name}", self.to);
        id.parse().map_err(|why| StoreError::Invalid(format!("`{id}` cannot be a secret's name: {why}")))
    }

    /// Imports one after the other. A failure that the others would share ends it.
    fn each(
        &self,
        names: Vec<StoredName>,
        import: impl Fn(&StoredName, &SecretId) -> Result<Shown, Trouble>,
    ) -> Vec<Line> {
        let mut ended = false;
        let one = |name: StoredName| {
            if ended {
                return Line { outcome: "not_tried".into(), error: None, version: None, name: self.shown_as(&name) };
            }
            let imported = self.target(&name).map_err(|why| failed(&why)).and_then(|id| import(&name, &id));
            ended = imported.as_ref().is_err_and(|why| matches!(why.exit(), Exit::Refused | Exit::Unavailable));
            self.line(&name, imported)
        };
        names.into_iter().map(one).collect()
    }

    fn line(&self, name: &StoredName, imported: Result<Shown, Trouble>) -> Line {
        let name = self.shown_as(name);
        match imported {
            Ok(Shown { outcome, version }) => Line { name, outcome, version, error: None },
            Err(why) => Line { name, outcome: "failed".into(), version: None, error: Some(why.what()) },
        }
    }

    fn shown_as(&self, name: &StoredName) -> String {
        format!("{}/{name}", self.to)
    }

    fn shown(&self, globals: &Globals, lines: &[Line]) -> Outcome {
        if globals.json {
            show::json(&json!({ "from": self.from, "dry_run": self.dry_run, "secrets": lines }))?;
        } else {
            for Line { name, outcome, version, error } in lines {
                let more = error.as_ref().map(|error| format!(": {error}"));
                let more = more.or_else(|| version.as_ref().map(|version| format!(", version {version}")));
                show::line(format!("{name}: {}{}", outcome.replace('_', " "), more.unwrap_or_default()))?;
            }
            show::line(summary(lines))?;
        }
        let whole = lines.iter().all(|line| !matches!(line.outcome.as_str(), "failed" | "not_tried"));
        Ok(if whole { Exit::Done } else { Exit::Failed })
    }
}

/// How many came to what.
fn summary(lines: &[Line]) -> String {
    let count = |outcome: &str| lines.iter().filter(|line| line.outcome == outcome).count();
    let told = ["put", "would_put", "unchanged", "failed", "not_tried"].map(|outcome| (outcome, count(outcome)));
    let told = told.iter().filter(|(_, count)| *count > 0);
    let told = told.map(|(outcome, count)| format!("{count} {}", outcome.replace('_', " "))).collect::<Vec<_>>();
    format!(
        "{}: {}",
        counted(lines.len() as u64, "secret"),
        if told.is_empty() { "none".into() } else { told.join(", ") }
    )
}

fn listed(folder: &FilesStore) -> Result<Vec<StoredName>, Trouble> {
    runtime()?.block_on(folder.list()).map_err(|why| failed(&why))
}

fn read(folder: &FilesStore, name: &StoredName) -> Result<Secret, Trouble> {
    let read = runtime()?.block_on(folder.read(name, &Which::Current));
    read.map(|(_, value)| value).map_err(|why| failed(&why))
}
