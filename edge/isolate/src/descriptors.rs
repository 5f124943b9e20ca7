//! What a process that is started from this one finds open: nothing that it was not given.

#![expect(unsafe_code, reason = "no safe crate says something of all descriptors at once")]

use std::io;

/// Marks every descriptor of this process but the standard ones to be closed when another program begins. Rust marks its
/// own; this is for those that came from whoever started this process.
///
/// # Errors
/// The system's: kernels before Linux 5.11 do not know how.
pub fn keep_descriptors() -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    const CLOEXEC: libc::c_uint = 1 << 2;
    // SAFETY: this closes nothing and changes nothing that this process can see: it sets a flag that matters to the
    // program that takes its place in a child.
    let failed = unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, CLOEXEC) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
