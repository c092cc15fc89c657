//! Exports as a WSUS server writes them, made of documents.

use std::io::Write as _;

use base64::Engine as _;
use spsync::fixture::UpdateDraft;

/// The records of an export, gzipped: id, revision, document. The length counts characters, not bytes.
///
/// # Panics
/// Where memory does not take it.
pub fn export(documents: &[(String, u32, String)]) -> Vec<u8> {
    let records: String = documents
        .iter()
        .map(|(id, number, document)| {
            format!("{id},{number:08x},{:08x},{document}\r\n", document.encode_utf16().count())
        })
        .collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(records.as_bytes()).expect("memory takes it");
    gzip.finish().expect("memory takes it")
}

/// The cabinet form: `package.xml`, which says where files are, and `metadata.txt`.
pub fn export_drafts<'d>(drafts: impl IntoIterator<Item = &'d UpdateDraft>) -> Vec<u8> {
    let (mut files, mut updates, mut records) = (String::new(), String::new(), String::new());
    for draft in drafts {
        let (id, document) = (draft.id(), draft.document());
        records.push_str(&format!(
            "{},{:08x},{:08x},{document}\r\n",
            id.update,
            id.number.0,
            document.encode_utf16().count()
        ));
        updates.push_str(&format!(
            "<Update UpdateId=\"{}\" RevisionNumber=\"{}\"><Files /><Categories /><Classifications /></Update>",
            id.update, id.number.0
        ));
        for file in draft.files() {
            files.push_str(&format!(
                "<File Digest=\"{}\" MUUrl=\"{}\" Name=\"{}\" />",
                base64::engine::general_purpose::STANDARD.encode(file.sha1.0),
                file.url.as_deref().unwrap_or_default(),
                file.name
            ));
        }
    }
    let list = format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><ExportPackage ServerID=\"5c0e2a4b-1111-4222-8333-944455556666\" \
         CreationTime=\"2026-10-04T20:33:26Z\" FormatVersion=\"1.0\" ProtocolVersion=\"1.20\"><Languages><Language Id=\"0\" \
         ShortName=\"all\" LongName=\"all\" Enabled=\"1\" /></Languages><Files>{files}</Files><Updates>{updates}</Updates></ExportPackage>"
    );
    let mut builder = cab::CabinetBuilder::new();
    let folder = builder.add_folder(cab::CompressionType::MsZip);
    folder.add_file("package.xml");
    folder.add_file("metadata.txt");
    let mut cabinet = builder.build(std::io::Cursor::new(Vec::new())).expect("two files fit a cabinet");
    while let Some(mut member) = cabinet.next_file().expect("memory takes it") {
        let text = if member.file_name() == "package.xml" { &list } else { &records };
        member.write_all(text.as_bytes()).expect("memory takes it");
    }
    cabinet.finish().expect("memory takes it").into_inner()
}
