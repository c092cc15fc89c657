//! Real records of WSUS servers, made into update documents: nobody published raw documents of feature updates, but what
//! they say is here.

use std::collections::BTreeMap;
use std::path::Path;

use catalog::digest::{Sha1Digest, Sha256Digest};
use catalog::id::UpdateId;
use serde_json::Value;
use spsync::fixture::{
    BundleDraft, CRITICAL_UPDATES, FileDraft, KIB, Origin, SECURITY_UPDATES, Seeded, UPDATES, UPGRADES,
    WINDOWS_10, WINDOWS_10_1903, WINDOWS_11, WINDOWS_INSIDER,
};

/// One update as a WSUS server showed it.
#[derive(Debug, Clone)]
pub struct WsusRecord {
    /// Its id: that of what an administrator approves.
    pub update: UpdateId,
    /// Its title.
    pub title: String,
    /// What it is for.
    pub description: String,
    /// Its products.
    pub products: Vec<UpdateId>,
    /// Its classification.
    pub classification: UpdateId,
    /// When it was published, milliseconds since 1970.
    pub created_ms: i64,
    /// The number of its article.
    pub article: String,
    /// A name for people who publish.
    pub legacy_name: String,
    /// A licence must be accepted.
    pub licensed: bool,
    /// Its files as the server knew them.
    pub files: Vec<FileDraft>,
}

/// The licence that all records name that need one: real ones share it too.
pub fn license_id() -> UpdateId {
    "4f2f2a9e-9d0b-4f0a-b9c9-0f3e5b1d2c77".parse().expect("a GUID")
}

impl WsusRecord {
    /// The records of one JSON file, in its order. A row is a file, so rows of one update are one record.
    ///
    /// # Panics
    /// Where the file is not as its README says.
    pub fn read(file: &Path) -> Vec<Self> {
        let text =
            std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let rows: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        let mut places: BTreeMap<UpdateId, usize> = BTreeMap::new();
        let mut records: Vec<Self> = Vec::new();
        for row in &rows {
            let record = Self::of(row);
            match places.get(&record.update) {
                Some(place) => records[*place].files.extend(record.files),
                None => {
                    places.insert(record.update, records.len());
                    records.push(record);
                }
            }
        }
        records
    }

    fn of(row: &Value) -> Self {
        let text = |name: &str| row[name].as_str().unwrap_or_else(|| panic!("{name}: {row}")).to_owned();
        let file = FileDraft {
            name: text("FileName"),
            size: row["Size"].as_u64().expect("a size"),
            sha1: Sha1Digest::from_bytes(&decimal(&text("Hash"))).expect("a SHA-1"),
            sha256: Some(Sha256Digest::from_bytes(&decimal(&text("AdditionalHash"))).expect("a SHA-256")),
            url: Some(text("FileUri")),
            patching_type: Some(text("Type")),
            preferred: None,
            modified: "2022-09-20T14:31:47Z".to_owned(),
        };
        let created = text("CreationDate");
        let created = created.trim_start_matches("/Date(").trim_end_matches(")/");
        Self {
            update: text("UpdateId").parse().expect("a GUID"),
            title: text("Title"),
            description: text("Description"),
            products: products(&text("Category")),
            classification: match text("UpdateClassificationTitle").as_str() {
                "Upgrades" => UPGRADES,
                "Security Updates" => SECURITY_UPDATES,
                "Critical Updates" => CRITICAL_UPDATES,
                "Updates" => UPDATES,
                other => panic!("the classification `{other}`"),
            },
            created_ms: created.parse().expect("milliseconds"),
            article: text("KBNumber"),
            legacy_name: text("LegacyName"),
            licensed: row["RequiresLicenseAgreementAcceptance"] == true,
            files: vec![file],
        }
    }

    /// Its documents, with these files in place of its own: [`WsusRecord::files`] for what the server knew. `terms` is the
    /// text of the licence, where it needs one.
    ///
    /// # Panics
    /// Where there is no file.
    pub fn bundle(&self, files: Vec<FileDraft>, terms: Option<&FileDraft>) -> BundleDraft {
        let esd = |file: &FileDraft| file.name.to_lowercase().ends_with(".esd");
        let mut bundle = match (&files[..], self.classification == UPGRADES) {
            ([file], true) if esd(file) => BundleDraft::classic(&self.title, &self.products, file.clone()),
            ([file], true) => {
                BundleDraft::enablement(&self.title, &self.products, &self.legacy_name, file.clone())
            }
            _ => BundleDraft::ordinary(&self.title, &self.products, self.classification, files),
        };
        if !self.description.is_empty() {
            bundle.parent = bundle.parent.described("en", &self.description);
        }
        if self.article != "3012973" {
            bundle.parent = bundle.parent.article(&self.article);
        }
        if self.licensed {
            bundle = bundle.licensed(license_id());
            if let Some(terms) = terms {
                bundle.parent = bundle.parent.license_file("en", terms.clone());
            }
        }
        let created = time_of(self.created_ms);
        bundle.with_id(self.update).created(created)
    }

