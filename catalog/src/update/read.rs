//! From a document to a [`Revision`], in one pass.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{
    Bundled, CategoryInformation, Handler, HandlerKind, Kind, LicenseFile, Localized, NAMESPACE, Named,
    OtherDigest, Prerequisite, Properties, Revision, Timestamp, UpdateError, UpdateFile,
};
use crate::digest::{Digests, Sha1Digest, Sha256Digest};
use crate::id::{RevisionId, RevisionNumber, UpdateId};
use crate::limits::Limits;
use crate::xml::{self, Element, Reader, XSI};

/// Characters of a title, and of other texts for people, that are kept. The document keeps all of them.
const LONGEST_TITLE: usize = 1_000;
const LONGEST_TEXT: usize = 20_000;
/// Characters of other values: addresses, names of products.
const LONGEST_VALUE: usize = 8_000;

/// Reads one whole document, in UTF-8 or UTF-16.
///
/// # Errors
/// `Xml` where it is not well-formed, `Malformed` where it has no identity or a file without size or with a digest that
/// is none, `TooLarge`.
pub fn parse(document: &[u8], limits: &Limits) -> Result<Revision, UpdateError> {
    if document.len() as u64 > limits.unpacked_bytes {
        return Err(UpdateError::TooLarge { what: "bytes", most: limits.unpacked_bytes });
    }
    let text = xml::utf8(document)?;
    let mut reading = Reading {
        reader: Reader::new(&text, limits)?,
        most: limits.update_items,
        file_bytes: limits.file_bytes,
    };
    let root = reading.reader.root()?;
    if !root.is(NAMESPACE, "Update") {
        return Err(reading.malformed("the root element is not `Update`, so this is no update document"));
    }
    let revision = reading.update()?;
    reading.reader.finish()?;
    Ok(revision)
}

struct Reading<'d> {
    reader: Reader<'d>,
    /// Of anything that repeats.
    most: usize,
    /// Bytes of one file.
    file_bytes: u64,
}

impl<'d> Reading<'d> {
    fn update(&mut self) -> Result<Revision, UpdateError> {
        let mut id = None;
        let mut kind = None;
        let mut properties = Properties::default();
        let mut localized = Vec::new();
        let mut licenses = Vec::new();
        let (mut prerequisites, mut bundled, mut superseded) = (Vec::new(), Vec::new(), Vec::new());
        let mut files = Vec::new();
        let (mut handler, mut category) = (None, None);
        while let Some(child) = self.child()? {
            match child.name() {
                "UpdateIdentity" => {
                    if id.replace(self.revision(&child)?).is_some() {
                        return Err(self.malformed("it has two identities"));
                    }
                }
                "Properties" => {
                    if kind.is_some() {
                        return Err(self.malformed("it has two `Properties`"));
                    }
                    (kind, properties) = self.properties(&child)?;
                }
                "LocalizedPropertiesCollection" => {
                    while let Some(one) = self.child()? {
                        match one.name() {
                            "LocalizedProperties" => {
                                let texts = self.localized()?;
                                self.push(&mut localized, texts, "languages")?;
                            }
                            "EulaFile" => self.license(&one, &mut licenses)?,
                            _ => self.reader.skip()?,
                        }
                    }
                }
                "EulaFile" => self.license(&child, &mut licenses)?,
                "EulaFiles" => {
                    while let Some(one) = self.child()? {
                        match one.name() {
                            "EulaFile" => self.license(&one, &mut licenses)?,
                            _ => self.reader.skip()?,
                        }
                    }
                }
                "Relationships" => {
                    while let Some(one) = self.child()? {
                        match one.name() {
                            "Prerequisites" => self.prerequisites(&mut prerequisites)?,
                            "BundledUpdates" => self.bundled(&mut bundled)?,
                            "SupersededUpdates" => {
                                self.ids(&mut superseded, |own, one| own.update_id(one))?
                            }
                            _ => self.reader.skip()?,
                        }
                    }
                }
                "Files" => {
                    while let Some(one) = self.child()? {
                        match one.name() {
                            "File" => {
                                let file = self.file(&one, &[])?;
                                self.push(&mut files, file, "files")?;
                            }
                            _ => self.reader.skip()?,
                        }
                    }
                }
                "HandlerSpecificData" => {
                    handler = child.attribute_of(XSI, "type").map(|name| {
                        let (namespace, name) = self.reader.resolve(name);
                        Handler { namespace: value(&namespace), name: value(name) }
                    });
                    category = self.category()?;
                }
                _ => self.reader.skip()?, // ApplicabilityRules, and what is invented next year
            }
        }
        let id = id.ok_or_else(|| self.malformed("it has no `UpdateIdentity`"))?;
        let kind = kind.unwrap_or(Kind::Other);
        Ok(Revision {
            id,
            kind,
            properties,
            localized,
            licenses,
            prerequisites,
            bundled,
            superseded,
            files,
            handler,
            category,
        })
    }

