//! Local files into the content library: hashed, copied, verified.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use catalog::digest::{Checker, Digests, Sha1Digest, Sha256Digest, Wanted};
use catalog::id::FileName;
use catalog::problem::{Code, Coded as _, Problem};
use schema::{SchemaError, Writer};

use crate::blocking::blocking;
use crate::clock;
use crate::given::{self, Links};
use crate::site::Site;

/// A file that the content library holds now, and that the database does not know yet.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Its name.
    pub file_name: FileName,
    /// Its digest.
    pub sha256: Sha256Digest,
    /// The other one.
    pub sha1: Sha1Digest,
    /// Its bytes.
    pub size: u64,
}

/// Takes a plain file in; links are not followed.
///
/// # Errors
/// `DISK_ERROR`, `SOURCE_MISSING`, those of the library.
pub async fn take_in(site: &Arc<Site>, path: &Path) -> Result<Taken, Problem> {
    let (library, path) = (site.library.clone(), path.to_owned());
    let work = move || {
        let failed = |error: std::io::Error| given::unreadable(&path, &error);
        let mut file = given::open(&path, Links::Refused).map_err(failed)?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let file_name: FileName = name
            .parse()
            .map_err(|error: catalog::id::InvalidId| Problem::of(Code::NameNotAllowed, &error))?;
        let mut checker = Checker::new();
        let mut buffer = vec![0; 4 << 20];
        loop {
            match file.read(&mut buffer).map_err(failed)? {
                0 => break,
                count => checker.update(&buffer[..count]),
            }
        }
        let size = checker.seen();
        let print = checker.into_fingerprint();
        let digests = Digests { sha1: Some(print.sha1), sha256: Some(print.sha256) };
        let wanted = Wanted { size, digests };
        library.ingest(&path, &wanted).map_err(|error| error.problem())?;
        Ok(Taken { file_name, sha256: print.sha256, sha1: print.sha1, size })
    };
    blocking(work).await
}

/// Records what was taken in, in the transaction that uses it.
///
/// # Errors
/// Those of the database.
pub fn keep(w: &Writer<'_>, taken: &Taken) -> Result<(), SchemaError> {
    w.record_content(taken.sha256, taken.sha1, taken.size, false, clock::now())
}
