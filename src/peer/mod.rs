//! Who asks: what the kernel says of a peer, and the workload that it maps to.
//!
//! A peer has two identities: the *connector*, whose credentials the kernel took at `connect`, and the
//! *sender* of each read. [`Stream`] holds them equal; [`Peer`] reads the facts; [`attest`] maps them to a name.

pub mod cgroup;
mod connection;
mod executables;
mod kernel;
mod names;
mod procfs;
pub mod registry;
pub mod shares;
mod socket;

use std::path::Path;

pub use connection::{Peer, Sources};
pub use names::Ids;
pub use procfs::{has_ptrace, ns_depth, uids};
pub use registry::Registry;
pub use socket::{Connector, Stream, Unfit, prepare};

use crate::access::{Role, Workload};
use crate::name::Name;
use cgroup::Placement;
use registry::Entry;

/// What the kernel shows in place of a uid or gid that has no meaning here: `overflowuid` of user_namespaces(7).
///
/// It stands for "somebody else", so it is never a fact and never a selector.
pub const OVERFLOW_ID: u32 = 65_534;

/// The facts of a peer, in the order in which records list them. The names are the selectors of `workloads.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FactName {
    /// The account name of the connector's uid.
    User,
    /// The uid at connect.
    Uid,
    /// The name of one of the connector's groups, primary or supplementary.
    Group,
    /// The gid of one of the connector's groups, primary or supplementary.
    Gid,
    /// The systemd unit.
    Unit,
    /// The systemd slice that holds the unit.
    Slice,
    /// The container's id.
    Container,
    /// The pod's uid.
    Pod,
    /// The bound socket through which the peer came.
    Listener,
    /// The file that the process executes.
    Exe,
    /// SHA-256 of that file.
    ExeSha256,
}

impl FactName {
    /// Every fact, in order.
    pub const ALL: [Self; 11] = [
        Self::User,
        Self::Uid,
        Self::Group,
        Self::Gid,
        Self::Unit,
        Self::Slice,
        Self::Container,
        Self::Pod,
        Self::Listener,
        Self::Exe,
        Self::ExeSha256,
    ];

    /// The selector's key in `workloads.toml`, and the fact's key in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Uid => "uid",
            Self::Group => "group",
            Self::Gid => "gid",
            Self::Unit => "unit",
            Self::Slice => "slice",
            Self::Container => "container",
            Self::Pod => "pod",
            Self::Listener => "listener",
            Self::Exe => "exe",
            Self::ExeSha256 => "exe_sha256",
        }
    }
}

/// What can be asked of a peer. Each answer may cost a look at the kernel, so nothing is asked that no entry selects on.
///
/// An *absent* fact (a foreign namespace, an unreadable file) matches no selector.
pub trait Facts {
    /// The uid at connect, as the kernel gave it: [`OVERFLOW_ID`] counts as absent.
    fn uid(&self) -> u32;
    /// Of the account names that the registry selects on, those that stand for the uid.
    fn users(&self) -> &[Box<str>];
    /// The primary and supplementary gids at connect, as the kernel gave them: [`OVERFLOW_ID`] counts as absent.
    fn gids(&self) -> &[u32];
    /// The gid that a group name of the registry stands for.
    fn gid_of(&self, group: &str) -> Option<u32>;
    /// The workload to which the socket is bound.
    fn listener(&self) -> Option<&Name>;
    /// Where the process stands in the cgroup tree; all absent when it is not known.
    fn placement(&self) -> &Placement;
    /// Whether the process executes the file at `path` of the agent's own mount namespace.
    fn runs(&self, path: &Path) -> bool;
    /// SHA-256 of the file that the process executes.
    fn exe_sha256(&self) -> Option<[u8; 32]>;
    /// Whether the process that connected still lives. Asked last: facts that were read of a pid that has been
    /// given to another process are void.
    ///
    /// # Errors
    /// [`Unidentified::Gone`], or [`Unidentified::Unreadable`] when the kernel does not say.
    fn alive(&self) -> Result<(), Unidentified>;
}

/// Maps `facts` to the one entry of `registry` that they match.
///
/// At a bound listener only its workload is considered.
///
/// # Errors
/// No entry matches, two or more match, or the process is gone.
pub fn attest(registry: &Registry, role: Role, facts: &impl Facts) -> Result<Workload, Unidentified> {
    let matching: Vec<&Entry> = registry.candidates(role, facts).filter(|entry| entry.matches(facts)).collect();
    facts.alive()?;
    match matching.as_slice() {
        [] => Err(Unidentified::NoMatch),
        [entry] => Ok(entry.workload(facts.uid())),
        several => Err(Unidentified::Ambiguous(several.iter().map(|entry| entry.name().clone()).collect())),
    }
}

