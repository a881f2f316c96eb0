//! (E) `bursar secret put NAME` and `bursar secret list`.

use std::collections::BTreeMap;
use std::io;

use clap::Subcommand;
use serde::Deserialize;
use serde_json::json;

use super::ask::{agent_answers, as_application, as_operator, granted};
use super::offline::{on_stores, runtime};
use super::{Exit, Globals, Outcome, Trouble, editor, import, show, watch};
use crate::access::{Action, Resource, SecretId};
use crate::agent::Rooms;
use crate::api::client::Call;
use crate::broker::VersionStatus;
use crate::config;
use crate::fault::counted;
use crate::name::Name;
use crate::secret::{Secret as Value, process};
use crate::store::files::without_line_end;
use crate::store::{self, MOST_VALUE_BYTES, Place, StoreError, VersionId};

/// Write and list secrets, through the agent or, where none runs, on the store itself
#[derive(Debug, clap::Args)]
pub(super) struct Secret {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write a secret; the value is read from standard input, or written in an editor
    ///
    /// One newline at the end of the value is not part of it.
    Put {
        /// A `[secret.NAME]` entry, or `STORE/NAME`
        name: SecretId,
        /// Write the value in an editor ($VISUAL, $EDITOR), which begins empty
        ///
        /// It works in a private folder in memory (tmpfs), also for what it keeps beside the file, and without your own
        /// settings. The folder is wiped and removed when the editor has ended.
        #[arg(long)]
        edit: bool,
    },
    /// Put the secrets of a directory, or of another store, into a store
    ///
    /// What has the same value already is left alone, so this can be run again.
    Import(import::Import),
    /// End a version that is not served: its value is wiped
    #[command(disable_version_flag = true)]
    Retire {
        /// A `[secret.NAME]` entry, or `STORE/NAME`
        name: SecretId,
        /// The version, as `secret versions` lists it
        #[arg(long, value_name = "ID")]
        version: VersionId,
    },
    /// List secrets, without values
    List,
    /// Read a secret and print it
    ///
    /// As an application, through its socket and by policy. Prints the value alone, in base64 where it is no text; with
    /// --json the whole answer.
    #[command(disable_version_flag = true)]
    Get {
        /// A `[secret.NAME]` entry
        name: Name,
        /// The version to read [default: the current one]
        #[arg(long, value_name = "ID")]
        version: Option<VersionId>,
        /// Stay, and print each new version; an agent that is restarted is waited for
        #[arg(long, conflicts_with = "version")]
        watch: bool,
        /// End each value with a NUL in place of a newline
        #[arg(long)]
        null: bool,
    },
    /// List the versions of a secret, newest first, without values
    Versions {
        /// A `[secret.NAME]` entry, or `STORE/NAME`
        name: SecretId,
    },
    /// Take a store as it is, though the audit log knows a newer one or another
    ///
    /// The agent does not start on a file that was restored from a backup, or was removed and made anew. See that
    /// this is what happened; then this records that you did, and the agent starts again.
    Accept {
        /// The store's name in the configuration
        store: Name,
    },
}

pub(super) type Listed = BTreeMap<Name, Vec<String>>;

#[derive(Deserialize)]
struct Stored {
    version: String,
}

impl Secret {
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        // A value passes through this process: it leaves no core, and what it makes is its owner's alone.
        let _ = process::harden();
        if let Verb::Get { name, version, watch, null } = &self.verb {
            let end: &[u8] = if *null { b"\0" } else { b"\n" };
            let stays = *watch;
            return if stays { watch::watch(globals, name, end) } else { get(globals, name, version.as_ref(), end) };
        }
        let agent = agent_answers(globals)?;
        match &self.verb {
            Verb::Put { name, edit } => {
                let value = if *edit { editor::value()? } else { from_stdin()? };
                let version = if agent { put(globals, name, &value)? } else { put_offline(globals, name, &value)? };
                shown_put(globals, name, &version)
            }
            Verb::Import(import) => import.run(globals, agent),
            Verb::Retire { name, version } if agent => {
                let call = Call::delete(format!("/secrets/{name}?version={version}"));
                let retired: Stored = granted(as_operator(globals, call)?)?;
                shown_retired(globals, name, &retired.version)
            }
            Verb::Retire { name, version } => {
                let done_to = (Action::Revoke, Resource::Secret(name.clone()));
                on_stores(globals, done_to, async |rooms| {
                    rooms.retire(name, &place(rooms, name)?, version).await?;
                    Ok(((), version.to_string()))
                })?;
                shown_retired(globals, name, version.as_str())
            }
            Verb::List => {
                let listed =
                    if agent { granted(as_operator(globals, Call::get("/secrets"))?)? } else { list_offline(globals)? };
                shown_list(globals, &listed)
            }
            Verb::Get { name, version, null: _, watch: _ } => get(globals, name, version.as_ref(), b"\n"),
            Verb::Versions { name } => {
                let path = format!("/secrets/{name}");
                let listed = if agent {
                    granted(as_operator(globals, Call::get(path))?)?
                } else {
                    versions_offline(globals, name)?
                };
                shown_versions(globals, &listed)
            }
            Verb::Accept { store } if agent => Err(Trouble::failed(format!(
                "the agent runs, so `{store}` is the store that the audit log knows: nothing is to be accepted"
            ))),
            Verb::Accept { store } => accept(globals, store),
        }
    }
}

