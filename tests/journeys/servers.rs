//! Synchronising from update servers: a recorded one, one with the real records of feature updates, and one that changes.

use std::collections::{BTreeMap, BTreeSet};

use catalog::server_sync::Operation;
use serde_json::{Value, json};
use support::{
    BundleDraft, FileDraft, HttpsFront, InstalledBy, SECURITY_UPDATES, Seeded, TestSite, UPGRADES,
    UpdateServer, WINDOWS_10, WINDOWS_11, Way, WsusRecord, data_dir, known_categories, recorded_server,
    software,
};

/// Files of real Upgrades records, and how many updates each has.
const UPGRADE_RECORDS: [(&str, usize); 5] = [
    ("FeatureUpdate Windows 10 1903", 152),
    ("FeatureUpdate Windows 10 2004", 152),
    ("FeatureUpdate Windows 10 22H2", 152),
    ("FeatureUpdate Windows 11 22H2", 76),
    ("Enablement Windows 10", 10),
];

/// Everything is wanted that the server has of Windows.
const ALL_OF_WINDOWS: &str =
    "products = [\"Windows 10\", \"Windows 11\"]\nlanguages = [\"*\"]\narchitectures = [\"*\"]";

/// The same server over plain HTTP and over HTTPS; the second stops when it is dropped.
async fn both_ways(server: &UpdateServer) -> [(String, Option<HttpsFront>); 2] {
    let front = HttpsFront::before(server.address()).await;
    [(server.base_url(), None), (front.base_url(), Some(front))]
}

/// Revisions that are recorded, as `state dump` tells them: id without hyphens, and number.
fn recorded(dump: &str) -> BTreeSet<(String, String)> {
    let rows = dump.lines().filter_map(|line| line.strip_prefix("metadata\t"));
    rows.map(|row| row.split('\t').take(2).map(str::to_owned).collect::<Vec<_>>())
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect()
}

fn named(ids: &[catalog::id::RevisionId]) -> BTreeSet<(String, String)> {
    ids.iter().map(|id| (id.update.to_string().replace('-', ""), id.number.0.to_string())).collect()
}

#[tokio::test]
async fn a_recorded_wsus_gives_exactly_its_revisions_and_its_anchor() {
    let Some(given) = recorded_server().await else { return };
    for (url, _front) in both_ways(&given.server).await {
        let site = TestSite::below(Way::Alone, &url, "", "").await;
        let report = site.ok(&["now"]).await;
        let server = &report["servers"][0];
        assert_eq!(
            (&server["protocol"], &server["categories"]["fetched"]),
            (&json!("1.21"), &json!(30)),
            "{report:#}"
        );
        let dump = site.dump().await;
        assert_eq!(recorded(&dump), named(&given.listed));
        let again = site.ok(&["now"]).await;
        assert_eq!(again["servers"][0]["categories"]["fetched"], 0, "{again:#}");
        let asked = given.server.calls_of(Operation::GetRevisionIdList);
        let anchors: Vec<_> = asked.iter().filter_map(|call| call.filter.clone()?.anchor).collect();
        assert_eq!(
            anchors,
            std::slice::from_ref(&given.anchor),
            "asked with by the second run, and by no other"
        );
        assert_eq!(site.dump().await, dump);
        given.server.forget_calls();
    }
}

#[tokio::test]
async fn metadata_comes_over_a_connection_that_is_trusted_or_not_at_all() {
    let server = UpdateServer::start().await.unwrap();
    server.publish_all(&known_categories());
    let front = HttpsFront::before(server.address()).await;
    let site = TestSite::below(Way::Alone, &front.base_url(), "", "").await;
    let empty = site.dump().await;
    site.configure(|text| text.replace("extra_ca_file", "#extra_ca_file"));
    let ran = site.refused("SYNC_TLS_UNTRUSTED", &["now"]).await;
    assert!(ran.stderr.contains("extra_ca_file"), "it says what to do: {ran:?}");
    assert_eq!(site.dump().await, empty);
    assert_eq!(server.calls(), [], "nobody told it anything");
    let tested = site.json(&["sync", "test"]).await;
    assert_eq!(tested.status, 1);
    assert!(tested.stdout.contains("SYNC_TLS_UNTRUSTED"), "{tested:?}");
    site.configure(|text| text.replace("#extra_ca_file", "extra_ca_file"));
    assert_eq!(site.ok(&["sync", "test"]).await["ok"], true);
    assert_eq!(site.ok(&["now"]).await["servers"][0]["categories"]["fetched"], known_categories().len());

    let site = TestSite::below(Way::Alone, &server.base_url(), "", "").await;
    server.forget_calls();
    site.configure(|text| text.replace("allow_plain_http = true", "allow_plain_http = false"));
    let ran = site.refused("PLAIN_HTTP_REFUSED", &["now"]).await;
    assert!(ran.status == 4 && server.calls().is_empty(), "{ran:?}");
    assert_eq!(site.dump().await, empty);
    site.configure(|text| text.replace("allow_plain_http = false", "allow_plain_http = true"));
    site.ok(&["now"]).await;
}

