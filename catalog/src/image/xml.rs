//! The XML of a WIM or ESD: UTF-16LE with a byte order mark, `<WIM><IMAGE INDEX="1">…`.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};

use super::{Image, ImageError, WindowsVersion};
use crate::esd_catalog::Architecture;
use crate::limits::Limits;

/// The images in the order of their indexes, and whether they are encrypted.
pub(super) fn images(list: &[u8], limits: &Limits) -> Result<(Vec<Image>, bool), ImageError> {
    let (encoding, mark) = encoding_rs::Encoding::for_bom(list).unwrap_or((encoding_rs::UTF_16LE, 0));
    let text = encoding
        .decode_without_bom_handling_and_without_replacement(&list[mark..])
        .ok_or_else(|| damaged("it is not UTF-16"))?;
    let mut reader = Reader::from_str(text.trim_end_matches('\0'));
    reader.config_mut().check_end_names = true;
    reader.config_mut().expand_empty_elements = true;
    let mut images: Vec<Image> = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut text = String::new();
    let mut ended = false;
    let mut encrypted = false;
    loop {
        match reader.read_event().map_err(|error| damaged(&error.to_string()))? {
            Event::Start(start) => {
                if path.len() == limits.xml_depth {
                    return Err(ImageError::TooLarge { what: "levels", most: limits.xml_depth as u64 });
                }
                if path.is_empty() && (ended || start.name().as_ref() != "WIM") {
                    return Err(damaged("its root element is not WIM"));
                }
                path.push(start.name().as_ref().to_owned());
                text.clear();
                if path.len() == 2 && path[1] == "IMAGE" {
                    if images.len() == limits.images {
                        return Err(ImageError::TooLarge { what: "images", most: limits.images as u64 });
                    }
                    let index = index(&start, limits)?.ok_or_else(|| damaged("an image has no INDEX"))?;
                    images.push(Image { index, ..Image::default() });
                }
                // How wimlib recognises it too; the list itself stays readable.
                encrypted |= path.as_slice() == ["WIM", "ESD", "ENCRYPTED"];
            }
            Event::End(_) => {
                if let Some(image) = images.last_mut() {
                    let names: Vec<&str> = path.iter().map(String::as_str).collect();
                    if let ["WIM", "IMAGE", rest @ ..] = names.as_slice() {
                        fact(image, rest, text.trim());
                    }
                }
                path.pop();
                text.clear();
                ended |= path.is_empty();
            }
            Event::Text(more) if path.is_empty() && !more.trim().is_empty() => {
                return Err(damaged("it has text outside of its root element"));
            }
            Event::Text(more) if text.len() + more.len() <= limits.xml_text_bytes => text.push_str(&more),
            Event::CData(more) if text.len() + more.len() <= limits.xml_text_bytes => text.push_str(&more),
            Event::Text(_) | Event::CData(_) => {
                return Err(ImageError::TooLarge {
                    what: "bytes in one text",
                    most: limits.xml_text_bytes as u64,
                });
            }
            Event::GeneralRef(name) => {
                let known = match resolve_predefined_entity(&name) {
                    Some(text) => text.chars().next(),
                    None => name.resolve_char_ref().ok().flatten(),
                };
                text.push(known.ok_or_else(|| damaged("an entity that is not defined"))?);
            }
            Event::DocType(_) => return Err(damaged("it has a document type")),
            Event::Eof if ended => break,
            Event::Eof => return Err(damaged("it ends too early")),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
    images.sort_by_key(|image| image.index);
    if images.iter().zip(1..).any(|(image, index)| image.index != index) {
        return Err(damaged("its indexes are not 1, 2, 3, …"));
    }
    Ok((images, encrypted))
}

/// Foreign text in a message of ours: short, and on one line.
fn damaged(what: &str) -> ImageError {
    ImageError::Xml(what.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect())
}

/// The attribute `INDEX`, if it is a number; all attributes are counted and none may stand twice.
fn index(start: &BytesStart<'_>, limits: &Limits) -> Result<Option<u32>, ImageError> {
    let mut index = None;
    for (count, attribute) in start.attributes().enumerate() {
        if count == limits.xml_attributes {
            return Err(ImageError::TooLarge { what: "attributes of one image", most: count as u64 });
        }
        let attribute = attribute.map_err(|error| damaged(&error.to_string()))?;
        if attribute.key.as_ref() == "INDEX" {
            index = attribute.value.trim().parse().ok();
        }
    }
    Ok(index)
}

/// One text of one image; what is not known is skipped.
fn fact(image: &mut Image, path: &[&str], text: &str) {
    let some = || (!text.is_empty()).then(|| text.to_owned());
    let version = |image: &mut Image, set: fn(&mut WindowsVersion, u32)| {
        if let Ok(number) = text.parse() {
            set(image.version.get_or_insert_default(), number);
        }
    };
    match path {
        ["NAME"] => image.name = text.to_owned(),
        ["DESCRIPTION"] => image.description = some(),
        ["DISPLAYNAME"] => image.display_name = some(),
        ["FLAGS"] => image.flags = some(),
        ["TOTALBYTES"] => image.total_bytes = text.parse().ok(),
        ["FILECOUNT"] => image.file_count = text.parse().ok(),
        ["WINDOWS", "EDITIONID"] => image.edition_id = some(),
        ["WINDOWS", "INSTALLATIONTYPE"] => image.installation_type = some(),
        // PROCESSOR_ARCHITECTURE_INTEL, _AMD64 and _ARM64 of winnt.h.
        ["WINDOWS", "ARCH"] => {
            image.architecture = match text {
                "0" => Some(Architecture::X86),
                "9" => Some(Architecture::X64),
                "12" => Some(Architecture::Arm64),
                _ => None,
            };
        }
        ["WINDOWS", "LANGUAGES", "LANGUAGE"] if image.languages.len() < 1_000 => {
            image.languages.extend(some())
        }
        ["WINDOWS", "LANGUAGES", "DEFAULT"] => image.default_language = some(),
        ["WINDOWS", "VERSION", "MAJOR"] => version(image, |v, n| v.major = n),
        ["WINDOWS", "VERSION", "MINOR"] => version(image, |v, n| v.minor = n),
        ["WINDOWS", "VERSION", "BUILD"] => version(image, |v, n| v.build = n),
        ["WINDOWS", "VERSION", "SPBUILD"] => version(image, |v, n| v.revision = n),
        _ => {}
    }
}
