//! The words of an RTF document, for people who read licence terms on a terminal. Layout, pictures, fonts and
//! colours are left out; what is accepted is the digest of the document itself, never this rendering.

/// Groups whose content is not text of the document (RTF specification 1.9.1, "destinations").
const NOT_TEXT: [&str; 12] = [
    "fonttbl",
    "colortbl",
    "stylesheet",
    "info",
    "pict",
    "generator",
    "themedata",
    "listtable",
    "listoverridetable",
    "rsidtbl",
    "header",
    "footer",
];

/// The text of `rtf`, or the input itself where it is no RTF. Never fails: what is not understood is left out.
pub fn to_text(document: &[u8]) -> String {
    if !document.starts_with(b"{\\rtf") {
        return String::from_utf8_lossy(document).replace('\r', "");
    }
    let mut text = String::new();
    let mut skipping: Vec<bool> = vec![false];
    let mut bytes = document.iter().copied().peekable();
    // Characters that stand for a \u one in readers without Unicode: by default one.
    let mut replaced = 0;
    while let Some(byte) = bytes.next() {
        let skip = *skipping.last().unwrap_or(&false);
        match byte {
            b'{' if skipping.len() < 1_000 => skipping.push(skip),
            b'}' if skipping.len() > 1 => drop(skipping.pop()),
            b'{' | b'}' | b'\r' | b'\n' => {}
            b'\\' => match bytes.next() {
                Some(b'\'') => {
                    let hex: String = bytes.by_ref().take(2).map(char::from).collect();
                    if replaced > 0 {
                        replaced -= 1;
                    } else if let (false, Ok(code)) = (skip, u8::from_str_radix(&hex, 16)) {
                        text.push(char::from(code));
                    }
                }
                Some(b'*') => mark(&mut skipping),
                Some(b'~') if !skip => text.push('\u{a0}'),
                Some(escaped @ (b'\\' | b'{' | b'}')) if !skip => text.push(char::from(escaped)),
                Some(letter) if letter.is_ascii_alphabetic() => {
                    let mut word = String::from(char::from(letter));
                    while let Some(next) = bytes.next_if(|b| b.is_ascii_alphabetic()) {
                        if word.len() < 32 {
                            word.push(char::from(next));
                        }
                    }
                    let mut number = String::new();
                    while let Some(next) =
                        bytes.next_if(|b| b.is_ascii_digit() || (*b == b'-' && number.is_empty()))
                    {
                        if number.len() < 10 {
                            number.push(char::from(next));
                        }
                    }
                    bytes.next_if_eq(&b' ');
                    match word.as_str() {
                        "par" | "line" | "row" if !skip => text.push('\n'),
                        "tab" | "cell" if !skip => text.push('\t'),
                        "u" if !skip => {
                            // Signed 16-bit: negative numbers are code points above 32,767.
                            let code = number.parse::<i32>().unwrap_or(0);
                            let code = if code < 0 { code + 65_536 } else { code };
                            text.push(
                                u32::try_from(code).ok().and_then(char::from_u32).unwrap_or('\u{fffd}'),
                            );
                            replaced = 1;
                        }
                        word if NOT_TEXT.contains(&word) => mark(&mut skipping),
                        _ => {}
                    }
                }
                _ => {}
            },
            _ if replaced > 0 => replaced -= 1,
            byte if !skip => text.push(char::from(byte)),
            _ => {}
        }
    }
    text
}

fn mark(skipping: &mut [bool]) {
    if let Some(last) = skipping.last_mut() {
        *last = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_remain() {
        let rtf = br"{\rtf1\ansi{\fonttbl{\f0 Arial;}}{\*\generator X;}\f0 LICENCE {\b TERMS}\par Gr\'fc\u223?e \{1\}\par}";
        assert_eq!(to_text(rtf), "LICENCE TERMS\nGr\u{fc}\u{df}e {1}\n");
        assert_eq!(to_text(b"plain\r\ntext"), "plain\ntext");
    }

    #[test]
    fn garbage_ends() {
        for garbage in
            [&b"{\\rtf1"[..], b"{\\rtf\\", b"{\\rtf\\'", b"{\\rtf\\u-99999999999 }}}}}", b"{\\rtf}}}}{{{{"]
        {
            let _ = to_text(garbage);
        }
    }
}