/// The records of all files, published with the files that `files` gives them.
fn publish(
    server: &UpdateServer,
    folder: &std::path::Path,
    names: &[&str],
    terms: &FileDraft,
    mut files: impl FnMut(&WsusRecord) -> Vec<FileDraft>,
) -> Vec<WsusRecord> {
    server.publish_all(&known_categories());
    let all: Vec<WsusRecord> =
        names.iter().flat_map(|name| WsusRecord::read(&folder.join(format!("{name}.json")))).collect();
    for record in &all {
        server.publish_bundle(&record.bundle(files(record), Some(terms)));
    }
    all
}

/// The licence text that all records name that need one.
fn terms(site: &TestSite) -> FileDraft {
    FileDraft::published(&site.origin, "/eula", "en.rtf", b"{\\rtf1 The terms of this test.}".to_vec())
}

fn rows(list: &Value) -> &Vec<Value> {
    list["updates"].as_array().expect("a list")
}

#[tokio::test]
async fn every_upgrade_of_the_real_records_is_listed_and_nothing_else() {
    let Some(folder) = data_dir("wsus-catalog") else { return };
    let server = UpdateServer::start().await.unwrap();
    let front = HttpsFront::before(server.address()).await;
    let site = TestSite::below(Way::Alone, &front.base_url(), ALL_OF_WINDOWS, "").await;
    let mut names: Vec<&str> = UPGRADE_RECORDS.iter().map(|(name, _)| *name).collect();
    names.extend(["Windows 10 22H2", "Windows 11 22H2"]);
    let records = publish(&server, &folder, &names, &terms(&site), |record| record.files.clone());
    let (upgrades, others): (Vec<_>, Vec<_>) =
        records.iter().partition(|record| record.classification == UPGRADES);
    assert_eq!((upgrades.len(), others.len()), (152 + 152 + 152 + 76 + 10, 10 + 5));

    // Only what is wanted is asked for.
    let report = site.ok(&["now"]).await;
    assert_eq!(report["servers"][0]["updates"]["new"], 2 * upgrades.len(), "{report:#}");
    let asked: BTreeSet<_> =
        server.calls_of(Operation::GetUpdateData).iter().flat_map(|call| call.ids.clone()).collect();
    assert!(others.iter().all(|record| asked.iter().all(|id| id.update != record.update)));
    let check = async |site: &TestSite| {
        let list = site.ok(&["updates", "list", "--all"]).await;
        let listed: BTreeMap<&str, &Value> =
            rows(&list).iter().map(|row| (row["update"].as_str().unwrap(), row)).collect();
        assert_eq!((listed.len(), rows(&list).len()), (upgrades.len(), upgrades.len()));
        for record in &upgrades {
            let row = listed[record.update.to_string().as_str()];
            let file = &record.files[0];
            assert_eq!((&row["title"], &row["size"]), (&json!(record.title), &json!(file.size)), "{row:#}");
            assert_eq!(row["classification"], "Upgrades");
            assert_eq!(row["digests"]["sha1"], file.sha1.to_string());
            assert_eq!(row["digests"]["sha256"], file.sha256.unwrap().to_string());
            let shape = if file.name.ends_with(".cab") { "enablement" } else { "esd" };
            assert_eq!(row["shape"], shape, "{row:#}");
            assert_eq!(row["license"], if record.licensed { "pending" } else { "none" }, "{row:#}");
        }
        let by = |field: &str, value: &str| rows(&list).iter().filter(|row| row[field] == value).count();
        // Of each language 14 ESDs: four of a release of Windows 10, two of Windows 11.
        assert_eq!((by("language", "de-de"), by("architecture", "x86")), (14, 3 * 76 + 5));
        for (release, count) in
            [("1903", 152), ("2004", 152), ("22H2", 152 + 76 + 2), ("1909", 2), ("21H1", 2)]
        {
            assert_eq!(by("release", release), count, "{release}");
        }
    };
    check(&site).await;

    // Where other classifications are chosen too, their documents come, and feature updates are the same.
    let wide = TestSite::below(Way::Alone, &front.base_url(), ALL_OF_WINDOWS, "").await;
    wide.configure(|text| text.replace("[sync]\n", "[sync]\nclassifications = [\"*\"]\n"));
    let report = wide.ok(&["now"]).await;
    let files: usize = others.iter().map(|record| record.files.len()).sum();
    assert_eq!(
        report["servers"][0]["updates"]["new"],
        2 * upgrades.len() + others.len() + files,
        "{report:#}"
    );
    check(&wide).await;
}

