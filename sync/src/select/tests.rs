use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|&name| name.to_owned()).collect()
}

/// What a fresh site selects.
fn usual() -> Selection {
    Selection {
        classifications: names(&["Upgrades"]),
        languages: names(&["en-us"]),
        architectures: names(&["x64", "arm64"]),
        ..Selection::default()
    }
}

const BUSINESS: Facts<'_> = Facts {
    classification: "Upgrades",
    product: Some("Windows 11"),
    products: &[],
    release: Some("25H2"),
    language: "en-us",
    architecture: "x64",
    edition_group: Some("business"),
};
static FILED: std::sync::LazyLock<Vec<String>> =
    std::sync::LazyLock::new(|| names(&["Windows 10", "WINDOWS 11"]));
const NAMELESS: Facts<'_> = Facts { product: None, release: None, edition_group: None, ..BUSINESS };

#[test]
fn the_selection_decides_row_by_row() {
    use Unselected as U;
    let with = |change: fn(&mut Selection)| {
        let mut selection = usual();
        change(&mut selection);
        selection
    };
    let rows: &[(Selection, Facts<'_>, Result<(), Unselected>)] = &[
        (usual(), BUSINESS, Ok(())),
        (usual(), Facts { language: "EN-US", architecture: "X64", ..BUSINESS }, Ok(())),
        // What is for all is for the chosen ones; what is filed under several products is found by each.
        (usual(), Facts { language: "*", architecture: "*", edition_group: Some("*"), ..BUSINESS }, Ok(())),
        (with(|s| s.editions = names(&["consumer"])), Facts { edition_group: Some("*"), ..BUSINESS }, Ok(())),
        (with(|s| s.languages = names(&[])), Facts { language: "*", ..BUSINESS }, Err(U::Language)),
        (usual(), Facts { product: None, products: &FILED, ..BUSINESS }, Ok(())),
        (usual(), Facts { product: Some("Windows 10"), products: &FILED, ..BUSINESS }, Ok(())),
        (usual(), Facts { language: "de-de", ..BUSINESS }, Err(U::Language)),
        (usual(), Facts { architecture: "x86", ..BUSINESS }, Err(U::Architecture)),
        (usual(), Facts { classification: "Security Updates", ..BUSINESS }, Err(U::Classification)),
        (with(|s| s.classifications = vec![]), BUSINESS, Err(U::Classification)),
        (with(|s| s.classifications = names(&["upgrades"])), BUSINESS, Ok(())),
        (with(|s| s.classifications = names(&["3689BDC8-B205-4AF4-8D4A-A63924C5E9D5"])), BUSINESS, Ok(())),
        (with(|s| s.products = names(&["windows 11"])), BUSINESS, Ok(())),
        (with(|s| s.products = names(&["Windows 10"])), BUSINESS, Err(U::Product)),
        (with(|s| s.products = names(&["*"])), BUSINESS, Ok(())),
        (with(|s| s.releases = names(&["24H2"])), BUSINESS, Err(U::Release)),
        (with(|s| s.releases = names(&["24H2", "25h2"])), BUSINESS, Ok(())),
        (with(|s| s.editions = names(&["consumer"])), BUSINESS, Err(U::Edition)),
        (with(|s| s.languages = names(&["*"])), Facts { language: "sr-latn-rs", ..BUSINESS }, Ok(())),
        (with(|s| s.languages = vec![]), BUSINESS, Err(U::Language)),
        (with(|s| s.architectures = vec![]), BUSINESS, Err(U::Architecture)),
        (with(|s| s.architectures = names(&["*"])), Facts { architecture: "x86", ..BUSINESS }, Ok(())),
        // Unrecognised: only languages and architectures may restrict.
        (usual(), NAMELESS, Ok(())),
        (usual(), Facts { language: "de-de", ..NAMELESS }, Err(U::Language)),
        (usual(), Facts { architecture: "x86", ..NAMELESS }, Err(U::Architecture)),
        (with(|s| s.products = names(&["Windows 11"])), NAMELESS, Err(U::Unrecognised)),
        (with(|s| s.releases = names(&["25H2"])), NAMELESS, Err(U::Unrecognised)),
        (with(|s| s.editions = names(&["business"])), NAMELESS, Err(U::Unrecognised)),
        (with(|s| s.products = names(&["*"])), NAMELESS, Ok(())),
        (with(|s| s.classifications = vec![]), NAMELESS, Err(U::Classification)),
    ];
    for (number, (selection, facts, expected)) in rows.iter().enumerate() {
        assert_eq!(selection.matches(facts), *expected, "row {number}: {selection:?} {facts:?}");
    }
}

#[test]
fn classifications_are_known_by_distinct_names_and_ids() {
    for (at, one) in CLASSIFICATIONS.iter().enumerate() {
        assert_eq!(one.id.parse::<uuid::Uuid>().unwrap().to_string(), one.id);
        assert!(CLASSIFICATIONS[at + 1..].iter().all(|other| other.name != one.name && other.id != one.id));
    }
    assert!(CLASSIFICATIONS.iter().any(|known| known.name == UPGRADES));
}

#[test]
fn without_upgrades_the_code_says_so() {
    assert!(usual().upgrades_off().is_none());
    let off = Selection { classifications: names(&["Security Updates"]), ..usual() };
    assert_eq!(off.upgrades_off().unwrap().code, Code::ClassificationNotEnabled);
}

fn known() -> KnownNames {
    KnownNames {
        product_ids: vec![("72e7624a-5b00-45d2-b92f-e561c0a6a160".to_owned(), "Windows 11".to_owned())],
        products: names(&["Windows 10", "Windows 11"]),
        releases: names(&["22H2", "23H2", "24H2", "25H2"]),
        languages: names(&["de-de", "en-gb", "en-us", "fr-fr", "sr-latn-rs"]),
        architectures: names(&["x64"]),
        editions: names(&["business", "consumer"]),
    }
}

#[test]
fn names_come_back_in_canonical_spelling_each_once() {
    let wanted = Selection {
        classifications: names(&["upgrades", "3689bdc8-b205-4af4-8d4a-a63924c5e9d5"]),
        products: names(&[" windows 11 ", "WINDOWS 11"]),
        releases: names(&["25h2"]),
        languages: names(&["*"]),
        architectures: names(&["ARM64"]),
        editions: names(&["Business"]),
    };
    let canonical = validate(&wanted, &known()).unwrap();
    assert_eq!(
        canonical,
        Selection {
            classifications: names(&["Upgrades"]),
            products: names(&["Windows 11"]),
            releases: names(&["25H2"]),
            languages: names(&["*"]),
            architectures: names(&["arm64"]),
            editions: names(&["business"]),
        }
    );
    assert_eq!(validate(&canonical, &known()).unwrap(), canonical);
}

#[test]
fn unknown_names_are_refused_with_the_nearest() {
    let rows: [(Selection, Code, &str); 7] = [
        (
            Selection { products: names(&["Windos 11"]), ..usual() },
            Code::UnknownProduct,
            "nearest: `Windows 11`",
        ),
        (
            Selection { products: names(&["windows"]), ..usual() },
            Code::UnknownProduct,
            "`Windows 10`, `Windows 11`",
        ),
        (
            Selection { classifications: names(&["Upgrade"]), ..usual() },
            Code::UnknownClassification,
            "`Upgrades`",
        ),
        (Selection { releases: names(&["24H3"]), ..usual() }, Code::UnknownRelease, "`24H2`"),
        (Selection { languages: names(&["en_us"]), ..usual() }, Code::UnknownLanguage, "`en-us`"),
        (Selection { architectures: names(&["amd64"]), ..usual() }, Code::UnknownArchitecture, "`arm64`"),
        (Selection { editions: names(&["busines"]), ..usual() }, Code::UnknownEdition, "`business`"),
    ];
    for (wanted, code, help) in rows {
        let problem = validate(&wanted, &known()).unwrap_err();
        assert_eq!(problem.code, code);
        assert!(problem.help.contains(help), "{problem}: {}", problem.help);
    }
    let empty = Selection { products: names(&["  "]), ..usual() };
    assert_eq!(validate(&empty, &KnownNames::default()).unwrap_err().code, Code::UnknownProduct);
    let pasted = Selection { products: vec!["x".repeat(1 << 20)], ..usual() };
    assert!(validate(&pasted, &known()).unwrap_err().message.len() < 200);
}

#[test]
fn one_can_select_before_the_first_synchronisation() {
    let wanted = Selection { products: names(&["Windows 11"]), ..usual() };
    assert_eq!(validate(&wanted, &KnownNames::default()).unwrap(), wanted);
    // What exists whatever catalogs say is checked all the same.
    let wrong = Selection { architectures: names(&["sparc"]), ..usual() };
    assert_eq!(validate(&wrong, &KnownNames::default()).unwrap_err().code, Code::UnknownArchitecture);
}

#[test]
fn a_name_that_left_the_catalogs_does_not_block_other_changes() {
    let before = Selection { languages: names(&["xx-old"]), ..usual() };
    let after = Selection { products: names(&["windows 11"]), ..before.clone() };
    assert_eq!(validate(&after, &known()).unwrap_err().code, Code::UnknownLanguage);
    let canonical = validate_change(&before, &after, &known()).unwrap();
    assert_eq!(canonical.products, ["Windows 11"]);
    assert_eq!(canonical.languages, ["xx-old"]);
    let wrong = Selection { languages: names(&["xx-new"]), ..before.clone() };
    assert_eq!(validate_change(&before, &wrong, &known()).unwrap_err().code, Code::UnknownLanguage);
}

#[test]
fn a_plan_counts_what_a_change_adds_and_removes() {
    let german = Facts { language: "de-de", ..BUSINESS };
    let ten = Facts { product: Some("Windows 10"), release: Some("22H2"), ..BUSINESS };
    let offered = [(BUSINESS, 5), (german, 7), (ten, 11), (NAMELESS, 13)];
    let after = Selection { products: names(&["Windows 11"]), languages: names(&["*"]), ..usual() };
    let plan = plan(&usual(), &after, offered);
    assert_eq!((plan.listed, plan.bytes, plan.added, plan.removed), (2, 12, 1, 2));
    assert_eq!(plan.by_product, BTreeMap::from([("Windows 11".to_owned(), Count { updates: 2, bytes: 12 })]));
    assert_eq!(plan.by_release, BTreeMap::from([("25H2".to_owned(), Count { updates: 2, bytes: 12 })]));
    assert_eq!(plan.by_language.keys().collect::<Vec<_>>(), ["de-de", "en-us"]);
    assert_eq!(plan.notes, Vec::<String>::new());
    let same = super::plan(&usual(), &usual(), offered);
    assert_eq!((same.listed, same.added, same.removed), (3, 0, 0));
    assert_eq!(same.by_product[UNRECOGNISED], Count { updates: 1, bytes: 13 });
}

#[test]
fn a_plan_without_upgrades_lists_nothing_and_says_why() {
    let off = Selection { classifications: vec![], ..usual() };
    let plan = plan(&usual(), &off, [(BUSINESS, 5)]);
    assert_eq!((plan.listed, plan.removed), (0, 1));
    assert!(plan.notes[0].starts_with("CLASSIFICATION_NOT_ENABLED: "), "{:?}", plan.notes);
    let silent = Selection { languages: vec![], architectures: vec![], ..usual() };
    assert_eq!(super::plan(&usual(), &silent, []).notes.len(), 2);
}

proptest! {
    /// Whatever is selected, the plan's parts add up, and what was listed plus the change is what is listed.
    #[test]
    fn plans_add_up(
        languages in proptest::collection::vec("(en-us|de-de|\\*)", 0..3),
        products in proptest::collection::vec("(Windows 10|Windows 11)", 0..3),
        offered in proptest::collection::vec(
            ("(en-us|de-de|fr-fr)", proptest::option::of("(Windows 10|Windows 11)"), 0_u64..1000), 0..40),
    ) {
        let after = Selection { languages, products, ..usual() };
        let rows = || offered.iter().map(|(language, product, bytes)| {
            (Facts { language, product: product.as_deref(), ..BUSINESS }, *bytes)
        });
        let before = plan(&after, &usual(), rows());
        let plan = plan(&usual(), &after, rows());
        prop_assert_eq!(before.listed + plan.added, plan.listed + plan.removed);
        for by in [&plan.by_product, &plan.by_release, &plan.by_language] {
            prop_assert_eq!(by.values().map(|count| count.updates).sum::<u64>(), plan.listed);
            prop_assert_eq!(by.values().map(|count| count.bytes).sum::<u64>(), plan.bytes);
        }
    }
}
