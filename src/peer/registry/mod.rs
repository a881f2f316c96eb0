//! Who is who: the entries of `workloads.toml`, looked up by what the kernel says.
//!
//! Each entry stands in one index under its *anchor*: the strongest selector that can name a workload alone.
//! So a peer is compared with the few entries that share its anchor, however many there are.

mod file;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use file::Document;

use super::{FactName, Facts, OVERFLOW_ID};
use crate::access::{Role, Workload};
use crate::fault::Faults;
use crate::name::Name;

/// Every workload and operator, as `workloads.toml` tells them apart.
#[derive(Debug)]
pub struct Registry {
    generation: u64,
    workloads: Book,
    operators: Book,
    users: Box<[Box<str>]>,
    groups: Box<[Box<str>]>,
}

impl Registry {
    /// Reads `text`, the whole of `file`.
    ///
    /// `listeners` are the workloads to which the configuration binds a socket; none where it is not known, as
    /// in a repository of policies.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place.
    pub fn read(file: &Path, text: &str, listeners: Option<&BTreeSet<Name>>) -> Result<Self, Faults> {
        file::read(file, text, listeners).map(Self::of)
    }

    fn of(entries: Vec<Entry>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let (workloads, operators): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.role == Role::Workload);
        let both = || workloads.iter().chain(&operators).map(|entry| &entry.selectors);
        let users: BTreeSet<Box<str>> = both().filter_map(|selectors| selectors.user.clone()).collect();
        let groups: BTreeSet<Box<str>> = both().filter_map(|selectors| selectors.group.clone()).collect();
        Self {
            generation: NEXT.fetch_add(1, Ordering::Relaxed),
            users: users.into_iter().collect(),
            groups: groups.into_iter().collect(),
            workloads: Book::of(workloads),
            operators: Book::of(operators),
        }
    }

    /// Never the same for two registries of one process: what was remembered under another is void.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The workloads with their groups, for policy.
    #[must_use]
    pub fn workloads(&self) -> BTreeMap<Name, Vec<Name>> {
        self.workloads.groups()
    }

    /// The operators with their groups, for policy.
    #[must_use]
    pub fn operators(&self) -> BTreeMap<Name, Vec<Name>> {
        self.operators.groups()
    }

    /// Whether there is a workload of that name: a listener can be bound to no other.
    #[must_use]
    pub fn has_workload(&self, name: &Name) -> bool {
        self.workloads.named(name).is_some()
    }

    /// The account names that entries select on, sorted.
    #[must_use]
    pub const fn users(&self) -> &[Box<str>] {
        &self.users
    }

    /// The group names that entries select on, sorted.
    #[must_use]
    pub const fn groups(&self) -> &[Box<str>] {
        &self.groups
    }

    /// The names of the entries that select on `exe` or `exe_sha256`, sorted: for other uids than the agent's
    /// own these need `CAP_SYS_PTRACE`.
    pub fn needs_ptrace(&self) -> impl Iterator<Item = &Name> {
        let entries = self.workloads.entries.iter().chain(&self.operators.entries);
        entries.filter(|entry| entry.selectors.narrows_by_exe()).map(|entry| &entry.name)
    }

    /// The entries that `facts` may match: at a bound listener its workload alone, else those that share an anchor.
    pub fn candidates<'a>(&'a self, role: Role, facts: &'a impl Facts) -> impl Iterator<Item = &'a Entry> {
        let book = match role {
            Role::Workload => &self.workloads,
            Role::Operator => &self.operators,
        };
        let bound = facts.listener().and_then(|name| book.named(name));
        let anchored = facts.listener().is_none().then(|| book.anchored(facts)).into_iter().flatten();
        bound.into_iter().chain(anchored)
    }
}

/// The entries of one role, sorted by name, and their index.
#[derive(Debug)]
struct Book {
    entries: Box<[Entry]>,
    index: HashMap<Anchor, Vec<usize>>,
    placed: bool,
}

/// What an entry is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Anchor {
    Unit(Box<str>),
    Container(Box<str>),
    Pod(Box<str>),
    Uid(u32),
    User(Box<str>),
}

impl Book {
    fn of(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        let mut index: HashMap<Anchor, Vec<usize>> = HashMap::new();
        for (at, entry) in entries.iter().enumerate() {
            if let Some(anchor) = entry.selectors.anchor() {
                index.entry(anchor).or_default().push(at);
            }
        }
        let placed = index.keys().any(|anchor| !matches!(anchor, Anchor::Uid(_) | Anchor::User(_)));
        Self { entries: entries.into(), index, placed }
    }

    fn named(&self, name: &Name) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| entry.name.cmp(name)).ok()?;
        self.entries.get(at)
    }

    fn anchored<'a>(&'a self, facts: &'a impl Facts) -> impl Iterator<Item = &'a Entry> {
        anchors_of(facts, self.placed)
            .filter_map(|anchor| self.index.get(&anchor))
            .flatten()
            .filter_map(|at| self.entries.get(*at))
    }

    fn groups(&self) -> BTreeMap<Name, Vec<Name>> {
        self.entries.iter().map(|entry| (entry.name.clone(), entry.member_of.to_vec())).collect()
    }
}

