//! (E) A connection's socket: the connector's credentials at `connect`, and a stream that takes bytes from
//! the connector only.
//!
//! Credentials taken at `connect` do not hold for what comes later: a child can write while its parent
//! becomes another program. So each read comes with its sender's pid, which the kernel vouches for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use nix::sys::socket::{getsockopt, sockopt};
use rustix::io::Errno;
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

use super::kernel::{self, Received};
use super::{OVERFLOW_ID, Unidentified};

/// Makes a listening socket fit for peers: every connection it accepts names the sender of every read.
///
/// # Errors
/// [`Unfit`] when the socket is not what a door needs.
pub fn prepare(listener: impl AsFd) -> Result<(), Unfit> {
    let listener = listener.as_fd();
    let fits = socket_domain(listener)? == AddressFamily::UNIX
        && socket_type(listener)? == SocketType::STREAM
        && socket_acceptconn(listener)?;
    if !fits {
        return Err(Unfit::Kind);
    }
    let address = SocketAddrUnix::try_from(rustix::net::getsockname(listener)?)?;
    if address.path().is_none() {
        return Err(Unfit::Abstract);
    }
    kernel::name_senders(listener).map_err(Unfit::Os)
}

/// A socket on which bursar does not listen.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It is of another kind.
    #[error("it is not a listening unix stream socket; set `ListenStream=` to a path and `Accept=no`")]
    Kind,
    /// It has no file.
    #[error("it has no path; an abstract socket has no owner and no mode, so name a file")]
    Abstract,
    /// The operating system refused.
    #[error("{0}")]
    Os(#[source] io::Error),
}

impl From<Errno> for Unfit {
    fn from(errno: Errno) -> Self {
        Self::Os(errno.into())
    }
}

/// Who connected, as the kernel took it at `connect`.
#[derive(Debug)]
pub struct Connector {
    /// The thread group; 0 in a foreign pid namespace.
    pub pid: i32,
    /// The effective uid.
    pub uid: u32,
    /// The effective gid, then the supplementary ones.
    pub gids: Box<[u32]>,
    /// A handle of the process; none on a kernel before 6.5.
    pub(super) pidfd: Option<OwnedFd>,
}

