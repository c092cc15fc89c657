//! Text as it stands in XML: the one place where that is decided, for everything that is written.

use std::borrow::Cow;

/// Where in a document a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Between two tags.
    Text,
    /// In an attribute, in double quotes.
    Attribute,
}

/// What stands for a character, if it cannot stand for itself. XML has no way to write most control characters (XML 1.0
/// section 2.2), so they are left out: they are never in what we read.
fn instead(c: char, place: Place) -> Option<&'static str> {
    Some(match (c, place) {
        ('&', _) => "&amp;",
        ('<', _) => "&lt;",
        ('>', _) => "&gt;",
        ('"', Place::Attribute) => "&quot;",
        // A bare one would be read back as an end of line (section 2.11), and white space of an attribute as a space (3.3.3).
        ('\r', _) => "&#13;",
        ('\n', Place::Attribute) => "&#10;",
        ('\t', Place::Attribute) => "&#9;",
        ('\n' | '\t', Place::Text) => return None,
        ('\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}', _) => "",
        _ => return None,
    })
}

/// Adds a text.
pub fn push(out: &mut String, text: &str, place: Place) {
    let mut rest = text;
    while let Some((at, c, shown)) = rest.char_indices().find_map(|(at, c)| Some((at, c, instead(c, place)?)))
    {
        out.push_str(&rest[..at]);
        out.push_str(shown);
        rest = &rest[at + c.len_utf8()..];
    }
    out.push_str(rest);
}

/// A text as it stands there.
pub fn escaped(text: &str, place: Place) -> Cow<'_, str> {
    if !text.chars().any(|c| instead(c, place).is_some()) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    push(&mut out, text, place);
    Cow::Owned(out)
}

/// Bytes that a text takes there.
pub fn escaped_len(text: &str, place: Place) -> u64 {
    let length = |c: char| instead(c, place).map_or(c.len_utf8(), str::len);
    text.chars().map(length).sum::<usize>() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::Limits;
    use crate::xml::Reader;

    #[test]
    fn what_would_be_markup_or_lost_is_escaped() {
        for (text, between_tags, in_attribute) in [
            ("a&b<c>\"d'", "a&amp;b&lt;c&gt;\"d'", "a&amp;b&lt;c&gt;&quot;d'"),
            ("1\r\n\t2", "1&#13;\n\t2", "1&#13;&#10;&#9;2"),
            ("\0a\u{1}\u{ffff}", "a", "a"),
            ("Straße 東京", "Straße 東京", "Straße 東京"),
            ("", "", ""),
        ] {
            for (place, expected) in [(Place::Text, between_tags), (Place::Attribute, in_attribute)] {
                assert_eq!(escaped(text, place), expected);
                assert_eq!(escaped_len(text, place), expected.len() as u64, "{text}");
            }
        }
    }

    proptest! {
        /// Whatever XML can hold is read back as it was, by our reader, which is quick-xml's.
        #[test]
        fn it_is_read_back(text in "[\\t\\n\\r -\\u{7e}ä東\u{1F600}]{0,40}") {
            let (inside, value) = (escaped(&text, Place::Text), escaped(&text, Place::Attribute));
            let document = format!("<a b=\"{value}\">{inside}</a>");
            let mut reader = Reader::new(&document, &Limits::default()).unwrap();
            let root = reader.root().unwrap();
            prop_assert_eq!(root.attribute("b"), Some(text.as_str()));
            prop_assert_eq!(reader.text().unwrap(), text);
        }
    }
}
