//! The folder of the data directory by which files come to the daemon and go from it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use catalog::problem::{Code, Problem};

use crate::config::Settings;

/// Makes the folder, unless it is there: then it stays as its owner has made it. The group may write in it, as it may use the admin
/// socket. No set-group-ID: as a service we may not set it (`RestrictSUIDSGID`).
///
/// # Errors
/// `DATA_DIR_NOT_WRITABLE`.
pub(super) fn make(settings: &Settings) -> Result<PathBuf, Problem> {
    let folder = settings.exchange_dir();
    if !folder.is_dir() {
        fs::create_dir_all(&folder)
            .and_then(|()| fs::set_permissions(&folder, Permissions::from_mode(0o770)))
            .map_err(|error| {
                let message = format!("`{}` cannot be made", folder.display());
                Problem::new(Code::DataDirNotWritable, message).because_of(Some(&error))
            })?;
    }
    Ok(folder)
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
    }
}
