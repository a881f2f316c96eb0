//! (E) From rotation entries to rotations: the only place that names concrete rotators.

mod of_provider;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use rustls::ClientConfig;
use tokio::task::spawn_blocking;

use super::roots;
use crate::access::SecretId;
use crate::audit::AuditError;
use crate::audit::query::{Filter, query};
use crate::config::Read;
use crate::config::meant::{self, SecretRef};
use crate::crypto::Random;
use crate::fault::{Fault, Faults};
use crate::name::Name;
use crate::rotation::access_key::AccessKey;
use crate::rotation::exec::Program;
use crate::rotation::http::HttpCalls;
use crate::rotation::postgres::Postgres;
use crate::rotation::random::RandomText;
use crate::rotation::redis_acl::RedisAcl;
use crate::rotation::signing_key::Page;
use crate::rotation::{self, Admin, Plan, Rotation, Rotator};
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
    Ok(Rotation { name: name.clone(), place, plan, uptake: meant.uptake, schedule: meant.schedule.clone(), rotator })
}

fn rotator(
    meant: &meant::Rotator,
    place: &Place,
    read: &Read,
    shelf: &Shelf,
    tools: &Tools,
) -> Result<Arc<dyn Rotator>, String> {
    let random = |alphabet, length| RandomText::new(alphabet, length, Arc::clone(&tools.random));
    Ok(match meant {
        meant::Rotator::Random { alphabet, length } => Arc::new(random(*alphabet, *length)),
        meant::Rotator::Postgres { server, roles, admin: at } => {
            let (admin, random) = (admin(Some(at), shelf)?.ok_or("it has no `admin`")?, Arc::clone(&tools.random));
            Arc::new(Postgres { server: server.clone(), roles: roles.clone(), admin, random })
        }
        meant::Rotator::RedisAcl { user, admin: at, exclusive: _ } => {
            let (admin, random) = (admin(Some(at), shelf)?.ok_or("it has no `admin`")?, Arc::clone(&tools.random));
            Arc::new(RedisAcl { user: user.clone(), admin, random })
        }
        meant::Rotator::Http(calls) => {
            let tls = tls(calls.ca_file.as_deref(), calls.is_plain, tools)?;
            let admin = admin(calls.admin.as_ref(), shelf)?;
            let random = random(calls.alphabet, calls.length);
            let rotator = HttpCalls::new(calls.definition.clone(), admin, tls, random);
            Arc::new(rotator.map_err(|why| why.to_string())?)
        }
        meant::Rotator::AccessKey(keys) => {
            let tls = tls(keys.ca_file.as_deref(), keys.is_plain, tools)?;
            let admin = admin(Some(&keys.admin), shelf)?.ok_or("it has no `admin`")?;
            let rotator = AccessKey::new(keys.settings.clone(), admin, tls, Arc::clone(&tools.clock));
            Arc::new(rotator.map_err(|why| why.to_string())?)
        }
        meant::Rotator::Exec(program) => {
            let admin = admin(program.admin.as_ref(), shelf)?;
            Arc::new(Program::new(program.settings.clone(), admin, random(program.alphabet, program.length)))
        }
        meant::Rotator::ClientSecret(it) => of_provider::client_secret(it, read, shelf, tools)?,
        meant::Rotator::SigningKey(it) => of_provider::signing_key(it, place, read, tools)?,
    })
}

/// How TLS is spoken to a far side.
fn tls(ca_file: Option<&Path>, is_plain: bool, tools: &Tools) -> Result<ClientConfig, String> {
    let pem = ca_file.map(roots::read).transpose()?;
    tools.tls.config_for(&roots::of(pem.as_deref())?, is_plain).map_err(|why| why.to_string())
}

fn admin(at: Option<&SecretRef>, shelf: &Shelf) -> Result<Option<Admin>, String> {
    let Some(at) = at else { return Ok(None) };
    let place = shelf.find(&SecretId::Stored(at.store.clone(), at.name.clone()));
    place.map(Admin::at).map(Some).ok_or_else(|| format!("there is no store `{}`", at.store))
}

/// Reads in the log of `dir` who was handed what of the former versions, for as long as that takes.
pub(super) async fn recall(engine: Arc<rotation::Engine>, dir: PathBuf) {
    let read = |secret: Name, version: VersionId, since: Wall| {
        let dir = dir.clone();
        async move {
            let looked = spawn_blocking(move || handed(&dir, &secret, &version, since)).await;
            match looked.map_err(|error| error.to_string()).and_then(|read| read.map_err(|error| error.to_string())) {
                Ok(workloads) => Some(workloads.into_iter().collect()),
                Err(why) => {
                    tracing::warn!(
                        "who held a former version before this start is not known, so it is waited for: {why}"
                    );
                    None
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