#[tokio::test]
async fn upgrades_of_a_server_and_of_a_catalog_are_chosen_downloaded_and_served_in_one_list() {
    let Some(folder) = data_dir("wsus-catalog") else { return };
    let server = UpdateServer::start().await.unwrap();
    for (url, front) in both_ways(&server).await {
        let way = if front.is_some() { Way::Daemon } else { Way::Alone };
        let sync = "products = [\"Windows 10\", \"Windows 11\"]\nlanguages = [\"en-us\"]\narchitectures = [\"x64\"]\n\
                    accept_licenses = true";
        let mut site = TestSite::below(Way::Alone, &url, sync, "").await;
        let catalog = format!(
            "[[source]]\nname = \"esd\"\nkind = \"esd-catalog\"\ncatalogs = [{:?}]\nallow_networks = [\"127.0.0.0/8\"]\n",
            site.published.windows11
        );
        site.configure(|text| text + &catalog);
        let names = UPGRADE_RECORDS.map(|(name, _)| name);
        let records =
            publish(&server, &folder, &names, &terms(&site), |record| record.standing_in(&site.origin));
        site.ok(&["now"]).await;
        let list = site.ok(&["updates", "list"]).await;
        // Two editions of four releases, five enablement packages, and those of the catalog.
        let of_catalog = site.published.esds.iter().filter(|esd| {
            (esd.language.as_str(), esd.architecture.to_string().as_str()) == ("en-us", "x64")
                && esd.product.to_string() == "Windows 11"
        });
        let (ours, of_catalog) = (4 * 2 + 5, of_catalog.count());
        assert!(of_catalog > 0 && rows(&list).iter().all(|row| row["deployable"] == true), "{list:#}");
        assert_eq!(rows(&list).len(), ours + of_catalog);
        site.ok(&["package", "create", "p"]).await;
        let added = site.ok(&["package", "add", "p"]).await;
        assert_eq!(added["added"].as_array().unwrap().len(), ours + of_catalog, "{added:#}");
        let filled = site.ok(&["package", "download", "p"]).await;
        let stored = filled["files"].as_array().unwrap();
        assert!(stored.iter().all(|file| file["outcome"] == "stored"), "{filled:#}");
        site.ok(&["package", "distribute", "p"]).await;
        if way == Way::Daemon {
            site.start_daemon().await;
            for record in records
                .iter()
                .filter(|record| record.title.contains("en-us") || record.title.contains("x64-"))
            {
                let made = support::stand_in(&record.files[0].name);
                let shown = rows(&list).iter().any(|row| row["update"] == record.update.to_string());
                if shown {
                    let sha256 = made.fingerprint().sha256.to_string();
                    let got =
                        support::http().get(format!("{}/content/{sha256}", site.url)).send().await.unwrap();
                    assert_eq!(got.bytes().await.unwrap(), made.bytes(), "{}", record.title);
                }
            }
            site.stop_daemon().await;
        }
    }
}

