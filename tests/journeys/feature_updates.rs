//! Feature updates of every shape, from documents to devices; what replaces what; what goes.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::{
    BundleDraft, FileDraft, KIB, Origin, Seeded, TestSite, UpdateDraft, WINDOWS_10, WINDOWS_10_1903,
    WINDOWS_11, Way, export_drafts, file_set_names, http, known_categories, software,
};

const FOLDER: &str = "/d/upgr/2022/10";
const ESD: &str = "22621.382.220806-0833.ni_release_svc_refresh_CLIENTBUSINESS_VOL_x64FRE_en-us.esd";

fn bytes(seed: u64, kib: u64) -> Seeded {
    Seeded { seed, size: kib * KIB }
}

fn classic(origin: &Origin) -> BundleDraft {
    let esd = FileDraft::published(origin, FOLDER, ESD, bytes(1, 300));
    BundleDraft::classic("Windows 11 22H2 (business editions) en-us x64", &[WINDOWS_11], esd)
}

fn enablement(origin: &Origin) -> BundleDraft {
    let cabinet = FileDraft::published(origin, FOLDER, "Windows10.0-KB5015684-x64.cab", bytes(2, 20));
    BundleDraft::enablement(
        "Windows 10 Version 22H2 x64-based systems 2022-10 via Enablement Package",
        &[WINDOWS_10_1903],
        "KB5015684-Windows1022H2-RTM-FeatureEnablement-X64-TSL-Upgrade",
        cabinet,
    )
}

fn file_set(origin: &Origin) -> BundleDraft {
    let files = file_set_names()
        .into_iter()
        .zip(10..)
        .map(|((name, _), seed)| FileDraft::published(origin, FOLDER, name, bytes(seed, 20 + seed)));
    BundleDraft::file_set(
        "Windows 11, version 24H2 x64 2024-10B",
        &[WINDOWS_11],
        "10.0.26100.1742",
        files.collect(),
    )
}

fn esd_of_windows_10(origin: &Origin) -> BundleDraft {
    let name = "19045.2006.220908-0225.22h2_release_svc_refresh_CLIENTBUSINESS_VOL_x64FRE_en-us.esd";
    let esd = FileDraft::published(origin, FOLDER, name, bytes(3, 200));
    BundleDraft::classic(
        "Windows 10 (business editions) version 22H2 en-us x64",
        &[WINDOWS_10_1903, WINDOWS_10],
        esd,
    )
}

/// What an import may fetch in a test.
const IMPORT: &str = "[[source]]\nname = \"import\"\nkind = \"import\"\nallow_networks = [\"127.0.0.0/8\"]\n";

async fn import(site: &TestSite, updates: &[&BundleDraft], more: &[UpdateDraft]) -> Value {
    let mut drafts = known_categories();
    drafts.extend(updates.iter().flat_map(|update| update.drafts().cloned()));
    drafts.extend(more.iter().cloned());
    let file = site.folder.path().join("export.cab");
    std::fs::write(&file, export_drafts(&drafts)).expect("the export is written");
    site.ok(&["updates", "import", &file.to_string_lossy()]).await
}

fn row<'l>(list: &'l Value, update: &BundleDraft) -> &'l Value {
    let id = update.parent.id().update.to_string();
    let rows = list["updates"].as_array().expect("a list");
    rows.iter().find(|row| row["update"] == id).unwrap_or_else(|| panic!("no {id} in {list}"))
}

