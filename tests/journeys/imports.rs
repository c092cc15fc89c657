//! Taking in what a WSUS server exported.

use std::os::unix::fs::MetadataExt as _;

use serde_json::json;
use support::{TestSite, Way, data_dir, export};

const CLASSIFICATION: &str = "3689bdc8-b205-4af4-8d4a-a63924c5e9d5";
const UPDATE: &str = "11111111-2222-4333-8444-555555555555";

/// The document of an update.
pub fn document(id: &str, number: u32, kind: &str, rest: &str) -> String {
    format!(
        "<upd:Update xmlns:upd=\"http://schemas.microsoft.com/msus/2002/12/Update\"><upd:UpdateIdentity UpdateID=\"{id}\" \
         RevisionNumber=\"{number}\" /><upd:Properties UpdateType=\"{kind}\" CreationDate=\"2022-09-20T17:00:00Z\" />{rest}</upd:Update>"
    )
}

/// The part of a document that has its title.
pub fn titled(title: &str) -> String {
    format!(
        "<upd:LocalizedPropertiesCollection><upd:LocalizedProperties><upd:Language>en</upd:Language>\
         <upd:Title>{title}</upd:Title></upd:LocalizedProperties></upd:LocalizedPropertiesCollection>"
    )
}

fn small() -> Vec<(String, u32, String)> {
    let classification = titled("Upgrades")
        + "<upd:HandlerSpecificData xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
           xmlns:cat=\"http://schemas.microsoft.com/msus/2002/12/UpdateHandlers/Category\" xsi:type=\"cat:Category\">\
           <cat:CategoryInformation CategoryType=\"UpdateClassification\" /></upd:HandlerSpecificData>";
    let update = titled("Größeres Update")
        + &format!(
            "<upd:Relationships><upd:Prerequisites><upd:AtLeastOne IsCategory=\"true\">\
             <upd:UpdateIdentity UpdateID=\"{}\" /></upd:AtLeastOne></upd:Prerequisites></upd:Relationships>",
            CLASSIFICATION.to_uppercase()
        );
    vec![
        (CLASSIFICATION.to_owned(), 200, document(CLASSIFICATION, 200, "Category", &classification)),
        (UPDATE.to_owned(), 1, document(UPDATE, 1, "Software", &update)),
    ]
}

#[tokio::test]
async fn an_export_is_taken_in_once_and_a_damaged_one_changes_nothing() {
    for way in [Way::Alone, Way::Daemon] {
        let site = TestSite::start(way).await;
        let file = site.folder.path().join("export.xml.gz");
        let path = file.to_string_lossy().into_owned();
        site.refused("SOURCE_MISSING", &["updates", "import", &path]).await;
        std::fs::write(&file, export(&small())).unwrap();
        let empty = site.dump().await;
        let plan = site.ok(&["--dry-run", "updates", "import", &path]).await;
        assert_eq!(
            (&plan["new"], &plan["new_categories"]),
            (&json!(2), &json!(["UpdateClassification Upgrades"]))
        );
        assert_eq!(site.dump().await, empty, "a dry run changes nothing");
        let first = site.ok(&["updates", "import", &path]).await;
        assert_eq!(
            (&first["new"], &first["unchanged"], &first["refused"]),
            (&json!(2), &json!(0), &json!(0)),
            "{first}"
        );
        let known = site.dump().await;
        let second = site.ok(&["updates", "import", &path]).await;
        assert_eq!((&second["new"], &second["unchanged"]), (&json!(0), &json!(2)));
        assert_eq!(site.dump().await, known);
        let categories = site.ok(&["updates", "categories"]).await;
        assert_eq!(
            (&categories[0]["title"], &categories[0]["update"]),
            (&json!("Upgrades"), &json!(CLASSIFICATION))
        );

        // A revision never changes: other bytes under a known one are refused, the rest is taken in.
        let mut other = small();
        other[1].2 = other[1].2.replace("Größeres", "Anderes");
        other.push((UPDATE.to_owned(), 2, document(UPDATE, 2, "Software", &titled("Two"))));
        std::fs::write(&file, export(&other)).unwrap();
        site.refused("IMPORT_PARTLY_DONE", &["--dry-run", "updates", "import", &path]).await;
        let ran = site.refused("IMPORT_PARTLY_DONE", &["updates", "import", &path]).await;
        assert_eq!(ran.status, 7, "{ran:?}");
        let third = ran.json();
        assert_eq!(
            (&third["new"], &third["unchanged"], &third["refused"]),
            (&json!(1), &json!(1), &json!(1)),
            "{third}"
        );

        let before = site.dump().await;
        let whole = export(&small());
        for (code, bytes) in [
            ("CATALOG_TRUNCATED", whole[..whole.len() / 2].to_vec()),
            ("CATALOG_MALFORMED", b"no export".to_vec()),
            ("CAB_MALFORMED", b"MSCFxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx".to_vec()),
        ] {
            std::fs::write(&file, bytes).unwrap();
            site.refused(code, &["updates", "import", &path]).await;
            assert_eq!(site.dump().await, before, "{code}");
        }
    }
}