#[tokio::test]
async fn the_files_that_a_catalog_and_a_server_share_are_one_content_each() {
    let (Some(records), Some(catalogs)) = (data_dir("wsus-catalog"), data_dir("esd-catalog")) else { return };
    let server = UpdateServer::start().await.unwrap();
    let sync = "products = [\"Windows 10\"]\nlanguages = [\"*\"]\narchitectures = [\"*\"]";
    let more = format!(
        "[[source]]\nname = \"esd\"\nkind = \"esd-catalog\"\ncatalogs = [{:?}]\n",
        catalogs.join("products_win10_1903_20190502.cab")
    );
    let site = TestSite::below(Way::Alone, &server.base_url(), sync, &more).await;
    publish(&server, &records, &["FeatureUpdate Windows 10 1903"], &terms(&site), |record| {
        record.files.clone()
    });
    site.ok(&["now"]).await;
    let list = site.ok(&["updates", "list", "--all"]).await;
    let mut places: BTreeMap<(String, u64), Vec<&Value>> = BTreeMap::new();
    for row in rows(&list) {
        let file = (row["digests"]["sha1"].as_str().unwrap().to_owned(), row["size"].as_u64().unwrap());
        places.entry(file).or_default().push(row);
    }
    let shared: Vec<_> = places.values().filter(|rows| rows.len() == 2).collect();
    assert_eq!((rows(&list).len(), places.len(), shared.len()), (230 + 152, 230, 152));
    for pair in shared {
        // The catalog states a SHA-1 only. What the server knows of the same file is known of it in both rows.
        assert!(pair.iter().all(|row| row["digests"]["sha256"].is_string()), "{pair:#?}");
        assert_eq!(pair[0]["digests"], pair[1]["digests"]);
        assert_eq!(pair[0]["urls"], pair[1]["urls"]);
    }
    let files = site.dump().await.lines().filter(|line| line.starts_with("file\t")).count();
    assert_eq!(files, 230 + 152, "a line for each update that has it");
}

#[tokio::test]
async fn the_real_bytes_of_a_real_upgrade_go_all_the_way() {
    let (Some(records), Some(content)) = (data_dir("wsus-catalog"), data_dir("upgrade-content")) else {
        return;
    };
    const NAME: &str = "Windows10.0-KB4517245-x64.cab";
    let bytes = std::fs::read(content.join(NAME)).unwrap();
    let server = UpdateServer::start().await.unwrap();
    for (url, _front) in both_ways(&server).await {
        for at_microsoft in [true, false] {
            let mut site = TestSite::below(Way::Daemon, &url, "products = [\"Windows 10\"]", "").await;
            let path =
                "/d/upgr/2019/11/windows10.0-kb4517245-x64_4250e1db7bc9468236c967c2c15f04b755b3d3a9.cab";
            let place = site.origin.publish_bytes(path, "application/octet-stream", bytes.clone());
            let mut update = String::new();
            publish(&server, &records, &["Enablement Windows 10"], &terms(&site), |record| {
                let mut file = record.files[0].clone();
                if file.name == NAME {
                    update = record.update.to_string();
                    // Where Microsoft has it, or where the server itself has it.
                    file.url = at_microsoft.then(|| place.clone());
                    if !at_microsoft {
                        server.publish_content(&file, bytes.clone());
                    }
                }
                vec![file]
            });
            // Of a server over HTTPS, content is looked for at the port below too, where a WSUS has it: nobody is there.
            site.ok(&["now"]).await;
            let shown = site.ok(&["updates", "show", &update]).await;
            assert_eq!(shown["digests"]["sha1"], "4250e1db7bc9468236c967c2c15f04b755b3d3a9", "{shown:#}");
            site.ok(&["package", "create", "p"]).await;
            site.ok(&["package", "add", "p", &update]).await;
            let filled = site.ok(&["package", "download", "p"]).await;
            let stored = &filled["files"][0];
            const SHA256: &str = "815f17fd0114768c53ff5053ec2661f50ee3af57c94261c73ae7d8f58e3ee1c2";
            assert_eq!(
                (&stored["outcome"], &stored["sha256"]),
                (&json!("stored"), &json!(SHA256)),
                "{filled:#}"
            );
            site.ok(&["package", "distribute", "p"]).await;
            let fetched = site.ok(&["client", "fetch", SHA256]).await;
            assert_eq!(fetched["size"], 20_521, "{fetched:#}");
            site.stop_daemon().await;
        }
    }
}