/// All three shapes in one list with an ESD catalog's, and all the way to a device.
#[tokio::test]
async fn every_shape_goes_from_documents_to_devices() {
    for way in [Way::Alone, Way::Daemon] {
        let site = TestSite::with(way, |_, published| vec![published.windows11.clone()], IMPORT).await;
        let (esd, package, set) = (classic(&site.origin), enablement(&site.origin), file_set(&site.origin));
        let ten = esd_of_windows_10(&site.origin);
        site.ok(&["now"]).await;
        let imported = import(&site, &[&esd, &package, &set, &ten], &[]).await;
        assert_eq!(
            (&imported["new_feature_updates"], &imported["refused"]),
            (&json!(4), &json!(0)),
            "{imported}"
        );
        let list = site.ok(&["updates", "list"]).await;
        let ours = [&esd, &package, &set, &ten].map(|update| row(&list, update));
        let shapes = ours.map(|row| row["shape"].as_str().unwrap());
        assert_eq!(shapes, ["esd", "enablement", "file-set", "esd"]);
        let told = ours.map(|row| row["told_by"].as_str().unwrap());
        assert_eq!(told, ["file name", "title", "title", "file name"]);
        assert_eq!(ours.map(|row| row["release"].as_str().unwrap()), ["22H2", "22H2", "24H2", "22H2"]);
        assert!(ours.iter().all(|row| row["deployable"] == true), "{list:#}");
        assert_eq!(ours[2]["files"].as_array().unwrap().len(), 14);
        assert_eq!(ours[2]["size"], set.files().map(|file| file.size).sum::<u64>());
        assert_eq!(ours[3]["products"], json!(["Windows 10, version 1903 and later", "Windows 10"]));
        assert!(list["updates"].as_array().unwrap().len() > 4, "the catalog's own are in the same list");

        // The enablement package stands first, and says for whom and what it spares.
        let rows = site.ok(&["updates", "list", "--product", "Windows 10", "--base", "21H2"]).await;
        let rows = rows["updates"].as_array().unwrap();
        assert_eq!(rows[0]["update"], package.parent.id().update.to_string());
        assert_eq!(rows[0]["advice"], "for devices that run 21H2: 20.0 KiB instead of 200.0 KiB");
        let other = site.ok(&["updates", "list", "--product", "Windows 10", "--base", "1809"]).await;
        assert_eq!(other["hidden_because"]["for devices on other releases"], 1);

        // Selecting one of several products selects it; so does the name under which people know it.
        for product in ["Windows 10", "Windows 10, version 1903 and later"] {
            let list = site.ok(&["updates", "list", "--product", product]).await;
            row(&list, &ten);
        }
        site.refused("UNKNOWN_PRODUCT", &["updates", "list", "--product", "Windows 12"]).await;

        site.ok(&["package", "create", "p"]).await;
        for update in [&esd, &package, &set] {
            site.ok(&["package", "add", "p", &update.parent.id().update.to_string()]).await;
        }
        let shown = site.ok(&["package", "show", "p"]).await;
        assert_eq!(shown["files"].as_array().unwrap().len(), 16);
        let filled = site.ok(&["package", "download", "p"]).await;
        assert!(
            filled["files"].as_array().unwrap().iter().all(|file| file["outcome"] == "stored"),
            "{filled:#}"
        );
        site.ok(&["package", "distribute", "p"]).await;
        if way == Way::Daemon {
            for file in set.files().chain(package.files()) {
                let sha256 = file.sha256.unwrap().to_string();
                let answer = http()
                    .get(format!("{}/content/{sha256}", site.url))
                    .header("range", "bytes=1024-2047")
                    .send()
                    .await
                    .unwrap();
                assert_eq!((answer.status().as_u16(), answer.bytes().await.unwrap().len()), (206, 1024));
            }
            let fetched =
                site.ok(&["client", "fetch", &esd.files().next().unwrap().sha256.unwrap().to_string()]).await;
            assert_eq!(fetched["size"], 300 * KIB);
        }
        // Taking the set out takes all its files out, and only those.
        site.ok(&["package", "drop", "p", &set.parent.id().update.to_string()]).await;
        assert_eq!(site.ok(&["package", "show", "p"]).await["files"].as_array().unwrap().len(), 2);
    }
}

/// A part that is missing keeps an update from being deployed until it comes.
#[tokio::test]
async fn an_update_without_its_parts_waits_for_them() {
    let site = TestSite::with(Way::Alone, |_, published| vec![published.windows11.clone()], IMPORT).await;
    let update = classic(&site.origin);
    let whole = BundleDraft { parent: update.parent.clone(), children: Vec::new() };
    import(&site, &[&whole], &[]).await;
    let list = site.ok(&["updates", "list", "--all"]).await;
    let waiting = row(&list, &update);
    assert!(waiting["reasons"].as_array().unwrap().contains(&json!("incomplete")), "{waiting}");
    site.ok(&["package", "create", "p"]).await;
    let id = update.parent.id().update.to_string();
    site.json(&["package", "add", "p", &id]).await;
    assert_eq!(site.ok(&["package", "show", "p"]).await["files"], json!([]));
    import(&site, &[], &update.children).await;
    let list = site.ok(&["updates", "list"]).await;
    assert_eq!(row(&list, &update)["deployable"], true, "{list:#}");
    site.ok(&["package", "add", "p", &id]).await;
}

