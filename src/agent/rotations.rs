//! From rotation entries to rotations: the only place that names concrete rotators.

use std::sync::Arc;

use crate::access::SecretId;
use crate::config::Settings;
use crate::config::meant::{self, SecretRef};
use crate::crypto::Random;
use crate::name::Name;
use crate::rotation::login::Admin;
use crate::rotation::postgres::Postgres;
use crate::rotation::random::RandomText;
use crate::rotation::redis_acl::RedisAcl;
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
    let rotator = rotator(&meant.rotator, shelf, tools)?;
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

/// The rotator; none where the store of its credential is not open.
fn rotator(meant: &meant::Rotator, shelf: &Shelf, tools: &Tools) -> Option<Arc<dyn Rotator>> {
    let random = Arc::clone(&tools.random);
    let admin = |at: &SecretRef| shelf.find(&SecretId::Stored(at.store.clone(), at.name.clone())).map(Admin);
    Some(match meant {
        meant::Rotator::Random { alphabet, length } => Arc::new(RandomText::new(*alphabet, *length, random)),
        meant::Rotator::Postgres { server, roles, admin: at } => {
            Arc::new(Postgres { server: server.clone(), roles: roles.clone(), admin: admin(at)?, random })
        }
        meant::Rotator::RedisAcl { user, admin: at, exclusive: _ } => {
            Arc::new(RedisAcl { user: user.clone(), admin: admin(at)?, random })
        }
    })
}