/// An update of one product, and what is new of it.
fn upgrade(title: &str, product: catalog::id::UpdateId, number: u64) -> BundleDraft {
    let name = format!("226{number:02}.1.220506-1250.ni_release_CLIENTBUSINESS_VOL_x64FRE_en-us.esd");
    BundleDraft::classic(title, &[product], FileDraft::of(&name, &Seeded::new(number, 5_000).fingerprint()))
}

#[tokio::test]
async fn what_changes_costs_what_changed() {
    let server = UpdateServer::start().await.unwrap();
    server.publish_all(&known_categories());
    let eleven: Vec<_> = (0..5).map(|n| upgrade(&format!("eleven {n}"), WINDOWS_11, n)).collect();
    let ten: Vec<_> = (5..9).map(|n| upgrade(&format!("ten {n}"), WINDOWS_10, n)).collect();
    eleven.iter().chain(&ten).for_each(|bundle| _ = server.publish_bundle(bundle));
    let site = TestSite::below(Way::Alone, &server.base_url(), "products = [\"Windows 11\"]", "").await;
    let fetched = |report: &Value| report["servers"][0]["updates"]["fetched"].as_u64().unwrap();
    let asked = || -> usize {
        let count = server.calls_of(Operation::GetUpdateData).iter().map(|call| call.ids.len()).sum();
        server.forget_calls();
        count
    };
    let first = site.ok(&["now"]).await;
    // Five that are approved, and one bundled in each.
    assert_eq!((fetched(&first), asked()), (10, known_categories().len() + 10), "{first:#}");

    // Nothing changed: a handful of calls, and not a row.
    let before = site.dump().await;
    let again = site.ok(&["now"]).await;
    assert_eq!(again["servers"][0]["unchanged"], true, "{again:#}");
    assert!(again["servers"][0]["calls"].as_u64().unwrap() <= 6, "{again:#}");
    assert_eq!((asked(), site.dump().await), (0, before));

    // A revision, an update, and one that is withdrawn: those and no others.
    server.publish(&eleven[0].parent.clone().revision(201));
    server.publish_bundle(&upgrade("eleven 9", WINDOWS_11, 9));
    server.publish(&eleven[1].parent.clone().revision(201).expired());
    let delta = site.ok(&["now"]).await;
    assert_eq!((fetched(&delta), asked()), (4, 4), "{delta:#}");
    let list = site.ok(&["updates", "list", "--all"]).await;
    let row = |bundle: &BundleDraft| {
        let id = bundle.parent.id().update.to_string();
        rows(&list).iter().find(|row| row["update"] == id).cloned().unwrap_or_default()
    };
    assert_eq!(
        (&row(&eleven[0])["number"], &row(&eleven[0])["hidden"]),
        (&json!(201), &Value::Null),
        "{list:#}"
    );
    assert_eq!(row(&eleven[1])["hidden"], "expired");

    // A product more costs that product, and leaving it out again costs nothing.
    site.ok(&["sync", "products", "--set", "Windows 11", "--set", "Windows 10"]).await;
    let more = site.ok(&["now"]).await;
    assert_eq!((fetched(&more), asked()), (8, 8), "{more:#}");
    site.ok(&["sync", "products", "--set", "Windows 11"]).await;
    let less = site.ok(&["now"]).await;
    assert_eq!((fetched(&less), asked()), (0, 0), "{less:#}");
    // In full: every list is asked for again, and nothing that is recorded.
    let full = site.ok(&["now", "--full"]).await;
    let lists = server.calls_of(Operation::GetRevisionIdList);
    assert!(!lists.is_empty() && lists.iter().all(|call| call.filter.as_ref().unwrap().anchor.is_none()));
    assert_eq!((fetched(&full), asked()), (0, 0), "{full:#}");
}

