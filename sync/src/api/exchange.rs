//! The folder of the data directory by which files come to the daemon and go from it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use catalog::problem::Problem;
use tracing::warn;

use crate::config::Settings;
use crate::whole;

/// Makes the folder, unless it is there: then it stays as its owner has made it. The group may write in it, as it may use the admin
/// socket. No set-group-ID: as a service we may not set it (`RestrictSUIDSGID`).
///
/// # Errors
/// `DATA_DIR_NOT_WRITABLE`, `DISK_FULL`.
pub(super) fn make(settings: &Settings) -> Result<PathBuf, Problem> {
    let folder = settings.exchange_dir();
    if !folder.is_dir() {
        fs::create_dir_all(&folder)
            .and_then(|()| fs::set_permissions(&folder, Permissions::from_mode(0o770)))
            .map_err(|error| {
                let message = format!("`{}` cannot be made", folder.display());
                Problem::new(whole::code_of(&error), message).because_of(Some(&error))
            })?;
    }
    if let Some(warning) = of_before(&folder) {
        warn!("{warning}");
    }
    Ok(folder)
}

/// What is to be said of a folder as versions before this one made it: only they could write there. It is not changed by itself, as its
/// owner may have meant it so.
fn of_before(folder: &Path) -> Option<String> {
    let mode = fs::metadata(folder).ok()?.permissions().mode() & 0o7777;
    (mode == 0o750).then(|| {
        let shown = folder.display();
        format!(
            "`{shown}` has mode 0750: whoever may use the admin socket cannot put files there, nor take them; `chmod 0770 {shown}` \
             lets the group, `chmod 0700 {shown}` says that it is meant so"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_may_write_there_unless_its_owner_says_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.site.data_dir = folder.path().to_owned();
        let mode = |folder: &PathBuf| fs::metadata(folder).unwrap().permissions().mode() & 0o7777;
        let made = make(&settings).unwrap();
        assert_eq!((made.clone(), mode(&made)), (folder.path().join("exchange"), 0o770));
        fs::set_permissions(&made, Permissions::from_mode(0o700)).unwrap();
        assert_eq!(mode(&make(&settings).unwrap()), 0o700);
        assert_eq!(of_before(&made), None);
        fs::set_permissions(&made, Permissions::from_mode(0o750)).unwrap();
        assert_eq!(mode(&make(&settings).unwrap()), 0o750, "its owner may have meant it");
        assert!(of_before(&made).is_some_and(|warning| warning.contains("chmod 0770")));
    }
}
