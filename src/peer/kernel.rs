//! (E) Four calls to the kernel that no safe crate offers whole: a socket that names its senders, the
//! peer's groups, a read that comes with its sender, and the number of a process's cgroup.
#![expect(
    unsafe_code,
    reason = "`rustix` has no pid 0 in credentials, and no crate reads SO_PEERGROUPS or PIDFD_GET_INFO"
)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};

use tokio::io::ReadBuf;

/// `NGROUPS_MAX`: no process has more.
const MAX_GROUPS: usize = 65_536;

/// Makes every read of `socket`, and of what a listening `socket` accepts, name its sender, and nothing else.
///
/// # Errors
/// The operating system's.
pub(super) fn name_senders(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SO_PASSCRED, 1)?;
    // A socket unit may have set these; their control messages would not fit the buffer of `receive`.
    set(socket, libc::SO_PASSSEC, 0)?;
    match set(socket, libc::SO_PASSPIDFD, 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        result => result,
    }
}

fn set(socket: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: `value` is read for its own size, and lives through the call.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), LEN_OF_INT)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const LEN_OF_INT: libc::socklen_t = size_of::<libc::c_int>() as libc::socklen_t;

/// The supplementary groups at connect (`SO_PEERGROUPS`, Linux 4.13).
///
/// # Errors
/// The operating system's.
pub(super) fn groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 32];
    loop {
        let mut bytes = libc::socklen_t::try_from(size_of::<libc::gid_t>() * groups.len()).unwrap_or(0);
        // SAFETY: `groups` has room for `bytes` bytes, and the kernel writes no more than that.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let needed = usize::try_from(bytes).unwrap_or(0) / size_of::<libc::gid_t>();
        if result == 0 {
            groups.truncate(needed);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || needed <= groups.len() || needed > MAX_GROUPS {
            return Err(error);
        }
        groups.resize(needed, 0);
    }
}

/// The number of the cgroup in which the process of a pidfd stands in the unified tree (`PIDFD_GET_INFO`, Linux 6.13).
///
/// No two cgroups of one boot have the same, and none of the unified tree changes its path while it lives. None
/// where the kernel does not say.
pub(super) fn cgroup_id(pidfd: BorrowedFd<'_>) -> Option<u64> {
    // SAFETY: all zeroes is a valid `pidfd_info`.
    let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
    info.mask = PIDFD_INFO_CGROUPID;
    // SAFETY: the request states the size of `info`, which lives through the call.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
    (result == 0 && info.mask & PIDFD_INFO_CGROUPID != 0).then_some(info.cgroupid)
}

const PIDFD_INFO_CGROUPID: u64 = libc::PIDFD_INFO_CGROUPID as u64;

/// Who wrote what was read, as the kernel says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    /// The thread group; 0 in a foreign pid namespace.
    pub(super) pid: i32,
    /// The real uid at the moment of writing.
    pub(super) uid: u32,
}

/// One read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// How many bytes were read: initialized in the buffer, and not yet part of its filled region.
    pub(super) bytes: usize,
    /// Who wrote them; none only if the socket does not name its senders.
    pub(super) sender: Option<Sender>,
    /// Whether more came with them than a name: file descriptors. The kernel has closed them.
    pub(super) more: bool,
}

// SAFETY: pure arithmetic.
const CONTROL_BYTES: usize = unsafe { libc::CMSG_SPACE(size_of::<libc::ucred>() as u32) } as usize;
// SAFETY: pure arithmetic.
const MESSAGE_BYTES: usize = unsafe { libc::CMSG_LEN(size_of::<libc::ucred>() as u32) } as usize;

#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// Reads into the unfilled part of `buffer`, together with the sender's name.
///
/// The control buffer holds one name exactly. The kernel puts the name first, and what does not fit
/// (descriptors) it closes and reports as truncated: no descriptor ever enters this process.
///
/// # Errors
/// The operating system's; `WouldBlock` when nothing is there.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut ReadBuf<'_>) -> io::Result<Received> {
    let mut control = Control([0; CONTROL_BYTES]);
    // SAFETY: nothing is de-initialized: only the kernel writes there, and only initialized bytes.
    let unfilled: &mut [MaybeUninit<u8>] = unsafe { buffer.unfilled_mut() };
    let mut part = libc::iovec { iov_base: unfilled.as_mut_ptr().cast(), iov_len: unfilled.len() };
    // SAFETY: all zeroes is a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_BYTES as _;
    // SAFETY: `message` points to `part` and `control`, which point to live memory of the sizes they state.
    let result =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC) };
    let bytes = usize::try_from(result).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has written the first `bytes` bytes of the unfilled part.
    unsafe { buffer.assume_init(bytes) };
    Ok(Received { bytes, sender: sender_of(&message), more: message.msg_flags & libc::MSG_CTRUNC != 0 })
}

fn sender_of(message: &libc::msghdr) -> Option<Sender> {
    // SAFETY: the kernel has filled `message`; the header it points to lies in the control buffer, or is null.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() }?;
    let named = (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_CREDENTIALS);
    if !named || header.cmsg_len as usize != MESSAGE_BYTES {
        return None;
    }
    // SAFETY: a control message of this type holds one `ucred`, and the control buffer has room for it.
    let named = unsafe { libc::CMSG_DATA(header).cast::<libc::ucred>().read_unaligned() };
    Some(Sender { pid: named.pid, uid: named.uid })
}
