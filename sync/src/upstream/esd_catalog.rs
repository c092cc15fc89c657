//! Microsoft's ESD catalogs: fetched or read, unpacked, parsed, and turned into what the database records.
//!
//! A catalog that has not changed is recognised by its validator (the server answers 304) or by its digest, and
//! costs neither parsing nor writing. Authenticode of the cabinet is not checked yet: HTTPS is the trust.

use std::io::Read as _;
use std::path::Path;

use catalog::digest::Sha256Digest;
use catalog::esd_catalog::{self, EsdCatalog};
use catalog::feature_update::{Shape, ToldBy};
use catalog::limits::Limits;
use catalog::problem::{Code, Coded as _, Problem};
use dp::transfer::web::{Small, Web};
use schema::documents::{Document, NewDocument};
use schema::updates::{NewFile, NewRevision, Published};
use url::Url;

use super::not_usable;
use crate::blocking::blocking;
use crate::clock;
use crate::config::{Settings, Source, SourceKind};
use crate::given::{self, Links};
use crate::upstream::Webs;

/// Microsoft's published links: where the Media Creation Tool looks. Windows 11 first.
pub const PUBLISHED: [&str; 2] =
    ["https://go.microsoft.com/fwlink/?LinkId=2156292", "https://go.microsoft.com/fwlink/?LinkId=841361"];

/// How far the origin of a catalog is proven, in answers and reports.
pub const SIGNATURE: &str = "not checked";

/// Where the catalogs of a source are: its own, or Microsoft's published links; nowhere for a source of another kind.
pub fn locations(source: &Source) -> Vec<String> {
    if source.kind != SourceKind::EsdCatalog {
        return Vec::new();
    }
    if source.catalogs.is_empty() {
        PUBLISHED.iter().map(|link| (*link).to_owned()).collect()
    } else {
        source.catalogs.clone()
    }
}

/// What came of asking for one catalog.
pub enum Fetched {
    /// It is the document that is already recorded.
    Unchanged,
    /// Another document: the exact bytes and what they say.
    New {
        /// The bytes as they came, with where and when.
        document: NewDocument,
        /// What they say.
        catalog: Box<EsdCatalog>,
    },
}

/// Fetches or reads one catalog. `known` is the document recorded last for this location; `full` reads it even if
/// nothing changed.
///
/// # Errors
/// Those of the network or the disk, and of the formats (`CAB_*`, `CATALOG_*`), each naming the location.
pub async fn fetch(
    settings: &Settings,
    webs: &Webs,
    source: &Source,
    location: &str,
    known: Option<&Document>,
    full: bool,
) -> Result<Fetched, Problem> {
    let limits = Limits::default();
    let (bytes, etag, last_modified) = match address(location)? {
        Address::File(path) => (read_file(path, &limits).await?, None, None),
        Address::Url(url) => {
            let web = webs.metadata(settings, source, url.host_str())?;
            let etag = known.filter(|_| !full).and_then(|known| known.etag.clone());
            match get(&web, &url, limits.document_bytes, etag.as_deref(), settings).await? {
                Small::NotModified => return Ok(Fetched::Unchanged),
                Small::Body { bytes, etag, last_modified, .. } => (bytes.to_vec(), etag, last_modified),
            }
        }
    };
    let sha256 = Sha256Digest::of(&bytes);
    if !full && known.is_some_and(|known| known.sha256 == sha256) {
        return Ok(Fetched::Unchanged);
    }
    let (source, place) = (source.name.clone(), location.to_owned());
    // Unpacking and parsing is work for a core, not for the threads that answer the network.
    blocking(move || {
        let xml =
            esd_catalog::unpack(&bytes, &limits).map_err(|error| not_usable(error.code(), &place, &error))?;
        let catalog =
            esd_catalog::parse(&xml, &limits).map_err(|error| not_usable(error.code(), &place, &error))?;
        let document = NewDocument {
            source,
            location: place,
            sha256,
            body: bytes,
            fetched_at: clock::now(),
            etag,
            last_modified,
            version: catalog.version.clone(),
        };
        Ok(Fetched::New { document, catalog: Box::new(catalog) })
    })
    .await
}

/// Where a catalog is.
pub enum Address<'a> {
    /// On this machine.
    File(&'a Path),
    /// Elsewhere.
    Url(Url),
}

