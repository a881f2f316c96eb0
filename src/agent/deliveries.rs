//! (E) From `[deliver.NAME]` to deliveries: names become ids, templates are read, and what they want is held against the
//! configuration.

use std::path::Path;
use std::sync::Arc;

use nix::unistd::{Group, User};
use rustix::process::{getegid, geteuid};

use crate::broker::{Order, Want};
use crate::config::Read;
use crate::config::meant::{self, Delivered, Settings};
use crate::deliver::{Content, Delivery, MOST_TEMPLATE_BYTES, NotRendered, Target};
use crate::document::{below, bytes_of};
use crate::fault::{Fault, Faults, Place};
use crate::name::Name;
use crate::peer::Registry;

/// The deliveries of `read`, and what should be said of them although it does not stand in the way.
///
/// # Errors
/// A fault for everything that is wrong with one.
pub(super) fn of(read: &Read, registry: &Registry) -> Result<(Vec<Arc<Delivery>>, Vec<Fault>), Faults> {
    let mut made = Maker { read, registry, faults: Faults::default(), warnings: Vec::new() };
    let entries = read.settings.deliveries.iter();
    let deliveries = entries.filter_map(|(name, entry)| made.one(name, entry).map(Arc::new)).collect();
    made.faults.or((deliveries, made.warnings))
}

/// A fault for every delivery whose file this process cannot give to its owner.
pub(super) fn without_privilege(deliveries: &[Arc<Delivery>]) -> impl Iterator<Item = Fault> {
    let lacking = deliveries.iter().filter(|one| !one.target.may_be_given());
    lacking.map(|one| {
        let what = format!(
            "the file of `deliver.{}` belongs to another user or group than the agent's, which needs CAP_CHOWN",
            one.order.name
        );
        Fault::new(Place::file(&one.target.path), what).help(
            "install the drop-in `bursar.service.d/delivery.conf`, or let the program run in a group of the agent's",
        )
    })
}

struct Maker<'a> {
    read: &'a Read,
    registry: &'a Registry,
    faults: Faults,
    warnings: Vec<Fault>,
}

impl Maker<'_> {
    fn one(&mut self, name: &Name, entry: &meant::Delivery) -> Option<Delivery> {
        let at = below("deliver", name.as_str());
        if !self.registry.has_workload(&entry.workload) {
            let what = format!("`workloads.toml` has no workload `{}`", entry.workload);
            let help = format!("add `[workload.{}]`, by which policy speaks of the program", entry.workload);
            self.fault(&format!("{at}.workload"), what, &help);
        }
        let uid = self.uid(&format!("{at}.owner"), entry.owner.as_deref());
        let gid = self.gid(&format!("{at}.group"), entry.group.as_deref());
        let content = match &entry.content {
            Delivered::One(want) => Some(Content::One(want.clone())),
            Delivered::Template(file) => self.template(&format!("{at}.template"), file),
        };
        let target = Target { path: entry.path.clone(), mode: entry.mode, uid: uid?, gid: gid? };
        self.place(&format!("{at}.path"), &target);
        let path = entry.path.to_string_lossy().into();
        let order = Order { name: name.clone(), workload: entry.workload.clone(), uid: target.uid, path };
        let (then, remove_if_denied) = (entry.then.clone(), entry.remove_if_denied);
        Some(Delivery { order, target, content: content?, then, remove_if_denied })
    }

    /// What of the file's place is better known before it is needed. The folder may be made later.
    fn place(&mut self, key: &str, target: &Target) {
        let folder = target.path.parent().unwrap_or(&target.path).display().to_string();
        match target.lies_in_memory() {
            Some(true) => {}
            Some(false) => {
                let what = format!("`{folder}` is no tmpfs: what is delivered there is written to a disk");
                self.warn(key, what, "deliver it below `/run`, best into a `RuntimeDirectory=` of the program's unit");
            }
            None => {
                let what = format!("there is no folder `{folder}` that could be looked at now");
                let help = "it has to be there when the file is written: the agent makes the file, and not its folder";
                self.warn(key, what, help);
            }
        }
    }

    fn uid(&mut self, key: &str, owner: Option<&str>) -> Option<u32> {
        let Some(name) = owner else { return Some(geteuid().as_raw()) };
        let known = || User::from_name(name).ok().flatten().map(|user| user.uid.as_raw());
        let uid = name.parse().ok().or_else(known);
        if uid.is_none() {
            self.fault(key, format!("there is no user `{name}`"), "create it, or write its uid");
        }
        uid
    }

    fn gid(&mut self, key: &str, group: Option<&str>) -> Option<u32> {
        let Some(name) = group else { return Some(getegid().as_raw()) };
        let known = || Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw());
        let gid = name.parse().ok().or_else(known);
        if gid.is_none() {
            self.fault(key, format!("there is no group `{name}`"), "create it, or write its gid");
        }
        gid
    }

    fn template(&mut self, key: &str, file: &Path) -> Option<Content> {
        let text = match bytes_of(file, MOST_TEMPLATE_BYTES).map(String::from_utf8) {
            Ok(Ok(text)) if text.len() <= MOST_TEMPLATE_BYTES => text,
            Ok(Ok(_)) => {
                let what = format!("`{}` is longer than {MOST_TEMPLATE_BYTES} bytes", file.display());
                self.fault(key, what, "deliver several files");
                return None;
            }
            Ok(Err(_)) => {
                self.fault(key, format!("`{}` is no text", file.display()), "write it in UTF-8");
                return None;
            }
            Err(error) => {
                self.fault(
                    key,
                    format!("`{}` cannot be read: {error}", file.display()),
                    "write it, or correct the path",
                );
                return None;
            }
        };
        let content = Content::Template(text.into());
        match content.wants() {
            Ok(wants) => wants.iter().for_each(|want| self.is_there(key, file, want)),
            Err(NotRendered::Template { line, what }) => {
                let place = line.map_or_else(String::new, |line| format!(":{line}"));
                self.fault(
                    key,
                    format!("`{}{place}`: {what}", file.display()),
                    "see `docs/deliver.md` for what it may say",
                );
            }
            Err(NotRendered::Wants(_)) => {}
        }
        Some(content)
    }

    fn is_there(&mut self, key: &str, file: &Path, want: &Want) {
        let Settings { secrets, providers, .. } = &self.read.settings;
        let (what, name) = match want {
            Want::Secret(name) if !secrets.contains_key(name) => ("secret", name),
            Want::Token { provider, .. } if !providers.contains_key(provider) => ("provider", provider),
            Want::Token { provider, scopes, .. }
                if providers.get(provider).is_some_and(|known| !known.scopes.contains_all(scopes)) =>
            {
                let what = format!("`{}` wants scopes that `[provider.{provider}]` does not list", file.display());
                return self.fault(key, what, "add them to its `scopes`, or take them out");
            }
            Want::Secret(_) | Want::Token { .. } => return,
        };
        let text = format!("`{}` wants the {what} `{name}`, and there is none", file.display());
        self.fault(key, text, &format!("add `[{what}.{name}]`"));
    }

    fn fault(&mut self, key: &str, what: String, help: &str) {
        self.faults.push(Fault::new(self.read.places.of(key), what).help(help));
    }

    fn warn(&mut self, key: &str, what: String, help: &str) {
        self.warnings.push(Fault::new(self.read.places.of(key), what).help(help));
    }
}
