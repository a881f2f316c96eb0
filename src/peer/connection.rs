//! (E) One connection: its stream, and who stands behind it at each request.

use std::cell::{Cell, OnceCell};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::io::Errno;
use tokio::net::UnixStream;

use super::cgroup::{self, ContainerRoots, Placement};
use super::executables::Executables;
use super::names::Names;
use super::procfs::{self, FileId, Process, Stamp};
use super::socket::{Connector, Stream};
use super::{FactName, Facts, Ids, OVERFLOW_ID, Registry, Unidentified, attest};
use crate::access::{Role, Workload};
use crate::name::Name;
use crate::time::Clock;

/// What all connections share: where containers stand, the name service, and what is known of executables.
pub struct Sources {
    clock: Arc<dyn Clock>,
    roots: ContainerRoots,
    names: Names,
    executables: Arc<Executables>,
    own_procfs: bool,
}

impl Sources {
    /// `roots` are the cgroups below which containers are looked for.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, roots: ContainerRoots) -> Self {
        let own_procfs = procfs::is_own();
        Self { clock, roots, names: Names::default(), executables: Arc::default(), own_procfs }
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("roots", &self.roots).field("own_procfs", &self.own_procfs).finish()
    }
}

/// Who stands behind one connection.
///
/// What cannot change on a connection (uid, groups) is taken once. What a living process can change (its
/// executable, its unit) is read at each request, where an entry selects on it.
#[derive(Debug)]
pub struct Peer {
    connector: Connector,
    listener: Option<Name>,
    process: Arc<Process>,
    first_exe: OnceLock<FileId>,
    fault: Arc<OnceLock<Unidentified>>,
    remembered: Mutex<Option<Remembered>>,
    sources: Arc<Sources>,
}

/// Who the peer was found to be, and on what that rests.
#[derive(Debug)]
struct Remembered {
    generation: u64,
    role: Role,
    ids: Arc<Ids>,
    workload: Arc<Workload>,
    rests_on: Changing,
}

/// The facts that the process can change, as far as they were asked for.
#[derive(Debug, PartialEq, Eq)]
struct Changing {
    cgroup: Option<Stood>,
    exe: Option<Option<Stamp>>,
}

/// Where the process stood: the text of its cgroup file, and the number of that cgroup.
#[derive(Debug, PartialEq, Eq)]
struct Stood {
    text: Box<str>,
    id: Option<u64>,
}

impl Stood {
    /// Reads where `process` stands, and what `placement` makes of it.
    fn of<T>(process: &Process, placement: impl FnOnce(&str) -> T) -> (Self, T) {
        let before = process.cgroup_id();
        process.cgroup(|text| {
            // The number stands for the text only if the process did not move while the text was read.
            let id = before.filter(|id| !text.is_empty() && process.cgroup_id() == Some(*id));
            (Self { text: text.into(), id }, placement(text))
        })
    }

    fn still(&self, process: &Process) -> bool {
        match self.id {
            Some(_) => process.cgroup_id() == self.id,
            None => process.cgroup(|now| now == &*self.text),
        }
    }
}

impl Peer {
    /// How many descriptors a connection holds at most: its socket, its process's pidfd, and the process's cgroup file.
    pub const DESCRIPTORS: usize = 3;

    /// Takes over a connection that a prepared listener accepted; `listener` is the workload that it is bound to.
    ///
    /// # Errors
    /// The connector has ended, or the kernel does not say who it was. The connection is closed then.
    pub fn of(
        socket: UnixStream,
        listener: Option<Name>,
        sources: Arc<Sources>,
    ) -> Result<(Arc<Self>, Stream), Unidentified> {
        let mut connector = Connector::of(socket.as_fd())?;
        let process = Arc::new(Process::hold(&mut connector, sources.own_procfs)?);
        let fault = Arc::default();
        let stream = Stream::of(socket, &connector, Arc::clone(&fault)).map_err(|error| Unidentified::Unreadable {
            what: "who writes",
            errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
        })?;
        let (first_exe, remembered) = (OnceLock::new(), Mutex::default());
        Ok((Arc::new(Self { connector, listener, process, first_exe, fault, remembered, sources }), stream))
    }

    /// The uid at connect, as the kernel gave it.
    #[must_use]
    pub const fn uid(&self) -> u32 {
        self.connector.uid
    }

