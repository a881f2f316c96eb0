//! From rotation entries to rotations: the only place that names concrete rotators.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;

use super::roots;
use crate::access::SecretId;
use crate::config::Settings;
use crate::config::meant::{self, SecretRef};
use crate::crypto::Random;
use crate::name::Name;
use crate::rotation::http::HttpCalls;
use crate::rotation::random::RandomText;
use crate::rotation::{Admin, Plan, Rotation, Rotator};
use crate::store::Shelf;
use crate::wire::tls::Tls;

/// What the rotators of an agent work with.
pub(super) struct Tools {
    pub(super) random: Arc<dyn Random>,
    pub(super) tls: Tls,
}

/// The rotations of `settings`, over the stores that stand open.
///
/// # Errors
/// What is wrong with the first that cannot be.
pub(super) fn of(settings: &Settings, shelf: &Shelf, tools: &Tools) -> Result<Vec<Rotation>, String> {
    let rotated = settings.secrets.iter().filter_map(|(name, secret)| Some((name, secret.rotation.as_ref()?)));
    let each = rotated
        .map(|(name, meant)| one(name, meant, shelf, tools).map_err(|why| format!("the rotation of `{name}`: {why}")));
    each.filter_map(Result::transpose).collect()
}

fn one(name: &Name, meant: &meant::Rotation, shelf: &Shelf, tools: &Tools) -> Result<Option<Rotation>, String> {
    let rotator = rotator(&meant.rotator, shelf, tools)?;
    let plan = Plan {
        overlap: rotator.overlap(),
        invents: rotator.invents(),
        settles_within: rotator.settles_within(),
        grace: meant.grace,
        uptake_deadline: meant.uptake_deadline,
        exclusive: meant.rotator.exclusive(),
    };
    let place = shelf.find(&SecretId::Entry(name.clone()));
    Ok(place.map(|place| Rotation { name: name.clone(), place, plan, schedule: meant.schedule.clone(), rotator }))
}

fn rotator(meant: &meant::Rotator, shelf: &Shelf, tools: &Tools) -> Result<Arc<dyn Rotator>, String> {
    let random = |alphabet, length| RandomText::new(alphabet, length, Arc::clone(&tools.random));
    Ok(match meant {
        meant::Rotator::Random { alphabet, length } => Arc::new(random(*alphabet, *length)),
        meant::Rotator::Http(calls) => {
            let tls = tls(calls.ca_file.as_deref(), calls.is_plain, tools)?;
            let admin = admin(calls.admin.as_ref(), shelf)?;
            let random = random(calls.alphabet, calls.length);
            let rotator = HttpCalls::new(calls.definition.clone(), admin, tls, random);
            Arc::new(rotator.map_err(|why| why.to_string())?)
        }
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
