//! What the kernel says of a process, and who is who.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use bursar::name::Name;
use bursar::peer::cgroup::{ContainerRoot, ContainerRoots, placement};
use bursar::peer::{Registry, ns_depth, uids};

use super::input::{faults_are_told, line_and_rest};

static ROOTS: LazyLock<ContainerRoots> = LazyLock::new(|| {
    ["/kubepods.slice", "/kubepods", "/system.slice/docker-*.scope", "/machine.slice/libpod-*.scope", "/docker"]
        .map(|root| root.parse::<ContainerRoot>().unwrap())
        .into_iter()
        .collect()
});

/// `/proc/<pid>/cgroup`. What is read stands in the path, and has the form of what it is.
pub fn cgroup(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    placed(text, &ROOTS);
}

/// A container root in the first line, and a cgroup to look at below it.
pub fn container_root(bytes: &[u8]) {
    let (root, text) = line_and_rest(bytes);
    let (Ok(root), Ok(text)) = (std::str::from_utf8(root), std::str::from_utf8(text)) else { return };
    if let Ok(root) = root.parse::<ContainerRoot>() {
        placed(text, &std::iter::once(root).collect());
    }
}

fn placed(text: &str, roots: &ContainerRoots) {
    let found = placement(text, roots);
    for fact in [&found.unit, &found.slice, &found.container, &found.pod].into_iter().flatten() {
        assert!(!fact.is_empty() && !fact.contains(['/', '\n']), "{fact:?}");
    }
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
    assert!(found.unit.is_none_or(|unit| unit.contains('.') && !unit.contains('*') && text.contains(&*unit)));
    assert!(found.container.is_none_or(|id| id.len() == 64 && is_hex(&id) && text.contains(&*id)));
    assert!(found.pod.is_none_or(|id| matches!(id.len(), 32 | 36) && is_hex(&id)));
}

/// `/proc/<pid>/status` and a pidfd's `fdinfo`.
pub fn proc_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    assert!(uids(text).len() <= text.len());
    assert!(ns_depth(text).is_none_or(|depth| depth <= text.len().max(1)));
}

/// `workloads.toml`, where the listeners are known and where they are not.
pub fn workloads(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let listeners: BTreeSet<Name> = ["checkout", "reports"].map(|name| name.parse().unwrap()).into();
    for listeners in [None, Some(&listeners)] {
        match Registry::read(Path::new("workloads.toml"), text, listeners) {
            Ok(registry) => assert!(registry.workloads().len() + registry.operators().len() <= text.len()),
            Err(faults) => faults_are_told(&faults, text),
        }
    }
}
