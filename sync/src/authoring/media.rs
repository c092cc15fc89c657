//! Stand-alone media and prestaged files: what is refused, and how (mission section 7).
//!
//! A refusal of media is seen in `CreateTSMedia.log`, in the words that people search the web for, and leaves nothing but
//! that log in the staging folder.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use catalog::problem::{Code, Problem};

use super::surroundings::sequence;
use crate::admin::{Answer, Caller};
use crate::clock;
use crate::sequence::Sequence;
use crate::site::Site;

/// The log in the staging folder.
pub const LOG: &str = "CreateTSMedia.log";

/// The entries of a refused creation, in order. Pure.
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

/// Makes stand-alone media in `folder`.
///
/// # Errors
/// `MEDIA_FEATURE_UPDATE` (0x80070490), `MEDIA_UNSUPPORTED_STEP`, `BOOT_IMAGE_MISSING`.
pub async fn media(site: &Arc<Site>, name: &str, folder: &Path, caller: &Caller) -> Result<Answer, Problem> {
    let row = sequence(site, name).await?;
    let refused = match Sequence::parse(&row.document)?.may_be_on_media() {
        Ok(()) => {
            let message = format!("media of `{}` is not made by this release", row.name);
            return Err(Problem::new(Code::MediaNotBuilt, message));
        }
        Err(problem) => problem,
    };
    if refused.code != Code::MediaFeatureUpdate || caller.dry_run {
        return Err(refused);
    }
    let (log, who) = (folder.join(LOG), caller.who.clone());
    write_refusal(folder, row.id.as_str(), &site.code().to_string()).map_err(|error| {
        Problem::new(Code::DiskError, format!("`{}` cannot be written", log.display()))
            .because_of(Some(&error))
    })?;
    let id = row.id.clone();
    site.write(move |w| w.audit(&who, "media.refused", id.as_str(), clock::now())).await?;
    tracing::warn!(code = %refused.code, sequence = %row.id, "media refused: {}", refused.message);
    Err(refused.keeping(format!("the log is `{}`, nothing else was left; exit code 80070490", log.display())))
}

/// Begins as every creation does, with a temporary folder; it is gone before the log says so.
fn write_refusal(folder: &Path, sequence: &str, site: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let temporary: PathBuf =
        tempfile::Builder::new().prefix("_tsmedia_").rand_bytes(7).tempdir_in(folder)?.keep();
    std::fs::remove_dir_all(&temporary)?;
    let mut log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join(LOG))?;
    let lines = refusal_entries(sequence, site, &temporary).join("\n");
    log.write_all(format!("{lines}\n").as_bytes())?;
    log.sync_all()
}

/// Makes a prestaged file of a task sequence or a deployment package.
///
/// # Errors
/// `PRESTAGE_FEATURE_UPDATE` before any file exists; `TASK_SEQUENCE_NOT_FOUND`.
pub async fn prestage(site: &Arc<Site>, what: &str, file: &Path) -> Result<Answer, Problem> {
    let name = match sequence(site, what).await {
        Ok(row) => {
            Sequence::parse(&row.document)?.may_be_prestaged()?;
            row.name
        }
        Err(problem) if problem.code == Code::TaskSequenceNotFound => {
            crate::packages::named(site, what).await?.name
        }
        Err(problem) => return Err(problem),
    };
    let message = format!(
        "a prestaged file of `{name}` is not made by this release: nothing was written to `{}`",
        file.display()
    );
    Err(Problem::new(Code::MediaNotBuilt, message))
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
}
