//! `workloads.toml`: what was said, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::{Entry, Selectors};
use crate::access::Role;
use crate::document;
use crate::fault::{Fault, Faults, Place};
use crate::name::Name;
use crate::peer::OVERFLOW_ID;
use crate::peer::cgroup::{is_container_id, is_pod_uid, is_unit};

/// The longest `workloads.toml`, in bytes.
const MAX_BYTES: usize = 4 << 20;

/// `workloads.toml`: who is who.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Workloads")]
pub struct Document {
    /// Applications, by name: Cedar's `Workload::"…"`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Said>")]
    workload: BTreeMap<Spanned<String>, Said>,
    /// Who speaks on the admin socket, by name: Cedar's `Operator::"…"`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Said>")]
    operator: BTreeMap<Spanned<String>, Said>,
}

/// What a peer must be; all selectors must match. At least one of `user`, `uid`, `unit`, `container`, `pod`, `listener`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Said {
    /// The account's name. Looked up when a peer connects, so the account need not exist before.
    #[schemars(with = "Option<String>")]
    user: Option<Spanned<String>>,
    /// The account's number.
    #[schemars(with = "Option<u32>")]
    uid: Option<Spanned<u32>>,
    /// The name of a group, primary or supplementary.
    #[schemars(with = "Option<String>")]
    group: Option<Spanned<String>>,
    /// The number of a group, primary or supplementary.
    #[schemars(with = "Option<u32>")]
    gid: Option<Spanned<u32>>,
    /// The systemd unit, as in `checkout.service`.
    #[schemars(with = "Option<String>")]
    unit: Option<Spanned<String>>,
    /// The slice that holds the unit (its `Slice=`). Only narrows.
    #[schemars(with = "Option<String>")]
    slice: Option<Spanned<String>>,
    /// The container's id, 64 hexadecimal digits, below one of `[attest] container_roots`.
    #[schemars(with = "Option<String>")]
    container: Option<Spanned<String>>,
    /// The pod's uid, below one of `[attest] container_roots`.
    #[schemars(with = "Option<String>")]
    pod: Option<Spanned<String>>,
    /// The workload's own name: it is found only at the socket that `[[agent.listener]]` binds to it.
    #[schemars(with = "Option<String>")]
    listener: Option<Spanned<String>>,
    /// The absolute path of the program, in the agent's view of the file system. Only narrows; needs `CAP_SYS_PTRACE`.
    #[schemars(with = "Option<String>")]
    exe: Option<Spanned<String>>,
    /// SHA-256 of the program's file, 64 hexadecimal digits. Only narrows; needs `CAP_SYS_PTRACE`.
    #[schemars(with = "Option<String>")]
    exe_sha256: Option<Spanned<String>>,
    /// Groups for policy: Cedar's `principal in Group::"…"`.
    #[schemars(with = "Vec<String>")]
    member_of: Vec<Spanned<String>>,
}

/// Reads the file, or names everything that is wrong with it.
pub(super) fn read(file: &Path, text: &str, listeners: Option<&BTreeSet<Name>>) -> Result<Vec<Entry>, Faults> {
    if text.len() > MAX_BYTES {
        let what = format!("the file has {} bytes, and {MAX_BYTES} are read", text.len());
        return Err(Fault::new(Place::file(file), what).help("split the fleet, or use groups of accounts").into());
    }
    let said: Document = document::read(file, text)?;
    let mut check = Check { file, text, listeners, faults: Faults::default() };
    let mut entries = Vec::new();
    for (role, table) in [(Role::Workload, &said.workload), (Role::Operator, &said.operator)] {
        let first = entries.len();
        entries.extend(table.iter().filter_map(|(name, said)| check.entry(role, name, said)));
        check.twins(entries.get(first..).unwrap_or_default());
    }
    check.faults.or(entries.into_iter().map(|(_, entry)| entry).collect())
}

type Placed<T> = (Range<usize>, T);

struct Check<'a> {
    file: &'a Path,
    text: &'a str,
    listeners: Option<&'a BTreeSet<Name>>,
    faults: Faults,
}

