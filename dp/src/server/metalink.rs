//! Descriptions of a content that other programs verify it by: Metalink (RFC 5854), its HTTP form (RFC 6249), and the
//! pieces hash file of Delivery Optimization. Pure: what is known goes in, bytes come out.

use bytes::Bytes;
use catalog::digest::{PIECE_SIZE, Sha256Digest};
use catalog::xml::escape::{Place, escaped};
use serde::Deserialize;

use super::document::Document;

/// What of a content's descriptions is the same for everybody: its pieces, in both forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pieces {
    /// The element `pieces`; empty where the content is.
    pub(super) metalink: Bytes,
    /// The pieces hash file.
    pub(super) hash_file: Document,
}

impl Pieces {
    /// Of a content of `size` bytes with these SHA-256 of its pieces.
    pub(super) fn of(size: u64, hashes: &[Sha256Digest]) -> Self {
        Self { metalink: element(hashes).into(), hash_file: Document::of(hash_file(size, hashes).into()) }
    }

    /// Bytes of memory that they take.
    pub(super) fn memory(&self) -> usize {
        self.metalink.len() + self.hash_file.memory()
    }
}

fn element(hashes: &[Sha256Digest]) -> String {
    if hashes.is_empty() {
        return String::new();
    }
    let mut text = String::with_capacity(hashes.len() * 78 + 80);
    text.push_str(&format!("<pieces length=\"{PIECE_SIZE}\" type=\"sha-256\">\n"));
    for hash in hashes {
        text.push_str("<hash>");
        text.push_str(&hash.to_string());
        text.push_str("</hash>\n");
    }
    text.push_str("</pieces>\n");
    text
}

/// The JSON that Windows checks pieces with. `HashOfHashes` is over a head of 16 bytes, little-endian, and every hash:
/// `u16 1 | u16 0 | u64 size | u32 size of a piece | SHA-256 of each piece`.
pub fn hash_file(size: u64, hashes: &[Sha256Digest]) -> String {
    let pieces: Vec<String> = hashes.iter().map(|hash| format!("\"{}\"", hash.to_base64())).collect();
    format!(
        r#"{{"MajorVersion":1,"MinorVersion":0,"HashOfHashes":"{}","ContentLength":{size},"PieceSize":{PIECE_SIZE},"Pieces":[{}]}}"#,
        hash_of_hashes(size, hashes).to_base64(),
        pieces.join(",")
    )
}

fn hash_of_hashes(size: u64, hashes: &[Sha256Digest]) -> Sha256Digest {
    let mut all = Vec::with_capacity(16 + hashes.len() * 32);
    all.extend_from_slice(&1_u16.to_le_bytes());
    all.extend_from_slice(&0_u16.to_le_bytes());
    all.extend_from_slice(&size.to_le_bytes());
    all.extend_from_slice(&(PIECE_SIZE as u32).to_le_bytes());
    hashes.iter().for_each(|hash| all.extend_from_slice(&hash.0));
    Sha256Digest::of(&all)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HashFile {
    hash_of_hashes: String,
    piece_size: u64,
    pieces: Vec<String>,
}

/// The pieces that such a file tells of a content of `size` bytes; `None` where it is another one, or damaged.
pub fn read_hash_file(json: &[u8], size: u64) -> Option<catalog::digest::Pieces> {
    let read: HashFile = serde_json::from_slice(json).ok()?;
    let hashes: Result<Vec<_>, _> = read.pieces.iter().map(|text| Sha256Digest::from_base64(text)).collect();
    let hashes = hashes.ok()?;
    let told = hash_of_hashes(size, &hashes).to_base64() == read.hash_of_hashes;
    (told && read.piece_size == PIECE_SIZE as u64)
        .then(|| catalog::digest::Pieces::new(size, hashes))
        .flatten()
}

/// The parts of a Metalink document, in order. `urls`: best first, each absolute.
pub(super) fn document(
    name: &str,
    size: u64,
    digest: Sha256Digest,
    pieces: Option<Bytes>,
    urls: &[String],
) -> Vec<Bytes> {
    let head = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">\n\
         <file name=\"{}\">\n<size>{size}</size>\n<hash type=\"sha-256\">{digest}</hash>\n",
        escaped(name, Place::Attribute)
    );
    let mut tail = String::new();
    for (index, url) in urls.iter().enumerate() {
        tail.push_str(&format!("<url priority=\"{}\">{}</url>\n", index + 1, escaped(url, Place::Text)));
    }
    tail.push_str("</file>\n</metalink>\n");
    let pieces = pieces.filter(|pieces| !pieces.is_empty());
    [Some(head.into()), pieces, Some(tail.into())].into_iter().flatten().collect()
}