#[tokio::test]
async fn what_updates_need_comes_though_no_filter_names_it() {
    let server = UpdateServer::start().await.unwrap();
    server.publish_all(&known_categories());
    // A bundle in a bundle, a prerequisite of another class of the same product, and one that nobody has.
    let leaf = software("HIDDEN leaf").installed_by(InstalledBy::Cbs);
    let inner = software("HIDDEN inner").bundles(leaf.id());
    let needed = software("servicing stack").within(&[WINDOWS_11]).within(&[SECURITY_UPDATES]).revision(101);
    let nowhere = software("nowhere").id().update;
    let outer = software("outer").deployable().within(&[WINDOWS_11]).within(&[UPGRADES]);
    let outer = outer.bundles(inner.id()).requires(needed.id().update).requires(nowhere);
    let ids = server.publish_all(&[leaf, inner, needed, outer]);
    let site = TestSite::below(Way::Alone, &server.base_url(), "products = [\"Windows 11\"]", "").await;
    let report = site.ok(&["now"]).await;
    let dump = site.dump().await;
    assert!(named(&ids).is_subset(&recorded(&dump)), "{report:#}");
    assert_eq!(report["servers"][0]["missing"], 1, "it says what nobody has: {report:#}");
    server.forget_calls();
    let again = site.ok(&["now"]).await;
    assert_eq!(again["servers"][0]["missing"], 1);
    assert_eq!(server.calls_of(Operation::GetUpdateData).len(), 0, "and does not look for it each time");
    assert_eq!(site.dump().await, dump);
}

#[tokio::test]
async fn a_server_that_moved_or_is_called_otherwise_still_gives_content() {
    let bytes = Seeded::new(1, 5_000);
    for (moved, renamed, at_microsoft) in
        [(true, false, false), (false, true, false), (false, true, true), (true, true, true)]
    {
        let [here, there] = [UpdateServer::start().await.unwrap(), UpdateServer::start().await.unwrap()];
        let site = TestSite::below(Way::Alone, &here.base_url(), "products = [\"Windows 11\"]", "").await;
        let mut bundle = upgrade("eleven", WINDOWS_11, 1);
        let mut file = FileDraft::of(
            "22601.1.220506-1250.ni_release_CLIENTBUSINESS_VOL_x64FRE_en-us.esd",
            &bytes.fingerprint(),
        );
        if at_microsoft {
            let place = site.origin.publish_bytes("/d/upgr/e.esd", "application/octet-stream", bytes.bytes());
            file.url = Some(place);
            bundle = BundleDraft::classic("eleven", &[WINDOWS_11], file.clone());
        }
        for server in [&here, &there] {
            server.publish_all(&known_categories());
            server.publish_bundle(&bundle);
            if !at_microsoft {
                server.publish_content(&file, bytes.bytes());
            }
        }
        site.ok(&["now"]).await;
        let update = bundle.parent.id().update.to_string();
        site.ok(&["package", "create", "p"]).await;
        site.ok(&["package", "add", "p", &update]).await;
        site.configure(|text| {
            let text = if renamed { text.replace("name = \"wsus\"", "name = \"other\"") } else { text };
            if moved { text.replace(&here.base_url(), &there.base_url()) } else { text }
        });
        let described = format!("moved {moved}, renamed {renamed}, at Microsoft {at_microsoft}");
        here.forget_calls();
        if at_microsoft {
            // Nobody that is configured has said where it is, and the server has it not itself; once it is asked, it says so of
            // what is known as well.
            site.refused("SOURCE_NOT_FOUND", &["package", "download", "p"]).await;
            let report = site.ok(&["now"]).await;
            assert_eq!(
                (&report["withdrawn"], &report["new"]),
                (&json!(0), &json!(0)),
                "{described}: {report:#}"
            );
        }
        let filled = site.ok(&["package", "download", "p"]).await;
        assert_eq!(filled["files"][0]["outcome"], "stored", "{described}: {filled:#}");
        assert!(!moved || here.content_requests().is_empty(), "{described}: nobody is there any more");
        // It is listed as before, and stays so.
        for _ in 0..2 {
            site.ok(&["now"]).await;
            let list = site.ok(&["updates", "list"]).await;
            let row = rows(&list).iter().find(|row| row["update"] == update);
            assert_eq!(row.map(|row| &row["deployable"]), Some(&json!(true)), "{described}: {list:#}");
        }
        // Nor is anything fetched twice for it.
        here.forget_calls();
        there.forget_calls();
        site.ok(&["now", "--full"]).await;
        let asked = [&here, &there].map(|server| server.calls_of(Operation::GetUpdateData).len());
        assert_eq!(asked, [0, 0], "{described}");
    }
}