/// Why a peer is nobody. The text is for the operator; [`Unidentified::caller`] is what the peer may read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unidentified {
    /// The peer's, or a missing entry's: no entry matches.
    #[error("no entry of `workloads.toml` matches this peer; add one, or correct its selectors")]
    NoMatch,
    /// The operator's: two or more entries match.
    #[error("{} of `workloads.toml` match this peer; make their selectors exclude each other", listed(.0))]
    Ambiguous(Vec<Name>),
    /// The peer's: the process that connected has ended.
    #[error("the process that connected has ended")]
    Gone,
    /// The peer's: another process than the connector wrote to the connection.
    #[error(
        "the bytes came from pid {sender}, and pid {connector} had connected; a process must open a connection of its own"
    )]
    SenderMismatch {
        /// Who connected; 0 in a foreign pid namespace.
        connector: i32,
        /// Who wrote; 0 in a foreign pid namespace.
        sender: i32,
    },
    /// The peer's: it passed file descriptors.
    #[error("the peer passed file descriptors, which bursar never takes")]
    PassedDescriptor,
    /// The host's: the kernel did not give a fact that every decision needs.
    #[error("the kernel did not say {what}: {errno}")]
    Unreadable {
        /// Which fact.
        what: &'static str,
        /// Its error.
        errno: rustix::io::Errno,
    },
}

impl Unidentified {
    /// The word in records and metrics.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::NoMatch => "no_match",
            Self::Ambiguous(_) => "ambiguous",
            Self::Gone => "gone",
            Self::SenderMismatch { .. } => "sender_mismatch",
            Self::PassedDescriptor => "passed_descriptor",
            Self::Unreadable { .. } => "unreadable",
        }
    }

    /// What the peer may read: what it can do about it, and nothing of the registry.
    #[must_use]
    pub const fn caller(&self, role: Role) -> &'static str {
        match (self, role) {
            (Self::NoMatch | Self::Ambiguous(_), Role::Workload) => {
                "this process maps to no single workload; ask the operator, who sees why in the record"
            }
            (Self::NoMatch | Self::Ambiguous(_), Role::Operator) => {
                "this process maps to no single operator; who may read the audit log sees why in the record"
            }
            (Self::Gone, _) => "the process that connected has ended; connect from the process that asks",
            (Self::SenderMismatch { .. }, _) => "another process wrote to this connection; each process opens its own",
            (Self::PassedDescriptor, _) => "file descriptors were passed; send bytes only",
            (Self::Unreadable { .. }, _) => "the kernel did not say who connected; connect again",
        }
    }
}

