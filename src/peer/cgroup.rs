//! Where a process stands in the unified cgroup tree: unit, slice, container, pod.
//!
//! A cgroup path is read from the root, where only root names things, and never beyond the point where a
//! delegated user or a container could have named what follows.

use std::str::FromStr;

/// The facts that a cgroup path gives; each may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// The systemd unit: `checkout.service`.
    pub unit: Option<Box<str>>,
    /// The slice that holds the unit, the unit's `Slice=`: `system.slice`.
    pub slice: Option<Box<str>>,
    /// The container's id: 64 hexadecimal digits.
    pub container: Option<Box<str>>,
    /// The pod's uid: a UUID with hyphens, or 32 hexadecimal digits for a static pod.
    pub pod: Option<Box<str>>,
}

/// Reads the text of `/proc/<pid>/cgroup` (cgroups(7)): its `0::` line, the unified tree.
///
/// All facts are absent where there is no such line, or where the path leads out of the agent's own cgroup
/// namespace (`..`), names a removed cgroup, or is not absolute.
#[must_use]
pub fn placement(text: &str, roots: &ContainerRoots) -> Placement {
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).and_then(|path| path.strip_prefix('/'));
    let Some(path) = path.filter(|path| !path.ends_with(" (deleted)")) else { return Placement::default() };
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.contains(&"..") {
        return Placement::default();
    }
    let (unit, slice) = unit_and_slice(&parts);
    let (container, pod) = roots.below(&parts).map(container_and_pod).unwrap_or_default();
    Placement { unit, slice, container, pod }
}

type Fact = Option<Box<str>>;

/// The unit is the first component below the leading slices: whatever stands below it, its owner may have named.
fn unit_and_slice(parts: &[&str]) -> (Fact, Fact) {
    let slices = parts.iter().take_while(|part| part.ends_with(".slice")).count();
    let unit = parts.get(slices).map(|part| unescaped(part)).filter(|part| is_unit(part));
    let slice = slices.checked_sub(1).and_then(|last| parts.get(last)).map(|part| unescaped(part));
    (unit.map(Box::from), slice.map(Box::from))
}

/// systemd puts `_` before a unit's name where the kernel would read it as a file of its own (`memory.service`).
fn unescaped(part: &str) -> &str {
    part.strip_prefix('_').unwrap_or(part)
}

const UNIT_KINDS: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

/// Whether `name` is a name of a unit that can hold processes, without a wildcard in it (systemd.unit(5)).
pub(super) fn is_unit(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    name.len() <= 255
        && name.bytes().all(plain)
        && UNIT_KINDS.iter().any(|kind| name.strip_suffix(kind).is_some_and(|stem| !stem.is_empty()))
}

/// The first pod and the first container below a root: what stands below a container, the container may have named.
fn container_and_pod(below: &[&str]) -> (Fact, Fact) {
    let Some(at) = below.iter().position(|part| container_id(part).is_some()) else {
        return (None, below.iter().find_map(|part| pod_uid(part)));
    };
    let (above, from) = below.split_at(at);
    let container = from.first().and_then(|part| container_id(part)).map(Box::from);
    (container, above.iter().find_map(|part| pod_uid(part)))
}

/// `<id>`, `docker-<id>.scope`, `cri-containerd-<id>.scope`, `crio-<id>.scope`, `libpod-<id>.scope`.
fn container_id(part: &str) -> Option<&str> {
    const PREFIXES: [&str; 4] = ["docker-", "cri-containerd-", "crio-", "libpod-"];
    let scoped =
        part.strip_suffix(".scope").and_then(|stem| PREFIXES.iter().find_map(|prefix| stem.strip_prefix(prefix)));
    Some(scoped.unwrap_or(part)).filter(|id| is_container_id(id))
}

/// Whether `id` is 64 hexadecimal digits.
pub(super) fn is_container_id(id: &str) -> bool {
    id.len() == 64 && is_hex(id)
}

