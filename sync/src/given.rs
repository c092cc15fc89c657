//! Files that somebody named in a request: whether a link may stand there, and what is said where one cannot be read.

use std::io;
use std::path::Path;

use catalog::problem::{Code, Problem};
pub use dp::plain::{Links, open};

use crate::config::Settings;

/// Whoever asks from elsewhere names files of the folder `exchange`, and reads with the site's rights nothing but these.
pub fn links(settings: &Settings, path: &Path) -> Links {
    if path.starts_with(settings.exchange_dir()) { Links::Refused } else { Links::Followed }
}

/// Why a file could not be opened or read: `SOURCE_MISSING` where it is no plain one, else `DISK_ERROR`.
pub fn unreadable(path: &Path, error: &io::Error) -> Problem {
    let code = match error.kind() {
        io::ErrorKind::InvalidInput => Code::SourceMissing,
        _ => Code::DiskError,
    };
    Problem::new(code, format!("`{}` cannot be read", path.display())).because_of(Some(error))
}

/// Makes a FIFO, for a test.
#[cfg(test)]
pub(crate) fn fifo(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_has_its_code() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fifo(&at("fifo"));
        for links in [Links::Followed, Links::Refused] {
            for (name, code) in
                [("fifo", Code::SourceMissing), (".", Code::SourceMissing), ("missing", Code::DiskError)]
            {
                let refused = open(&at(name), links).unwrap_err();
                assert_eq!(unreadable(&at(name), &refused).code, code, "{name}");
            }
        }
    }

    #[test]
    fn a_link_in_the_folder_for_requests_is_not_followed() {
        let mut settings = Settings::default();
        settings.site.data_dir = "/srv/site".into();
        assert_eq!(links(&settings, Path::new("/srv/site/exchange/x.cab")), Links::Refused);
        assert_eq!(links(&settings, Path::new("/home/me/x.cab")), Links::Followed);
    }
}
