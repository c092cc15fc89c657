use proptest::prelude::*;

use super::*;

/// A document read by walking over all of it: `name(children)text`.
fn walk(text: &str, limits: &Limits) -> Result<String, XmlError> {
    fn inside(reader: &mut Reader<'_>, out: &mut String) -> Result<(), XmlError> {
        while let Some(child) = reader.child()? {
            out.push_str(&format!("{}{{{}}}(", child.name(), child.namespace()));
            for one in child.attributes() {
                out.push_str(&format!("@{}{{{}}}={}", one.name(), one.namespace(), one.value()));
            }
            inside(reader, out)?;
            out.push(')');
        }
        Ok(())
    }
    let mut reader = Reader::new(text, limits)?;
    let mut out = reader.root()?.name().to_owned();
    inside(&mut reader, &mut out)?;
    reader.finish()?;
    Ok(out)
}

#[test]
fn names_are_expanded_in_their_scope() {
    let text = r#"<?xml version="1.0"?><!-- c --><p:r xmlns:p="u:1" xmlns="u:2"><a p:x="1" y="a&amp;b"/><p:b
        xmlns:p="u:3"/><c xmlns=""><d/></c></p:r> <?pi?>"#;
    let read = walk(text, &Limits::default()).unwrap();
    assert_eq!(read, "ra{u:2}(@x{u:1}=1@y{}=a&b)b{u:3}()c{}(d{}())");
}

#[test]
fn texts_are_joined_and_children_left_out() {
    let limits = Limits::default();
    let text = "<a>1&lt;<![CDATA[<2>]]>\r\n<b>no</b>&#x33;</a>";
    let mut reader = Reader::new(text, &limits).unwrap();
    reader.root().unwrap();
    assert_eq!(reader.text().unwrap(), "1<<2>\n3");
    reader.finish().unwrap();
    let mut reader = Reader::new("<a>plain</a>", &limits).unwrap();
    reader.root().unwrap();
    assert!(matches!(reader.text().unwrap(), Cow::Borrowed("plain")), "plain text is not copied");
}

#[test]
fn prefixes_in_values_are_resolved_where_they_stand() {
    let text = r#"<r xmlns:c="u:1"><h xmlns:c="u:2" t="c:X"/></r>"#;
    let mut reader = Reader::new(text, &Limits::default()).unwrap();
    reader.root().unwrap();
    assert_eq!(reader.resolve("c:X"), ("u:1".to_owned(), "X"));
    reader.child().unwrap().unwrap();
    assert_eq!(reader.resolve("c:X"), ("u:2".to_owned(), "X"));
    assert_eq!(reader.resolve("q:X"), (String::new(), "X"));
}

#[test]
fn what_is_no_xml_is_refused_used_or_skipped() {
    let limits = Limits { xml_depth: 4, xml_attributes: 2, xml_text_bytes: 20, ..Limits::default() };
    let rows = [
        ("<!DOCTYPE a><a/>", "document type"),
        ("<a><!DOCTYPE a></a>", "document type"),
        ("<a>&nbsp;</a>", "entity"),
        ("<a>&#1;</a>", "entity"),
        ("<a>\u{1}</a>", "control character"),
        ("<a x='&#1;'/>", "control character"),
        ("<a x='&y;'/>", ""),
        ("<a x='1' x='2'/>", ""),
        ("<a x='<'/>", "`<`"),
        ("<a/><b/>", "second root"),
        ("<a/>b", "outside"),
        ("b<a/>", "outside"),
        ("<a/>&amp;", "outside"),
        ("<a><?xml version='1.0'?></a>", "declaration"),
        ("<p:a/>", "prefix `p`"),
        ("<a p:x='1'/>", "prefix `p`"),
        ("", "no root"),
        ("<a></b>", ""),
        ("<a><a><a><a><a/></a></a></a></a>", "more levels"),
        ("<a x='1' y='2' z='3'/>", "more attributes"),
        ("<a x='aaaaaaaaaaaaaaaaaaaaa'/>", "bytes in one attribute"),
        ("<a>aaaaaaaaaaaaaaaaaaaaa</a>", "bytes in one text"),
    ];
    for (text, expected) in rows {
        let walked = walk(text, &limits).expect_err(text).to_string();
        assert!(walked.contains(expected), "{text}: {walked}");
        let skipped = Reader::new(text, &limits).and_then(|mut reader| {
            reader.root()?;
            reader.skip()?;
            reader.finish()
        });
        assert_eq!(skipped.expect_err(text).to_string(), walked, "{text}");
    }
}

#[test]
fn every_cut_is_told_from_damage() {
    let text = "<a x='1'><b>t&amp;<![CDATA[c]]></b><!-- d --><c/></a>";
    for end in 9..text.len() {
        let error = walk(&text[..end], &Limits::default()).expect_err("it is cut");
        assert!(matches!(error, XmlError::Truncated { .. }), "{end}: {error:?}");
    }
    assert!(walk(text, &Limits::default()).is_ok());
}

#[test]
fn either_encoding_is_the_same_text() {
    let text = "<a>\u{e4}\u{1f600}</a>";
    let words: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked: Vec<u8> = [0xff, 0xfe].into_iter().chain(words.iter().copied()).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let with_mark = format!("\u{feff}{text}");
    for bytes in [text.as_bytes(), with_mark.as_bytes(), &words, &marked, &big] {
        assert_eq!(utf8(bytes).unwrap(), text);
    }
    assert!(utf8(&words[..words.len() - 1]).is_err(), "half a character");
    // What is declared changes nothing: the bytes say it.
    let declared = "<?xml version=\"1.0\" encoding=\"utf-16\"?><a>\u{e4}</a>";
    let words: Vec<u8> = declared.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for bytes in [declared.as_bytes(), &words] {
        let text = utf8(bytes).unwrap();
        let mut reader = Reader::new(&text, &Limits::default()).unwrap();
        reader.root().unwrap();
        assert_eq!(reader.text().unwrap(), "\u{e4}");
        reader.finish().unwrap();
    }
    assert!(utf8(b"<a>\xff</a>").is_err());
}

proptest! {
    #[test]
    fn no_text_panics(text in "[<>/a:x='\"&;#!\\[\\]CDAT?\\- \u{e4}]{0,60}") {
        let _ = walk(&text, &Limits::default());
    }
}