impl Check<'_> {
    fn entry(&mut self, role: Role, name: &Spanned<String>, said: &Said) -> Option<Placed<Entry>> {
        let at = name.span();
        let mut place = Slot { check: self, at: at.clone(), key: format!("{}.{}", table(role), name.get_ref()) };
        let name: Option<Name> = place.parsed(name);
        let member_of = said.member_of.iter().map(|group| place.of("member_of").parsed(group)).collect::<Vec<_>>();
        let selectors = place.selectors(said, role, name.as_ref());
        let (name, member_of) = (name?, member_of.into_iter().collect::<Option<Vec<Name>>>()?);
        place.anchored(role, &name, said);
        Some((at, Entry::new(name, role, member_of, selectors)))
    }

    /// Two entries that ask for the same can never be told apart.
    fn twins(&mut self, entries: &[Placed<Entry>]) {
        let mut seen: BTreeMap<String, &Entry> = BTreeMap::new();
        for (at, entry) in entries.iter().filter(|(_, entry)| entry.selectors.anchor().is_some()) {
            if let Some(first) = seen.insert(format!("{:?}", entry.selectors), entry) {
                let what = format!("`{}` and `{}` have the same selectors", first.name, entry.name);
                let key = format!("{}.{}", table(entry.role), entry.name);
                self.fault(at, &key, what, "a peer that matches two entries is refused; make them differ");
            }
        }
    }

    fn fault(&mut self, at: &Range<usize>, key: &str, what: impl Into<String>, help: &str) {
        let place = Place { key: key.to_owned(), ..Place::of_offset(self.file, self.text, at.start) };
        self.faults.push(Fault::new(place, what).help(help));
    }
}

const fn table(role: Role) -> &'static str {
    match role {
        Role::Workload => "workload",
        Role::Operator => "operator",
    }
}

/// A place in the file at which faults are found.
struct Slot<'c, 'a> {
    check: &'c mut Check<'a>,
    at: Range<usize>,
    key: String,
}

impl<'a> Slot<'_, 'a> {
    fn of(&mut self, selector: &str) -> Slot<'_, 'a> {
        Slot { at: self.at.clone(), key: format!("{}.{selector}", self.key), check: self.check }
    }

    fn fault(&mut self, what: impl Into<String>, help: &str) {
        self.check.fault(&self.at, &self.key, what, help);
    }

    fn parsed<T: FromStr<Err: Display>>(&mut self, text: &Spanned<String>) -> Option<T> {
        let parsed = text.get_ref().parse().map_err(|error: T::Err| error.to_string());
        parsed.map_err(|what| self.check.fault(&text.span(), &self.key, what, "choose another name")).ok()
    }

    /// The value, if `holds`; else a fault at its place.
    fn valid<T: Clone + Display>(
        &mut self,
        selector: &'static str,
        said: Option<&Spanned<T>>,
        holds: impl FnOnce(&T) -> bool,
        expected: (&str, &str),
    ) -> Option<T> {
        let said = said?;
        if holds(said.get_ref()) {
            return Some(said.get_ref().clone());
        }
        let (what, help) = expected;
        let what = format!("`{}` {what}", said.get_ref().to_string().chars().take(80).collect::<String>());
        self.check.fault(&said.span(), &format!("{}.{selector}", self.key), what, help);
        None
    }

    fn selectors(&mut self, said: &Said, role: Role, name: Option<&Name>) -> Selectors {
        Selectors {
            user: self.valid("user", said.user.as_ref(), |name| is_account(name), ACCOUNT).map(Into::into),
            uid: self.valid("uid", said.uid.as_ref(), |id| is_id(*id), ID),
            group: self.valid("group", said.group.as_ref(), |name| is_account(name), ACCOUNT).map(Into::into),
            gid: self.valid("gid", said.gid.as_ref(), |id| is_id(*id), ID),
            unit: self.valid("unit", said.unit.as_ref(), |name| is_instance(name), UNIT).map(Into::into),
            slice: self.valid("slice", said.slice.as_ref(), |name| is_slice(name), SLICE).map(Into::into),
            container: self
                .valid("container", said.container.as_ref(), |id| is_container_id(id), CONTAINER)
                .map(Into::into),
            pod: self.valid("pod", said.pod.as_ref(), |uid| is_pod_uid(uid), POD).map(Into::into),
            listener: self.listener(said.listener.as_ref(), role, name),
            exe: self.valid("exe", said.exe.as_ref(), |path| is_exact(Path::new(path)), EXE).map(Into::into),
            exe_sha256: self
                .valid("exe_sha256", said.exe_sha256.as_ref(), |hex| digest(hex).is_some(), DIGEST)
                .and_then(|hex| digest(&hex)),
        }
    }

    fn listener(&mut self, said: Option<&Spanned<String>>, role: Role, name: Option<&Name>) -> bool {
        let own = |listener: &String| role == Role::Workload && name.is_none_or(|name| name.as_str() == listener);
        self.valid("listener", said, own, LISTENER).is_some()
    }

    /// Something must name the workload alone: what only narrows is in its own user's hands.
    fn anchored(&mut self, role: Role, name: &Name, said: &Said) {
        let bound = |bound: &BTreeSet<Name>| bound.contains(name);
        let at_listener = role == Role::Workload && self.check.listeners.is_none_or(bound);
        if !at_listener && !said.names_alone() {
            let what =
                format!("nothing tells who `{name}` is: `group`, `gid`, `slice`, `exe`, `exe_sha256` only narrow");
            self.fault(what, "add one of `user`, `uid`, `unit`, `container`, `pod`, or bind a listener to it");
        }
    }
}