fn listed(names: &[Name]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Facts as a test says them.
    #[derive(Default)]
    struct Said {
        uid: u32,
        gids: Vec<u32>,
        ids: Ids,
        listener: Option<Name>,
        placement: Placement,
        exe: &'static str,
        gone: bool,
    }

    impl Facts for Said {
        fn uid(&self) -> u32 {
            self.uid
        }
        fn users(&self) -> &[Box<str>] {
            self.ids.users(self.uid)
        }
        fn gids(&self) -> &[u32] {
            &self.gids
        }
        fn gid_of(&self, group: &str) -> Option<u32> {
            self.ids.gid(group)
        }
        fn listener(&self) -> Option<&Name> {
            self.listener.as_ref()
        }
        fn placement(&self) -> &Placement {
            &self.placement
        }
        fn runs(&self, path: &Path) -> bool {
            path == Path::new(self.exe)
        }
        fn exe_sha256(&self) -> Option<[u8; 32]> {
            None
        }
        fn alive(&self) -> Result<(), Unidentified> {
            if self.gone { Err(Unidentified::Gone) } else { Ok(()) }
        }
    }

    fn registry(text: &str) -> Registry {
        Registry::read(Path::new("workloads.toml"), text, None).map_err(|faults| faults.to_string()).unwrap()
    }

    fn who(text: &str, facts: &Said) -> Result<String, Unidentified> {
        attest(&registry(text), Role::Workload, facts).map(|workload| workload.name.to_string())
    }

    fn unit(name: &str) -> Placement {
        Placement { unit: Some(name.into()), slice: Some("system.slice".into()), ..Placement::default() }
    }

    fn names(names: &[&str]) -> Unidentified {
        Unidentified::Ambiguous(names.iter().map(|name| name.parse().unwrap()).collect())
    }

    #[test]
    fn all_selectors_must_match() {
        let text = "[workload.a]\nunit = 'a.service'\nuser = 'alice'\ngid = 5\nslice = 'system.slice'";
        let ids = Ids::of([("alice".into(), 7)], []);
        let facts =
            |uid, gid| Said { uid, gids: vec![gid], ids: ids.clone(), placement: unit("a.service"), ..Said::default() };
        assert_eq!(who(text, &facts(7, 5)), Ok("a".into()));
        assert_eq!(who(text, &facts(8, 5)), Err(Unidentified::NoMatch));
        assert_eq!(who(text, &facts(7, 6)), Err(Unidentified::NoMatch));
        let elsewhere = Said { placement: unit("b.service"), ..facts(7, 5) };
        assert_eq!(who(text, &elsewhere), Err(Unidentified::NoMatch));
    }

    #[test]
    fn two_matches_are_refused_and_both_are_named() {
        let text = "[workload.a]\nuid = 7\n[workload.b]\nunit = 'b.service'\n[workload.c]\nuser = 'carol'";
        let ids = Ids::of([("carol".into(), 7)], []);
        let facts = Said { uid: 7, ids, placement: unit("b.service"), ..Said::default() };
        assert_eq!(who(text, &facts), Err(names(&["b", "a", "c"])));
    }

    #[test]
    fn a_record_lists_the_facts_that_named_the_workload() {
        let registry = registry("[workload.a]\nexe = '/bin/a'\nuid = 7\nunit = 'a.service'");
        let facts = Said { uid: 7, exe: "/bin/a", placement: unit("a.service"), ..Said::default() };
        let workload = attest(&registry, Role::Workload, &facts).unwrap();
        let listed: Vec<(&str, &str)> = workload.facts.iter().map(|(fact, value)| (*fact, &**value)).collect();
        assert_eq!(listed, [("uid", "7"), ("unit", "a.service"), ("exe", "/bin/a")]);
    }

    #[test]
    fn at_a_bound_listener_only_its_workload_is_considered() {
        let text = "[workload.a]\n[workload.b]\nuid = 7\n[workload.c]\nlistener = 'c'\nuid = 8";
        let at = |listener: &str, uid| Said { uid, listener: listener.parse().ok(), ..Said::default() };
        assert_eq!(who(text, &at("a", 7)), Ok("a".into()), "`b` is not asked here");
        assert_eq!(who(text, &at("c", 8)), Ok("c".into()));
        assert_eq!(who(text, &at("c", 7)), Err(Unidentified::NoMatch), "its further selectors must match too");
        assert_eq!(who(text, &at("unknown", 7)), Err(Unidentified::NoMatch));
        assert_eq!(who(text, &Said { uid: 8, ..Said::default() }), Err(Unidentified::NoMatch), "`c` is only there");
    }

    #[test]
    fn roles_do_not_mix() {
        let registry = registry("[operator.root]\nuid = 0");
        assert!(attest(&registry, Role::Operator, &Said::default()).is_ok());
        assert_eq!(attest(&registry, Role::Workload, &Said::default()), Err(Unidentified::NoMatch));
    }

    #[test]
    fn the_overflow_id_is_nobodys() {
        let text = "[workload.a]\nuser = 'strange'\n[workload.b]\nuid = 7\ngroup = 'strange'";
        let ids = Ids::of([("strange".into(), OVERFLOW_ID)], [("strange".into(), OVERFLOW_ID)]);
        let facts = |uid| Said { uid, gids: vec![OVERFLOW_ID], ids: ids.clone(), ..Said::default() };
        assert_eq!(who(text, &facts(OVERFLOW_ID)), Err(Unidentified::NoMatch));
        assert_eq!(who(text, &facts(7)), Err(Unidentified::NoMatch));
    }

    #[test]
    fn who_is_gone_is_nobody() {
        let facts = Said { uid: 7, gone: true, ..Said::default() };
        assert_eq!(who("[workload.a]\nuid = 7", &facts), Err(Unidentified::Gone));
    }

    #[test]
    fn the_caller_learns_nothing_of_the_registry() {
        let both = names(&["a", "b"]);
        assert!(both.to_string().contains("`a` and `b`"));
        assert_eq!(both.caller(Role::Workload), Unidentified::NoMatch.caller(Role::Workload));
    }

    #[test]
    fn only_entries_with_the_same_anchor_are_compared() {
        let text: String =
            (0..1000).map(|nth| format!("[workload.w{nth}]\nunit = 'w{nth}.service'\nuid = 7\n")).collect();
        let facts = Said { uid: 7, placement: unit("w500.service"), ..Said::default() };
        assert_eq!(registry(&text).candidates(Role::Workload, &facts).count(), 1);
    }

    #[test]
    fn what_needs_ptrace_is_named() {
        let registry = registry("[workload.a]\nuid = 7\nexe = '/bin/a'\n[workload.b]\nuid = 8");
        assert_eq!(registry.needs_ptrace().map(Name::as_str).collect::<Vec<_>>(), ["a"]);
    }
}