    /// The next child in our namespace; others are nothing to us.
    fn child(&mut self) -> Result<Option<Element<'d>>, UpdateError> {
        while let Some(child) = self.reader.child()? {
            if child.namespace() == NAMESPACE {
                return Ok(Some(child));
            }
            self.reader.skip()?;
        }
        Ok(None)
    }

    fn malformed(&self, what: &str) -> UpdateError {
        UpdateError::Malformed { position: self.reader.position(), what: xml::shown(what) }
    }

    fn push<T>(&self, list: &mut Vec<T>, one: T, what: &'static str) -> Result<(), UpdateError> {
        if list.len() == self.most {
            return Err(UpdateError::TooLarge { what, most: self.most as u64 });
        }
        list.push(one);
        Ok(())
    }

    fn update_id(&self, identity: &Element<'_>) -> Result<UpdateId, UpdateError> {
        let id = identity.attribute("UpdateID").unwrap_or_default();
        id.trim().parse().map_err(|error| self.malformed(&format!("UpdateID {error}")))
    }

    /// An identity with its revision.
    fn identity(&self, identity: &Element<'_>) -> Result<RevisionId, UpdateError> {
        let update = self.update_id(identity)?;
        let number = identity.attribute("RevisionNumber").and_then(|number| number.trim().parse().ok());
        let number = number.ok_or_else(|| self.malformed("an identity has no RevisionNumber"))?;
        Ok(RevisionId { update, number: RevisionNumber(number) })
    }

    fn revision(&mut self, identity: &Element<'_>) -> Result<RevisionId, UpdateError> {
        let id = self.identity(identity)?;
        self.reader.skip()?;
        Ok(id)
    }

    /// Every `UpdateIdentity` of the innermost open element.
    fn ids<T>(
        &mut self,
        ids: &mut Vec<T>,
        read: impl Fn(&Self, &Element<'_>) -> Result<T, UpdateError>,
    ) -> Result<(), UpdateError> {
        while let Some(one) = self.child()? {
            if one.name() == "UpdateIdentity" {
                let id = read(self, &one)?;
                self.push(ids, id, "related updates")?;
            }
            self.reader.skip()?;
        }
        Ok(())
    }

    fn prerequisites(&mut self, clauses: &mut Vec<Prerequisite>) -> Result<(), UpdateError> {
        while let Some(one) = self.child()? {
            let mut any_of = Vec::new();
            match one.name() {
                "UpdateIdentity" => {
                    any_of.push(self.update_id(&one)?);
                    self.reader.skip()?;
                }
                "AtLeastOne" => self.ids(&mut any_of, |own, one| own.update_id(one))?,
                _ => {
                    self.reader.skip()?;
                    continue;
                }
            }
            let is_category = one.attribute("IsCategory").and_then(boolean).unwrap_or(false);
            self.push(clauses, Prerequisite { any_of, is_category }, "prerequisites")?;
        }
        Ok(())
    }

    fn bundled(&mut self, clauses: &mut Vec<Bundled>) -> Result<(), UpdateError> {
        while let Some(one) = self.child()? {
            let mut any_of = Vec::new();
            match one.name() {
                "UpdateIdentity" => any_of.push(self.revision(&one)?),
                "AtLeastOne" => self.ids(&mut any_of, |own, one| own.identity(one))?,
                _ => {
                    self.reader.skip()?;
                    continue;
                }
            }
            self.push(clauses, Bundled { any_of }, "bundled updates")?;
        }
        Ok(())
    }

    fn properties(&mut self, element: &Element<'_>) -> Result<(Option<Kind>, Properties), UpdateError> {
        let mut found = Properties { publication_state: "Published".to_owned(), ..Properties::default() };
        let mut kind = Kind::Other;
        for attribute in element.attributes() {
            let text = attribute.value();
            let own = attribute.namespace().is_empty();
            let understood = own && property(&mut found, &mut kind, attribute.name(), text).is_some();
            if !understood {
                found.other.push(named(attribute.name(), text));
            }
        }
        while let Some(child) = self.child()? {
            match child.name() {
                "InstallationBehavior" => {
                    found.installation = attributes(&child);
                    self.reader.skip()?;
                }
                "UninstallationBehavior" => {
                    found.uninstallation = attributes(&child);
                    self.reader.skip()?;
                }
                "SecuredFragment" => {
                    let kind = value(child.attribute("FragmentType").unwrap_or_default());
                    self.push(&mut found.secured_fragments, kind, "secured fragments")?;
                    self.reader.skip()?;
                }
                "SupportUrl" => found.support_url = self.optional(LONGEST_VALUE)?,
                "MoreInfoUrl" => found.more_info_url = self.optional(LONGEST_VALUE)?,
                "KBArticleID" => self.add_text(&mut found.kb_articles, "articles")?,
                "SecurityBulletinID" => self.add_text(&mut found.security_bulletins, "bulletins")?,
                "Language" => self.add_text(&mut found.languages, "languages")?,
                _ => self.reader.skip()?,
            }
        }
        Ok((Some(kind), found))
    }

    /// The text of the open element, on one line; `None` where there is none.
    fn optional(&mut self, most: usize) -> Result<Option<String>, UpdateError> {
        let text = self.reader.text()?;
        let text = text.trim();
        Ok((!text.is_empty()).then(|| one_line(text, most)))
    }

    fn add_text(&mut self, list: &mut Vec<String>, what: &'static str) -> Result<(), UpdateError> {
        match self.optional(LONGEST_VALUE)? {
            Some(text) => self.push(list, text, what),
            None => Ok(()),
        }
    }

    /// A text of several lines.
    fn paragraph(&mut self) -> Result<Option<String>, UpdateError> {
        let text = self.reader.text()?;
        let text = text.trim();
        Ok((!text.is_empty()).then(|| text.chars().take(LONGEST_TEXT).collect()))
    }

    fn localized(&mut self) -> Result<Localized, UpdateError> {
        let mut texts = Localized::default();
        while let Some(child) = self.child()? {
            match child.name() {
                "Language" => texts.language = self.optional(80)?.unwrap_or_default().to_lowercase(),
                "Title" => texts.title = self.optional(LONGEST_TITLE)?.unwrap_or_default(),
                "Description" => texts.description = self.paragraph()?,
                "UninstallNotes" => texts.uninstall_notes = self.paragraph()?,
                "MoreInfoUrl" => texts.more_info_url = self.optional(LONGEST_VALUE)?,
                "SupportUrl" => texts.support_url = self.optional(LONGEST_VALUE)?,
                _ => self.reader.skip()?,
            }
        }
        Ok(texts)
    }

    fn license(&mut self, element: &Element<'_>, licenses: &mut Vec<LicenseFile>) -> Result<(), UpdateError> {
        let language = element.attribute("Language").unwrap_or_default().trim().chars().take(80);
        let language = language.collect::<String>().to_lowercase();
        let geo_id = element.attribute("GeoId").map(value);
        let file = self.file(element, &["Language", "GeoId"])?;
        self.push(licenses, LicenseFile { language, geo_id, file }, "licence files")
    }

    /// A file. What `apart` names is read by the caller.
    fn file(&mut self, element: &Element<'_>, apart: &[&str]) -> Result<UpdateFile, UpdateError> {
        let mut file = UpdateFile {
            name: String::new(),
            size: 0,
            digests: Digests::default(),
            other_digests: Vec::new(),
            patching_type: None,
            patching_type_preferred: None,
            modified: None,
            is_encrypted: false,
            other: Vec::new(),
        };
        let (mut size, mut digest, mut algorithm) = (None, None, "SHA1");
        for attribute in element.attributes() {
            let text = attribute.value();
            match attribute.name() {
                "FileName" => file.name = text.chars().take(1_000).collect(),
                "Size" => size = text.trim().parse().ok(),
                "Digest" => digest = Some(text),
                "DigestAlgorithm" => algorithm = text,
                "PatchingType" => file.patching_type = Some(value(text)),
                "PatchingTypePreferred" => file.patching_type_preferred = Some(value(text)),
                "Modified" => file.modified = Some(Timestamp::of(text)),
                // What is no boolean is taken for the worse.
                "IsEncrypted" => file.is_encrypted = boolean(text) != Some(false),
                name if apart.contains(&name) => {}
                name => file.other.push(named(name, text)),
            }
        }
        file.size = size.ok_or_else(|| self.malformed("a file has no `Size`, or one that is no number"))?;
        if file.size > self.file_bytes {
            return Err(UpdateError::TooLarge { what: "bytes in one file", most: self.file_bytes });
        }
        if let Some(digest) = digest {
            self.digest(&mut file, algorithm, digest)?;
        }
        while let Some(child) = self.child()? {
            match child.name() {
                "AdditionalDigest" => {
                    let algorithm = child.attribute("Algorithm").unwrap_or_default();
                    let digest = self.reader.text()?;
                    self.digest(&mut file, algorithm, &digest)?;
                }
                _ => self.reader.skip()?,
            }
        }
        Ok(file)
    }

    /// One digest more. Two of one algorithm must be the same: nothing could tell which of them is true.
    fn digest(&self, file: &mut UpdateFile, algorithm: &str, base64: &str) -> Result<(), UpdateError> {
        let (algorithm, base64) = (algorithm.trim(), base64.trim());
        let bytes = || {
            STANDARD.decode(base64).map_err(|_| self.malformed(&format!("`{base64}` is no digest in base64")))
        };
        let length = |_| self.malformed(&format!("`{base64}` has not the length of a {algorithm}"));
        let twice = match algorithm.to_ascii_uppercase().replace('-', "").as_str() {
            "SHA1" => {
                let new = Sha1Digest::from_bytes(&bytes()?).map_err(length)?;
                file.digests.sha1.replace(new).is_some_and(|old| old != new)
            }
            "SHA256" => {
                let new = Sha256Digest::from_bytes(&bytes()?).map_err(length)?;
                file.digests.sha256.replace(new).is_some_and(|old| old != new)
            }
            _ => {
                let other = OtherDigest { algorithm: value(algorithm), base64: value(base64) };
                return self.push(&mut file.other_digests, other, "digests of one file");
            }
        };
        if twice {
            return Err(self.malformed(&format!("a file states two {algorithm} digests that differ")));
        }
        Ok(())
    }

    /// What handler data says of a category; the data of all other handlers is passed over.
    fn category(&mut self) -> Result<Option<CategoryInformation>, UpdateError> {
        let mut found = None;
        while let Some(child) = self.reader.child()? {
            let is_category = child.name() == "CategoryInformation"
                && HandlerKind::of(child.namespace()) == HandlerKind::Category;
            if is_category {
                let flag = |name| child.attribute(name).and_then(boolean).unwrap_or(false);
                found = Some(CategoryInformation {
                    category_type: value(child.attribute("CategoryType").unwrap_or_default()),
                    prohibits_subcategories: flag("ProhibitsSubcategories"),
                    prohibits_updates: flag("ProhibitsUpdates"),
                    excluded_by_default: flag("ExcludedByDefault"),
                    display_order: child.attribute("DisplayOrder").and_then(|text| text.trim().parse().ok()),
                });
            }
            self.reader.skip()?;
        }
        Ok(found)
    }
}

