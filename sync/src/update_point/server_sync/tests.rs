use catalog::id::{RevisionNumber, UpdateId};

use super::*;

const GUID: &str = "0f3a1f30-6d3d-4f5c-9d5a-3d2f6a1b2c3d";

#[test]
fn servers_introduce_themselves_in_either_order() {
    let account = Uuid::parse_str(GUID).unwrap();
    let long = format!("{}.example", "a".repeat(63));
    for (name, guid, expected) in [
        ("dss.corp.example", GUID, Ok("dss.corp.example")),
        ("dss.corp.example.", GUID, Ok("dss.corp.example.")),
        ("WSUS_01", GUID, Ok("WSUS_01")),
        (&long, GUID, Ok(long.as_str())),
        (" dss.example ", &GUID.to_uppercase(), Ok("dss.example")),
        ("dss.example", &format!("{{{GUID}}}"), Ok("dss.example")),
        // Microsoft's own client.
        (GUID, "dss.example", Ok("dss.example")),
        (GUID, GUID, Ok(GUID)),
        ("", GUID, Err("accountName")),
        ("", "", Err("accountName")),
        ("dss example", GUID, Err("accountName")),
        ("dss..example", GUID, Err("accountName")),
        (".example", GUID, Err("accountName")),
        ("dss.example/x", GUID, Err("accountName")),
        ("d\u{e4}s.example", GUID, Err("accountName")),
        ("a\nb", GUID, Err("accountName")),
        (&"a".repeat(64), GUID, Err("accountName")),
        (&"a.".repeat(200), GUID, Err("accountName")),
        ("dss.example", "", Err("accountGuid")),
        ("dss.example", "dss.example", Err("accountGuid")),
        (GUID, "no name", Err("accountGuid")),
    ] {
        match (introduced(name, guid), expected) {
            (Ok(who), Ok(expected)) => assert_eq!((who.account, who.name.as_str()), (account, expected)),
            (Err(Failure::Fault(fault)), Err(parameter)) => {
                assert_eq!(fault, Fault::new(ErrorCode::InvalidParameters, parameter), "{name} {guid}");
            }
            (actual, expected) => panic!("{name} {guid}: expected {expected:?}, actual {actual:?}"),
        }
    }
}

#[test]
fn versions_have_two_numbers() {
    for (text, expected) in [
        ("1.20", Some((1, 20))),
        ("1.7", Some((1, 7))),
        ("2.0", Some((2, 0))),
        ("1", None),
        ("", None),
        ("1.", None),
        (".1", None),
        ("1.2.3", None),
        ("+1.2", None),
        ("1.-2", None),
        ("1.99999", None),
    ] {
        assert_eq!(protocol_version(text), expected, "{text}");
    }
}

#[test]
fn documents_go_out_as_they_came_but_for_a_declaration() {
    for (document, expected) in [
        ("<a>\r\n</a> ", "<a>\r\n</a> "),
        ("<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n<a/>", "<a/>"),
        ("\u{feff}<?xml version='1.0'?><a>?></a>", "<a>?></a>"),
        ("\u{feff}<a/>", "<a/>"),
        ("<?xml-stylesheet href='x'?><a/>", "<?xml-stylesheet href='x'?><a/>"),
    ] {
        assert_eq!(plain(document.as_bytes().to_vec()).as_deref(), Some(expected));
    }
    let utf16: Vec<u8> = "\u{feff}<a>\u{e4}</a>".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(plain(utf16).as_deref(), Some("<a>\u{e4}</a>"));
    assert_eq!(plain(vec![b'<', 0xff]), None);
}

#[test]
fn the_length_of_a_document_inside_of_a_message_is_known_before() {
    for text in ["", "plain", "<a b=\"&amp;'\">\r\n\t\u{e4}\u{1f600}</a>"] {
        let one = |document: &str| DocumentOf {
            id: RevisionId { update: UpdateId(Uuid::nil()), number: RevisionNumber(1) },
            digests: Vec::new(),
            blob: Blob::Plain(document.to_owned()),
        };
        let written = |document: &str| {
            let data = UpdateData { updates: vec![one(document)], urls: Vec::new() };
            Response::UpdateData(data).write().len() as u64
        };
        assert_eq!(written(text) - written(""), escaped_len(text, Place::Text), "{text}");
    }
}

#[test]
fn an_answer_has_at_least_one_document() {
    let offered = |sizes: &[u64]| -> Vec<Offered> {
        let id = RevisionId { update: UpdateId(Uuid::nil()), number: RevisionNumber(1) };
        sizes.iter().map(|size| Offered { row: 1, id, size: *size }).collect()
    };
    for (sizes, expected) in [
        (vec![], 0),
        (vec![47_000_000, 1], 1),
        (vec![1, 47_000_000, 1], 1),
        (vec![1_000_000, 1_000_000, 1], 2),
        (vec![10; 100], 100),
        (vec![0, 3_000_000], 1),
    ] {
        assert_eq!(fitting(&offered(&sizes)).len(), expected, "{sizes:?}");
    }
}
