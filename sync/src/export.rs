//! Writing what this site knows in the form of a WSUS export: a cabinet of `package.xml` and `metadata.txt`.
//!
//! `cabextract` reads it and our own import of it gives an identical catalog. It is untried with a WSUS server.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use cab::{CabinetBuilder, CompressionType};
use catalog::problem::{Code, Problem};
use catalog::xml::escape::{Place, escaped};
use schema::metadata::Exported;
use schema::tasks::Unit;
use schema::{Reader, SchemaError};
use serde::{Deserialize, Serialize};

use crate::admin::{Answer, Caller, Work};
use crate::clock;
use crate::site::{Site, own};
use crate::tasks::{Key, Progress};
use crate::whole::{self, Coming};
use crate::words::counted;

/// What was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Written {
    /// The cabinet.
    pub file: PathBuf,
    /// Documents in it.
    pub documents: u64,
    /// Its bytes.
    pub size: u64,
    /// Nothing was written.
    pub dry_run: bool,
}

/// Exports as a task.
///
/// # Errors
/// `NAME_IN_USE` where the file exists, `INVALID_OPTION` inside the site's own data; those of the database and the disk.
pub async fn start(site: &Arc<Site>, file: PathBuf, caller: &Caller) -> Result<Work, Problem> {
    own::outside(&site.settings(), &file)?;
    if file.exists() {
        let message = format!("`{}` exists, and an export never writes over a file", file.display());
        return Err(Problem::new(Code::NameInUse, message).help("name another file, or remove that one"));
    }
    let dry_run = caller.dry_run;
    let title = format!("export to {}", file.display());
    let key = Key::new(&format!("export {}", file.display()), "export", dry_run);
    let task = site
        .tasks
        .start("export", title, key, |progress| {
            let site = site.clone();
            async move {
                let code = site.code().to_string();
                let written = site.read(move |r| write(r, &file, &code, dry_run, &progress)).await?;
                Answer::of(&written)
            }
        })
        .await?;
    Ok(Work::Started(task))
}

fn write(
    reader: &Reader<'_>,
    file: &Path,
    site: &str,
    dry_run: bool,
    progress: &Progress,
) -> Result<Written, SchemaError> {
    let ids = reader.metadata_ids()?;
    let documents = ids.len() as u64;
    progress.phase("export", documents, Unit::Items);
    if dry_run {
        return Ok(Written { file: file.to_owned(), documents, size: 0, dry_run });
    }
    let failed = |error: io::Error| {
        SchemaError::from(
            Problem::new(
                if whole::is_full(&error) { Code::DiskFull } else { Code::DiskError },
                format!("the export `{}` cannot be written", file.display()),
            )
            .because_of(Some(&error)),
        )
    };
    let mut coming = Coming::at(file, whole::GROUP).map_err(failed)?;
    let mut builder = CabinetBuilder::new();
    let members = builder.add_folder(CompressionType::MsZip);
    members.add_file("package.xml");
    members.add_file("metadata.txt");
    let mut cabinet = builder.build(coming.file()).map_err(failed)?;
    while let Some(mut member) = cabinet.next_file().map_err(failed)? {
        let is_list = member.file_name() == "package.xml";
        let mut out = BufWriter::new(&mut member);
        if is_list {
            package(reader, &ids, site, &mut out, &failed)?;
        } else {
            for (done, id) in ids.iter().enumerate() {
                let exported = reader.metadata_exported(*id)?;
                record(&exported, &mut out).map_err(failed)?;
                progress.at("export", done as u64 + 1);
            }
        }
        out.flush().map_err(failed)?;
    }
    let size = cabinet.finish().map_err(failed)?.metadata().map_err(failed)?.len();
    coming.appear().map_err(failed)?;
    progress.end("export", counted(documents, "document"));
    Ok(Written { file: file.to_owned(), documents, size, dry_run })
}

/// `guid,<8 hex digits: revision>,<8 hex digits: characters>,<document>CRLF`.
fn record(exported: &Exported, out: &mut impl Write) -> io::Result<()> {
    let text = std::str::from_utf8(&exported.document).map_err(io::Error::other)?;
    let characters = text.encode_utf16().count();
    write!(out, "{},{:08x},{characters:08x},", exported.id.update, exported.id.number.0)?;
    out.write_all(text.as_bytes())?;
    out.write_all(b"\r\n")
}

fn package(
    reader: &Reader<'_>,
    ids: &[i64],
    site: &str,
    out: &mut impl Write,
    failed: &impl Fn(io::Error) -> SchemaError,
) -> Result<(), SchemaError> {
    // Made from the site's code: the same site is the same server to whoever compares exports.
    let server = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, format!("spsync site {site}").as_bytes());
    let made = clock::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    write!(
        out,
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><ExportPackage ServerID=\"{server}\" CreationTime=\"{made}\" \
         FormatVersion=\"1.0\" ProtocolVersion=\"1.20\"><Languages><Language Id=\"0\" ShortName=\"all\" LongName=\"all\" \
         Enabled=\"1\" /></Languages><Files>"
    )
    .map_err(failed)?;
    for file in reader.metadata_files()? {
        let digest = base64::engine::general_purpose::STANDARD.encode(file.sha1.0);
        let value = |text| escaped(text, Place::Attribute);
        let (url, name) = (value(file.url.as_deref().unwrap_or_default()), value(file.name.as_str()));
        write!(out, "<File Digest=\"{digest}\" MUUrl=\"{url}\" Name=\"{name}\" />").map_err(failed)?;
    }
    write!(out, "</Files><Updates>").map_err(failed)?;
    for id in ids {
        let exported = reader.metadata_identity(*id)?;
        write!(
            out,
            "<Update UpdateId=\"{}\" RevisionNumber=\"{}\"><Files /><Categories /><Classifications /></Update>",
            exported.update, exported.number.0
        )
        .map_err(failed)?;
    }
    write!(out, "</Updates></ExportPackage>").map_err(failed)
}
