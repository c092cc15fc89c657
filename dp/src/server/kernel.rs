//! What the kernel offers and no safe library wraps: all `unsafe` of the data path.
//!
//! Every function here is sound for any argument; what it *means* depends on what its comment asks of the caller.
#![expect(unsafe_code, reason = "system calls without a safe wrapper, and maps; see the invariant at each")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use bytes::Bytes;

/// A read-only map of a whole file; none where the system has no room for it.
pub(super) fn map(file: &File, size: u64) -> Option<Bytes> {
    let length = usize::try_from(size).ok()?;
    // SAFETY: the map is private and read-only, and it lives as long as the `Bytes` that own it. What must not happen to a
    // mapped file is that it is cut or written to while somebody reads the map: content is written under another name,
    // protected (0444) before it gets its own, and removed by unlinking only (`library::Staged::commit`). If an
    // administrator does it all the same, nothing is read through the map: `push` takes bytes from the file itself, where a
    // cut file is a short count and never a signal. Answers over TLS and all other bodies read the file too, see `body`.
    let map = unsafe { memmap2::MmapOptions::new().len(length).map(file) };
    map.ok().map(Bytes::from_owner)
}

fn fcntl(file: &File, command: libc::c_int, argument: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: the descriptor is open as long as `file` is borrowed; commands about leases take and give numbers only.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
        -1 => Err(io::Error::last_os_error()),
        answer => Ok(answer),
    }
}

/// Takes a read lease (fcntl(2), `F_SETLEASE`): from now on who opens the file for writing, or cuts it, is held until the
/// lease is given back, at most for `/proc/sys/fs/lease-break-time`; this process is told so by `SIGIO`, which it must
/// have a handler for.
///
/// # Errors
/// `EAGAIN` where the file is open for writing; others where the file system has no leases or the file is somebody else's.
pub(super) fn take_lease(file: &File) -> io::Result<()> {
    fcntl(file, libc::F_SETLEASE, libc::F_RDLCK).map(drop)
}

/// Whether nobody waits for the lease that was taken.
pub(super) fn lease_is_undisturbed(file: &File) -> bool {
    fcntl(file, libc::F_GETLEASE, 0).is_ok_and(|kind| kind == libc::F_RDLCK)
}

/// Gives a lease back. One that is gone already is no error.
pub(super) fn give_lease_back(file: &File) {
    let _ = fcntl(file, libc::F_SETLEASE, libc::F_UNLCK);
}

/// Bytes that a socket has taken and its other end has not yet said to have (tcp(7), `SIOCOUTQ`). A socket that cannot say
/// has none.
pub(super) fn unacknowledged(socket: impl AsFd) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: the descriptor is borrowed, and the request writes one `int` to where the pointer shows.
    let asked = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if asked == 0 { usize::try_from(count).unwrap_or(0) } else { 0 }
}

/// How much of a file is in memory (cachestat(2)).
#[repr(C)]
#[derive(Default)]
struct CacheStat {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

#[repr(C)]
struct CacheRange {
    offset: u64,
    length: u64,
}

/// The same number on every architecture (Linux 6.5).
const SYS_CACHESTAT: libc::c_long = 451;
const PAGE: u64 = 4096;

/// Whether all pages of a part of a file are in memory; `None` where the kernel does not say.
pub(super) fn is_in_memory(file: &File, offset: u64, length: usize) -> Option<bool> {
    let range = CacheRange { offset, length: length as u64 };
    let mut found = CacheStat::default();
    // SAFETY: both pointers are to values of the layout that the kernel's interface has, which live during the call; the
    // kernel writes the second only.
    let asked = unsafe {
        libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &raw const range, &raw mut found, 0 as libc::c_uint)
    };
    let pages = (offset + length as u64).div_ceil(PAGE) - offset / PAGE;
    (asked == 0).then_some(found.cached >= pages)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_lease_is_not_given_where_somebody_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut writer = File::create(&path).unwrap();
        writer.write_all(&[7; 10_000]).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(take_lease(&file).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(writer);
        take_lease(&file).unwrap();
        assert!(lease_is_undisturbed(&file));
        give_lease_back(&file);
        assert!(!lease_is_undisturbed(&file));
    }

    #[test]
    fn what_was_just_written_is_in_memory_and_what_is_not_there_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, vec![7; 1_000_000]).unwrap();
        let file = File::open(&path).unwrap();
        // An old kernel does not say.
        if let Some(whole) = is_in_memory(&file, 5_000, 900_000) {
            assert!(whole);
            assert_eq!(is_in_memory(&file, 5_000, 2_000_000), Some(false));
        }
    }
}
