//! The key of this device: made when it enrols, kept in its folder.

use std::path::{Path, PathBuf};

use catalog::problem::{Code, Problem};
use dp::client::DeviceKey;

use crate::config::Settings;
use crate::keys::Secret;

/// Its name in the folder of the client.
pub const KEY_FILE: &str = "device.key";
/// The name of the file beside it that says which installation enrolled.
pub const INSTANCE_FILE: &str = "device.instance";

/// Where the key is: in the file that is given, or configured, or that enrolling made.
pub fn file(given: Option<&Path>, settings: &Settings) -> PathBuf {
    let known = given.map(Path::to_owned).or_else(|| settings.client.key_file());
    known.unwrap_or_else(|| settings.client_dir().join(KEY_FILE))
}

/// The key in a file.
///
/// # Errors
/// `DEVICE_KEY_MISSING`.
pub fn read(file: &Path) -> Result<Secret, Problem> {
    Secret::of_file(file).map_err(|problem| {
        let message = "this device has no key that can be read; `spsync client enrol` gives it one";
        let missing = Problem::new(Code::DeviceKeyMissing, message).because(problem.message);
        Problem { causes: [missing.causes, problem.causes].concat(), ..missing }
    })
}

impl From<&Secret> for DeviceKey {
    fn from(key: &Secret) -> Self {
        Self::new(&key.reveal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_that_is_named_goes_before_that_of_the_enrolment() {
        let mut settings = Settings::default();
        settings.site.data_dir = "/data".into();
        assert_eq!(file(None, &settings), Path::new("/data/client/device.key"));
        settings.client.key_file = "/etc/key".to_owned();
        assert_eq!(file(None, &settings), Path::new("/etc/key"));
        assert_eq!(file(Some(Path::new("/here/key")), &settings), Path::new("/here/key"));
    }

    #[test]
    fn what_is_no_key_is_none_and_is_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(KEY_FILE);
        assert_eq!(read(&path).err().unwrap().code, Code::DeviceKeyMissing);
        std::fs::write(&path, "hunter2").unwrap();
        let problem = read(&path).err().unwrap();
        assert_eq!(problem.code, Code::DeviceKeyMissing);
        assert!(!format!("{problem:?}").contains("hunter2"), "{problem:?}");
        let key = Secret::new().unwrap();
        std::fs::write(&path, format!("{}\n", key.reveal())).unwrap();
        assert_eq!(DeviceKey::from(&read(&path).unwrap()), DeviceKey::new(&key.reveal()));
    }
}