/// Takes one attribute of `Properties`. `None`: not known, or not a value that it can have.
fn property(found: &mut Properties, kind: &mut Kind, name: &str, text: &str) -> Option<()> {
    match name {
        "UpdateType" => {
            *kind = match text {
                "Category" => Kind::Category,
                "Detectoid" => Kind::Detectoid,
                "Software" => Kind::Software,
                "Driver" => Kind::Driver,
                _ => return None,
            }
        }
        "ExplicitlyDeployable" => found.explicitly_deployable = boolean(text)?,
        "PublicationState" => found.publication_state = value(text),
        "CreationDate" => found.created = Some(Timestamp::of(text)),
        "EulaID" => found.eula = Some(text.trim().parse().ok()?),
        "OSUpgrade" => found.os_upgrade = boolean(text).unwrap_or(true),
        "IsBeta" => found.is_beta = boolean(text)?,
        "IsMandatory" => found.is_mandatory = boolean(text)?,
        "AutoSelectOnWebSites" => found.auto_select = boolean(text)?,
        "IsLocallyPublished" => found.is_locally_published = boolean(text)?,
        "Handler" => found.handler = Some(value(text)),
        "MaxDownloadSize" => found.max_download_size = Some(text.trim().parse().ok()?),
        "MinDownloadSize" => found.min_download_size = Some(text.trim().parse().ok()?),
        "DefaultPropertiesLanguage" => found.default_language = Some(value(text).to_lowercase()),
        "PublisherID" => found.publisher = Some(text.trim().parse().ok()?),
        "LegacyName" => found.legacy_name = Some(value(text)),
        "DetectoidType" => found.detectoid_type = Some(value(text)),
        "MsrcSeverity" => found.msrc_severity = Some(value(text)),
        "ProductName" => found.product_name = Some(value(text)),
        "ReleaseVersion" => found.release_version = Some(value(text)),
        "CompatibleProtocolVersion" => found.compatible_protocol = Some(value(text)),
        _ => return None,
    }
    Some(())
}

/// XML Schema part 2, section 3.2.2.
fn boolean(text: &str) -> Option<bool> {
    match text.trim() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        other if other.eq_ignore_ascii_case("true") => Some(true),
        other if other.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn one_line(text: &str, most: usize) -> String {
    text.chars().take(most).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn value(text: &str) -> String {
    one_line(text.trim(), LONGEST_VALUE)
}

fn named(name: &str, text: &str) -> Named {
    Named { name: name.to_owned(), value: value(text) }
}

fn attributes(element: &Element<'_>) -> Vec<Named> {
    element.attributes().iter().map(|one| named(one.name(), one.value())).collect()
}
