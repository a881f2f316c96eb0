//! (E) From rotation entries to rotations: the only place that names concrete rotators.

mod of_provider;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use tokio::task::spawn_blocking;

use crate::access::SecretId;
use crate::audit::AuditError;
use crate::audit::query::{Filter, query};
use crate::config::Read;
use crate::config::meant;
use crate::crypto::Random;
use crate::fault::{Fault, Faults};
use crate::name::Name;
use crate::rotation::random::RandomText;
use crate::rotation::signing_key::Page;
use crate::rotation::{self, Plan, Rotation, Rotator};
use crate::store::{Place, Shelf, VersionId};
use crate::time::{Clock, Wall};
use crate::wire::tls::Tls;

/// What the rotators of an agent work with.
pub(super) struct Tools {
    pub(super) random: Arc<dyn Random>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tls: Arc<Tls>,
    /// The key sets that are served: an address is listened at once, over reloads too.
    pub(super) pages: Mutex<BTreeMap<SocketAddr, Weak<Page>>>,
}

/// The rotations of `read`, over the stores that stand open.
///
/// # Errors
/// Every rotator that cannot be made, each at its place.
pub(super) fn of(read: &Read, shelf: &Shelf, tools: &Tools) -> Result<Vec<Rotation>, Faults> {
    let (mut rotations, mut faults) = (Vec::new(), Faults::default());
    for (name, secret) in &read.settings.secrets {
        let Some(meant) = &secret.rotation else { continue };
        match one(name, meant, read, shelf, tools) {
            Ok(rotation) => rotations.push(rotation),
            Err(what) => {
                let place = read.places.of(&format!("secret.{name}.rotation"));
                faults.push(Fault::new(place, format!("the rotation of `{name}`: {what}")));
            }
        }
    }
    faults.or(rotations)
}

fn one(name: &Name, meant: &meant::Rotation, read: &Read, shelf: &Shelf, tools: &Tools) -> Result<Rotation, String> {
    let place = shelf.find(&SecretId::Entry(name.clone())).ok_or("there is no such store")?;
    let rotator = rotator(&meant.rotator, &place, read, shelf, tools)?;
    let plan = Plan {
        overlap: rotator.overlap(),
        invents: rotator.invents(),
        settles_within: rotator.settles_within(),
        grace: meant.grace,
        uptake_deadline: meant.uptake_deadline,
        exclusive: meant.rotator.exclusive(),
    };
    Ok(Rotation { name: name.clone(), place, plan, schedule: meant.schedule.clone(), rotator })
}

fn rotator(
    meant: &meant::Rotator,
    place: &Place,
    read: &Read,
    shelf: &Shelf,
    tools: &Tools,
) -> Result<Arc<dyn Rotator>, String> {
    Ok(match meant {
        meant::Rotator::Random { alphabet, length } => {
            Arc::new(RandomText::new(*alphabet, *length, Arc::clone(&tools.random)))
        }
        meant::Rotator::ClientSecret(it) => of_provider::client_secret(it, read, shelf, tools)?,
        meant::Rotator::SigningKey(it) => of_provider::signing_key(it, place, read, tools)?,
    })
}

/// Reads in the log of `dir` who was handed what of the former versions, for as long as that takes.
pub(super) async fn recall(engine: Arc<rotation::Engine>, dir: PathBuf) {
    let read = |secret: Name, version: VersionId, since: Wall| {
        let dir = dir.clone();
        async move {
            let looked = spawn_blocking(move || handed(&dir, &secret, &version, since)).await;
            match looked.map_err(|error| error.to_string()).and_then(|read| read.map_err(|error| error.to_string())) {
                Ok(workloads) => workloads.into_iter().collect(),
                Err(why) => {
                    tracing::warn!("who held a former version before this start is not known: {why}");
                    Vec::new()
                }
            }
        }
    };
    engine.recall(read).await;
}

/// The workloads to which the log says `version` was released since then.
fn handed(dir: &Path, secret: &Name, version: &VersionId, since: Wall) -> Result<BTreeSet<Name>, AuditError> {
    let filter = Filter { kind: Some("release".into()), since: Some(since), ..Filter::default() };
    let mut workloads = BTreeSet::new();
    for line in query(dir, filter)? {
        let line = line?;
        let is_it = line.text("version") == Some(version.as_str()) && line.text("resource") == Some(secret.as_str());
        workloads.extend(line.text("who").filter(|_| is_it).and_then(|who| who.parse::<Name>().ok()));
    }
    Ok(workloads)
}
