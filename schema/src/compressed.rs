//! Documents are kept as they came, compressed.

use std::fmt::Display;
use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use crate::SchemaError;

/// The bytes as they are kept.
pub(crate) fn pack(bytes: &[u8], level: Compression) -> Result<Vec<u8>, SchemaError> {
    let mut encoder = ZlibEncoder::new(Vec::new(), level);
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .map_err(|error| SchemaError::Value(error.to_string()))
}

/// The bytes as they came; `what` they are, for who reads that they are none.
pub(crate) fn unpack(zlib: &[u8], what: impl Display) -> Result<Vec<u8>, SchemaError> {
    let mut bytes = Vec::new();
    ZlibDecoder::new(zlib)
        .read_to_end(&mut bytes)
        .map_err(|error| SchemaError::Value(format!("{what}: {error}")))?;
    Ok(bytes)
}