impl Said {
    const fn names_alone(&self) -> bool {
        self.user.is_some()
            || self.uid.is_some()
            || self.unit.is_some()
            || self.container.is_some()
            || self.pod.is_some()
            || self.listener.is_some()
    }
}

const ACCOUNT: (&str, &str) = (
    "does not name an account that can be told apart",
    "write its name; a number goes into `uid` or `gid`; `nobody` and `nogroup` stand for everybody without an account here",
);
const ID: (&str, &str) =
    ("does not number an account", "65534 stands for everybody without an account here, and 4294967295 for nobody");
const UNIT: (&str, &str) = (
    "is not the name of a unit with processes",
    "write it whole, as `systemctl status` does: `checkout.service`, `worker@1.service`",
);
const SLICE: (&str, &str) = ("is not the name of a slice", "write the unit's `Slice=`, as in `system.slice`");
const CONTAINER: (&str, &str) = ("is not a container's id", "write all of its 64 lower-case hexadecimal digits");
const POD: (&str, &str) = ("is not a pod's uid", "write its `metadata.uid`, in lower case");
const LISTENER: (&str, &str) = (
    "is not the name of this workload",
    "a listener is called after the workload it is bound to; an operator has none",
);
const EXE: (&str, &str) = ("is not an absolute path", "write it from `/`, without `.` and `..`");
const DIGEST: (&str, &str) = ("is not a SHA-256 digest", "write 64 hexadecimal digits, as `sha256sum` prints them");

fn is_account(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_graphic() && !b":/,".contains(&b);
    (1..=256).contains(&name.len())
        && name.bytes().all(plain)
        && !name.bytes().all(|b| b.is_ascii_digit())
        && !matches!(name, "nobody" | "nogroup")
}

const fn is_id(id: u32) -> bool {
    id != OVERFLOW_ID && id != u32::MAX
}

/// A template (`worker@.service`) has no processes.
fn is_instance(name: &str) -> bool {
    is_unit(name) && !name.contains("@.")
}

fn is_slice(name: &str) -> bool {
    name.strip_suffix(".slice").is_some_and(|stem| !stem.is_empty()) && name.len() <= 255 && !name.contains('/')
}

fn is_exact(path: &Path) -> bool {
    use std::path::Component;
    path.is_absolute() && path.components().all(|part| !matches!(part, Component::CurDir | Component::ParentDir))
}

