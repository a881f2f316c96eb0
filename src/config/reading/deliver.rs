//! `[deliver.NAME]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{Reader, guess};
use crate::broker::Want;
use crate::config::meant::{Delivered, Delivery, Provider, Secret};
use crate::config::said::{self, DEFAULT_TIMEOUT, OnDenied};
use crate::deliver::{MOST_PATH_BYTES, Signal, Then};
use crate::document::below;
use crate::name::Name;

/// The longest time that a command may be given.
const MOST_TIMEOUT: Duration = Duration::from_secs(600);
/// The most files that are delivered.
const MOST_DELIVERIES: usize = 256;

impl Reader<'_> {
    pub(super) fn deliveries(
        &mut self,
        said: BTreeMap<Name, said::Deliver>,
        secrets: &BTreeMap<Name, Secret>,
        providers: &BTreeMap<Name, Provider>,
    ) -> BTreeMap<Name, Delivery> {
        if said.len() > MOST_DELIVERIES {
            self.fault(
                "deliver",
                format!("{} files are more than the {MOST_DELIVERIES} that are kept", said.len()),
                None,
            );
        }
        let mut meant = BTreeMap::new();
        for (name, said) in said {
            if let Some(delivery) = self.delivery(&below("deliver", name.as_str()), said, secrets, providers) {
                meant.insert(name, delivery);
            }
        }
        self.targets_differ(&meant);
        meant
    }

    fn delivery(
        &mut self,
        entry: &str,
        said: said::Deliver,
        secrets: &BTreeMap<Name, Secret>,
        providers: &BTreeMap<Name, Provider>,
    ) -> Option<Delivery> {
        let said::Deliver { workload, path, mode, owner, group, secret, token, template, then, on_denied } = said;
        self.target(&format!("{entry}.path"), &path);
        if mode.0 & 0o133 != 0 || mode.0 & 0o400 == 0 {
            let help = "`0400`, `0440`, `0600`, `0640`, `0644` are such modes; others than its group seldom need it";
            let what = format!("the mode {mode} lets others write, lets anybody run it, or keeps its owner out");
            self.fault(&format!("{entry}.mode"), what, Some(help.to_owned()));
        }
        let then = then.and_then(|then| self.then(&format!("{entry}.then"), then));
        let content = match (secret, token, template) {
            (Some(secret), None, None) => self.secret_to_deliver(entry, secret, secrets),
            (None, Some(token), None) => self.token_to_deliver(entry, token, providers),
            (None, None, Some(file)) => Some(Delivered::Template(self.path(&format!("{entry}.template"), &file))),
            (_, _, _) => {
                let help =
                    "keep one of `secret`, `token` and `template`; a template may hold several secrets and tokens";
                let what = format!("`[{entry}]` does not say in one way what stands in the file");
                self.fault(entry, what, Some(help.to_owned()));
                None
            }
        };
        let remove_if_denied = on_denied == OnDenied::Remove;
        Some(Delivery { workload, path, mode: mode.0, owner, group, content: content?, then, remove_if_denied })
    }

    fn target(&mut self, key: &str, path: &std::path::Path) {
        let bytes = path.as_os_str().as_encoded_bytes();
        let is_plain = path.is_absolute()
            && bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
            && !bytes.ends_with(b"/")
            && !bytes.split(|byte| *byte == b'/').skip(1).any(|part| matches!(part, b"" | b"." | b".."));
        if !is_plain || bytes.len() > MOST_PATH_BYTES {
            let help = format!(
                "write it from the root, in at most {MOST_PATH_BYTES} printable ASCII characters, as in `/run/bursar-app/key`"
            );
            self.fault(key, format!("`{key}` is not the plain absolute path of a file"), Some(help));
        }
    }

    fn secret_to_deliver(&mut self, entry: &str, secret: Name, secrets: &BTreeMap<Name, Secret>) -> Option<Delivered> {
        if secrets.contains_key(&secret) {
            return Some(Delivered::One(Want::Secret(secret)));
        }
        let guess = guess(secret.as_str(), secrets.keys().map(Name::as_str));
        let help = format!("{guess}add `[secret.{secret}]`");
        self.fault(&format!("{entry}.secret"), format!("there is no secret `{secret}`"), Some(help));
        None
    }

    fn token_to_deliver(
        &mut self,
        entry: &str,
        said: said::DeliverToken,
        providers: &BTreeMap<Name, Provider>,
    ) -> Option<Delivered> {
        let said::DeliverToken { provider, scopes, audience } = said;
        let Some(known) = providers.get(&provider) else {
            let guess = guess(provider.as_str(), providers.keys().map(Name::as_str));
            let help = format!("{guess}add `[provider.{provider}]`");
            self.fault(&format!("{entry}.token.provider"), format!("there is no provider `{provider}`"), Some(help));
            return None;
        };
        if let Some(scope) = scopes.iter().find(|scope| !known.scopes.contains(scope)) {
            let what = format!("the provider `{provider}` does not list the scope `{scope}`");
            self.fault(&format!("{entry}.token.scopes"), what, Some("add it to its `scopes`, or take it out".into()));
        }
        if let Some(one) = audience.iter().find(|one| !known.audience.contains(one)) {
            let what = format!("the provider `{provider}` does not list the audience `{one}`");
            let help = "add it to its `resources` or `audience`, or take it out";
            self.fault(&format!("{entry}.token.audience"), what, Some(help.into()));
        }
        let (scopes, audience) = (scopes.into_iter().collect(), audience.into_iter().collect());
        Some(Delivered::One(Want::Token { provider, scopes, audience }))
    }

    fn then(&mut self, key: &str, said: said::Then) -> Option<Then> {
        let said::Then { signal, pid_file, command, timeout } = said;
        match (signal, pid_file, command, timeout) {
            (Some(signal), Some(pid_file), None, None) => {
                let pid_file = self.path(&format!("{key}.pid_file"), &pid_file);
                Some(Then::Signal { signal: signal_of(signal), pid_file })
            }
            (None, None, Some(command), timeout) => {
                let timeout = timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.0);
                if timeout.is_zero() || timeout > MOST_TIMEOUT {
                    let what = "a command has between a moment and ten minutes".to_owned();
                    self.fault(&format!("{key}.timeout"), what, Some("as in `30s`".to_owned()));
                }
                self.command(&format!("{key}.command"), &command);
                Some(Then::Command { command, timeout })
            }
            (_, _, _, _) => {
                let help =
                    "write `{ signal = \"HUP\", pid_file = \"…\" }` or `{ command = [\"…\"], timeout = \"30s\" }`";
                self.fault(key, format!("`{key}` is neither a signal nor a command"), Some(help.to_owned()));
                None
            }
        }
    }

    fn command(&mut self, key: &str, command: &[String]) {
        if !command.first().is_some_and(|program| program.starts_with('/')) {
            let help = "write the path of the program from the root: no shell looks for it";
            self.fault(key, format!("`{key}` does not begin with an absolute path"), Some(help.to_owned()));
        }
        if command.iter().any(|part| part.contains('\0')) {
            self.fault(key, format!("`{key}` holds a zero byte"), None);
        }
    }

    /// Two deliveries to one path would each take the other's file for a change.
    fn targets_differ(&mut self, deliveries: &BTreeMap<Name, Delivery>) {
        let mut seen: BTreeMap<&PathBuf, &Name> = BTreeMap::new();
        for (name, delivery) in deliveries {
            if let Some(first) = seen.insert(&delivery.path, name) {
                let what = format!("the deliveries `{first}` and `{name}` are one file");
                let help = "give each a `path` of its own; a template may hold several values".to_owned();
                self.fault(&format!("{}.path", below("deliver", name.as_str())), what, Some(help));
            }
        }
    }
}

const fn signal_of(said: said::Signal) -> Signal {
    match said {
        said::Signal::Hup => Signal::Hup,
        said::Signal::Int => Signal::Int,
        said::Signal::Quit => Signal::Quit,
        said::Signal::Term => Signal::Term,
        said::Signal::Usr1 => Signal::Usr1,
        said::Signal::Usr2 => Signal::Usr2,
    }
}