/// `pod<uid>`, or `kubepods[-besteffort|-burstable]-pod<uid>.slice` with `_` for `-`.
fn pod_uid(part: &str) -> Fact {
    const PREFIXES: [&str; 3] = ["kubepods-pod", "kubepods-besteffort-pod", "kubepods-burstable-pod"];
    let uid = match part.strip_suffix(".slice") {
        Some(stem) => PREFIXES.iter().find_map(|prefix| stem.strip_prefix(prefix))?.replace('_', "-"),
        None => part.strip_prefix("pod")?.to_owned(),
    };
    is_pod_uid(&uid).then(|| uid.into())
}

/// Whether `uid` is a UUID with hyphens, or 32 hexadecimal digits (a static pod).
pub(super) fn is_pod_uid(uid: &str) -> bool {
    let groups: Vec<&str> = uid.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    matches!(lengths.as_slice(), [8, 4, 4, 4, 12] | [32]) && groups.iter().all(|group| is_hex(group))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Where containers may stand: `[attest] container_roots`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerRoots(Vec<ContainerRoot>);

impl FromIterator<ContainerRoot> for ContainerRoots {
    fn from_iter<I: IntoIterator<Item = ContainerRoot>>(roots: I) -> Self {
        Self(roots.into_iter().collect())
    }
}

impl ContainerRoots {
    /// The components of `parts` from the last one of the first root that leads them; none below a user's own manager.
    fn below<'a, 'p>(&self, parts: &'a [&'p str]) -> Option<&'a [&'p str]> {
        if parts.iter().any(|part| is_user_manager(part)) {
            return None;
        }
        self.0.iter().find(|root| root.leads(parts)).and_then(|root| parts.get(root.0.len() - 1..))
    }
}

fn is_user_manager(part: &str) -> bool {
    part.starts_with("user@") && part.ends_with(".service")
}

/// One root: an absolute cgroup path whose components may hold `*` for any run of characters.
///
/// The container is the root's last component or stands below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerRoot(Vec<Box<str>>);

impl ContainerRoot {
    fn leads(&self, parts: &[&str]) -> bool {
        self.0.len() <= parts.len() && self.0.iter().zip(parts).all(|(pattern, part)| glob(pattern, part))
    }
}

impl FromStr for ContainerRoot {
    type Err = NotARoot;

    fn from_str(text: &str) -> Result<Self, NotARoot> {
        let parts: Vec<Box<str>> = text.strip_prefix('/').unwrap_or("").split('/').map(Box::from).collect();
        let named = |part: &str| part.bytes().any(|b| b != b'*') && !matches!(part, "." | "..");
        let valid = parts.len() <= 16 && text.len() <= 512 && parts.iter().all(|part| named(part));
        if valid { Ok(Self(parts)) } else { Err(NotARoot(text.chars().take(80).collect())) }
    }
}

/// The text is not a container root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a container root: write an absolute cgroup path below `/`, as in `/kubepods.slice` or `/system.slice/docker-*.scope`"
)]
pub struct NotARoot(String);

