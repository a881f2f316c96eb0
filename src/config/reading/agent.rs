//! `[agent]`, `[[agent.listener]]` and `[attest]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Reader;
use crate::config::meant::{Agent, Listener};
use crate::config::said;
use crate::policy::UnknownIds;

/// What fits `sun_path` with its final zero (unix(7)).
const MOST_SOCKET_BYTES: usize = 107;

impl Reader<'_> {
    pub(super) fn agent(&mut self, said: said::Agent) -> Agent {
        let agent = Agent {
            id: said.id,
            socket: self.socket("agent.socket", &said.socket),
            socket_mode: said.socket_mode.0,
            admin_socket: self.socket("agent.admin_socket", &said.admin_socket),
            admin_mode: said.admin_mode.0,
            admin_group: said.admin_group,
            listeners: said.listener.into_iter().enumerate().map(|(nth, said)| self.listener(nth, said)).collect(),
            state_dir: self.path("agent.state_dir", &said.state_dir),
            policies: self.path("agent.policies", &said.policies),
            unknown_ids: match said.unknown_ids {
                said::UnknownIds::Refuse => UnknownIds::Refuse,
                said::UnknownIds::Warn => UnknownIds::Warn,
            },
        };
        self.sockets_differ(&agent);
        agent
    }

    fn listener(&mut self, nth: usize, said: said::Listener) -> Listener {
        let said::Listener { socket, workload, mode, owner, group } = said;
        let socket = self.socket(&format!("agent.listener[{nth}].socket"), &socket);
        Listener { socket, workload, mode: mode.0, owner, group }
    }

    fn socket(&mut self, key: &str, said: &Path) -> PathBuf {
        if said.as_os_str().as_encoded_bytes().first().is_some_and(|first| matches!(first, b'@' | 0)) {
            let help = "write a path: an abstract socket has no mode, so anybody could take its name";
            self.fault(key, format!("`{key}` is an abstract socket"), Some(help.to_owned()));
            return said.to_owned();
        }
        let socket = self.path(key, said);
        let bytes = socket.as_os_str().len();
        if bytes > MOST_SOCKET_BYTES {
            let what = format!("`{key}` is {bytes} bytes long; the path of a socket has at most {MOST_SOCKET_BYTES}");
            self.fault(key, what, Some("choose a shorter path (unix(7))".to_owned()));
        }
        if said.as_os_str().as_encoded_bytes().ends_with(b"/") {
            self.fault(key, format!("`{key}` is a directory"), Some("name a file in it".to_owned()));
        }
        socket
    }

    fn sockets_differ(&mut self, agent: &Agent) {
        let listeners = agent.listeners.iter().enumerate();
        let listeners = listeners.map(|(nth, listener)| (format!("agent.listener[{nth}].socket"), &listener.socket));
        let fixed =
            [("agent.socket".to_owned(), &agent.socket), ("agent.admin_socket".to_owned(), &agent.admin_socket)];
        let mut seen: BTreeMap<&PathBuf, String> = BTreeMap::new();
        for (key, socket) in fixed.into_iter().chain(listeners) {
            match seen.get(socket) {
                None => drop(seen.insert(socket, key)),
                Some(first) => {
                    let what = format!("`{key}` is the same socket as `{first}`");
                    let help = format!("that one stands at {}; each needs a path of its own", self.places.of(first));
                    self.fault(&key, what, Some(help));
                }
            }
        }
    }

    pub(super) fn container_roots(&mut self, said: said::Attest) -> Vec<Box<str>> {
        for (nth, root) in said.container_roots.iter().enumerate() {
            let segments = root.strip_prefix('/').map(|rest| rest.split('/').all(|s| !matches!(s, "" | "." | "..")));
            if segments != Some(true) {
                let what = format!("`{root}` is not the path of a cgroup");
                let help = "write it from the root of the cgroup tree, as in `/kubepods.slice`";
                self.fault(&format!("attest.container_roots[{nth}]"), what, Some(help.to_owned()));
            }
        }
        said.container_roots.into_iter().map(String::into_boxed_str).collect()
    }
}
