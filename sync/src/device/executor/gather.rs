//! What an installer needs, in a folder of its own.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use catalog::digest::{Checker, Sha256Digest};
use catalog::id::FileName;
use catalog::problem::{Code, Problem};

use super::Work;
use crate::blocking::blocking;
use crate::policy::ContentFile;

/// Removes a folder with all that is in it. What stays there would be taken for what was put there; one that is not there is removed.
///
/// # Errors
/// `DISK_ERROR`.
pub(super) fn emptied(folder: &Path) -> Result<(), Problem> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let message = format!("`{}` cannot be emptied", folder.display());
            Err(Problem::new(Code::DiskError, message).because_of(Some(&error)))
        }
        _ => Ok(()),
    }
}

/// A file under its name, with the digest that it is to have, and where its bytes are.
type Named = (FileName, Sha256Digest, PathBuf);

/// The files of an application under their names: copies, because what an installer does to its files must not reach the
/// library. What is copied is hashed on the way: what it was a moment ago is no proof.
///
/// # Errors
/// `DISK_ERROR`, `HASH_MISMATCH`.
pub(super) async fn gather(place: &Path, files: &[ContentFile], work: Work<'_>) -> Result<(), Problem> {
    let known = |file: &ContentFile| {
        let digest = file.sha256?;
        Some((file.name.clone(), digest, work.files.get(&digest)?.clone()))
    };
    let (place, files): (_, Vec<Named>) = (place.to_owned(), files.iter().filter_map(known).collect());
    blocking(move || filled(&place, &files)).await
}

fn filled(place: &Path, files: &[Named]) -> Result<(), Problem> {
    let wrong = |error: std::io::Error| {
        Problem::new(Code::DiskError, format!("`{}` cannot be filled", place.display()))
            .because_of(Some(&error))
    };
    // An earlier attempt may have left others.
    emptied(place)?;
    crate::keys::private_folder(place).map_err(wrong)?;
    for (name, digest, from) in files {
        let to = place.join(name.as_str());
        let actual = copy(from, &to).map_err(wrong)?;
        if actual != *digest {
            let _ = std::fs::remove_file(&to);
            let message = format!("`{name}` has the wrong digest: expected {digest}, it is {actual}");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_attempt_left_is_gone_or_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("app");
        emptied(&place).expect("there is none");
        std::fs::create_dir_all(place.join("deep")).unwrap();
        std::fs::write(place.join("deep/left"), "x").unwrap();
        let bytes = b"MZ setup";
        let from = folder.path().join("from");
        std::fs::write(&from, bytes).unwrap();
        let name = |text: &str| text.parse::<FileName>().unwrap();
        let files = [(name("setup.exe"), Sha256Digest::of(bytes), from.clone())];
        filled(&place, &files).unwrap();
        let found: Vec<_> = std::fs::read_dir(&place).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!(found, ["setup.exe"]);
        let wrong = [(name("setup.exe"), Sha256Digest::of(b"another"), from)];
        assert_eq!(filled(&place, &wrong).unwrap_err().code, Code::HashMismatch);
        // What is no folder is not removed as one, whoever asks.
        emptied(&place).unwrap();
        std::fs::write(&place, "x").unwrap();
        for refused in [emptied(&place), filled(&place, &files)] {
            assert_eq!(refused.unwrap_err().code, Code::DiskError);
        }
    }
}
