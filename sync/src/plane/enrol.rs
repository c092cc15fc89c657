//! Getting a key for a one-time token, as a point or as a device; and which installation it is that gets it.

use std::path::{Path, PathBuf};

use catalog::problem::{Code, Problem};
use url::Url;
use uuid::Uuid;

use super::call;
use crate::keys::{Secret, write_private};
use crate::points::wire::{Enrolled, Enrolment};
use crate::whole;

/// Who enrols where.
#[derive(Debug, Clone)]
pub struct Place {
    /// The site, as a folder.
    pub site: Url,
    /// Certificates that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Where others on the way could read the token, it is sent all the same.
    pub plain: bool,
    /// Where the key goes.
    pub key_file: PathBuf,
    /// Which installation this is.
    pub instance: Uuid,
}

/// Enrols with a token. The key is made before it is asked for and is put in place after: whatever is lost in between, the
/// same request can be made again.
///
/// # Errors
/// Why it did not work: `PLAIN_HTTP_REFUSED`, and nothing was sent; `TOKEN_REFUSED`, faults of the network, `DATA_DIR_NOT_WRITABLE`.
pub async fn with_token(place: &Place, token: &Secret) -> Result<Enrolled, Problem> {
    call::may_be_told(&place.site, place.plain)?;
    let mut coming = place.key_file.clone().into_os_string();
    coming.push(".new");
    let coming = PathBuf::from(coming);
    let key = Secret::of_own_file(&coming)?;
    let asked = Enrolment {
        token: token.reveal(),
        key_sha256: key.hash(),
        content_key_sha256: Some(key.content_hash()),
        instance: place.instance,
    };
    let web = call::web(&place.site, place.ca_file.clone(), None)?;
    let enrolled: Enrolled = call::tell(&web, &call::join(&place.site, "enrol")?, &asked).await?;
    whole::rename(&coming, &place.key_file).map_err(|error| whole::unwritable(&place.key_file, &error))?;
    Ok(enrolled)
}

/// The name of this installation: two with one key are told apart by it.
///
/// # Errors
/// `CONFIG_INVALID` where the file holds something else, `CONFIG_UNREADABLE`, `DATA_DIR_NOT_WRITABLE`.
pub fn instance(path: &Path) -> Result<Uuid, Problem> {
    match std::fs::read(path) {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            return text.trim().parse().map_err(|_| {
                let message = format!("`{}` holds no id of an installation", path.display());
                Problem::new(Code::ConfigInvalid, message)
            });
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        // A disk that does not answer makes no other installation of this one.
        Err(error) => {
            let message = format!("the id of this installation in `{}` cannot be read", path.display());
            return Err(Problem::new(Code::ConfigUnreadable, message).because_of(Some(&error)));
        }
    }
    let instance = Uuid::new_v4();
    write_private(path, format!("{instance}\n").as_bytes())?;
    Ok(instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_is_made_once_and_no_fault_makes_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("point.instance");
        let made = instance(&path).unwrap();
        assert_eq!(instance(&path).unwrap(), made);
        std::fs::remove_file(&path).unwrap();
        // Neither can be read, whoever asks.
        std::os::unix::fs::symlink(&path, &path).unwrap();
        assert_eq!(instance(&path).unwrap_err().code, Code::ConfigUnreadable);
        assert!(Secret::of_own_file(&path).is_err());
        assert!(std::fs::symlink_metadata(&path).unwrap().is_symlink(), "it is as it was");
    }

    /// A token that was on the way is as good as told, whatever the site says then.
    #[tokio::test]
    async fn a_token_is_not_sent_where_others_could_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let token = Secret::of_own_file(&folder.path().join("token")).unwrap();
        let place = Place {
            // Nobody answers there; who asks has already sent nothing.
            site: call::base("http://192.0.2.1:8530").unwrap(),
            ca_file: None,
            plain: false,
            key_file: folder.path().join("key"),
            instance: Uuid::nil(),
        };
        let problem = with_token(&place, &token).await.unwrap_err();
        assert_eq!(problem.code, Code::PlainHttpRefused, "{problem}");
        assert!(!folder.path().join("key").exists() && !folder.path().join("key.new").exists());
    }
}
