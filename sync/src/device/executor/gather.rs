//! What an installer needs, in a folder of its own.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use catalog::digest::{Checker, Sha256Digest};
use catalog::problem::{Code, Problem};

use super::Work;
use crate::policy::ContentFile;

/// The files of an application under their names: copies, because what an installer does to its files must not reach the
/// library. What is copied is hashed on the way: what it was a moment ago is no proof.
///
/// # Errors
/// `DISK_ERROR`, `HASH_MISMATCH`.
pub(super) fn gather(place: &Path, files: &[ContentFile], work: Work<'_>) -> Result<(), Problem> {
    let wrong = |error: std::io::Error| {
        Problem::new(Code::DiskError, format!("`{}` cannot be filled", place.display()))
            .because_of(Some(&error))
    };
    // An earlier attempt may have left others.
    let _ = std::fs::remove_dir_all(place);
    crate::keys::private_folder(place).map_err(wrong)?;
    for file in files {
        let Some(digest) = file.sha256 else { continue };
        let Some(from) = work.files.get(&digest) else { continue };
        let to = place.join(file.name.as_str());
        let actual = copy(from, &to).map_err(wrong)?;
        if actual != digest {
            let _ = std::fs::remove_file(&to);
            let message = format!("`{}` has the wrong digest: expected {digest}, it is {actual}", file.name);
            return Err(Problem::new(Code::HashMismatch, message));
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755)).map_err(wrong)?;
        }
    }
    Ok(())
}

/// The digest of what the copy holds.
fn copy(from: &Path, to: &Path) -> std::io::Result<Sha256Digest> {
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let mut checker = Checker::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(checker.into_fingerprint().sha256),
            read => {
                checker.update(&buffer[..read]);
                to.write_all(&buffer[..read])?;
            }
        }
    }
}
