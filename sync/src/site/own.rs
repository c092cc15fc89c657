//! What on this machine is the site's own: nothing is written there because somebody named a path.
//!
//! The folder `exchange` in the data directory is the exception: what requests to the admin API name lies in it.

use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};

use catalog::problem::{Code, Problem};

use crate::config::Settings;
use crate::whole::{self, Coming};

/// How a path lies to the site's own data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lies {
    /// It has nothing to do with it.
    Apart,
    /// The site's data is somewhere in it.
    Around,
    /// It is in the site's data.
    Within,
    /// It is the folder for what requests name.
    Exchange,
    /// It is in that folder.
    InExchange,
}

/// How `path` lies to the data directory and the content library, wherever links lead.
pub fn lies(settings: &Settings, path: &Path) -> Lies {
    let (path, exchange) = (real(path), real(&settings.exchange_dir()));
    let own = [&settings.site.data_dir, &settings.content_dir()].map(|folder| real(folder));
    if path == exchange {
        Lies::Exchange
    } else if path.starts_with(&exchange) {
        Lies::InExchange
    } else if own.iter().any(|own| path.starts_with(own)) {
        Lies::Within
    } else if own.iter().any(|own| own.starts_with(&path)) {
        Lies::Around
    } else {
        Lies::Apart
    }
}

/// Refuses to write into the site's own data what somebody wants to have at `path`.
///
/// # Errors
/// `INVALID_OPTION`.
pub fn outside(settings: &Settings, path: &Path) -> Result<(), Problem> {
    match lies(settings, path) {
        Lies::Apart | Lies::Around | Lies::Exchange | Lies::InExchange => Ok(()),
        Lies::Within => {
            let message = format!("`{}` is inside the site's own data", path.display());
            Err(Problem::new(Code::InvalidOption, message).help("choose another folder"))
        }
    }
}

/// Whether files can be made in a folder, found out by making one, under a name of its own that nothing had. A full disk is no obstacle:
/// what is there can still be read and served, and removed.
///
/// # Errors
/// What the system said.
pub fn try_making(folder: &Path) -> io::Result<()> {
    Coming::at(&folder.join("writable"), whole::OWN).map(drop)
}

/// Whether there is room to write, too.
///
/// # Errors
/// What the system said.
pub fn try_writing(folder: &Path) -> io::Result<()> {
    Coming::at(&folder.join("writable"), whole::OWN)?.file().write_all(&[0; 4 << 10])
}

/// Where a path really leads: what of it is there without its links, and below that what is yet to be made.
fn real(path: &Path) -> PathBuf {
    for standing in path.ancestors() {
        let Ok(mut real) = standing.canonicalize() else { continue };
        for part in path.strip_prefix(standing).unwrap_or(Path::new("")).components() {
            match part {
                Component::Normal(name) => real.push(name),
                Component::ParentDir => {
                    real.pop();
                }
                Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            }
        }
        return real;
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_into_the_sites_own_data_wherever_links_lead() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        let mut settings = Settings::default();
        settings.site.data_dir = at("site");
        settings.content.dir = at("library");
        for made in ["site/db", "site/exchange/src", "library", "elsewhere"] {
            std::fs::create_dir_all(at(made)).unwrap();
        }
        std::os::unix::fs::symlink(at("site"), at("elsewhere/link")).unwrap();
        std::os::unix::fs::symlink(at("elsewhere"), at("site/out")).unwrap();
        for (path, expected) in [
            ("elsewhere", Lies::Apart),
            ("elsewhere/new/file.cab", Lies::Apart),
            ("sites", Lies::Apart),
            ("site/out/file.cab", Lies::Apart),
            (".", Lies::Around),
            ("site", Lies::Within),
            ("site/db/new/file.cab", Lies::Within),
            ("library/new", Lies::Within),
            ("elsewhere/link/file.cab", Lies::Within),
            ("elsewhere/new/../../site/db", Lies::Within),
            ("elsewhere/../site/file.cab", Lies::Within),
            ("site/exchange/../file.cab", Lies::Within),
            ("site/exchange", Lies::Exchange),
            ("elsewhere/link/exchange", Lies::Exchange),
            ("site/exchange/new/file.cab", Lies::InExchange),
        ] {
            assert_eq!(lies(&settings, &at(path)), expected, "{path}");
            assert_eq!(outside(&settings, &at(path)).is_err(), expected == Lies::Within, "{path}");
        }
        settings.site.data_dir = at("elsewhere/link");
        assert_eq!(
            lies(&settings, &at("site/file.cab")),
            Lies::Within,
            "the directory may be named by a link"
        );
    }

    #[test]
    fn who_tries_to_write_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for tried in [try_making, try_writing] {
            tried(folder.path()).unwrap();
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
            assert!(tried(&folder.path().join("missing")).is_err());
        }
    }
}
