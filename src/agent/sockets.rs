//! (E) The sockets of the agent: those that systemd passed on, the others bound here.

use std::os::unix::net::UnixListener;

use nix::unistd::{Group, User};

use crate::access::Role;
use crate::api::socket::{Bound, NotBound, Place};
use crate::config::meant::{ADMIN_GROUP, Agent, Listener};
use crate::name::Name;
use crate::peer::{self, Unfit};
use crate::systemd::Inherited;

/// A socket on which the agent listens.
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    pub(super) role: Role,
    /// The workload to which the path is bound, if it is.
    pub(super) workload: Option<Name>,
    /// Its file, where it is ours: it goes when the agent drains.
    pub(super) bound: Option<Bound>,
}

/// A socket that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum NotListening {
    /// It could not be bound.
    #[error(transparent)]
    NotBound(#[from] NotBound),
    /// It is not what a door needs.
    #[error("the socket `{name}` cannot be used: {why}")]
    Unfit {
        /// Its path, or what systemd calls it.
        name: String,
        /// Why.
        why: Unfit,
    },
    /// An account that the configuration names does not exist.
    #[error("there is no {what} `{name}`, which `{key}` names: create it, or name another")]
    NoAccount {
        /// `user` or `group`.
        what: &'static str,
        /// Its name.
        name: String,
        /// The key of the configuration.
        key: &'static str,
    },
    /// systemd passed on a socket for a workload without an entry.
    #[error("systemd passed on `listener-{0}`, and no `[[agent.listener]]` names the workload `{0}`: add one")]
    Unexpected(Name),
}

/// Opens every socket of `agent`.
///
/// # Errors
/// The first that cannot be opened; those that were bound before it go again.
pub(super) fn open(agent: &Agent, mut inherited: Inherited) -> Result<Vec<Socket>, NotListening> {
    let applications = Place { path: agent.socket.clone(), mode: agent.socket_mode, owner: None, group: None };
    let mut sockets = vec![
        socket(inherited.applications.take(), Role::Workload, None, || Ok(applications))?,
        socket(inherited.admin.take(), Role::Operator, None, || admin(agent))?,
    ];
    for listener in &agent.listeners {
        let passed = inherited.listeners.remove(&listener.workload);
        sockets.push(socket(passed, Role::Workload, Some(&listener.workload), || bound(listener))?);
    }
    match inherited.listeners.into_keys().next() {
        Some(workload) => Err(NotListening::Unexpected(workload)),
        None => Ok(sockets),
    }
}

fn socket(
    passed: Option<UnixListener>,
    role: Role,
    workload: Option<&Name>,
    place: impl FnOnce() -> Result<Place, NotListening>,
) -> Result<Socket, NotListening> {
    let (listener, bound, name) = match passed {
        Some(listener) => (listener, None, "passed on by systemd".to_owned()),
        None => {
            let place = place()?;
            let name = place.path.display().to_string();
            let bound = Bound::bind(&place)?;
            let cloned =
                bound.listener().map_err(|error| NotBound::Io { path: place.path, what: "duplicate", error })?;
            (cloned, Some(bound), name)
        }
    };
    let ready = peer::prepare(&listener).and_then(|()| listener.set_nonblocking(true).map_err(Unfit::Os));
    ready.map_err(|why| NotListening::Unfit { name, why })?;
    Ok(Socket { listener, role, workload: workload.cloned(), bound })
}

fn admin(agent: &Agent) -> Result<Place, NotListening> {
    let group = match &agent.admin_group {
        Some(name) => Some(gid(name, "agent.admin_group")?),
        None => gid(ADMIN_GROUP, "").ok(),
    };
    Ok(Place { path: agent.admin_socket.clone(), mode: agent.admin_mode, owner: None, group })
}

fn bound(listener: &Listener) -> Result<Place, NotListening> {
    Ok(Place {
        path: listener.socket.clone(),
        mode: listener.mode,
        owner: listener.owner.as_deref().map(|name| uid(name, "agent.listener.owner")).transpose()?,
        group: listener.group.as_deref().map(|name| gid(name, "agent.listener.group")).transpose()?,
    })
}

fn uid(name: &str, key: &'static str) -> Result<u32, NotListening> {
    let known = || User::from_name(name).ok().flatten().map(|user| user.uid.as_raw());
    name.parse().ok().or_else(known).ok_or_else(|| NotListening::NoAccount { what: "user", name: name.into(), key })
}

fn gid(name: &str, key: &'static str) -> Result<u32, NotListening> {
    let known = || Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw());
    name.parse().ok().or_else(known).ok_or_else(|| NotListening::NoAccount { what: "group", name: name.into(), key })
}