impl Connector {
    /// Asks the kernel who connected `socket`.
    ///
    /// # Errors
    /// [`Unidentified::Gone`] when the process has ended, [`Unidentified::Unreadable`] when the kernel does not say.
    pub fn of(socket: BorrowedFd<'_>) -> Result<Self, Unidentified> {
        let credentials = getsockopt(&socket, sockopt::PeerCredentials)
            .map_err(|errno| unreadable("who connected", Errno::from_raw_os_error(errno as i32)))?;
        let groups = kernel::groups(socket)
            .map_err(|error| unreadable("the connector's groups", Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        Ok(Self {
            pid: credentials.pid(),
            uid: credentials.uid(),
            gids: std::iter::once(credentials.gid()).chain(groups).collect(),
            pidfd: pidfd(socket)?,
        })
    }
}

/// Only a kernel that does not know the option leads to the fallback; any other error refuses.
fn pidfd(socket: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Unidentified> {
    use nix::errno::Errno as E;
    match getsockopt(&socket, sockopt::PeerPidfd) {
        Ok(pidfd) => Ok(Some(pidfd)),
        Err(E::ENOPROTOOPT) => Ok(None),
        Err(E::ESRCH | E::EINVAL) => Err(Unidentified::Gone),
        Err(errno) => Err(unreadable("which process connected", Errno::from_raw_os_error(errno as i32))),
    }
}

const fn unreadable(what: &'static str, errno: Errno) -> Unidentified {
    Unidentified::Unreadable { what, errno }
}

/// A connection that reads the connector's bytes and nobody else's.
///
/// A read of bytes from another process, or of bytes with descriptors, fails with an [`io::Error`] that
/// holds the [`Unidentified`]; from then on every read and write fails, and [`super::Peer::attest`] gives the
/// same fault. Costs one control message a read.
#[derive(Debug)]
pub struct Stream {
    socket: UnixStream,
    connector: (i32, u32),
    fault: Arc<OnceLock<Unidentified>>,
}

impl Stream {
    /// `fault` is shared with the [`super::Peer`] of the same connection.
    pub(super) fn of(
        socket: UnixStream,
        connector: &Connector,
        fault: Arc<OnceLock<Unidentified>>,
    ) -> io::Result<Self> {
        // Inherited from a prepared listener. Bytes that were queued on an unprepared one name nobody, and are refused.
        kernel::name_senders(socket.as_fd())?;
        Ok(Self { socket, connector: (connector.pid, connector.uid), fault })
    }

    fn intact(&self) -> io::Result<()> {
        self.fault.get().map_or(Ok(()), |fault| Err(refused(fault.clone())))
    }

    /// One read. A short one has emptied the socket, so the next waits for the kernel's word that more has come instead
    /// of asking in vain. What stood behind another sender's bytes is found then.
    fn receive(&self, buffer: &mut ReadBuf<'_>) -> io::Result<Received> {
        let room = buffer.remaining();
        let mut short = None;
        let whole = self.socket.try_io(Interest::READABLE, || {
            let received = kernel::receive(self.socket.as_fd(), buffer)?;
            if received.bytes == 0 || received.bytes == room {
                return Ok(received);
            }
            short = Some(received);
            Err(io::ErrorKind::WouldBlock.into())
        });
        short.map_or(whole, Ok)
    }

    fn judge(&self, received: &Received) -> io::Result<()> {
        let Some(fault) = fault_of(self.connector, received) else { return Ok(()) };
        Err(refused(self.fault.get_or_init(|| fault).clone()))
    }
}

fn refused(fault: Unidentified) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, fault)
}

/// What is wrong with a read on a connection of (pid, uid) `connector`.
///
/// Pid 0 stands for every process of a foreign pid namespace, so there the uid has to be the same as well.
fn fault_of((pid, uid): (i32, u32), received: &Received) -> Option<Unidentified> {
    if received.more {
        return Some(Unidentified::PassedDescriptor);
    }
    // The end of the stream was written by nobody.
    if received.bytes == 0 {
        return None;
    }
    let same = received.sender.is_some_and(|sender| sender.pid == pid && (pid != 0 || known(sender.uid, uid)));
    let sender = received.sender.map_or(0, |sender| sender.pid);
    (!same).then_some(Unidentified::SenderMismatch { connector: pid, sender })
}

/// The overflow uid stands for everybody, so it is not the same as itself.
const fn known(sender: u32, connector: u32) -> bool {
    sender == connector && sender != OVERFLOW_ID
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.intact()?;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            match self.receive(buffer) {
                Ok(received) => {
                    self.judge(&received)?;
                    buffer.advance(received.bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.intact()?;
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.intact()?;
        Pin::new(&mut self.socket).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::kernel::Sender;

    fn read_of(pid: i32, uid: u32) -> Received {
        Received { bytes: 3, sender: Some(Sender { pid, uid }), more: false }
    }

    #[test]
    fn the_connectors_own_bytes_pass_even_after_it_changed_its_uid() {
        assert_eq!(fault_of((7, 0), &read_of(7, 1000)), None);
    }

    #[test]
    fn bytes_of_another_pid_are_refused() {
        let fault = fault_of((7, 1000), &read_of(8, 1000));
        assert_eq!(fault, Some(Unidentified::SenderMismatch { connector: 7, sender: 8 }));
    }

    #[test]
    fn pid_zero_is_not_one_process() {
        assert_eq!(fault_of((0, 1000), &read_of(0, 1000)), None);
        assert!(fault_of((0, 1000), &read_of(0, 1001)).is_some(), "another uid is another process");
        assert!(fault_of((0, OVERFLOW_ID), &read_of(0, OVERFLOW_ID)).is_some(), "two strangers look alike");
    }

    #[test]
    fn bytes_that_name_nobody_are_refused() {
        assert!(fault_of((0, 1000), &Received { sender: None, ..read_of(0, 0) }).is_some());
    }

    #[test]
    fn descriptors_are_refused_whoever_sends_them() {
        let fault = fault_of((7, 1000), &Received { more: true, ..read_of(7, 1000) });
        assert_eq!(fault, Some(Unidentified::PassedDescriptor));
    }

    #[test]
    fn the_end_of_the_stream_needs_no_sender() {
        assert_eq!(fault_of((7, 1000), &Received { bytes: 0, sender: None, more: false }), None);
    }
}