    /// Small files in place of its own, under the same names: `origin` serves them where Microsoft would. Their bytes are a
    /// function of the name, so that one file in two catalogs stays one.
    pub fn standing_in(&self, origin: &Origin) -> Vec<FileDraft> {
        let publish = |file: &FileDraft| {
            let folder =
                if self.classification == UPGRADES { "/d/upgr/2022/10" } else { "/d/msdownload/update" };
            let made = FileDraft::published(origin, folder, &file.name, stand_in(&file.name));
            FileDraft { patching_type: file.patching_type.clone(), ..made }
        };
        self.files.iter().map(publish).collect()
    }
}

/// The bytes that stand in for the file of this name: between 10 and 20 KiB.
pub fn stand_in(name: &str) -> Seeded {
    let seed = name.bytes().fold(7_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    Seeded::new(seed, 10 * KIB + seed % (10 * KIB))
}

fn time_of(ms: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(ms).expect("a time of this century")
}

/// `66 80 225`: bytes, each in decimal.
fn decimal(text: &str) -> Vec<u8> {
    text.split(' ').map(|byte| byte.parse().unwrap_or_else(|_| panic!("`{text}`"))).collect()
}

/// Names joined by blanks, with blanks and commas in them.
fn products(text: &str) -> Vec<UpdateId> {
    // Longest first: one name is the beginning of another.
    const KNOWN: [(&str, UpdateId); 4] = [
        ("Windows 10, version 1903 and later", WINDOWS_10_1903),
        ("Windows Insider Pre-Release", WINDOWS_INSIDER),
        ("Windows 11", WINDOWS_11),
        ("Windows 10", WINDOWS_10),
    ];
    let mut rest = text.trim();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let known = KNOWN.iter().find(|(name, _)| rest.starts_with(name));
        let (name, id) = known.unwrap_or_else(|| panic!("the products `{text}`"));
        found.push(*id);
        rest = rest[name.len()..].trim_start();
    }
    found
}

#[cfg(test)]
mod tests {
    use catalog::limits::Limits;
    use catalog::update::parse;

    use super::*;
    use crate::data_dir;

    #[test]
    fn products_are_told_apart() {
        assert_eq!(products("Windows 10, version 1903 and later Windows 10"), [WINDOWS_10_1903, WINDOWS_10]);
        assert_eq!(
            products("Windows Insider Pre-Release Windows 10, version 1903 and later"),
            [WINDOWS_INSIDER, WINDOWS_10_1903]
        );
        assert_eq!(decimal("66 0 255"), [66, 0, 255]);
    }

    #[test]
    fn every_record_becomes_documents_that_say_what_it_says() {
        let Some(folder) = data_dir("wsus-catalog") else { return };
        for (name, count) in [
            ("FeatureUpdate Windows 10 1903", 152),
            ("FeatureUpdate Windows 10 2004", 152),
            ("FeatureUpdate Windows 10 22H2", 152),
            ("FeatureUpdate Windows 11 22H2", 76),
            ("Enablement Windows 10", 10),
            ("Windows 10 22H2", 10),
            ("Windows 11 22H2", 5),
        ] {
            let records = WsusRecord::read(&folder.join(format!("{name}.json")));
            assert_eq!(records.len(), count, "{name}");
            for record in &records {
                let bundle = record.bundle(record.files.clone(), None);
                let parent = bundle.parent.document();
                let parent = parse(parent.as_bytes(), &Limits::default()).unwrap();
                assert_eq!((parent.id.update, parent.title("en")), (record.update, Some(&*record.title)));
                assert!(parent.categories().contains(&record.classification));
                assert_eq!(parent.properties.created.unwrap().unix_ms, Some(record.created_ms));
                assert_eq!(parent.properties.eula.is_some(), name == "FeatureUpdate Windows 11 22H2");
                assert_eq!(bundle.children.len(), record.files.len());
                for (child, file) in bundle.children.iter().zip(&record.files) {
                    let child = parse(child.document().as_bytes(), &Limits::default()).unwrap();
                    let [read] = &child.files[..] else { panic!("{child:?}") };
                    assert_eq!((&read.name, read.size), (&file.name, file.size));
                    assert_eq!((read.digests.sha1, read.digests.sha256), (Some(file.sha1), file.sha256));
                    assert!(
                        file.url.as_ref().unwrap().contains(&file.sha1.to_string()),
                        "as its README says"
                    );
                }
            }
        }
    }
}
