//! (E) What the configuration expects of this host: files, folders, groups.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::unistd::{Group, User};

use super::check::Report;
use super::meant::{Credential, Listener, Provider, Rotator, Settings, Store, StoreKey};
use super::reading::Read;
use super::writable::{self, is_shielded, mode_of};
use crate::document::{Places, below, bytes_of};
use crate::fault::{AS_THE_AGENT, Fault};
use crate::oauth::certificate::{CertificateChain, MOST_CHAIN_BYTES};
use crate::rotation::exec::program::itself;

/// The most that is read of a file of certificates.
const MOST_CA_BYTES: usize = 4 << 20;

/// Looks whether this host has what `read` speaks of, and adds what it lacks to `report`.
pub fn look(read: &Read, report: &mut Report) {
    let Settings { agent, stores, providers, secrets, .. } = &read.settings;
    let mut host = Host { places: &read.places, report };
    host.policies(&agent.policies);
    host.state("agent.state_dir", &agent.state_dir);
    host.socket("agent.socket", &agent.socket);
    host.socket("agent.admin_socket", &agent.admin_socket);
    if let Some(group) = &agent.admin_group {
        host.group("agent.admin_group", group);
    }
    for (nth, listener) in agent.listeners.iter().enumerate() {
        host.listener(&format!("agent.listener[{nth}]"), listener);
    }
    for (name, store) in stores {
        host.store(&below("store", name.as_str()), store);
    }
    for (name, provider) in providers {
        host.provider(&below("provider", name.as_str()), provider);
    }
    for (name, secret) in secrets {
        if let Some(rotation) = &secret.rotation {
            host.rotator(&format!("{}.rotation", below("secret", name.as_str())), &rotation.rotator);
        }
    }
    // Who can write the configuration or the policies decides what the agent does.
    report.faults.append(writable::by_others(read));
}

struct Host<'a> {
    places: &'a Places,
    report: &'a mut Report,
}