/// Whether `text` matches `pattern`, where `*` is any run of characters. Linear in each star.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let mut middles: Vec<&str> = rest.split('*').collect();
    let tail = middles.pop().unwrap_or("");
    for middle in middles {
        // The leftmost fit leaves the most to what follows.
        let Some(at) = text.find(middle) else { return false };
        text = text.get(at + middle.len()..).unwrap_or("");
    }
    text.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const UID: &str = "11111111-2222-3333-4444-555555555555";

    fn roots() -> ContainerRoots {
        ["/kubepods", "/kubepods.slice", "/system.slice/docker-*.scope"]
            .map(|root| root.parse().unwrap())
            .into_iter()
            .collect()
    }

    fn at(path: &str) -> Placement {
        placement(&format!("9:name=systemd:/elsewhere.service\n0::{path}\n"), &roots())
    }

    #[test]
    fn the_unit_is_the_first_name_below_the_slices() {
        for (path, unit, slice) in [
            ("/system.slice/checkout.service", Some("checkout.service"), Some("system.slice")),
            ("/system.slice/checkout.service/worker", Some("checkout.service"), Some("system.slice")),
            ("/a.slice/a-b.slice/app@1.service", Some("app@1.service"), Some("a-b.slice")),
            ("/system.slice/_memory.service", Some("memory.service"), Some("system.slice")),
            ("/init.scope", Some("init.scope"), None),
            ("/docker/deep/checkout.service", None, None),
            ("/system.slice", None, Some("system.slice")),
            ("/", None, None),
        ] {
            let found = at(path);
            assert_eq!((found.unit.as_deref(), found.slice.as_deref()), (unit, slice), "{path}");
        }
    }

    #[test]
    fn a_delegated_user_cannot_name_a_unit() {
        let found = at("/user.slice/user-1000.slice/user@1000.service/system.slice/checkout.service");
        assert_eq!(found.unit.as_deref(), Some("user@1000.service"));
        assert_eq!(found.slice.as_deref(), Some("user-1000.slice"));
    }

    #[test]
    fn a_path_out_of_the_namespace_is_absent() {
        for path in ["/../system.slice/checkout.service", "/..", "/system.slice/checkout.service (deleted)", "x"] {
            assert_eq!(at(path), Placement::default(), "{path}");
        }
        assert_eq!(placement("1:cpu:/system.slice/checkout.service\n", &roots()), Placement::default());
        assert_eq!(placement("", &roots()), Placement::default());
    }

    #[test]
    fn containers_and_pods_of_the_known_shapes_are_found() {
        let burstable = format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
        for (path, pod) in [
            (format!("/kubepods/burstable/pod{UID}/{ID}"), Some(UID)),
            (format!("/kubepods.slice/kubepods-burstable.slice/{burstable}/cri-containerd-{ID}.scope"), Some(UID)),
            (format!("/kubepods.slice/kubepods-burstable.slice/{burstable}/crio-{ID}.scope/inner"), Some(UID)),
            (format!("/system.slice/docker-{ID}.scope"), None),
        ] {
            let found = at(&path);
            assert_eq!((found.container.as_deref(), found.pod.as_deref()), (Some(ID), pod), "{path}");
        }
    }

    #[test]
    fn a_container_cannot_name_another() {
        let other = "f".repeat(64);
        let found = at(&format!("/kubepods/pod{UID}/{ID}/pod22222222-2222-3333-4444-555555555555/{other}"));
        assert_eq!((found.container.as_deref(), found.pod.as_deref()), (Some(ID), Some(UID)));
        let found = at(&format!("/system.slice/docker-{ID}.scope/pod{UID}/{other}"));
        assert_eq!((found.container.as_deref(), found.pod), (Some(ID), None));
    }

    #[test]
    fn containers_count_only_below_the_configured_roots() {
        for path in [
            format!("/docker/{ID}"),
            format!("/other.slice/docker-{ID}.scope"),
            format!("/user.slice/user@1000.service/kubepods/pod{UID}/{ID}"),
            format!("/kubepods/user@1000.service/pod{UID}/{ID}"),
            format!("/system.slice/checkout.service/docker-{ID}.scope"),
        ] {
            let found = at(&path);
            assert_eq!((found.container, found.pod), (None, None), "{path}");
        }
    }

    #[test]
    fn a_root_is_an_absolute_path_below_the_top() {
        for bad in ["", "/", "kubepods", "/*", "/a//b", "/a/", "/../a", "/a/*/b"] {
            assert!(bad.parse::<ContainerRoot>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_star_is_any_run_within_one_component() {
        for (pattern, text, matches) in [
            ("docker-*.scope", "docker-x.scope", true),
            ("docker-*.scope", "docker-.scope", true),
            ("docker-*.scope", "docker-x.service", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*bc*c", "abc", false),
            ("plain", "plain", true),
            ("plain", "plainer", false),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
        }
    }
}