/// The placement is read only where an entry is anchored in it.
fn anchors_of(facts: &impl Facts, placed: bool) -> impl Iterator<Item = Anchor> {
    let placement = placed.then(|| facts.placement());
    let placed = placement.into_iter().flat_map(|placement| {
        let unit = placement.unit.clone().map(Anchor::Unit);
        let container = placement.container.clone().map(Anchor::Container);
        let pod = placement.pod.clone().map(Anchor::Pod);
        [unit, container, pod].into_iter().flatten()
    });
    let users = facts.users().iter().cloned().map(Anchor::User);
    placed.chain([Anchor::Uid(facts.uid())]).chain(users)
}

/// One entry of `workloads.toml`.
#[derive(Clone, Debug)]
pub struct Entry {
    name: Name,
    role: Role,
    member_of: Box<[Name]>,
    selectors: Selectors,
    facts: Arc<[(&'static str, Box<str>)]>,
}

impl Entry {
    fn new(name: Name, role: Role, member_of: Vec<Name>, selectors: Selectors) -> Self {
        let facts = selectors.facts(&name).into_iter().map(|(fact, value)| (fact.as_str(), value.into())).collect();
        Self { name, role, member_of: member_of.into(), selectors, facts }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// Whether every selector matches. Cheap facts are asked first, so that costly ones are seldom read.
    #[must_use]
    pub fn matches(&self, facts: &impl Facts) -> bool {
        let Selectors { user, uid, group, gid, unit, slice, container, pod, listener, exe, exe_sha256 } =
            &self.selectors;
        let in_group = |gid: u32| gid != OVERFLOW_ID && facts.gids().contains(&gid);
        met(uid, |uid| facts.uid() == *uid && *uid != OVERFLOW_ID)
            && met(user, |user| facts.users().contains(user) && facts.uid() != OVERFLOW_ID)
            && met(gid, |gid| in_group(*gid))
            && met(group, |group| facts.gid_of(group).is_some_and(in_group))
            && (!listener || facts.listener() == Some(&self.name))
            && met(unit, |unit| facts.placement().unit.as_ref() == Some(unit))
            && met(slice, |slice| facts.placement().slice.as_ref() == Some(slice))
            && met(container, |container| facts.placement().container.as_ref() == Some(container))
            && met(pod, |pod| facts.placement().pod.as_ref() == Some(pod))
            && met(exe, |exe| facts.runs(exe))
            && met(exe_sha256, |digest| facts.exe_sha256().as_ref() == Some(digest))
    }

    /// The workload that a peer of `uid` is when it matches.
    #[must_use]
    pub fn workload(&self, uid: u32) -> Workload {
        Workload { name: self.name.clone(), role: self.role, uid, facts: Arc::clone(&self.facts) }
    }
}

/// What is not selected on is met by every peer.
fn met<T>(selector: &Option<T>, holds: impl FnOnce(&T) -> bool) -> bool {
    selector.as_ref().is_none_or(holds)
}

/// What a peer must be, to be this workload. All that are given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Selectors {
    user: Option<Box<str>>,
    uid: Option<u32>,
    group: Option<Box<str>>,
    gid: Option<u32>,
    unit: Option<Box<str>>,
    slice: Option<Box<str>>,
    container: Option<Box<str>>,
    pod: Option<Box<str>>,
    /// Only through the listener that is bound to this workload.
    listener: bool,
    exe: Option<PathBuf>,
    exe_sha256: Option<[u8; 32]>,
}

impl Selectors {
    /// The strongest selector that names a workload alone: what is rarest among peers comes first.
    ///
    /// An entry that asks for its listener is found there, by name, and nowhere else.
    fn anchor(&self) -> Option<Anchor> {
        if self.listener {
            return None;
        }
        let placed = self.container.clone().map(Anchor::Container);
        let placed = placed.or_else(|| self.pod.clone().map(Anchor::Pod));
        let placed = placed.or_else(|| self.unit.clone().map(Anchor::Unit));
        placed.or_else(|| self.uid.map(Anchor::Uid)).or_else(|| self.user.clone().map(Anchor::User))
    }

    const fn narrows_by_exe(&self) -> bool {
        self.exe.is_some() || self.exe_sha256.is_some()
    }

    /// The facts that a peer has when it matches, in order.
    fn facts(&self, name: &Name) -> Vec<(FactName, String)> {
        let text = |value: &Option<Box<str>>| value.as_deref().map(str::to_owned);
        let value = |fact| match fact {
            FactName::User => text(&self.user),
            FactName::Uid => self.uid.map(|uid| uid.to_string()),
            FactName::Group => text(&self.group),
            FactName::Gid => self.gid.map(|gid| gid.to_string()),
            FactName::Unit => text(&self.unit),
            FactName::Slice => text(&self.slice),
            FactName::Container => text(&self.container),
            FactName::Pod => text(&self.pod),
            FactName::Listener => self.listener.then(|| name.to_string()),
            FactName::Exe => self.exe.as_ref().map(|exe| exe.display().to_string()),
            FactName::ExeSha256 => self.exe_sha256.map(|digest| digest.iter().map(|b| format!("{b:02x}")).collect()),
        };
        FactName::ALL.into_iter().filter_map(|fact| Some((fact, value(fact)?))).collect()
    }
}
