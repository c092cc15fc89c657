//! Product keys and hidden values at rest: sealed with ChaCha20-Poly1305 under a key that is not in the database.
//!
//! The key is `secrets.key` in the data directory, 32 random bytes, mode 0600, made when the first secret is kept. A
//! sealed value is bound to its task sequence and its place there: moved elsewhere in the database it does not open.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::sequence::key::HiddenText;
use crate::whole;

const KEY_FILE: &str = "secrets.key";
const KEY_BYTES: usize = 32;

/// What opens and seals.
pub struct Vault {
    key: LessSafeKey,
}

fn unusable(path: &Path, why: &str) -> Problem {
    Problem::new(Code::SecretKeyUnusable, format!("the key file `{}` cannot be used", path.display()))
        .because(why.to_owned())
}

impl Vault {
    /// Reads the key of a site, or makes it.
    ///
    /// # Errors
    /// `SECRET_KEY_UNUSABLE`, also where others may read the file.
    pub fn of(data_dir: &Path) -> Result<Self, Problem> {
        let path = data_dir.join(KEY_FILE);
        let failed =
            |error: &std::io::Error| unusable(&path, "it cannot be read or written").because_of(Some(error));
        let bytes = match File::open(&path) {
            Ok(file) => read(&file, &path)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                make(&path).map_err(|e| failed(&e))?
            }
            Err(error) => return Err(failed(&error)),
        };
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes)
            .map_err(|_| unusable(&path, "it has another length"))?;
        Ok(Self { key: LessSafeKey::new(key) })
    }

    /// Seals a secret for its place.
    ///
    /// # Errors
    /// `INTERNAL` where the system has no randomness.
    pub fn seal(&self, sequence: &PackageId, number: u32, secret: &HiddenText) -> Result<Vec<u8>, Problem> {
        let failed = || Problem::new(Code::Internal, "a secret cannot be sealed");
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| failed())?;
        let mut sealed = secret.reveal().as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                place(sequence, number),
                &mut sealed,
            )
            .map_err(|_| failed())?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens a secret that was sealed for this place.
    ///
    /// # Errors
    /// `SECRET_KEY_UNUSABLE`.
    pub fn open(&self, sequence: &PackageId, number: u32, sealed: &[u8]) -> Result<HiddenText, Problem> {
        let failed = || {
            let message =
                format!("secret {number} of task sequence {sequence} does not open with this site's key");
            Problem::new(Code::SecretKeyUnusable, message)
        };
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or_else(failed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| failed())?;
        let mut bytes = rest.to_vec();
        let opened =
            self.key.open_in_place(nonce, place(sequence, number), &mut bytes).map_err(|_| failed())?;
        std::str::from_utf8(opened).map(HiddenText::new).map_err(|_| failed())
    }
}

fn place(sequence: &PackageId, number: u32) -> Aad<String> {
    Aad::from(format!("{sequence}/{number}"))
}

fn read(file: &File, path: &Path) -> Result<[u8; KEY_BYTES], Problem> {
    let meta =
        file.metadata().map_err(|error| unusable(path, "it cannot be read").because_of(Some(&error)))?;
    if meta.mode() & 0o077 != 0 {
        return Err(
            unusable(path, "others may read it").help("`chmod 0600` the file, and give new product keys")
        );
    }
    let mut bytes = Vec::new();
    file.take(KEY_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unusable(path, "it cannot be read").because_of(Some(&error)))?;
    bytes.try_into().map_err(|_| unusable(path, "it has another length than 32 bytes"))
}

fn make(path: &Path) -> std::io::Result<[u8; KEY_BYTES]> {
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    whole::write(path, whole::OWN, &bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_opens_only_in_its_place_and_with_its_key() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (one, two) = ("XYZ00001".parse().unwrap(), "XYZ00002".parse().unwrap());
        let vault = Vault::of(here.path()).unwrap();
        let secret = HiddenText::new("ABCDE-12345-FGHIJ-67890-KLMNO");
        let sealed = vault.seal(&one, 1, &secret).unwrap();
        assert!(!sealed.windows(5).any(|part| part == b"ABCDE"));
        assert_ne!(sealed, vault.seal(&one, 1, &secret).unwrap(), "each time another nonce");
        assert_eq!(Vault::of(here.path()).unwrap().open(&one, 1, &sealed).unwrap(), secret);
        let refused = |vault: &Vault, id: &PackageId, number, sealed: &[u8]| {
            vault.open(id, number, sealed).unwrap_err().code == Code::SecretKeyUnusable
        };
        assert!(refused(&vault, &two, 1, &sealed) && refused(&vault, &one, 2, &sealed));
        assert!(refused(&Vault::of(there.path()).unwrap(), &one, 1, &sealed));
        let mut changed = sealed.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert!(refused(&vault, &one, 1, &changed) && refused(&vault, &one, 1, &sealed[..5]));
    }

    #[test]
    fn a_key_that_others_may_read_or_that_is_damaged_is_refused() {
        let here = tempfile::tempdir().unwrap();
        Vault::of(here.path()).unwrap();
        let path = here.path().join(KEY_FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(Vault::of(here.path()).err().unwrap().code, Code::SecretKeyUnusable);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, b"short").unwrap();
        assert_eq!(Vault::of(here.path()).err().unwrap().code, Code::SecretKeyUnusable);
    }
}