/// One file that two upstreams publish is one file: fetched once, shown once.
#[tokio::test]
async fn the_same_file_from_two_upstreams_is_one_content() {
    let site = TestSite::with(Way::Alone, |_, published| vec![published.windows10.clone()], IMPORT).await;
    site.ok(&["now"]).await;
    let esd = site
        .published
        .find("Windows 10", "business", "x64".parse().unwrap(), "en-us")
        .expect("it is published");
    let mut file = FileDraft::of(&esd.file_name.as_str().to_uppercase(), &esd.fingerprint);
    file.url = Some(format!("{}/nowhere.esd", site.origin.base_url()));
    let update =
        BundleDraft::classic("Windows 10 (business editions) version 22H2 en-us x64", &[WINDOWS_10], file);
    import(&site, &[&update], &[]).await;
    let list = site.ok(&["updates", "list", "--product", "Windows 10"]).await;
    let sha256 = esd.fingerprint.sha256.to_string();
    let same: Vec<_> =
        list["updates"].as_array().unwrap().iter().filter(|row| row["digests"]["sha256"] == sha256).collect();
    assert_eq!(same.len(), 2, "{list:#}");
    assert!(
        same.iter().all(|row| row["urls"].as_array().unwrap().len() == 2),
        "each knows both places: {same:?}"
    );
    site.ok(&["package", "create", "p"]).await;
    for row in &same {
        site.ok(&["package", "add", "p", row["update"].as_str().unwrap()]).await;
    }
    let filled = site.ok(&["package", "download", "p"]).await;
    assert_eq!(filled["files"].as_array().unwrap().len(), 1, "{filled:#}");
    site.ok(&["package", "distribute", "p"]).await;
    assert_eq!(site.ok(&["content", "list"]).await.as_array().unwrap().len(), 1);
    // A second SHA-256 under the same SHA-1 is another file, and an alarm.
    let mut lie = FileDraft::of("lie.esd", &esd.fingerprint);
    lie.sha256 = Some(catalog::digest::Sha256Digest([7; 32]));
    let update =
        BundleDraft::classic("Windows 10 (consumer editions) version 22H2 en-us x64", &[WINDOWS_10], lie);
    import(&site, &[&update], &[]).await;
    let status = site.json(&["status"]).await.json();
    assert!(status["warnings"].to_string().contains("SHA-1"), "{status:#}");
}

/// Licence terms that documents name: the text is checked by its digest, and one decision is about all that name it.
#[tokio::test]
async fn terms_of_documents_are_decided_once_for_all_that_name_them() {
    let site = TestSite::with(Way::Alone, |_, published| vec![published.windows10.clone()], IMPORT).await;
    let terms = "The terms of this test.\n".repeat(20);
    let url = site.origin.publish_bytes("/eula/en.rtf", "application/rtf", terms.clone());
    let mut checker = catalog::digest::Checker::new();
    checker.update(terms.as_bytes());
    let mut text = FileDraft::of("eula.txt", &checker.into_fingerprint());
    text.url = Some(url);
    let eula = "e4a5c1d2-0000-4000-8000-000000000001".parse().unwrap();
    let update = |name: &str, seed: u64| {
        let file = format!("22621.382.220806-0833.ni_release_svc_refresh_CLIENT{name}_RET_x64FRE_en-us.esd");
        let esd = FileDraft::published(&site.origin, FOLDER, &file, bytes(seed, 30));
        let title = format!("Windows 11 22H2 ({name} editions) en-us x64");
        let mut update = BundleDraft::classic(&title, &[WINDOWS_11], esd).licensed(eula);
        update.parent = update.parent.license_file("en", text.clone());
        update
    };
    let (one, two) = (update("business", 40), update("consumer", 41));
    import(&site, &[&one, &two], &[]).await;
    let id = one.parent.id().update.to_string();
    site.refused("LICENSE_REVIEW_REQUIRED", &["license", "accept", &id]).await;
    let reviewed = site.ok(&["license", "review", &id]).await;
    assert!(reviewed["text"].as_str().unwrap().contains("The terms of this test."));
    site.ok(&["license", "accept", &id]).await;
    let list = site.ok(&["updates", "list"]).await;
    assert_eq!(
        (&row(&list, &one)["license"], &row(&list, &two)["license"]),
        (&json!("accepted"), &json!("accepted"))
    );

    // Another text at that place is not what the document promises, so nobody is shown it.
    let other = TestSite::with(Way::Alone, |_, published| vec![published.windows10.clone()], IMPORT).await;
    site.origin.publish_bytes("/eula/en.rtf", "application/rtf", terms.to_uppercase());
    import(&other, &[&one], &[]).await;
    other.refused("LICENSE_TEXT_UNAVAILABLE", &["license", "review", &id]).await;
}

