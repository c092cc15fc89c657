//! From what arrives to XML: a cabinet, gzip, or the XML itself, told apart by the first bytes.

use std::io::Read as _;

use super::EsdCatalogError;
use crate::cabinet::Cabinet;
use crate::limits::Limits;

/// The XML inside `bytes`.
///
/// # Errors
/// Those of cabinets; `Malformed` where the cabinet holds no catalog or gzip is damaged; `TooLarge`.
pub fn unpack(bytes: &[u8], limits: &Limits) -> Result<Vec<u8>, EsdCatalogError> {
    if bytes.len() as u64 > limits.document_bytes {
        return Err(EsdCatalogError::TooLarge { what: "bytes", most: limits.document_bytes });
    }
    if bytes.starts_with(b"MSCF") {
        return from_cabinet(bytes, limits);
    }
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return from_gzip(bytes, limits);
    }
    Ok(bytes.to_vec())
}

/// The member `products.xml`, or the only XML member.
fn from_cabinet(bytes: &[u8], limits: &Limits) -> Result<Vec<u8>, EsdCatalogError> {
    let cabinet = Cabinet::parse(bytes, limits)?;
    let named = |name: &str| cabinet.files().iter().find(|file| file.name.eq_ignore_ascii_case(name));
    let mut xml = cabinet.files().iter().filter(|file| file.name.to_ascii_lowercase().ends_with(".xml"));
    let only = match (named("products.xml"), xml.next(), xml.next()) {
        (Some(file), ..) | (None, Some(file), None) => file,
        _ => {
            let what = "the cabinet holds no products.xml".to_owned();
            return Err(EsdCatalogError::Malformed { position: 0, what });
        }
    };
    Ok(cabinet.read(only)?)
}

fn from_gzip(bytes: &[u8], limits: &Limits) -> Result<Vec<u8>, EsdCatalogError> {
    let mut xml = Vec::new();
    let most = limits.unpacked_bytes;
    let read = flate2::read::MultiGzDecoder::new(bytes).take(most + 1).read_to_end(&mut xml);
    if xml.len() as u64 > most {
        return Err(EsdCatalogError::TooLarge { what: "unpacked bytes", most });
    }
    match read {
        Ok(_) => Ok(xml),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(EsdCatalogError::Truncated { position: xml.len() as u64, inside: "gzip".to_owned() })
        }
        Err(error) => {
            Err(EsdCatalogError::Malformed { position: xml.len() as u64, what: format!("gzip: {error}") })
        }
    }
}