#[tokio::test]
async fn a_real_export_gives_the_whole_tree_of_categories() {
    let Some(folder) = data_dir("wsus-export") else { return };
    let site = TestSite::start(Way::Alone).await;
    let file = folder.join("WSUS.cab").to_string_lossy().into_owned();
    let first = site.ok(&["updates", "import", &file]).await;
    assert_eq!(
        (&first["documents"], &first["new"], &first["refused"]),
        (&json!(4_125), &json!(4_125), &json!(0))
    );
    assert_eq!(first["by_kind"]["detectoid"], 3_674);
    assert!(first["age_days"].as_i64().unwrap() >= 889, "it was made in June 2024");
    assert!(first["notes"].to_string().contains("days old"), "{}", first["notes"]);
    let categories = site.ok(&["updates", "categories"]).await;
    let named = |id: &str| {
        let found = categories.as_array().unwrap().iter().find(|category| category["update"] == id);
        found.map(|category| category["title"].as_str().unwrap().trim().to_owned()).unwrap_or_default()
    };
    for (id, title) in [
        (CLASSIFICATION, "Upgrades"),
        ("72e7624a-5b00-45d2-b92f-e561c0a6a160", "Windows 11"),
        ("b3c75dc1-155f-4be4-b015-3f1a91758e52", "Windows 10, version 1903 and later"),
        ("a3c2375d-0c8a-42f9-bce0-28333e198407", "Windows 10"),
    ] {
        assert_eq!(named(id), title);
    }
    let known = site.dump().await;
    assert_eq!(site.ok(&["updates", "import", &file]).await["new"], 0);
    assert_eq!(site.dump().await, known);
}

#[tokio::test]
async fn what_is_exported_is_imported_elsewhere_as_the_same_catalog() {
    let one = TestSite::start(Way::Alone).await;
    let source = match data_dir("wsus-export") {
        Some(folder) => folder.join("WSUS.cab"),
        None => {
            let file = one.folder.path().join("small.xml.gz");
            std::fs::write(&file, export(&small())).unwrap();
            file
        }
    };
    one.ok(&["updates", "import", &source.to_string_lossy()]).await;
    let cabinet = one.folder.path().join("export.cab").to_string_lossy().into_owned();
    let own = one.folder.path().join("site/export.cab").to_string_lossy().into_owned();
    one.refused("INVALID_OPTION", &["updates", "export", &own]).await;
    let planned = one.ok(&["--dry-run", "updates", "export", &cabinet]).await;
    assert!(!std::path::Path::new(&cabinet).exists());
    let written = one.ok(&["updates", "export", &cabinet]).await;
    assert_eq!(written["documents"], planned["documents"]);
    assert_eq!(
        std::fs::metadata(&cabinet).unwrap().mode() & 0o777,
        0o640,
        "who may command the site reads it"
    );
    one.refused("NAME_IN_USE", &["updates", "export", &cabinet]).await;
    if let Some(cabextract) = support::tool("cabextract") {
        let tested = std::process::Command::new(cabextract).args(["-t", &cabinet]).output().unwrap();
        assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stdout));
    }
    let other = TestSite::start(Way::Daemon).await;
    let imported = other.ok(&["updates", "import", &cabinet]).await;
    assert_eq!((&imported["new"], &imported["refused"]), (&written["documents"], &json!(0)));
    assert_eq!(other.dump().await, one.dump().await);
}
