//! (E) Sockets that systemd opened for us: taken over once, at start, by name (sd_listen_fds(3)).
#![expect(unsafe_code, reason = "an inherited descriptor is a bare number until somebody owns it")]

use std::collections::BTreeMap;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::name::Name;

/// The sockets that a socket unit passed on, by `FileDescriptorName=`.
#[derive(Debug, Default)]
pub struct Inherited {
    /// `bursar`: where applications ask.
    pub applications: Option<UnixListener>,
    /// `admin`: where operators ask.
    pub admin: Option<UnixListener>,
    /// `listener-WORKLOAD`: where one workload asks.
    pub listeners: BTreeMap<Name, UnixListener>,
}

/// What was passed on cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NotInherited {
    /// `LISTEN_FDS`, `LISTEN_PID` or `LISTEN_FDNAMES` make no sense.
    #[error("the sockets that systemd passed on cannot be read: {0}")]
    Environment(std::io::Error),
    /// A descriptor has a name that means nothing here.
    #[error(
        "systemd passed on a socket named `{0}`: set `FileDescriptorName=` of the socket unit to `bursar`, `admin` or `listener-WORKLOAD`"
    )]
    UnknownName(String),
    /// Two descriptors have the same name.
    #[error("systemd passed on two sockets named `{0}`: let the socket unit have one `ListenStream=`")]
    Twice(String),
    /// It is not a listening unix stream socket.
    #[error("systemd passed on `{0}`, which is not a listening unix stream socket: use `ListenStream=/run/…`")]
    NotAListener(String),
}

impl Inherited {
    /// Takes over what systemd passed on. A second call finds nothing.
    ///
    /// # Errors
    /// [`NotInherited`]: a socket that is there under a wrong name would otherwise stay open and unanswered.
    pub fn take() -> Result<Self, NotInherited> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::SeqCst) {
            return Ok(Self::default());
        }
        let passed = sd_notify::listen_fds_with_names().map_err(NotInherited::Environment)?;
        let mut inherited = Self::default();
        for (descriptor, name) in passed {
            // SAFETY: systemd opened this descriptor for this process (`LISTEN_PID` was compared), the numbers
            // are distinct, and `TAKEN` lets this loop run once: nobody else owns it.
            let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
            inherited.add(name, descriptor)?;
        }
        Ok(inherited)
    }

    /// Files a descriptor under its name.
    fn add(&mut self, name: String, descriptor: OwnedFd) -> Result<(), NotInherited> {
        if !is_listener(&descriptor) {
            return Err(NotInherited::NotAListener(name));
        }
        let socket = UnixListener::from(descriptor);
        let before = match name.as_str() {
            "bursar" => self.applications.replace(socket),
            "admin" => self.admin.replace(socket),
            other => match other.strip_prefix("listener-").and_then(|workload| workload.parse().ok()) {
                Some(workload) => self.listeners.insert(workload, socket),
                None => return Err(NotInherited::UnknownName(name)),
            },
        };
        if before.is_some() { Err(NotInherited::Twice(name)) } else { Ok(()) }
    }
}

fn is_listener(descriptor: &impl AsFd) -> bool {
    sockopt::socket_domain(descriptor) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(descriptor) == Ok(SocketType::STREAM)
        && sockopt::socket_acceptconn(descriptor) == Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(folder: &tempfile::TempDir, name: &str) -> OwnedFd {
        UnixListener::bind(folder.path().join(name)).unwrap().into()
    }

    #[test]
    fn sockets_are_filed_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut inherited = Inherited::default();
        for name in ["bursar", "admin", "listener-checkout"] {
            inherited.add(name.to_owned(), listener(&folder, name)).unwrap();
        }
        assert!(inherited.applications.is_some() && inherited.admin.is_some());
        assert!(inherited.listeners.contains_key(&"checkout".parse::<Name>().unwrap()));
    }

    #[test]
    fn a_socket_without_a_meaning_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut inherited = Inherited::default();
        let unknown = inherited.add("bursar.socket".to_owned(), listener(&folder, "a"));
        assert!(matches!(unknown, Err(NotInherited::UnknownName(_))));
        inherited.add("bursar".to_owned(), listener(&folder, "b")).unwrap();
        let twice = inherited.add("bursar".to_owned(), listener(&folder, "c"));
        assert!(matches!(twice, Err(NotInherited::Twice(_))));
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        let refused = Inherited::default().add("admin".to_owned(), file);
        assert!(matches!(refused, Err(NotInherited::NotAListener(_))));
        let (connected, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let refused = Inherited::default().add("admin".to_owned(), connected.into());
        assert!(matches!(refused, Err(NotInherited::NotAListener(_))));
    }
}