/// A location is a URL if it has a scheme of more than one letter (`C:` is a drive), else a file.
///
/// # Errors
/// `SCHEME_NOT_ALLOWED`.
pub fn address(location: &str) -> Result<Address<'_>, Problem> {
    match Url::parse(location) {
        Ok(url) if url.scheme() == "file" => {
            Ok(Address::File(Path::new(location.trim_start_matches("file://"))))
        }
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(Address::Url(url)),
        Ok(url) if url.scheme().len() > 1 => Err(Problem::new(
            Code::SchemeNotAllowed,
            format!("`{location}` is neither http, https nor a file"),
        )),
        _ => Ok(Address::File(Path::new(location))),
    }
}

async fn read_file(path: &Path, limits: &Limits) -> Result<Vec<u8>, Problem> {
    let (path, most) = (path.to_owned(), limits.document_bytes);
    blocking(move || {
        let failed = |error: std::io::Error| {
            let code = if error.kind() == std::io::ErrorKind::NotFound {
                Code::SourceNotFound
            } else {
                Code::DiskError
            };
            Problem::new(code, format!("the catalog `{}` cannot be read", path.display()))
                .because_of(Some(&error))
        };
        let mut bytes = Vec::new();
        let file = given::open(&path, Links::Followed).map_err(failed)?;
        file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > most {
            let message = format!("the catalog `{}` has more than {most} bytes", path.display());
            return Err(Problem::new(Code::CatalogTooLarge, message));
        }
        Ok(bytes)
    })
    .await
}

/// Asks, and asks again after a pause where that may help.
async fn get(
    web: &Web,
    url: &Url,
    most: u64,
    etag: Option<&str>,
    settings: &Settings,
) -> Result<Small, Problem> {
    let retry = &settings.sync.retry;
    let mut pause = retry.first;
    let mut tries = 1;
    loop {
        let answer =
            tokio::time::timeout(settings.sync.request_timeout, web.get_small(url, most, etag)).await;
        let fault = match answer {
            Ok(Ok(small)) => return Ok(small),
            Ok(Err(fault)) => fault,
            Err(_) => dp::transfer::fault::Fault::Stalled,
        };
        if tries >= retry.max || !fault.is_transient() {
            // For a file this would mean another file; a catalog has no size that it must have, only one it may have.
            let code = match fault.code() {
                Code::TransferTooLong => Code::CatalogTooLarge,
                code => code,
            };
            return Err(Problem::new(code, format!("sync failed while fetching the catalog `{url}`"))
                .because(fault.to_string())
                .keeping(format!("the database is unchanged; asked {tries} times")));
        }
        tracing::warn!("the catalog {url} did not come ({fault}); asking again in {}s", pause.as_secs());
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(retry.longest);
        tries += 1;
    }
}

/// What the database records of each ESD of the catalog.
pub fn revisions(source: &str, catalog: &EsdCatalog) -> Vec<NewRevision> {
    catalog
        .files
        .iter()
        .map(|file| {
            let name = file.name.as_ref();
            let product = name.map(|name| name.product.to_string());
            NewRevision {
                update: file.update,
                number: None,
                title: file.title(),
                classification: "Upgrades".to_owned(),
                products: product.iter().cloned().collect(),
                release: name.map(|name| name.release.clone()),
                build: name.map(|name| (name.build.major, name.build.minor, name.build.stamp.clone())),
                edition_group: name.map(|name| name.edition_group.clone()),
                editions: file.editions.clone(),
                architecture: file.architecture.to_string(),
                language: file.language.clone(),
                shape: Shape::Esd,
                told_by: if name.is_some() { ToldBy::FileName } else { ToldBy::Nothing },
                bases: Vec::new(),
                files: vec![NewFile {
                    file_name: file.file_name.clone(),
                    size: file.size,
                    digests: file.digests,
                    urls: vec![Published { source: source.to_owned(), url: file.url.clone() }],
                }],
                encrypted: file.encrypted,
                license_required: name.is_some_and(|name| esd_catalog::requires_license(name.product)),
                license_key: product.clone(),
                licenses: Vec::new(),
                created: None,
                expired: false,
                missing: 0,
                product,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_link_or_a_file() {
        assert!(matches!(address("https://go.microsoft.com/x"), Ok(Address::Url(_))));
        assert!(matches!(address("/srv/products.cab"), Ok(Address::File(_))));
        assert!(matches!(address("products.xml"), Ok(Address::File(_))));
        assert!(matches!(address("file:///srv/p.cab"), Ok(Address::File(p)) if p == Path::new("/srv/p.cab")));
        assert!(matches!(address("ftp://x/products.cab"), Err(p) if p.code == Code::SchemeNotAllowed));
    }
}