#[tokio::test]
async fn what_a_source_lists_that_is_configured_no_more_is_withdrawn() {
    let server = UpdateServer::start().await.unwrap();
    server.publish_all(&known_categories());
    let bundle = upgrade("eleven", WINDOWS_11, 1);
    server.publish_bundle(&bundle);
    let site = TestSite::below(Way::Alone, &server.base_url(), "products = [\"Windows 11\"]", "").await;
    let source = |catalog: &str| {
        format!(
            "[[source]]\nname = \"esd\"\nkind = \"esd-catalog\"\ncatalogs = [{catalog:?}]\nallow_networks = [\"127.0.0.0/8\"]\n"
        )
    };
    let catalog = source(&site.published.windows11);
    let alone = std::fs::read_to_string(site.folder.path().join("config.toml")).unwrap();
    site.configure(|text| text + &catalog);
    let all = site.ok(&["now"]).await;
    let (both, of_server) = (all["listed"].as_u64().unwrap(), bundle.parent.id().update.to_string());
    let of_catalog = all["new"].as_u64().unwrap() - 1;
    assert!(both > 1 && of_catalog > 0, "{all:#}");
    let before = site.dump().await;

    // The catalog is taken out: what it alone listed is no more, and of the server nothing is another.
    site.configure(|_| alone.clone());
    let less = site.ok(&["now"]).await;
    assert_eq!((&less["withdrawn"], &less["listed"]), (&json!(of_catalog), &json!(1)), "{less:#}");
    let list = site.ok(&["updates", "list"]).await;
    assert_eq!(rows(&list).len(), 1, "{list:#}");
    assert_eq!(rows(&list)[0]["update"], of_server);
    let again = site.ok(&["now"]).await;
    assert_eq!((&again["withdrawn"], &again["listed"]), (&json!(0), &json!(1)), "{again:#}");

    // It is back, and so is the site, though the catalog itself has not changed meanwhile.
    site.configure(|text| text + &catalog);
    assert_eq!(site.ok(&["now"]).await["listed"], both);
    assert_eq!(site.dump().await, before);

    // The same with the server.
    let without = |text: String| {
        let (head, rest) = text.split_once("[[source]]").unwrap();
        let (_, rest) = rest.split_once("[[source]]").unwrap();
        format!("{head}[[source]]{rest}")
    };
    let whole = std::fs::read_to_string(site.folder.path().join("config.toml")).unwrap();
    site.configure(without);
    let less = site.ok(&["now"]).await;
    assert_eq!((&less["withdrawn"], &less["listed"]), (&json!(1), &json!(both - 1)), "{less:#}");
    site.configure(|_| whole.clone());
    assert_eq!(site.ok(&["now"]).await["listed"], both);
    assert_eq!(site.dump().await, before);
}

/// Another update server of the configuration.
fn also(name: &str, server: &UpdateServer) -> String {
    format!(
        "[[source]]\nname = {name:?}\nkind = \"wsus\"\nurl = {:?}\nallow_networks = [\"127.0.0.0/8\"]\n",
        server.base_url()
    )
}

