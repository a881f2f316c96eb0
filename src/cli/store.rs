//! (E) `bursar store rekey|backup|restore|check`: a sealed store as a whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::ask::{agent_answers, as_operator, granted, into_file};
use super::offline::{on_stores, on_the_log};
use super::{Exit, Globals, Outcome, Trouble, show};
use crate::access::{Action, Resource};
use crate::agent::Restored;
use crate::api::client::{CHECKED, Call};
use crate::durable;
use crate::fault::counted;
use crate::name::Name;
use crate::secret::{Secret, process};
use crate::store::upkeep::{Checked, NewKey, Rekeyed};
use crate::store::{StoreError, key};

/// Look after a sealed store: change its key, back it up, restore it, check it
#[derive(Debug, clap::Args)]
pub(super) struct Store {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Change the key of a store; its values stay as they are
    ///
    /// Through the agent, or on the store itself where none runs. The new key stands beside the old one, as
    /// `KEYFILE.next`, until the store is sealed with it, and takes its place then; at each opening both are tried, so
    /// whatever cuts this off, the store opens. A backup that was made before opens with the old key alone: keep a copy
    /// of it as long as you keep that.
    Rekey {
        /// The store's name in the configuration
        name: Name,
        /// A file with the new key: 64 hexadecimal digits, or 32 bytes [default: one is made]
        #[arg(long, value_name = "FILE", conflicts_with = "key_credential")]
        key: Option<PathBuf>,
        /// The new key is the systemd credential `NAME.next`, where `NAME` is that of the configuration
        #[arg(long)]
        key_credential: bool,
    },
    /// Write a copy of a store, sealed as it is, while it is in use
    Backup {
        /// The store's name in the configuration
        name: Name,
        /// The file to write, which must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Put a backup in the place of a store, while no agent runs
    ///
    /// All of it is looked at before anything is replaced. The file that was there is kept beside it. The audit log knows
    /// the store from then on as it stands in the backup, as after `bursar secret accept`.
    Restore {
        /// The store's name in the configuration
        name: Name,
        /// The backup
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// A file with the key that the backup was made under, where the store's key was changed since
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Look at all of a store: every page, tag and value
    ///
    /// Ends with exit code 5 where anything is not as it was written.
    Check {
        /// The store's name in the configuration
        name: Name,
    },
}

const MAINTAIN: (Action, Resource) = (Action::Maintain, Resource::Agent);

impl Store {
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        // A key passes through this process: it leaves no core, and what it makes is its owner's alone.
        let _ = process::harden();
        match &self.verb {
            Verb::Rekey { name, key, key_credential } => rekey(globals, name, key.as_deref(), *key_credential),
            Verb::Backup { name, out } => back_up(globals, name, out),
            Verb::Restore { name, from, key } => restore(globals, name, from, key.as_deref()),
            Verb::Check { name } => check(globals, name),
        }
    }
}

fn rekey(globals: &Globals, name: &Name, key: Option<&Path>, credential: bool) -> Outcome {
    let key = key.map(read_key).transpose()?;
    let rekeyed: Rekeyed = if agent_answers(globals)? {
        let query = if credential { "?credential=1" } else { "" };
        let body = key.as_ref().map_or_else(bytes::Bytes::new, |key| bytes::Bytes::copy_from_slice(key.expose()));
        granted(as_operator(globals, Call::post_bytes(format!("/stores/{name}/rekey{query}"), body))?)?
    } else {
        let to = match (key, credential) {
            (_, true) => NewKey::Credential,
            (Some(key), false) => NewKey::Given(key),
            (None, false) => NewKey::Made,
        };
        on_stores(globals, MAINTAIN, async |rooms| {
            let rekeyed = rooms.rekey(name, to).await?;
            let detail = format!("`{name}`: another key for {}", counted(rekeyed.values, "value"));
            Ok((rekeyed, detail))
        })?
    };
    if globals.json {
        show::json(&rekeyed)?;
    } else {
        let Rekeyed { values, key, to_do } = &rekeyed;
        show::line(format!("{name}: {} under the new key, `{key}`", counted(*values, "value")))?;
        to_do.iter().try_for_each(|to_do| show::line(format!("left to do: {to_do}")))?;
    }
    Ok(Exit::Done)
}

/// The text of a key, from a file that is its owner's alone.
fn read_key(path: &Path) -> Result<Secret, Trouble> {
    let read = File::open(path).and_then(|file| Secret::read_from(file, 2 * 32 + 2));
    let text =
        read.map_err(|error| Trouble::failed(format!("the key `{}` cannot be read: {error}", path.display())))?;
    match key::parse(&text) {
        Some(_) => Ok(text),
        None => Err(Trouble::failed(format!(
            "`{}` is not a store key: it has 64 hexadecimal digits, or 32 bytes",
            path.display()
        ))),
    }
}

fn back_up(globals: &Globals, name: &Name, out: &Path) -> Outcome {
    if out.symlink_metadata().is_ok() {
        return Err(Trouble::failed(format!("`{}` is there already: give the backup another name", out.display())));
    }
    let part = out.with_added_extension("part");
    let written = copy_into(globals, name, &part).and_then(|checked| {
        let named = std::fs::hard_link(&part, out).and_then(|()| durable::sync_folder(folder_of(out)));
        named.map_err(|error| unwritable(out, &error)).map(|()| checked)
    });
    let _ = std::fs::remove_file(&part);
    let checked = written?;
    if globals.json {
        show::json(&json!({ "file": out, "checked": checked }))?;
    } else {
        let (secrets, values) = (counted(checked.secrets, "secret"), counted(checked.values, "value"));
        show::line(format!(
            "{name}: {secrets} with {values} in `{}`, sealed; keep its key apart from it",
            out.display()
        ))?;
    }
    Ok(Exit::Done)
}

fn copy_into(globals: &Globals, name: &Name, part: &Path) -> Result<Checked, Trouble> {
    let _ = std::fs::remove_file(part);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part);
    let mut file = file.map_err(|error| unwritable(part, &error))?;
    let checked = if agent_answers(globals)? {
        let headers = into_file(globals, Call::post(format!("/stores/{name}/backup")), &mut file)?;
        let checked = headers.get(CHECKED).and_then(|checked| serde_json::from_slice(checked.as_bytes()).ok());
        checked.ok_or_else(|| Trouble::failed("the agent's answer says nothing of the copy; is it another version?"))?
    } else {
        on_stores(globals, MAINTAIN, async |rooms| {
            let mut copy = rooms.back_up(name).await?;
            let unwritten = |error: io::Error| StoreError::Unavailable(format!("cannot write the backup: {error}"));
            loop {
                let chunk = copy.chunk().map_err(unwritten)?;
                if chunk.is_empty() {
                    break;
                }
                file.write_all(&chunk).map_err(unwritten)?;
            }
            Ok((copy.checked.clone(), format!("`{name}`: a copy of {}", counted(copy.checked.values, "value"))))
        })?
    };
    file.sync_all().map_err(|error| unwritable(part, &error))?;
    Ok(checked)
}

