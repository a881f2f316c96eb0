//! From rotation entries to rotations: the only place that names concrete rotators.

use std::sync::Arc;

use crate::access::SecretId;
use crate::config::Settings;
use crate::config::meant;
use crate::crypto::Random;
use crate::name::Name;
use crate::rotation::random::RandomText;
use crate::rotation::{Plan, Rotation, Rotator};
use crate::store::Shelf;

/// What the rotators of an agent work with.
pub(super) struct Tools {
    pub(super) random: Arc<dyn Random>,
}

/// The rotations of `settings`, over the stores that stand open.
pub(super) fn of(settings: &Settings, shelf: &Shelf, tools: &Tools) -> Vec<Rotation> {
    let rotated = settings.secrets.iter().filter_map(|(name, secret)| Some((name, secret.rotation.as_ref()?)));
    rotated.filter_map(|(name, meant)| one(name, meant, shelf, tools)).collect()
}

fn one(name: &Name, meant: &meant::Rotation, shelf: &Shelf, tools: &Tools) -> Option<Rotation> {
    let rotator = rotator(&meant.rotator, tools);
    let plan = Plan {
        overlap: rotator.overlap(),
        invents: rotator.invents(),
        settles_within: rotator.settles_within(),
        grace: meant.grace,
        uptake_deadline: meant.uptake_deadline,
        exclusive: meant.rotator.exclusive(),
    };
    let place = shelf.find(&SecretId::Entry(name.clone()))?;
    Some(Rotation { name: name.clone(), place, plan, schedule: meant.schedule.clone(), rotator })
}

fn rotator(meant: &meant::Rotator, tools: &Tools) -> Arc<dyn Rotator> {
    match meant {
        meant::Rotator::Random { alphabet, length } => {
            Arc::new(RandomText::new(*alphabet, *length, Arc::clone(&tools.random)))
        }
    }
}
