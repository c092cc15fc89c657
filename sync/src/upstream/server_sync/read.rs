//! From the answer of a server to documents that are ready to be recorded: unpacked, parsed, hashed and compressed. Work
//! for a core, not for the threads that answer the network.

use std::collections::{HashMap, HashSet};

use catalog::digest::Sha1Digest;
use catalog::id::RevisionId;
use catalog::limits::Limits;
use catalog::problem::{Code, Coded as _};
use catalog::server_sync::{DocumentOf, FileUrl, UpdateData, content_path, decode_blob};
use catalog::update::{self, Revision};
use schema::metadata::Prepared;
use url::Url;

use super::step::{Arrived, Document};

/// The longest address of a file that is kept.
const LONGEST_URL: usize = 4096;

/// Reads what came to a call for `asked`, one document after the other. What was not asked for is not looked into.
/// `content` are the roots under which the server itself has its files, if it has any.
pub(super) fn documents(
    data: UpdateData,
    asked: &[RevisionId],
    content: &[Url],
    limits: &Limits,
) -> Vec<Arrived> {
    let mut open: HashSet<RevisionId> = asked.iter().copied().collect();
    let urls: HashMap<Sha1Digest, FileUrl> = data.urls.into_iter().map(|url| (url.digest, url)).collect();
    let read = |one: DocumentOf| {
        let id = one.id;
        let document = if open.remove(&id) {
            document(one, limits).and_then(|(revision, text)| {
                let urls = places(&revision, &urls, content);
                let prepared = Prepared::new(revision, text.as_bytes());
                let prepared = prepared.map_err(|error| (Code::Internal, error.to_string()))?;
                Ok(Document { prepared: Box::new(prepared), urls })
            })
        } else {
            Err((Code::ProtocolMalformed, "it was not asked for".to_owned()))
        };
        Arrived { id, document }
    };
    data.updates.into_iter().map(read).collect()
}

