//! `CreateTSMedia.log`, which a creation of stand-alone media leaves in the staging folder, in the words that people search the
//! web for. One creation at a time works in a staging folder: the log is its lock.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use catalog::problem::{Code, Problem};

use super::disk;

/// The log in the staging folder.
pub const LOG: &str = "CreateTSMedia.log";
/// How the name of a temporary folder begins.
const TEMPORARY: &str = "_tsmedia_";

/// The entries of a creation that is refused for a feature update, in order. Pure.
pub fn refusal_entries(sequence: &str, site: &str, temporary: &Path) -> [String; 8] {
    [
        format!("Unable to retrieve policy for Task Sequence {sequence} from site {site}."),
        "Failed to initialize.... Verify the user is authorized to create Task Sequence media and has local admin permissions."
            .to_owned(),
        "MediaGenerator::~MediaGenerator()".to_owned(),
        "Failed to create media generator (0x80070490)".to_owned(),
        "CreateTsMedia failed with error 0x80070490, details=''".to_owned(),
        format!("Media temp directory '{}' is fully cleared", temporary.display()),
        "Media creation process that was started from Admin Console completed.".to_owned(),
        "CreateMedia.exe finished with error code 80070490".to_owned(),
    ]
}

/// A staging folder that this creation alone works in.
pub struct Staging {
    folder: PathBuf,
    log: File,
}

impl Staging {
    /// Makes the folder where there is none, and clears what dead creations left in it.
    ///
    /// # Errors
    /// `MEDIA_STAGING_BUSY`, `DISK_ERROR`.
    pub fn open(folder: &Path) -> Result<Self, Problem> {
        std::fs::create_dir_all(folder).map_err(|error| disk("made", folder, &error))?;
        let path = folder.join(LOG);
        let log = File::options().create(true).append(true).open(&path);
        let log = log.map_err(|error| disk("written", &path, &error))?;
        match log.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let message = format!("another creation of media works in `{}`", folder.display());
                return Err(Problem::new(Code::MediaStagingBusy, message));
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(disk("locked", &path, &error)),
        }
        let staging = Self { folder: folder.to_owned(), log };
        for entry in std::fs::read_dir(folder).map_err(|error| disk("read", folder, &error))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = name.strip_prefix(TEMPORARY).is_some_and(|rest| rest.len() == 7);
            // A link of that name is nobody's folder: the type is that of the entry itself.
            if ours && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                std::fs::remove_dir_all(entry.path())
                    .map_err(|error| disk("cleared", &entry.path(), &error))?;
            }
        }
        Ok(staging)
    }

    /// A temporary folder. Whoever makes it clears it.
    ///
    /// # Errors
    /// `DISK_ERROR`.
    pub fn temporary(&self) -> Result<PathBuf, Problem> {
        let made = tempfile::Builder::new().prefix(TEMPORARY).rand_bytes(7).tempdir_in(&self.folder);
        Ok(made.map_err(|error| disk("made", &self.folder, &error))?.keep())
    }

    /// Writes entries.
    ///
    /// # Errors
    /// `DISK_ERROR`.
    pub fn say(&mut self, lines: &[String]) -> Result<(), Problem> {
        let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let written = self.log.write_all(text.as_bytes()).and_then(|()| self.log.sync_all());
        written.map_err(|error| disk("written", &self.folder.join(LOG), &error))
    }
}

/// Begins as every creation does, with a temporary folder; it is gone before the log says so.
///
/// # Errors
/// `MEDIA_STAGING_BUSY`, `DISK_ERROR`.
pub fn write_refusal(folder: &Path, sequence: &str, site: &str) -> Result<(), Problem> {
    let mut staging = Staging::open(folder)?;
    let temporary = staging.temporary()?;
    std::fs::remove_dir_all(&temporary).map_err(|error| disk("cleared", &temporary, &error))?;
    staging.say(&refusal_entries(sequence, site, &temporary))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mission rows M43 and M44.
    #[test]
    fn a_refusal_leaves_its_log_in_order_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        write_refusal(folder.path(), "XYZ004BD", "XYZ").unwrap();
        let names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, [LOG]);
        let log = std::fs::read_to_string(folder.path().join(LOG)).unwrap();
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines.len(), 8);
        assert_eq!(lines[0], "Unable to retrieve policy for Task Sequence XYZ004BD from site XYZ.");
        assert_eq!(lines[3], "Failed to create media generator (0x80070490)");
        assert!(lines[5].contains("_tsmedia_") && lines[5].ends_with("is fully cleared"));
        assert_eq!(lines[7], "CreateMedia.exe finished with error code 80070490");
    }

    #[test]
    fn one_creation_at_a_time_and_dead_ones_are_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("_tsmedia_abcdefg/content")).unwrap();
        std::fs::create_dir(at("_tsmedia_mine")).unwrap();
        std::os::unix::fs::symlink(folder.path(), at("_tsmedia_1234567")).unwrap();
        let staging = Staging::open(folder.path()).unwrap();
        assert!(!at("_tsmedia_abcdefg").exists() && at("_tsmedia_mine").exists());
        assert!(at("_tsmedia_1234567").is_symlink(), "a link is not followed");
        assert_eq!(Staging::open(folder.path()).err().unwrap().code, Code::MediaStagingBusy);
        drop(staging);
        assert!(Staging::open(folder.path()).is_ok());
    }
}