fn get(globals: &Globals, name: &Name, version: Option<&VersionId>, end: &[u8]) -> Outcome {
    let query = version.map(|id| format!("?version={id}")).unwrap_or_default();
    let answer: serde_json::Value = granted(as_application(globals, Call::get(format!("/secret/{name}{query}")))?)?;
    watch::print(globals, &answer, end)?;
    Ok(Exit::Done)
}

fn from_stdin() -> Result<Value, Trouble> {
    // Room for the line end that is then taken off, and for one byte more than fits, to notice it.
    let read = Value::read_from(io::stdin().lock(), MOST_VALUE_BYTES + 2);
    let value =
        without_line_end(read.map_err(|error| Trouble::failed(format!("standard input cannot be read: {error}")))?);
    store::check_value(&value).map_err(|why| Trouble::failed(why.to_string()))?;
    Ok(value)
}

fn put(globals: &Globals, name: &SecretId, value: &Value) -> Result<String, Trouble> {
    let call = Call::put(format!("/secrets/{name}"), bytes::Bytes::copy_from_slice(value.expose()));
    granted::<Stored>(as_operator(globals, call)?).map(|stored| stored.version)
}

fn put_offline(globals: &Globals, name: &SecretId, value: &Value) -> Result<String, Trouble> {
    on_stores(globals, (Action::Put, Resource::Secret(name.clone())), async |rooms| {
        let place = place(rooms, name)?;
        let version = rooms.put(name, &place, value).await?;
        Ok((version.to_string(), version.to_string()))
    })
}

fn list_offline(globals: &Globals) -> Result<Listed, Trouble> {
    on_stores(globals, (Action::List, Resource::Agent), async |rooms| {
        let mut listed = Listed::new();
        for (store, open) in &rooms.shelf.stores {
            listed.insert(store.clone(), open.list().await?.iter().map(ToString::to_string).collect());
        }
        let count = counted(listed.len() as u64, "store");
        Ok((listed, count))
    })
}

fn versions_offline(globals: &Globals, name: &SecretId) -> Result<Vec<VersionStatus>, Trouble> {
    on_stores(globals, (Action::List, Resource::Agent), async |rooms| {
        let place = place(rooms, name)?;
        let versions = place.store.versions(&place.name).await?;
        let detail = format!("{} of `{name}`", counted(versions.iter().count() as u64, "version"));
        Ok((versions.iter().map(VersionStatus::of).collect(), detail))
    })
}

pub(super) fn place(rooms: &Rooms, name: &SecretId) -> Result<Place, StoreError> {
    let what = format!("`{name}` is neither a `[secret]` entry nor `STORE/NAME` of a configured store");
    rooms.shelf.find(name).ok_or(StoreError::Invalid(what))
}

fn accept(globals: &Globals, store: &Name) -> Outcome {
    let read = config::load(&globals.config)?;
    if !read.settings.stores.contains_key(store) {
        return Err(Trouble::failed(format!("there is no store `{store}` in the configuration")));
    }
    let failed = |why: &dyn std::fmt::Display| Trouble::failed(why.to_string());
    runtime()?.block_on(async {
        let rooms = Rooms::open(&read.settings, None, Some(store)).await.map_err(|why| failed(&why))?;
        rooms.close("offline").await.map_err(|why| failed(&why))
    })?;
    if globals.json {
        show::json(&json!({ "store": store }))?;
    } else {
        show::line(format!("{store}: the audit log knows it as it stands"))?;
    }
    Ok(Exit::Done)
}

fn shown_put(globals: &Globals, name: &SecretId, version: &str) -> Outcome {
    if globals.json {
        show::json(&json!({ "name": name.to_string(), "version": version }))?;
    } else {
        show::line(format!("{name}: version {version} is current"))?;
    }
    Ok(Exit::Done)
}

fn shown_retired(globals: &Globals, name: &SecretId, version: &str) -> Outcome {
    if globals.json {
        show::json(&json!({ "name": name.to_string(), "version": version }))?;
    } else {
        show::line(format!("{name}: version {version} is retired, its value is gone"))?;
    }
    Ok(Exit::Done)
}

fn shown_list(globals: &Globals, listed: &Listed) -> Outcome {
    if globals.json {
        show::json(listed)?;
        return Ok(Exit::Done);
    }
    for (store, names) in listed {
        for name in names {
            show::line(format!("{store}/{name}"))?;
        }
    }
    Ok(Exit::Done)
}

fn shown_versions(globals: &Globals, versions: &[VersionStatus]) -> Outcome {
    if globals.json {
        show::json(&versions)?;
        return Ok(Exit::Done);
    }
    let heads = ["VERSION", "STAGES", "CREATED", "BY"].map(str::to_owned);
    let row = |one: &VersionStatus| {
        let by = one.by.as_deref().unwrap_or("-").to_owned();
        vec![one.version.clone(), one.stages.join(","), one.created_at.clone(), by]
    };
    show::bytes(show::table(&heads, versions.iter().map(row)).as_bytes())?;
    Ok(Exit::Done)
}