/// What a document says, if it says it of the revision that it was given for.
fn document(one: DocumentOf, limits: &Limits) -> Result<(Revision, String), (Code, String)> {
    let id = one.id;
    let text = decode_blob(id, one.blob, limits).map_err(|error| (error.code(), error.to_string()))?;
    let revision = update::parse(text.as_bytes(), limits).map_err(|error| (error.code(), chain(&error)))?;
    if revision.id != id {
        let why = format!("the document that came for it is of {}", revision.id);
        return Err((Code::CatalogMalformed, why));
    }
    if revision.bundled.iter().flat_map(|bundled| &bundled.any_of).any(|target| target.update == id.update) {
        return Err((Code::CatalogMalformed, "it is a bundle of itself".to_owned()));
    }
    Ok((revision, text))
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// Where the files of a revision are, its licence texts too: at Microsoft, and at the server.
fn places(
    revision: &Revision,
    urls: &HashMap<Sha1Digest, FileUrl>,
    content: &[Url],
) -> Vec<(Sha1Digest, String)> {
    let mut places = Vec::new();
    let licenses = revision.licenses.iter().map(|license| &license.file);
    for file in revision.files.iter().chain(licenses) {
        let Some(sha1) = file.digests.sha1 else { continue };
        let told = urls.get(&sha1);
        let usable = |text: &Option<String>| text.clone().filter(|text| is_web(text));
        let microsoft = told.and_then(|url| usable(&url.microsoft));
        let server = told.and_then(|url| usable(&url.upstream));
        // A real server leaves its own address out, and has the file where the specification says.
        let computed = content
            .iter()
            .filter(|_| server.is_none())
            .filter_map(|root| root.join(&content_path(sha1, &file.name)).ok().map(String::from));
        let all = computed.chain(microsoft).chain(server.clone());
        places.extend(all.map(|url| (sha1, url)));
    }
    places.sort();
    places.dedup();
    places
}

fn is_web(text: &str) -> bool {
    text.len() <= LONGEST_URL
        && Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

#[cfg(test)]
mod tests {
    use catalog::id::{RevisionNumber, UpdateId};
    use catalog::server_sync::Blob;

    use super::*;

    const SHA1: Sha1Digest = Sha1Digest([0xab; 20]);

    fn id(n: u128, number: u32) -> RevisionId {
        RevisionId { update: UpdateId(uuid::Uuid::from_u128(n)), number: RevisionNumber(number) }
    }

    fn text(id: RevisionId, more: &str) -> String {
        format!(
            "<Update xmlns=\"http://schemas.microsoft.com/msus/2002/12/Update\"><UpdateIdentity UpdateID=\"{}\" \
             RevisionNumber=\"{}\"/><Properties UpdateType=\"Software\"/>{more}</Update>",
            id.update, id.number.0
        )
    }

    fn answer(id: RevisionId, text: String) -> DocumentOf {
        DocumentOf { id, digests: Vec::new(), blob: Blob::Plain(text) }
    }

    fn codes(data: UpdateData, asked: &[RevisionId]) -> Vec<Option<Code>> {
        let arrived = documents(data, asked, &[], &Limits::default());
        arrived.into_iter().map(|one| one.document.err().map(|(code, _)| code)).collect()
    }

    #[test]
    fn a_document_is_taken_for_what_was_asked_and_for_nothing_else() {
        let (one, other) = (id(1, 200), id(2, 100));
        let itself = "<Relationships><BundledUpdates><UpdateIdentity \
                      UpdateID=\"00000000-0000-0000-0000-000000000001\" RevisionNumber=\"7\"/></BundledUpdates></Relationships>";
        for (document, expected) in [
            (answer(one, text(one, "")), None),
            (answer(one, text(other, "")), Some(Code::CatalogMalformed)),
            (answer(one, text(id(1, 201), "")), Some(Code::CatalogMalformed)),
            (answer(one, text(one, itself)), Some(Code::CatalogMalformed)),
            (answer(one, "<html>".to_owned()), Some(Code::CatalogMalformed)),
            (answer(one, text(one, "").replace("</Update>", "")), Some(Code::CatalogTruncated)),
            (
                DocumentOf { id: one, digests: Vec::new(), blob: Blob::Compressed(b"MSCF".to_vec()) },
                Some(Code::CabMalformed),
            ),
            // Not even looked at.
            (answer(other, text(other, "")), Some(Code::ProtocolMalformed)),
        ] {
            let data = UpdateData { updates: vec![document.clone()], urls: Vec::new() };
            assert_eq!(codes(data, &[one]), [expected], "{document:?}");
        }
        let twice = UpdateData { updates: vec![answer(one, text(one, "")); 2], urls: Vec::new() };
        assert_eq!(codes(twice, &[one]), [None, Some(Code::ProtocolMalformed)]);
    }

    #[test]
    fn files_are_where_the_answer_says_and_where_the_server_keeps_them() {
        let digest = "q6urq6urq6urq6urq6urq6urq6s=";
        let files = format!(
            "<Files><File Digest=\"{digest}\" DigestAlgorithm=\"SHA1\" FileName=\"a.ESD\" Size=\"1\"/></Files>"
        );
        let one = id(1, 200);
        let roots = ["http://wsus:8530/", "https://wsus:8531/"].map(|url| Url::parse(url).unwrap());
        let path = format!("Content/AB/{}.esd", "AB".repeat(20));
        let computed = [format!("http://wsus:8530/{path}"), format!("https://wsus:8531/{path}")];
        let url = |microsoft: &str, upstream: &str| FileUrl {
            digest: SHA1,
            microsoft: Some(microsoft.to_owned()),
            upstream: Some(upstream.to_owned()),
        };
        let rows: [(Vec<FileUrl>, &[Url], Vec<&str>); 5] = [
            (vec![], &[], vec![]),
            (vec![], &roots, vec![&computed[0], &computed[1]]),
            (vec![url("http://mu/a_ab.esd", "")], &roots[..1], vec!["http://mu/a_ab.esd", &computed[0]]),
            (vec![url("", "https://wsus/x")], &roots, vec!["https://wsus/x"]),
            (vec![url("file:///etc/passwd", "ftp://x/y")], &[], vec![]),
        ];
        for (urls, content, expected) in rows {
            let data = UpdateData { updates: vec![answer(one, text(one, &files))], urls };
            let mut arrived = documents(data, &[one], content, &Limits::default());
            let document = arrived.remove(0).document.unwrap();
            let mut expected: Vec<_> = expected.into_iter().map(|url| (SHA1, url.to_owned())).collect();
            expected.sort();
            assert_eq!(document.urls, expected);
        }
    }
}
