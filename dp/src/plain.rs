//! Plain files that somebody named, opened to be read.
//!
//! Whoever names a file may have put anything there. A FIFO or a device is not waited for: opening one would hold its thread until somebody
//! writes, and with it everything that this thread would do. Whether it is a plain file is asked of what was opened, never of its name.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Whether a link is followed where the file itself should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// To wherever it leads: who names it is on this machine.
    Followed,
    /// It is refused.
    Refused,
}

/// Opens a plain file. It may take as long as the disk does.
///
/// # Errors
/// What the system said; `InvalidInput` for what is no plain file.
pub fn open(path: &Path, links: Links) -> io::Result<File> {
    let follow = match links {
        Links::Followed => OFlags::empty(),
        Links::Refused => OFlags::NOFOLLOW,
    };
    let no_file = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what);
    let flags = (OFlags::NONBLOCK | follow).bits() as i32;
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(|error| {
        match error.raw_os_error() {
            Some(code) if code == Errno::LOOP.raw_os_error() && links == Links::Refused => {
                no_file("it is a link, which is not followed")
            }
            _ => error,
        }
    })?;
    if !file.metadata()?.is_file() {
        return Err(no_file("it is no plain file"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_plain_file_is_opened_and_nothing_is_waited_for() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "x").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for links in [Links::Followed, Links::Refused] {
            open(&at("file"), links).unwrap();
            for name in ["fifo", "."] {
                assert_eq!(open(&at(name), links).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
            }
            assert!(open(&at("socket"), links).is_err());
            assert_eq!(open(&at("missing"), links).unwrap_err().kind(), io::ErrorKind::NotFound);
        }
        open(&at("link"), Links::Followed).unwrap();
        assert_eq!(open(&at("link"), Links::Refused).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