    /// The process that connected, for people to read; 0 in a foreign pid namespace.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.connector.pid
    }

    /// Says whether the process that connected still lives, also when the connection has ended. What cannot be said counts
    /// as life.
    #[must_use]
    pub fn lives(&self) -> Box<dyn Fn() -> bool + Send + Sync> {
        let process = Arc::clone(&self.process);
        Box::new(move || !matches!(process.alive(), Err(Unidentified::Gone)))
    }

    /// What ended the connection, if it was a foreign sender or a passed descriptor.
    #[must_use]
    pub fn fault(&self) -> Option<&Unidentified> {
        self.fault.get()
    }

    /// Who asks, at this moment. Asked anew for each request.
    ///
    /// # Errors
    /// The peer maps to no entry or to several, is gone, or others wrote to its connection.
    pub async fn attest(&self, registry: &Registry, role: Role) -> Result<Arc<Workload>, Unidentified> {
        if let Some(fault) = self.fault.get() {
            return Err(fault.clone());
        }
        if let Some(workload) = self.settled(registry, role) {
            return self.process.alive().map(|()| workload);
        }
        let ids = self.ids(registry).await;
        let (found, unhashed) = self.look(registry, role, &ids);
        if !unhashed {
            return found;
        }
        self.sources.executables.compute(Arc::clone(&self.process), self.uid()).await;
        // A digest that could not be computed is an absent fact.
        self.look(registry, role, &ids).0
    }

    /// Looks at the peer, and says whether the digest of its executable was asked for and is not known yet.
    fn look(&self, registry: &Registry, role: Role, ids: &Arc<Ids>) -> (Result<Arc<Workload>, Unidentified>, bool) {
        let seen = Seen::new(self, ids);
        let found = attest(registry, role, &seen).map(Arc::new);
        let unhashed = seen.unhashed.get();
        // A peer that is nobody may be somebody a moment later: its account is made, its service is added.
        *self.memory() = found.as_ref().ok().map(|workload| Remembered {
            generation: registry.generation(),
            role,
            ids: Arc::clone(ids),
            workload: Arc::clone(workload),
            rests_on: seen.changing(),
        });
        (found, unhashed)
    }

    /// Who it was found to be, if all that this rests on is still so.
    fn settled(&self, registry: &Registry, role: Role) -> Option<Arc<Workload>> {
        let memory = self.memory();
        let known = memory.as_ref().filter(|it| it.generation == registry.generation() && it.role == role)?;
        let Changing { cgroup, exe } = &known.rests_on;
        let same_cgroup = cgroup.as_ref().is_none_or(|then| then.still(&self.process));
        let same_exe = exe.is_none_or(|then| self.process.exe() == then);
        (same_cgroup && same_exe).then(|| Arc::clone(&known.workload))
    }

    /// What names stand for, resolved once a connection.
    async fn ids(&self, registry: &Registry) -> Arc<Ids> {
        let known = self.memory().as_ref().filter(|it| it.generation == registry.generation()).map(|it| it.ids.clone());
        match known {
            Some(ids) => ids,
            None => self.sources.names.of(registry, self.uid(), &*self.sources.clock).await,
        }
    }

    fn memory(&self) -> MutexGuard<'_, Option<Remembered>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that can be seen of the peer, for people to read (`whoami`, a refusal's detail).
    pub async fn seen(&self) -> Vec<(FactName, String)> {
        let account = self.sources.names.account(self.uid()).await;
        let nothing = Ids::default();
        let seen = Seen::new(self, &nothing);
        let gids: Vec<_> = seen.gids().iter().filter(|gid| **gid != OVERFLOW_ID).map(u32::to_string).collect();
        let Placement { unit, slice, container, pod } = seen.placement().clone();
        let exe = seen.exe().and_then(|_| self.process.exe_path());
        [
            (FactName::User, account),
            (FactName::Uid, (self.uid() != OVERFLOW_ID).then(|| self.uid().to_string())),
            (FactName::Gid, (!gids.is_empty()).then(|| gids.join(" "))),
            (FactName::Unit, unit.map(Into::into)),
            (FactName::Slice, slice.map(Into::into)),
            (FactName::Container, container.map(Into::into)),
            (FactName::Pod, pod.map(Into::into)),
            (FactName::Listener, self.listener.as_ref().map(Name::to_string)),
            (FactName::Exe, exe.map(|exe| exe.display().to_string())),
        ]
        .into_iter()
        .filter_map(|(fact, value)| Some((fact, value?)))
        .collect()
    }
}

/// The facts at one moment: each is read when it is first asked for, and once.
struct Seen<'a> {
    peer: &'a Peer,
    ids: &'a Ids,
    cgroup: OnceCell<(Stood, Placement)>,
    exe: OnceCell<Option<Stamp>>,
    unhashed: Cell<bool>,
}

impl<'a> Seen<'a> {
    const fn new(peer: &'a Peer, ids: &'a Ids) -> Self {
        Self { peer, ids, cgroup: OnceCell::new(), exe: OnceCell::new(), unhashed: Cell::new(false) }
    }

    fn changing(self) -> Changing {
        Changing { cgroup: self.cgroup.into_inner().map(|(stood, _)| stood), exe: self.exe.into_inner() }
    }

    /// The executable; absent once it is another than the first that was seen on this connection: a connection
    /// does not survive `exec`, whichever of the two programs is the legitimate one.
    fn exe(&self) -> Option<Stamp> {
        let first = |stamp: &Stamp| *self.peer.first_exe.get_or_init(|| stamp.file) == stamp.file;
        *self.exe.get_or_init(|| self.peer.process.exe().filter(first))
    }
}

impl Facts for Seen<'_> {
    fn uid(&self) -> u32 {
        self.peer.connector.uid
    }

    fn users(&self) -> &[Box<str>] {
        self.ids.users(self.uid())
    }

    fn gids(&self) -> &[u32] {
        &self.peer.connector.gids
    }

    fn gid_of(&self, group: &str) -> Option<u32> {
        self.ids.gid(group)
    }

    fn listener(&self) -> Option<&Name> {
        self.peer.listener.as_ref()
    }

    fn placement(&self) -> &Placement {
        let read = |text: &str| cgroup::placement(text, &self.peer.sources.roots);
        &self.cgroup.get_or_init(|| Stood::of(&self.peer.process, read)).1
    }

    fn runs(&self, path: &Path) -> bool {
        self.exe().is_some_and(|exe| self.peer.sources.executables.stands_at(path, exe.file))
    }

    fn exe_sha256(&self) -> Option<[u8; 32]> {
        let exe = self.exe()?;
        let digest = self.peer.sources.executables.digest(&exe);
        self.unhashed.set(self.unhashed.get() || digest.is_none());
        digest
    }

    fn alive(&self) -> Result<(), Unidentified> {
        self.peer.process.alive()
    }
}
