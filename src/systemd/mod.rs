//! (E) What systemd hands over (sockets, credentials) and is told (READY, RELOADING, STOPPING, WATCHDOG).
//!
//! Outside systemd nothing is handed over, and what is told is told to nobody. This room and `cli` are the
//! only ones that read the environment.

mod inherited;

use std::path::PathBuf;
use std::time::Duration;

use sd_notify::NotifyState;

pub use inherited::{Inherited, NotInherited};

/// Says that the agent answers; `status` is what `systemctl status` shows.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says that configuration and policy are read anew. [`ready`] has to follow, also when the old ones stay.
pub fn reloading() {
    // Since systemd 253 the moment has to come with it (`Type=notify-reload`, sd_notify(3)).
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// Says that the agent drains and stops.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Says in one line how the agent is.
pub fn status(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

/// Says that the agent is alive. Due every [`watchdog`].
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often [`alive`] has to be said: half of `WatchdogSec=`; none where the unit has no watchdog.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|every| !every.is_zero())
}

/// Where the credential `name` stands that the unit was given (`LoadCredential=`, `LoadCredentialEncrypted=`).
///
/// None where no credential was passed at all; whether this one is there shows when it is read.
#[must_use]
pub fn credential(name: &str) -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "systemd says it in the environment, and here it is read")]
    let folder = std::env::var("CREDENTIALS_DIRECTORY").ok()?;
    let plain = !name.is_empty() && !name.contains('/') && !matches!(name, "." | "..");
    plain.then(|| PathBuf::from(folder).join(name))
}

/// Whether standard error is the journal itself, which adds time and unit and reads a priority in front of a line.
#[must_use]
pub fn stderr_is_journal() -> bool {
    #[expect(clippy::disallowed_methods, reason = "systemd says it in the environment, and here it is read")]
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    // The variable is inherited by programs whose standard error was sent elsewhere: device and inode decide (systemd.exec(5)).
    let about = rustix::fs::fstat(std::io::stderr());
    about.is_ok_and(|about| stream == format!("{}:{}", about.st_dev, about.st_ino))
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        // The service manager will notice by itself; an agent that answers is not stopped for it.
        tracing::warn!(%error, "systemd could not be told how the agent is");
    }
}
