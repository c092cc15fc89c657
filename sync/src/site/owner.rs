//! Whose a content library is. What its site has not recorded goes from it after a day, so a library belongs to one database, also while
//! nobody works on it: `owner` in its folder has the identity that stands in the database. Both may move, and be restored.

use std::io::ErrorKind;
use std::path::Path;

use catalog::id::SiteCode;
use catalog::problem::{Code, Problem};
use tracing::warn;
use uuid::Uuid;

use crate::whole;

/// The file in the folder of the library: the identity, then words for people.
const FILE: &str = "owner";

/// Takes a library that is nobody's, or that holds nothing; one of this site is there already. Where nothing can be written it does not say
/// so.
///
/// # Errors
/// `CONFIG_INVALID` where it is another site's, `DISK_ERROR` where that cannot be read, `DATA_DIR_NOT_WRITABLE`.
pub(super) fn claim(library: &Path, identity: Uuid, code: &SiteCode, data_dir: &Path) -> Result<(), Problem> {
    let path = library.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(_) if is_ours(library, identity) => Ok(()),
        Ok(text) if !holds_nothing(library) => {
            let message =
                format!("the content library `{}` belongs to another site or point", library.display());
            let owner: String = text.trim().chars().take(200).collect();
            Err(Problem::new(Code::ConfigInvalid, message).because(format!("`{}`: {owner}", path.display())).help(
                format!(
                    "set a `[content] dir` that is this one's alone; if it is to be this one's from now on (its database was \
                     lost), remove `{}`: what this one has not recorded is deleted there after a day",
                    path.display()
                ),
            ))
        }
        Err(error) if error.kind() != ErrorKind::NotFound => {
            let message = format!("`{}` cannot be read", path.display());
            Err(Problem::new(Code::DiskError, message).because_of(Some(&error)))
        }
        Ok(_) | Err(_) => {
            let text = format!("{identity} site {code} in {}\n", data_dir.display());
            match whole::write(&path, whole::ALL, text.as_bytes()) {
                // Such a library is served on; of what nobody has recorded nothing is deleted there.
                Err(error) if whole::is_full(&error) || is_closed(&error) => {
                    warn!("`{}` cannot be written: {error}", path.display());
                    Ok(())
                }
                Err(error) => Err(whole::unwritable(&path, &error)),
                Ok(()) => Ok(()),
            }
        }
    }
}

/// Whether a library still says that it is this site's.
pub(crate) fn is_ours(library: &Path, identity: Uuid) -> bool {
    let text = std::fs::read_to_string(library.join(FILE)).unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()) == Some(identity)
}

fn is_closed(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied)
}

/// Whether there is no content, and nothing that arrives: whoever it was of loses nothing. What cannot be looked at may be something.
fn holds_nothing(library: &Path) -> bool {
    let is_empty = |folder: &Path| {
        std::fs::read_dir(folder)
            .map_or_else(|error| error.kind() == ErrorKind::NotFound, |mut entries| entries.next().is_none())
    };
    let fans = match std::fs::read_dir(library.join("blobs")) {
        Ok(fans) => fans.collect::<Result<Vec<_>, _>>(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    is_empty(&library.join("staging")) && fans.is_ok_and(|fans| fans.iter().all(|fan| is_empty(&fan.path())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::small_in;

    #[test]
    fn a_library_is_taken_once_and_given_up_by_hand() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let claimed = |identity| claim(folder.path(), identity, &"XYZ".parse().unwrap(), Path::new("/data"));
        claimed(one).unwrap();
        // There is nothing in it that could be lost: a new machine was started once before its backup was put back.
        std::fs::create_dir_all(folder.path().join("blobs/ab")).unwrap();
        claimed(other).unwrap();
        claimed(one).unwrap();
        std::fs::write(folder.path().join("blobs/ab").join("ab".repeat(32)), "content").unwrap();
        claimed(one).unwrap();
        let refused = claimed(other).unwrap_err();
        assert_eq!(refused.code, Code::ConfigInvalid, "{refused}");
        assert!(refused.help.contains("remove `"), "{refused}");
        std::fs::write(folder.path().join(FILE), "").unwrap();
        assert!(!is_ours(folder.path(), one), "and nothing goes from it");
        assert_eq!(claimed(one).unwrap_err().code, Code::ConfigInvalid, "nobody knows whose it is");
        std::fs::remove_file(folder.path().join(FILE)).unwrap();
        claimed(other).unwrap();
        assert_eq!(claimed(one).unwrap_err().code, Code::ConfigInvalid);
    }

    /// The second one would take the content of the first for what nobody has recorded.
    #[tokio::test]
    async fn two_sites_never_have_one_library_nor_one_database() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("library");
        let named = |data_dir: &str, library: &Path| {
            let mut settings = crate::config::Settings::default();
            settings.site.data_dir = folder.path().join(data_dir);
            settings.content.dir = library.to_owned();
            settings
        };
        let open = |settings: &crate::config::Settings| {
            crate::site::Site::open(crate::config::Loaded::from(settings.clone()))
        };
        let first = open(&named("one", &library)).await.unwrap();
        std::fs::create_dir(library.join("blobs/ab")).unwrap();
        std::fs::write(library.join("blobs/ab").join("ab".repeat(32)), "content").unwrap();
        let second = named("two", &library);
        let refused = open(&second).await.map(drop).unwrap_err();
        assert_eq!(refused.code, Code::SiteLocked, "{refused}");
        assert!(refused.message.contains("content library"), "{refused}");
        let mut third = named("three", &folder.path().join("other"));
        third.db.path = folder.path().join("one/spsync.db");
        let refused = open(&third).await.map(drop).unwrap_err();
        assert_eq!(refused.code, Code::SiteLocked, "{refused}");
        assert!(refused.message.contains("database"), "{refused}");
        first.close().await;
        // The first one rests, and owns it all the same.
        let refused = open(&second).await.map(drop).unwrap_err();
        assert_eq!(refused.code, Code::ConfigInvalid, "{refused}");
        open(&named("one", &library)).await.unwrap().close().await;

        // A site that was moved, or restored from its backup, goes on.
        std::fs::create_dir(folder.path().join("moved")).unwrap();
        std::fs::copy(folder.path().join("one/spsync.db"), folder.path().join("moved/spsync.db")).unwrap();
        std::fs::rename(&library, folder.path().join("moved/content")).unwrap();
        open(&named("moved", Path::new("content"))).await.unwrap().close().await;
    }

    /// That of a version of before this one has no owner.
    #[tokio::test]
    async fn a_library_of_before_is_taken_by_the_site_that_has_it() {
        let folder = tempfile::tempdir().unwrap();
        small_in(folder.path(), |_| {}).await.close().await;
        let owner = folder.path().join("site/content").join(FILE);
        std::fs::remove_file(&owner).unwrap();
        small_in(folder.path(), |_| {}).await.close().await;
        assert!(owner.exists());
    }
}