fn digest(hex: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let digits: &[u8; 64] = hex.as_bytes().try_into().ok()?;
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = hex_digit(*high)? << 4 | hex_digit(*low)?;
    }
    Some(digest)
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let faults = read(Path::new("workloads.toml"), text, Some(&BTreeSet::new())).unwrap_err();
        faults.iter().map(|fault| format!("{}:{} {}", fault.place.line, fault.place.key, fault.what)).collect()
    }

    fn accepted(text: &str) -> usize {
        read(Path::new("workloads.toml"), text, None).map_err(|faults| faults.to_string()).unwrap().len()
    }

    #[test]
    fn every_selector_can_be_said() {
        let hex = "0123456789abcdef".repeat(4);
        let text = format!(
            r#"
            [workload.one]
            user = "checkout"
            uid = 1000
            group = "pci"
            gid = 100
            unit = "checkout@1.service"
            slice = "payments.slice"
            container = "{hex}"
            pod = "11111111-2222-3333-4444-555555555555"
            exe = "/usr/bin/checkout"
            exe_sha256 = "{hex}"
            member_of = ["pci", "web"]
            [workload.two]
            listener = "two"
            [operator.root]
            uid = 0
            "#
        );
        assert_eq!(accepted(&text), 3);
    }

    #[test]
    fn all_faults_are_named_at_once_each_at_its_place() {
        let text = r#"
[workload.Bad]
uid = 1
[workload.a]
uid = 65534
gid = 65534
[workload.b]
user = "nobody"
unit = "checkout"
exe = "bin/app"
member_of = ["ok", "Not ok"]
[workload.c]
group = "pci"
exe = "/usr/bin/app"
[operator.d]
listener = "d"
"#;
        let found = faults(text);
        for expected in [
            "2:workload.Bad `Bad` is not a name",
            "5:workload.a.uid `65534` does not number an account",
            "6:workload.a.gid `65534` does not number an account",
            "8:workload.b.user `nobody` does not name an account",
            "9:workload.b.unit `checkout` is not the name of a unit",
            "10:workload.b.exe `bin/app` is not an absolute path",
            "11:workload.b.member_of `Not ok` is not a name",
            "12:workload.c nothing tells who `c` is",
            "16:operator.d.listener `d` is not the name of this workload",
        ] {
            assert!(found.iter().any(|fault| fault.starts_with(expected)), "{expected} in {found:#?}");
        }
        assert_eq!(found.len(), 9, "{found:#?}");
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(!faults("[workload.a]\nuid = 1\nusr = \"x\"\n").is_empty());
        assert!(!faults("[worklod.a]\nuid = 1\n").is_empty());
    }

    #[test]
    fn what_only_narrows_is_no_identity() {
        for selector in ["group = \"pci\"", "gid = 1", "slice = \"a.slice\"", "exe = \"/bin/a\"", ""] {
            assert_eq!(faults(&format!("[workload.a]\n{selector}\n")).len(), 1, "{selector}");
        }
    }

    #[test]
    fn an_entry_without_selectors_is_valid_with_a_listener() {
        let bound = BTreeSet::from(["a".parse().unwrap()]);
        let read = |text| read(Path::new("workloads.toml"), text, Some(&bound));
        assert!(read("[workload.a]\n").is_ok());
        assert!(read("[workload.b]\n").is_err());
        assert!(read("[operator.a]\n").is_err(), "an operator has no listener");
    }

    #[test]
    fn entries_that_cannot_be_told_apart_are_named() {
        let found = faults("[workload.a]\nuid = 1\n[workload.b]\nuid = 1\n");
        assert_eq!(found, ["3:workload.b `a` and `b` have the same selectors"]);
        assert_eq!(accepted("[workload.a]\nuid = 1\n[operator.a]\nuid = 1\n"), 2);
    }

    #[test]
    fn a_selector_says_what_it_wants() {
        for (selector, what) in [
            ("user = \"1000\"", "does not name an account"),
            ("user = \"a b\"", "does not name an account"),
            ("group = \"nogroup\"", "does not name an account"),
            ("uid = 4294967295", "does not number an account"),
            ("unit = \"a@.service\"", "is not the name of a unit"),
            ("unit = \"*.service\"", "is not the name of a unit"),
            ("unit = \"a/b.service\"", "is not the name of a unit"),
            ("unit = \"a.timer\"", "is not the name of a unit"),
            ("slice = \"a\"", "is not the name of a slice"),
            ("container = \"abc\"", "is not a container's id"),
            ("pod = \"abc\"", "is not a pod's uid"),
            ("exe = \"/usr/../bin/a\"", "is not an absolute path"),
            ("exe_sha256 = \"abc\"", "is not a SHA-256 digest"),
        ] {
            let found = faults(&format!("[workload.a]\n{selector}\n"));
            assert!(found.iter().any(|fault| fault.contains(what)), "{selector}: {found:?}");
        }
    }

    #[test]
    fn digests_are_read_in_either_case() {
        assert_eq!(digest(&"Ab".repeat(32)), Some([0xAB; 32]));
        assert_eq!(digest(&"ag".repeat(32)), None);
        assert_eq!(digest(&"+1".repeat(32)), None);
    }
}
