//! (E) No memory of this process becomes executable (`PR_SET_MDWE`, Linux 6.3).
#![expect(unsafe_code, reason = "rustix has no call for PR_SET_MDWE")]

use std::io;

/// From here on no mapping is writable and executable, and none becomes executable.
///
/// Programs that are started are not bound by it (`PR_MDWE_NO_INHERIT`, Linux 6.6): some compile as they run.
///
/// # Errors
/// The operating system's: an older kernel refuses.
pub(super) fn refuse_executable_gain() -> io::Result<()> {
    let flags = libc::c_ulong::from(libc::PR_MDWE_REFUSE_EXEC_GAIN | libc::PR_MDWE_NO_INHERIT);
    let unused: libc::c_ulong = 0;
    // SAFETY: this prctl takes two integers and three zeroes, and reads and writes no memory of ours.
    match unsafe { libc::prctl(libc::PR_SET_MDWE, flags, unused, unused, unused) } {
        0 => Ok(()),
        // A service manager that has set it already (`MemoryDenyWriteExecute=`) leaves nothing to be changed.
        _ if stands() => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn stands() -> bool {
    let unused: libc::c_ulong = 0;
    // SAFETY: this prctl takes four zeroes, and reads and writes no memory of ours.
    let flags = unsafe { libc::prctl(libc::PR_GET_MDWE, unused, unused, unused, unused) };
    u32::try_from(flags).is_ok_and(|flags| flags & libc::PR_MDWE_REFUSE_EXEC_GAIN != 0)
}
