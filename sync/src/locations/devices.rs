//! Keys of devices, ready to be asked without a database.

use std::collections::HashMap;

use arc_swap::ArcSwap;
use catalog::digest::Sha256Digest;
use dp::peers::{DeviceId, Devices};
use schema::keys::PrincipalKind;
use schema::{Reader, SchemaError};

/// Devices by the SHA-256 of their keys; replaced whole when one enrols or is revoked. Until that is filled nobody is known,
/// and every announcement is refused.
#[derive(Default)]
pub struct KnownDevices {
    by_hash: ArcSwap<HashMap<Sha256Digest, DeviceId>>,
}

impl KnownDevices {
    /// Replaces all.
    pub fn store(&self, devices: HashMap<Sha256Digest, DeviceId>) {
        self.by_hash.store(devices.into());
    }
}

/// Every enrolled device whose key is in force.
///
/// # Errors
/// Those of the database.
pub fn devices(reader: &Reader<'_>) -> Result<HashMap<Sha256Digest, DeviceId>, SchemaError> {
    let all = reader.principals()?.into_iter();
    let valid = all.filter(|one| one.kind == PrincipalKind::Device && one.revoked.is_none());
    Ok(valid.map(|one| (one.hash, DeviceId(one.name))).collect())
}

impl Devices for KnownDevices {
    /// The key is 256 random bits, and only its hash is compared: how long that takes tells nothing of use.
    fn device(&self, token: &str) -> Option<DeviceId> {
        self.by_hash.load().get(&Sha256Digest::of(token.as_bytes())).cloned()
    }
}