/// `Link` to one more place that has the same bytes (RFC 6249 section 3); `None` for an address that cannot stand there.
pub(super) fn duplicate(url: &str, priority: usize) -> Option<String> {
    let fits =
        !url.is_empty() && url.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"\\".contains(&byte));
    fits.then(|| format!("<{url}>; rel=duplicate; pri={priority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_file_is_read_as_it_is_written_and_no_other() {
        let hashes = [Sha256Digest([1; 32]), Sha256Digest([2; 32])];
        let size = PIECE_SIZE as u64 + 5;
        let file = hash_file(size, &hashes);
        let read = |text: &str, size| read_hash_file(text.as_bytes(), size);
        assert_eq!(read(&file, size), catalog::digest::Pieces::new(size, hashes.to_vec()));
        assert!(read(&file, size + 1).is_none(), "of another content");
        let (one, other) = (hashes[0].to_base64(), hashes[1].to_base64());
        assert!(read(&file.replace(&one, &other), size).is_none(), "a hash was changed");
        assert!(read(&file.replace("1048576", "1048577"), size).is_none());
        assert!(read("{}", size).is_none());
    }

    #[test]
    fn the_hash_of_hashes_is_that_of_the_formula() {
        // Worked out by hand once: a content of one piece, `data`.
        let piece = Sha256Digest::of(b"data");
        let mut all = vec![1, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0];
        all.extend_from_slice(&piece.0);
        let expected = Sha256Digest::of(&all).to_base64();
        let text = hash_file(4, &[piece]);
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["HashOfHashes"], *expected);
        assert_eq!(read["ContentLength"], 4);
        assert_eq!(read["PieceSize"], 1_048_576);
        assert_eq!(read["Pieces"], serde_json::json!([piece.to_base64()]));
        let empty: serde_json::Value = serde_json::from_str(&hash_file(0, &[])).unwrap();
        assert_eq!(empty["Pieces"], serde_json::json!([]));
    }

    #[test]
    fn names_and_addresses_are_escaped() {
        let urls = ["http://a/?x=1&y=<2>".to_owned(), "http://b/".to_owned()];
        let parts = document("a&b'c.esd", 4, Sha256Digest::of(b"data"), None, &urls);
        let text = String::from_utf8(parts.concat()).unwrap();
        assert!(text.contains("<file name=\"a&amp;b'c.esd\">"), "{text}");
        assert!(text.contains("<url priority=\"1\">http://a/?x=1&amp;y=&lt;2&gt;</url>"), "{text}");
        assert!(text.contains("<url priority=\"2\">http://b/</url>"), "{text}");
        assert!(!text.contains("pieces"));
        let hashes = [Sha256Digest::of(b"a"), Sha256Digest::of(b"b")];
        let pieces = Pieces::of(1_048_577, &hashes);
        let parts = document("x", 1_048_577, Sha256Digest::of(b"ab"), Some(pieces.metalink), &urls);
        let text = String::from_utf8(parts.concat()).unwrap();
        let expected = format!(
            "<pieces length=\"1048576\" type=\"sha-256\">\n<hash>{}</hash>\n<hash>{}</hash>\n</pieces>\n",
            hashes[0], hashes[1]
        );
        assert!(text.contains(&expected), "{text}");
    }

    #[test]
    fn only_an_address_becomes_a_link() {
        let link = duplicate("http://a/content/1", 2);
        assert_eq!(link.as_deref(), Some("<http://a/content/1>; rel=duplicate; pri=2"));
        for odd in ["", "http://a/>; rel=x", "http://a/ b", "http://a/\r\nX: y", "http://ä/", "a\"b", "a\\b"]
        {
            assert_eq!(duplicate(odd, 1), None, "{odd:?}");
        }
    }
}