/// The rule of supersedence: shown before, carried out by runs, never against a hold or what is distributed.
#[tokio::test]
async fn what_is_replaced_expires_in_time_unless_it_is_held_or_in_use() {
    let site = TestSite::with(Way::Alone, |_, published| vec![published.windows10.clone()], IMPORT).await;
    let old: Vec<BundleDraft> = ["en-us", "de-de", "fr-fr"]
        .iter()
        .zip(50..)
        .map(|(language, seed)| {
            let file = format!("22000.1.210604-1628.co_release_CLIENTBUSINESS_VOL_x64FRE_{language}.esd");
            let esd = FileDraft::published(&site.origin, FOLDER, &file, bytes(seed, 30));
            BundleDraft::classic(
                &format!("Windows 11 (business editions) version 21H2 {language} x64"),
                &[WINDOWS_11],
                esd,
            )
        })
        .collect();
    let months_ago = |months: i64| Timestamp::now() - SignedDuration::from_hours(24 * 31 * months);
    let mut new = classic(&site.origin).created(months_ago(4));
    for update in &old {
        new.parent = new.parent.supersedes(update.parent.id().update);
    }
    let all: Vec<&BundleDraft> = old.iter().collect();
    site.ok(&["sync", "products", "--set", "Windows 11", "--lang", "*"]).await;
    import(&site, &all, &[]).await;
    let id = |update: &BundleDraft| update.parent.id().update.to_string();
    site.ok(&["updates", "hold", &id(&old[0])]).await;
    site.ok(&["package", "create", "p"]).await;
    site.ok(&["package", "add", "p", &id(&old[1])]).await;
    site.ok(&["package", "download", "p"]).await;
    site.ok(&["package", "distribute", "p"]).await;
    let empty = site.ok(&["updates", "supersedence", "plan"]).await;
    assert_eq!((&empty["months"], &empty["expire"], &empty["later"]), (&json!(3), &json!([]), &json!([])));
    let new_id = id(&new);
    import(&site, &[&new], &[]).await;
    let plan = site.ok(&["updates", "supersedence", "plan"]).await;
    assert_eq!(plan["expired"][0]["update"], id(&old[2]), "the import carried it out: {plan:#}");
    assert_eq!(plan["expired"][0]["superseded_by"], json!([new_id]));
    let why: Vec<_> =
        plan["kept"].as_array().unwrap().iter().map(|row| row["kept_because"].as_str().unwrap()).collect();
    assert!(
        why.contains(&"it is held") && why.contains(&"a package that holds it is distributed"),
        "{plan:#}"
    );
    let list = site.ok(&["updates", "list"]).await;
    assert_eq!(list["hidden_because"]["expired"], 1, "{list:#}");
    assert_eq!(row(&list, &old[1])["deployable"], true, "what is superseded and not expired can be deployed");
    let ran = site.refused("UPDATE_EXPIRED", &["package", "add", "p", &id(&old[2])]).await;
    assert_eq!(ran.status, 4);
    // Declining what replaces it brings it back; so the next run does.
    site.ok(&["--yes", "updates", "decline", &new_id]).await;
    let plan = site.ok(&["updates", "supersedence", "plan"]).await;
    assert_eq!(plan["restore"][0]["update"], id(&old[2]));
    site.ok(&["now"]).await;
    let list = site.ok(&["updates", "list"]).await;
    assert_eq!(row(&list, &old[2])["deployable"], true);
}

/// An update that its publisher withdraws is expired at once; what nothing needs goes after a while, and never more than a
/// fifth unasked.
#[tokio::test]
async fn what_a_publisher_withdraws_is_expired() {
    let site = TestSite::with(Way::Alone, |_, published| vec![published.windows10.clone()], IMPORT).await;
    let mut update = classic(&site.origin);
    import(&site, &[&update], &[]).await;
    assert_eq!(row(&site.ok(&["updates", "list"]).await, &update)["deployable"], true);
    update.parent = update.parent.revision(201).expired();
    import(&site, &[&update], &[software("unrelated")]).await;
    let list = site.ok(&["updates", "list", "--all"]).await;
    let withdrawn = row(&list, &update);
    assert_eq!((&withdrawn["number"], &withdrawn["hidden"]), (&json!(201), &json!("expired")), "{withdrawn}");
    let before = site.dump().await;
    let planned = site.ok(&["--dry-run", "updates", "gc"]).await;
    assert_eq!(
        (&planned["unneeded"], &planned["documents"]),
        (&json!(0), &json!(0)),
        "all of it is new: {planned}"
    );
    assert_eq!(site.dump().await, before);
}