impl Host<'_> {
    fn policies(&mut self, path: &Path) {
        match fs::metadata(path) {
            // Who reads it says what may not be read.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            seen => self.folder("agent.policies", path, seen),
        }
    }

    fn folder(&mut self, key: &str, path: &Path, seen: io::Result<fs::Metadata>) {
        match seen {
            Ok(about) if about.is_dir() => {}
            Ok(_) => self.fault(key, format!("`{}` is not a folder", path.display()), "name a folder"),
            Err(error) => self.unreachable(key, path, &error),
        }
    }

    /// The state is the agent's alone: it makes the folder so, and one that it finds has to be so.
    fn state(&mut self, key: &str, path: &Path) {
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            seen => self.folder(key, path, seen),
        }
        let Some(mode) = mode_of(path).filter(|_| !is_shielded(path)) else { return };
        let (shown, help) =
            (path.display(), format!("the state is the agent's alone: `chmod 0700 {}`", path.display()));
        if mode & 0o022 != 0 {
            self.fault(key, format!("not only its owner may write in `{shown}` (mode {mode:04o})"), &help);
        } else if mode & 0o055 != 0 {
            self.warn(key, format!("not only its owner may look into `{shown}` (mode {mode:04o})"), &help);
        }
    }

    /// The agent makes the socket, and not its folder. What stands below `/run` may come with the socket's unit.
    fn socket(&mut self, key: &str, path: &Path) {
        let folder = path.parent().unwrap_or(path);
        let seen = fs::metadata(folder);
        let missing = seen.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let what = format!("there is no folder `{}` for this socket", folder.display());
        if missing && folder.starts_with("/run") {
            self.warn(key, what, "systemd makes it for a socket that it opens; for any other, make it (tmpfiles.d(5))");
        } else if missing {
            self.fault(key, what, "make it: the agent makes the socket, and not its folder");
        } else {
            self.folder(key, folder, seen);
        }
    }

    fn store(&mut self, entry: &str, store: &Store) {
        match store {
            Store::Sealed { key: StoreKey::File { path, made }, .. } => {
                self.key_file(&format!("{entry}.key.file"), path, *made);
            }
            Store::Sealed { key: StoreKey::Credential(_), .. } => {}
            Store::Files { path } => {
                if !path.is_dir() {
                    let what = format!("there is no folder `{}` now", path.display());
                    self.warn(
                        &format!("{entry}.path"),
                        what,
                        "nothing can be read from this store until it is mounted",
                    );
                }
            }
            // Who we are there is found at the first request, where AWS's own tools look.
            Store::Aws(_) => {}
            Store::OpenBao(bao) => {
                if let Some(file) = &bao.ca_file {
                    self.certificates(&format!("{entry}.ca_file"), file);
                }
                if !bao.login_file().exists() {
                    let what = format!("there is no file `{}` now", bao.login_file().display());
                    self.warn(&format!("{entry}.auth"), what, "nothing can be read from this store until it is there");
                }
            }
        }
    }

    fn key_file(&mut self, key: &str, path: &Path, made: bool) {
        match fs::metadata(path) {
            Ok(about) if about.permissions().mode() & 0o007 != 0 => {
                let what = format!("others may read or write the key `{}`", path.display());
                self.fault(key, what, "take their permissions away (`chmod o= FILE`), and consider the key known");
            }
            Ok(_) => {}
            Err(error) if made && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let what = format!("there is no key `{}`", path.display());
                self.fault(key, what, "put it there: only a key inside `agent.state_dir` is made at first start");
            }
            Err(error) => self.unreachable(key, path, &error),
        }
    }

    fn provider(&mut self, entry: &str, provider: &Provider) {
        if let Some(file) = &provider.ca_file {
            self.certificates(&format!("{entry}.ca_file"), file);
        }
        match &provider.credential {
            Credential::Certificate { file, .. } => self.own_certificate(&format!("{entry}.certificate"), file),
            Credential::Assertion(file) => self.assertion(&format!("{entry}.assertion_file"), file),
            Credential::ClientSecret(_) | Credential::Registration(_) | Credential::PrivateKey(_) => {}
        }
    }

    fn rotator(&mut self, key: &str, rotator: &Rotator) {
        if let Some(file) = rotator.ca_file() {
            self.certificates(&format!("{key}.{}.ca_file", rotator.table()), file);
        }
        if let Rotator::Exec(program) = rotator
            && let Err(what) = itself(&program.settings.program)
        {
            self.fault(&format!("{key}.exec.program"), what, "who can change it can do what bursar can");
        }
    }

    fn own_certificate(&mut self, key: &str, path: &Path) {
        match bytes_of(path, MOST_CHAIN_BYTES).map(|bytes| CertificateChain::from_pem(&bytes)) {
            Ok(Ok(_)) => {}
            Ok(Err(why)) => {
                self.fault(key, format!("`{}`: {why}", path.display()), "issue it anew, or name the right file");
            }
            Err(error) => self.unreachable(key, path, &error),
        }
    }

    fn assertion(&mut self, key: &str, path: &Path) {
        match fs::metadata(path) {
            Ok(about) if about.is_file() && about.permissions().mode() & 0o004 != 0 && !is_shielded(path) => {
                let what = format!("everybody on this host may read the assertion `{}`", path.display());
                self.warn(key, what, "whoever has it can be us at the provider: let only bursar's user read it");
            }
            Ok(about) if about.is_file() => {}
            Ok(_) => self.fault(key, format!("`{}` is not a file", path.display()), "name a file"),
            Err(_) => {
                let what = format!("there is no assertion `{}` now", path.display());
                self.warn(key, what, "no token can be had of this provider until it is written");
            }
        }
    }

    fn certificates(&mut self, key: &str, path: &Path) {
        match bytes_of(path, MOST_CA_BYTES) {
            Ok(bytes) if bytes.len() > MOST_CA_BYTES => {
                self.fault(key, format!("`{}` is larger than 4 MiB", path.display()), "keep the authorities you need");
            }
            Ok(bytes) if !bytes.windows(BEGIN.len()).any(|window| window == BEGIN) => {
                let what = format!("`{}` has no certificate", path.display());
                self.fault(key, what, "it has to be PEM: `-----BEGIN CERTIFICATE-----`");
            }
            Ok(_) => {}
            Err(error) => self.unreachable(key, path, &error),
        }
    }

    fn listener(&mut self, entry: &str, listener: &Listener) {
        self.socket(&format!("{entry}.socket"), &listener.socket);
        if let Some(group) = &listener.group {
            self.group(&format!("{entry}.group"), group);
        }
        let Some(owner) = &listener.owner else { return };
        let known = owner.parse::<u32>().is_ok() || matches!(User::from_name(owner), Ok(Some(_)));
        if !known {
            let what = format!("there is no user `{owner}`");
            self.fault(&format!("{entry}.owner"), what, "create it, or write its uid");
        }
    }

    fn group(&mut self, key: &str, group: &str) {
        let known = group.parse::<u32>().is_ok() || matches!(Group::from_name(group), Ok(Some(_)));
        if !known {
            self.fault(
                key,
                format!("there is no group `{group}`"),
                "create it (`groupadd --system`), or take the key out",
            );
        }
    }

    fn unreachable(&mut self, key: &str, path: &Path, error: &io::Error) {
        let shown = path.display();
        if error.kind() == io::ErrorKind::PermissionDenied {
            return self.warn(key, format!("this user may not look at `{shown}`: it was not checked"), AS_THE_AGENT);
        }
        let missing = error.kind() == io::ErrorKind::NotFound;
        let what =
            if missing { format!("there is no `{shown}`") } else { format!("`{shown}` cannot be read: {error}") };
        self.fault(key, what, "create it, or correct the path");
    }

    fn fault(&mut self, key: &str, what: String, help: &str) {
        self.report.faults.push(Fault { place: self.places.of(key), what, help: Some(help.to_owned()) });
    }

    fn warn(&mut self, key: &str, what: String, help: &str) {
        self.report.warnings.push(Fault { place: self.places.of(key), what, help: Some(help.to_owned()) });
    }
}

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