#[tokio::test]
async fn what_two_servers_list_stays_when_one_of_them_goes() {
    let [first, second] = [UpdateServer::start().await.unwrap(), UpdateServer::start().await.unwrap()];
    let (both, later) = (upgrade("both", WINDOWS_11, 1), upgrade("both, later", WINDOWS_11, 2));
    for (server, number) in [(&first, 3), (&second, 4)] {
        server.publish_all(&known_categories());
        server.publish_bundle(&both);
        server.publish_bundle(&upgrade(&format!("alone {number}"), WINDOWS_11, number));
    }
    let site = TestSite::below(Way::Alone, &first.base_url(), "products = [\"Windows 11\"]", "").await;
    let alone = std::fs::read_to_string(site.folder.path().join("config.toml")).unwrap();
    let (head, wsus) = alone.split_once("[[source]]").unwrap();
    let of_second = format!("{head}{}", also("other", &second));
    let of_both = format!("{head}[[source]]{wsus}{}", also("other", &second));
    site.configure(|_| of_both.clone());
    assert_eq!(site.ok(&["now"]).await["listed"], 3);
    // The first one gave this one too.
    for server in [&first, &second] {
        server.publish_bundle(&later);
    }
    assert_eq!(site.ok(&["now"]).await["listed"], 4);

    for left in [of_second, alone.clone()] {
        site.configure(|_| left.clone());
        let less = site.ok(&["now"]).await;
        assert_eq!((&less["withdrawn"], &less["listed"]), (&json!(1), &json!(3)), "{less:#}");
        let notes = less["notes"].to_string();
        assert!(notes.contains("is asked no more: what it alone listed is withdrawn"), "{notes}");
        // It is no passing state, and is said once.
        let again = site.ok(&["now"]).await;
        assert_eq!((&again["withdrawn"], &again["listed"]), (&json!(0), &json!(3)), "{again:#}");
        assert!(!again["notes"].to_string().contains("asked no more"), "{again:#}");
        assert!(again["servers"][0]["calls"].as_u64().unwrap() <= 6, "{again:#}");
        site.configure(|_| of_both.clone());
        assert_eq!(site.ok(&["now"]).await["listed"], 4);
    }
}

#[tokio::test]
async fn a_name_that_was_mistyped_withdraws_nothing_before_another_one_has_answered() {
    let server = UpdateServer::start().await.unwrap();
    server.publish_all(&known_categories());
    server.publish_bundle(&upgrade("eleven", WINDOWS_11, 1));
    let site = TestSite::below(Way::Alone, &server.base_url(), "products = [\"Windows 11\"]", "").await;
    assert_eq!(site.ok(&["now"]).await["listed"], 1);
    let good = std::fs::read_to_string(site.folder.path().join("config.toml")).unwrap();
    // The port of discard: nobody listens there.
    let nowhere = good.replace(&server.base_url(), "http://127.0.0.1:9");
    let renamed = nowhere.replace("name = \"wsus\"", "name = \"wsu\"");
    for wrong in [nowhere, renamed] {
        site.configure(|_| wrong.clone());
        let before = site.ok(&["updates", "list"]).await;
        site.refused("SOURCE_UNREACHABLE", &["now"]).await;
        assert_eq!(site.ok(&["updates", "list"]).await, before);
        assert_eq!(rows(&before).len(), 1, "{before:#}");
        let run = site.ok(&["sync", "history"]).await.to_string();
        assert_eq!(
            run.contains("stays until every source was synchronised"),
            wrong.contains("\"wsu\""),
            "{run}"
        );
    }
    site.configure(|_| good.clone());
    let again = site.ok(&["now"]).await;
    assert_eq!((&again["withdrawn"], &again["listed"]), (&json!(0), &json!(1)), "{again:#}");
    assert_eq!(again["servers"][0]["unchanged"], true, "its anchor stands: {again:#}");
}

#[tokio::test]
async fn a_licence_text_is_asked_for_once_at_each_place() {
    let server = UpdateServer::start().await.unwrap();
    server.publish_all(&known_categories());
    let text = b"{\\rtf1 The terms of this test.}".to_vec();
    let file = FileDraft::of("en.rtf", &Seeded::new(7, 100).fingerprint());
    let mut bundle =
        upgrade("eleven", WINDOWS_11, 1).licensed(catalog::id::UpdateId(uuid::Uuid::from_u128(5)));
    bundle.parent = bundle.parent.license_file("en", file.clone());
    server.publish_bundle(&bundle);
    // One server by two names: it is at the same place by either.
    let site = TestSite::below(Way::Alone, &server.base_url(), "products = [\"Windows 11\"]", "").await;
    site.configure(|text| text + &also("other", &server));
    site.ok(&["now"]).await;
    let update = bundle.parent.id().update.to_string();
    let before = server.content_requests().len();
    site.refused("LICENSE_TEXT_UNAVAILABLE", &["license", "review", &update]).await;
    assert_eq!(server.content_requests().len() - before, 1, "{:?}", server.content_requests());
    // What is there is no text of these terms.
    server.publish_content(&file, text);
    site.refused("LICENSE_TEXT_UNAVAILABLE", &["license", "review", &update]).await;
    assert_eq!(server.content_requests().len() - before, 2, "{:?}", server.content_requests());
}