fn unwritable(path: &Path, error: &io::Error) -> Trouble {
    Trouble::failed(format!("the backup `{}` cannot be written: {error}", path.display()))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn restore(globals: &Globals, name: &Name, from: &Path, key: Option<&Path>) -> Outcome {
    if agent_answers(globals)? {
        return Err(Trouble::failed(format!("the agent runs, and has `{name}` open"))
            .help("stop it first (`systemctl stop bursar`), and start it when the store is restored"));
    }
    let key = key.map(read_key).transpose()?;
    let key = key.as_ref().and_then(key::parse);
    let Restored { values, kept } = on_the_log(globals, MAINTAIN, async |rooms, settings| {
        let restored = rooms.restore(settings, name, from, key.as_ref()).await?;
        let detail = format!("`{name}`: restored with {}", counted(restored.values, "value"));
        Ok((restored, detail))
    })?;
    if globals.json {
        show::json(&json!({ "store": name, "values": values, "kept": kept }))?;
        return Ok(Exit::Done);
    }
    show::line(format!("{name}: restored with {}; put anew what was changed since", counted(values, "value")))?;
    if let Some(kept) = kept {
        show::line(format!("the store that was there is `{}`: remove it when you no longer need it", kept.display()))?;
    }
    Ok(Exit::Done)
}

fn check(globals: &Globals, name: &Name) -> Outcome {
    let checked: Checked = if agent_answers(globals)? {
        granted(as_operator(globals, Call::post(format!("/stores/{name}/check")))?)?
    } else {
        on_the_log(globals, MAINTAIN, async |rooms, settings| {
            let checked = rooms.check(settings, name)?;
            let summary = checked.summary(name);
            Ok((checked, summary))
        })?
    };
    if globals.json {
        show::json(&checked)?;
    } else {
        shown_check(name, &checked)?;
    }
    Ok(if checked.is_intact() { Exit::Done } else { Exit::Tampering })
}

fn shown_check(name: &Name, checked: &Checked) -> Result<(), Trouble> {
    for damage in &checked.damage {
        let of = damage.secret.as_ref().map(|secret| format!("/{secret}")).unwrap_or_default();
        show::line(format!("damaged: {name}{of}: {}", damage.what))?;
    }
    let looked_at = format!("{} with {}", counted(checked.secrets, "secret"), counted(checked.values, "value"));
    if checked.is_intact() {
        let changes = checked.changes.unwrap_or_default();
        return show::line(format!("ok: {name}: {looked_at}, {changes} changes, key `{}`", checked.key));
    }
    show::line(format!(
        "{name}: {} in {looked_at}; put a backup in its place with `bursar store restore {name} --from FILE`, and find out \
         who wrote to the file",
        counted(checked.damage.len() as u64, "fault")
    ))
}
