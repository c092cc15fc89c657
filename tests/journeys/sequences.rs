//! Task sequences are authored: the seed's scenario up to the deployment, and its refusals.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use catalog::esd_catalog::Architecture;
use serde_json::{Value, json};
use support::{TestSite, Way, files_with};

/// The texts of an array.
fn texts(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().map(|one| one.as_str().unwrap_or_default()).collect()
}

async fn accept(site: &TestSite, update: &str) {
    site.ok(&["license", "review", update]).await;
    site.ok(&["license", "accept", update]).await;
}

fn path(site: &TestSite, name: &str) -> String {
    site.folder.path().join(name).to_string_lossy().into_owned()
}

/// An ESD of the fixture as a file on this machine.
fn esd_file(site: &TestSite) -> String {
    let esd =
        site.published.find("Windows 11", "business", Architecture::X64, "en-us").expect("it is published");
    let file = path(site, "install.esd");
    std::fs::write(&file, esd.content.read(0, esd.wanted.size as usize)).expect("it is written");
    file
}

#[tokio::test]
async fn a_task_sequence_comes_from_a_feature_update_alone() {
    let site = TestSite::start(Way::Daemon).await;
    site.ok(&["now"]).await;
    let update = site.windows11().await;

    // M25: hidden with count, reason and ids; refused by name; nothing is left of the try.
    let choices = site.ok(&["ts", "create", "--choices"]).await;
    assert_eq!(choices["feature_updates"].as_array().unwrap().len(), 1, "Windows 10 needs no decision");
    let hidden = choices["hidden"][0].as_str().unwrap();
    assert!(
        hidden.starts_with("4 hidden: licence terms not accepted (") && hidden.contains(&update[..8]),
        "{hidden}"
    );
    let create = ["ts", "create", "Upgrade to 25H2", "--upgrade", "--feature-update", &update];
    site.refused("LICENSE_NOT_ACCEPTED", &create).await;
    let without = site.refused("UPGRADE_SOURCE_INVALID", &["ts", "create", "x", "--upgrade"]).await;
    assert!(without.stderr.contains("4 hidden: licence terms not accepted"), "{without:?}");
    assert_eq!(site.ok(&["ts", "list"]).await, json!([]));

    accept(&site, &update).await;
    let dry = site.ok(&["--dry-run", "ts", "create", "x", "--upgrade", "--feature-update", &update]).await;
    assert_eq!((&dry["id"], &dry["dry_run"]), (&Value::Null, &json!(true)));
    let created = site.ok(&create).await;
    assert_eq!(
        (&created["id"], &created["steps"], &created["groups"]),
        (&json!("XYZ00001"), &json!(3), &json!(16))
    );
    assert_eq!(created["findings"][0]["code"], "TS_NO_POWER_CHECK");
    site.refused("NAME_IN_USE", &create).await;
    let strict = ["ts", "create", "y", "--upgrade", "--strict", "--feature-update", &update];
    site.refused("TS_NO_POWER_CHECK", &strict).await;
    assert_eq!(site.ok(&["ts", "list"]).await.as_array().unwrap().len(), 1, "all or nothing");

    // M20, M41 to M45.
    let refs = site.ok(&["ts", "refs", "XYZ00001", "--pre-download"]).await;
    assert_eq!(refs["references"][0]["availability"], "metadata");
    assert_eq!(texts(&refs["excluded"]), [format!("{update} excluded: feature-update")]);
    assert!(refs["notes"][0].as_str().unwrap().starts_with("PREDOWNLOAD_HAS_NO_EFFECT"));
    site.refused("RUN_FROM_DP_FEATURE_UPDATE", &["ts", "refs", "XYZ00001", "--run-from-dp"]).await;
    let pkgx = path(&site, "x.pkgx");
    site.refused("PRESTAGE_FEATURE_UPDATE", &["prestage", "create", "XYZ00001", "--to", &pkgx]).await;
    assert!(!Path::new(&pkgx).exists());
    let staging = path(&site, "staging");
    let media =
        site.refused("MEDIA_FEATURE_UPDATE", &["media", "create", "XYZ00001", "--to", &staging]).await;
    assert!(media.status == 4 && media.stderr.contains("80070490"), "{media:?}");
    let names: Vec<_> =
        std::fs::read_dir(&staging).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["CreateTSMedia.log"], "the temporary folder is cleared");
    let log = std::fs::read_to_string(Path::new(&staging).join("CreateTSMedia.log")).unwrap();
    let expected = [
        "Unable to retrieve policy for Task Sequence XYZ00001 from site XYZ.",
        "Failed to initialize.... Verify the user",
        "MediaGenerator::~MediaGenerator()",
        "Failed to create media generator (0x80070490)",
        "CreateTsMedia failed with error 0x80070490, details=''",
        "Media temp directory '",
        "Media creation process that was started from Admin Console completed.",
        "CreateMedia.exe finished with error code 80070490",
    ];
    assert_eq!(log.lines().count(), expected.len());
    for (line, expected) in log.lines().zip(expected) {
        assert!(line.starts_with(expected), "{line}");
    }

    // M35: a copy is independent.
    let copy = site.ok(&["ts", "copy", "XYZ00001"]).await;
    assert_eq!((&copy["id"], &copy["name"]), (&json!("XYZ00002"), &json!("Upgrade to 25H2 (2)")));
    site.refused("NAME_IN_USE", &["ts", "copy", "XYZ00001", "upgrade TO 25h2"]).await;
    let set = site.ok(&["ts", "step", "set", "XYZ00002", "1", "ac_power=true"]).await;
    assert_eq!(
        (&set["findings"], &set["revision"], &set["deployable"]),
        (&json!([]), &json!(2), &json!(true))
    );
    let diff = site.ok(&["ts", "diff", "XYZ00001", "XYZ00002"]).await;
    let expected = [
        "- name = \"Upgrade to 25H2\"",
        "+ name = \"Upgrade to 25H2 (2)\"",
        "  name = \"Check Readiness for Upgrade\"",
        "+ ac_power = true",
    ];
    assert_eq!(texts(&diff["lines"]), expected);

    // M31 to M33 and M64: a change that breaks something is refused.
    site.ok(&["ts", "create", "Own"]).await;
    site.ok(&["ts", "step", "add", "Own", "restart"]).await;
    site.refused("TASK_SEQUENCE_INVALID", &["ts", "step", "add", "Own", "teleport"]).await;
    site.refused("BOOT_IMAGE_MISSING", &["ts", "step", "set", "Own", "1", "target=boot-image"]).await;
    site.refused("UPGRADE_SOURCE_INVALID", &["ts", "step", "add", "Own", "upgrade-os", "--before", "1"])
        .await;
    let list = format!("feature_updates=[\"{update}\"]");
    let own = site.ok(&["ts", "step", "add", "Own", "upgrade-os", &list]).await;
    assert_eq!(own["findings"][0]["code"], "RESTART_AFTER_UPGRADE_MISSING");
    let moved = site.ok(&["ts", "step", "move", "Own", "2", "--before", "1"]).await;
    assert_eq!(moved["findings"], json!([]));
    site.refused(
        "DRIVER_CONTENT_WITH_FEATURE_UPDATE",
        &["ts", "step", "set", "Own", "1", "drivers=XYZ00009"],
    )
    .await;
    site.refused("CONFIRMATION_REQUIRED", &["ts", "delete", "Own"]).await;
    site.ok(&["--yes", "ts", "delete", "Own"]).await;
    site.refused("TASK_SEQUENCE_NOT_FOUND", &["ts", "show", "Own"]).await;

    // M36: what a device would take.
    let facts = path(&site, "facts.toml");
    let device = |version: &str| {
        format!(
            "os_type = \"client\"\nversion = \"{version}\"\nedition = \"Enterprise\"\narchitecture = \"x64\"\nlanguage = \"en-us\"\n"
        )
    };
    std::fs::write(&facts, device("10.0.22631")).unwrap();
    let plan = site.ok(&["ts", "plan", "XYZ00001", "--facts", &facts]).await;
    assert_eq!((&plan["eligible"], &plan["choices"][0][1]["chosen"]), (&json!(true), &json!(update)));
    std::fs::write(&facts, device("6.0.6002")).unwrap();
    site.refused("UPGRADE_PATH_UNSUPPORTED", &["ts", "plan", "XYZ00001", "--facts", &facts]).await;
}

#[tokio::test]
async fn an_export_leaves_the_feature_update_out_and_an_import_needs_it_again() {
    let site = TestSite::start(Way::Daemon).await;
    site.ok(&["now"]).await;
    let update = site.windows11().await;
    accept(&site, &update).await;
    site.ok(&["ts", "create", "Up", "--upgrade", "--feature-update", &update]).await;
    let zip = path(&site, "up.zip");
    site.refused("EXPORT_NAME", &["ts", "export", "Up", "--to", &path(&site, "up.tar")]).await;
    site.refused("INVALID_OPTION", &["ts", "export", "Up", "--to", &path(&site, "site/up.zip")]).await;
    let exported = site.ok(&["ts", "export", "Up", "--to", &zip]).await;
    assert_eq!(texts(&exported["left_out"]), ["XYZ00001 step 2: its feature updates"]);
    let bytes = std::fs::read(&zip).unwrap();
    assert!(bytes.len() < 8192 && exported["folder"].is_null(), "no content travels");
    assert_eq!(std::fs::metadata(&zip).unwrap().mode() & 0o777, 0o640, "who may command the site reads it");

    let again = site.ok(&["ts", "import", &zip]).await;
    assert_eq!((&again["sequences"], texts(&again["linked"])), (&json!([]), vec!["XYZ00001 Up"]));
    let imported = site.ok(&["ts", "import", &zip, "--duplicates", "create-new"]).await;
    assert_eq!(imported["sequences"][0], json!(["XYZ00002", "Up (2)"]));
    assert_eq!(texts(&imported["incomplete"]), ["XYZ00002 step 2: feature-update"]);
    let lint = site.refused("BROKEN_REFERENCE", &["ts", "lint", "XYZ00002"]).await;
    assert!(lint.stderr.contains("Upgrade Operating System"), "the step is named: {lint:?}");
    let shown = site.ok(&["ts", "show", "XYZ00002"]).await;
    assert_eq!(shown["deployable"], false);
    assert!(shown["tree"].to_string().contains("incomplete: feature-update"));
    site.ok(&["ts", "step", "set", "XYZ00002", "1", "ac_power=true"]).await;
    let mended = site.ok(&["ts", "step", "set", "XYZ00002", "2", "--feature-update", &update]).await;
    assert_eq!((&mended["deployable"], &mended["findings"]), (&json!(true), &json!([])));

    for (what, damage) in
        [("cut short", bytes[..bytes.len() - 30].to_vec()), ("no archive", b"PK nothing".to_vec())]
    {
        std::fs::write(&zip, damage).unwrap();
        let refused = site.json(&["ts", "import", &zip, "--duplicates", "create-new"]).await;
        assert_eq!(refused.code(), "EXPORT_MALFORMED", "{what}");
    }
    assert_eq!(site.ok(&["ts", "list"]).await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_image_goes_along_and_no_secret_is_found_anywhere() {
    const KEY: &str = "ABCDE-12345-FGHIJ-67890-KLMNO";
    const HIDDEN: &str = "planted-secret-value";
    let site = TestSite::start(Way::Alone).await;
    site.refused("PREREQUISITE_MISSING", &["ts", "create", "x", "--upgrade", "--image", "NOPE"]).await;
    let esd = esd_file(&site);
    let added = site.ok(&["image", "add", &esd, "--name", "Windows 11", "--image-version", "25H2"]).await;
    assert_eq!(added["id"], "XYZ00001");
    site.refused("NAME_IN_USE", &["image", "add", &esd, "--name", "windows 11"]).await;
    site.ok(&["image", "add", &esd, "--name", "The same"]).await;
    assert_eq!(site.ok(&["content", "list"]).await.as_array().unwrap().len(), 1, "content is stored once");
    site.ok(&["--yes", "image", "delete", "The same"]).await;
    site.refused("OS_UPGRADE_PACKAGE_NOT_FOUND", &["image", "show", "The same"]).await;

    std::fs::write(path(&site, "setup.exe"), b"MZ setup").unwrap();
    let form = path(&site, "portal.toml");
    std::fs::write(&form, "name = \"Portal\"\ninstall = 'setup.exe /q'\ncontent = [\"setup.exe\"]\n")
        .unwrap();
    let app = site.ok(&["app", "add", &form]).await["id"].as_str().unwrap().to_owned();
    std::fs::write(path(&site, "bad.toml"), "name = \"X\"\ninstall = ''\n").unwrap();
    site.refused("APPLICATION_INVALID", &["app", "add", &path(&site, "bad.toml")]).await;

    let key_file = path(&site, "key");
    std::fs::write(&key_file, format!("{}\n", KEY.to_lowercase())).unwrap();
    let create = [
        "ts",
        "create",
        "Up",
        "--upgrade",
        "--image",
        "Windows 11",
        "--app",
        "Portal",
        "--product-key-file",
        &key_file,
    ];
    let with = |more: &[&'static str]| -> Vec<String> {
        create.iter().copied().chain(more.iter().copied()).map(str::to_owned).collect()
    };
    let here = &site;
    let refused = |args: Vec<String>| async move {
        here.json(&args.iter().map(String::as_str).collect::<Vec<_>>()).await.code()
    };
    assert_eq!(refused(with(&["--index", "99"])).await, "EDITION_INDEX_INVALID");
    assert_eq!(refused(with(&["--app", "Ghost"])).await, "APPLICATION_NOT_FOUND");
    assert_eq!(refused(with(&["--app", "Portal", "--strict"])).await, "CHOICE_REQUIRED");
    let created = site.ok(&create).await;
    assert_eq!(created["product_key"], "MAK/other");
    site.refused("IMAGE_IN_USE", &["--yes", "image", "delete", "Windows 11"]).await;
    let secret_file = path(&site, "secret");
    std::fs::write(&secret_file, HIDDEN).unwrap();
    site.ok(&[
        "ts",
        "step",
        "add",
        "Up",
        "set-variable",
        "variable=JoinPassword",
        "--value-file",
        &secret_file,
    ])
    .await;
    let on_argument = ["ts", "step", "set", "Up", "2", "product_key=ZZZZZ-ZZZZZ-ZZZZZ-ZZZZZ-ZZZZZ"];
    let told = site.refused("TASK_SEQUENCE_INVALID", &on_argument).await;
    assert!(!told.stderr.contains("ZZZZZ"), "{told:?}");
    std::fs::write(&key_file, &KEY[..20]).unwrap();
    let wrong = site
        .refused("PRODUCT_KEY_FORMAT", &["ts", "step", "set", "Up", "2", "--product-key-file", &key_file])
        .await;
    assert!(!wrong.stderr.contains(&KEY[..11]), "{wrong:?}");
    std::fs::remove_file(&key_file).unwrap();
    std::fs::remove_file(&secret_file).unwrap();
    site.ok(&["ts", "copy", "Up", "Copy"]).await;
    let zip = path(&site, "up.zip");
    site.ok(&["ts", "export", "Up", "--to", &zip]).await;
    let shown = site.run(&["-o", "json", "ts", "show", "Up"]).await.stdout + &site.dump().await;
    for secret in [KEY, HIDDEN] {
        assert!(!shown.contains(secret));
        assert_eq!(files_with(site.folder.path(), secret.as_bytes()), Vec::<String>::new());
    }

    // Elsewhere: image and application arrive with their content, and only with the folder beside the archive.
    let other = TestSite::start(Way::Alone).await;
    let (there, folder) = (path(&other, "up.zip"), path(&other, "up_files"));
    std::fs::copy(&zip, &there).unwrap();
    other.refused("IMPORT_CONTENT_MISSING", &["ts", "import", &there]).await;
    std::fs::create_dir(&folder).unwrap();
    let from = site.folder.path().join("up_files");
    let names: Vec<_> = std::fs::read_dir(&from).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2);
    for name in &names {
        std::fs::copy(from.join(name), Path::new(&folder).join(name)).unwrap();
    }
    let smallest = names.iter().min_by_key(|name| std::fs::metadata(from.join(name)).unwrap().len()).unwrap();
    std::fs::write(Path::new(&folder).join(smallest), b"XX setup").unwrap();
    other.refused("HASH_MISMATCH", &["ts", "import", &there]).await;
    assert_eq!(other.ok(&["image", "list"]).await, json!([]), "all or nothing");
    assert_eq!(other.ok(&["content", "list"]).await, json!([]), "all or nothing");
    std::fs::copy(from.join(smallest), Path::new(&folder).join(smallest)).unwrap();
    let imported = other.ok(&["ts", "import", &there]).await;
    assert_eq!(texts(&imported["added"]), ["Windows 11", "Portal"]);

    // Neither its key nor its secret came along: it cannot be deployed before both are given again, and what was broken stands in
    // the way of no other change.
    let lacks = |value: &Value| -> Vec<String> {
        texts(value).iter().map(|line| line.split_once(" step ").expect("a step").1.to_owned()).collect()
    };
    let incomplete = lacks(&imported["incomplete"]);
    let [key_step, value_step] = &incomplete[..] else { panic!("{imported}") };
    let hidden = value_step.strip_suffix(": hidden-value").expect("the last step").to_owned();
    assert_eq!(key_step, "2: product-key");
    assert_eq!(other.ok(&["ts", "show", "Up"]).await["deployable"], false);
    let lint = other.refused("SECRET_MISSING", &["ts", "lint", "Up"]).await;
    assert!(
        lint.stderr.contains("has no product key") && lint.stderr.contains("has no hidden value"),
        "{lint:?}"
    );
    other.ok(&["collection", "create", "ring"]).await;
    let deploy = ["deploy", "create", "Up", "--collection", "ring"];
    other.refused("SECRET_MISSING", &deploy).await;
    other.ok(&["ts", "set", "Up", "description=from elsewhere"]).await;
    let copied = other.ok(&["ts", "copy", "Up"]).await;
    assert_eq!(copied["deployable"], false, "a copy lacks what it is a copy of lacks");
    let (key, secret) = (path(&other, "key"), path(&other, "secret"));
    std::fs::write(&key, KEY).unwrap();
    std::fs::write(&secret, HIDDEN).unwrap();
    other.ok(&["ts", "step", "set", "Up", "2", "--product-key-file", &key]).await;
    let whole = other.ok(&["ts", "step", "set", "Up", &hidden, "--value-file", &secret]).await;
    assert_eq!(whole["deployable"], true, "{whole}");
    other.ok(&deploy).await;
    // Written over, it lacks them again; whoever disables what lacks something can deploy the rest.
    let over = other.ok(&["ts", "import", &there, "--duplicates", "overwrite"]).await;
    assert_eq!(lacks(&over["incomplete"]), incomplete);
    assert!(over["notes"].to_string().contains("SECRET_MISSING"), "its deployment is there: {over}");
    other.ok(&["ts", "step", "set", "Up", &hidden, "disabled=true"]).await;
    let cleared = other.ok(&["ts", "step", "set", "Up", "2", "product_key="]).await;
    assert_eq!(cleared["deployable"], true, "{cleared}");

    site.ok(&["app", "retire", &app]).await;
    site.refused("APPLICATION_DISABLED", &["ts", "lint", "Up"]).await;
    site.refused(
        "APPLICATION_DISABLED",
        &["ts", "create", "y", "--upgrade", "--image", "Windows 11", "--app", "Portal"],
    )
    .await;
}

/// A boot image is a reference like any other: it comes along, is known again by its digest, or is said to be missing.
#[tokio::test]
async fn a_boot_image_of_elsewhere_is_mapped_or_said_to_be_missing() {
    let (site, other) = (TestSite::start(Way::Alone).await, TestSite::start(Way::Alone).await);
    let boot = crate::carried::boot_image(&site);
    site.ok(&["image", "add", &boot, "--name", "PE", "--boot"]).await;
    site.ok(&["ts", "create", "Own"]).await;
    site.ok(&["ts", "set", "Own", "boot_image=PE"]).await;
    site.ok(&["ts", "step", "add", "Own", "restart", "target=boot-image"]).await;
    // What has its id elsewhere is another thing: an application, and then an image that starts nothing.
    std::fs::write(path(&other, "a.toml"), "name = \"A\"\ninstall = 'a.exe'\n").unwrap();
    assert_eq!(other.ok(&["app", "add", &path(&other, "a.toml")]).await["id"], "XYZ00001");
    other.ok(&["collection", "create", "ring"]).await;
    let zip = path(&site, "own.zip");
    let image = async |imported: &Value| {
        let id = imported["sequences"][0][0].as_str().unwrap();
        let document = other.ok(&["ts", "show", id]).await["document"].as_str().unwrap().to_owned();
        let line = document.lines().find(|line| line.starts_with("boot_image = ")).unwrap().to_owned();
        (id.to_owned(), line)
    };
    for (how, name) in [("--no-content", "`PE`"), ("--no-dependencies", "XYZ00001")] {
        site.ok(&["ts", "export", "Own", "--to", &zip, how]).await;
        let imported = other.ok(&["ts", "import", &zip, "--duplicates", "create-new"]).await;
        let (id, line) = image(&imported).await;
        assert_eq!(texts(&imported["incomplete"]), [format!("{id}: boot image {name}")], "{how}");
        assert!(!line.contains("XYZ00001"), "{how}: {line}");
        other.refused("BOOT_IMAGE_MISSING", &["ts", "lint", &id]).await;
        other.refused("BOOT_IMAGE_MISSING", &["deploy", "create", &id, "--collection", "ring"]).await;
    }
    // With its content it comes along; known again by that, it is linked whatever it is called.
    site.ok(&["ts", "export", "Own", "--to", &zip]).await;
    let brought = other.ok(&["ts", "import", &zip, "--duplicates", "create-new"]).await;
    assert_eq!((texts(&brought["added"]), &brought["incomplete"]), (vec!["PE"], &json!([])));
    let (id, line) = image(&brought).await;
    other.ok(&["ts", "lint", &id]).await;
    let here = other.ok(&["image", "show", "PE"]).await["id"].as_str().unwrap().to_owned();
    assert_eq!(line, format!("boot_image = \"{here}\""));
    site.ok(&["ts", "export", "Own", "--to", &zip, "--no-content"]).await;
    let linked = other.ok(&["ts", "import", &zip, "--duplicates", "create-new"]).await;
    assert_eq!((image(&linked).await.1, &linked["incomplete"]), (line, &json!([])));
    other
        .ok(&["deploy", "create", linked["sequences"][0][0].as_str().unwrap(), "--collection", "ring"])
        .await;
    // At the site that it comes from it is what it was.
    let again = site.ok(&["ts", "import", &zip, "--duplicates", "overwrite"]).await;
    assert_eq!(again["incomplete"], json!([]));
}

/// Mission rows M05, M28, M29 and M34, through the configuration.
#[tokio::test]
async fn the_wizard_of_2103_needs_an_image_and_the_editor_does_not() {
    let site = TestSite::start(Way::Alone).await;
    let release = |release: &str| {
        site.configure(|text| {
            let text =
                text.lines().filter(|line| !line.starts_with("release = ")).collect::<Vec<_>>().join("\n");
            text.replacen("[site]", &format!("[site]\nrelease = \"{release}\""), 1) + "\n"
        });
    };
    site.ok(&["now"]).await;
    let update = site.windows11().await;
    accept(&site, &update).await;
    site.ok(&["image", "add", &esd_file(&site), "--name", "W"]).await;
    let alone = ["ts", "create", "Alone", "--upgrade", "--feature-update", &update];
    release("2010");
    site.refused("FEATURE_NOT_IN_RELEASE", &alone).await;
    release("2103");
    site.refused("OS_UPGRADE_PACKAGE_REQUIRED", &alone).await;
    site.ok(&["ts", "create", "Edited", "--upgrade", "--image", "W"]).await;
    let edited = site
        .ok(&["ts", "step", "set", "Edited", "Upgrade Operating System", "--feature-update", &update])
        .await;
    assert!(
        edited["document"].as_str().unwrap().contains("feature_updates = [") && edited["deployable"] == true
    );
    release("2010");
    site.refused("FEATURE_NOT_IN_RELEASE", &["ts", "lint", "Edited"]).await;
    release("2107");
    site.ok(&alone).await;
}

/// Mission row M24: collections and client settings by priority.
#[tokio::test]
async fn the_lowest_priority_number_tells_a_device_what_holds() {
    let site = TestSite::start(Way::Alone).await;
    site.ok(&["collection", "create", "ring-1"]).await;
    site.ok(&["collection", "add", "ring-1", "PC1", "pc2"]).await;
    let ring = site.ok(&["collection", "remove", "RING-1", "PC2"]).await;
    assert_eq!(ring["devices"], json!(["PC1"]));
    site.refused("COLLECTION_BUILT_IN", &["collection", "add", "All Systems", "PC1"]).await;
    site.refused("COLLECTION_NOT_FOUND", &["collection", "show", "ring-2"]).await;
    site.refused("SETTINGS_NOT_FOUND", &["settings", "set", "slow", "thread_priority=low"]).await;
    site.refused("INVALID_SETTING", &["settings", "set", "default", "thread_priority=high"]).await;
    site.ok(&["settings", "set", "slow", "priority=5", "thread_priority=low", "collection=ring-1"]).await;
    site.refused("INVALID_SETTING", &["settings", "set", "other", "priority=5"]).await;
    site.ok(&["settings", "set", "default", "thread_priority=normal", "dynamic_update=yes"]).await;
    let ran = site.run(&["settings", "effective", "--client", "pc1"]).await;
    let lines: Vec<String> =
        ran.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "SETTING VALUE FROM PRIORITY",
            "thread_priority low slow 5",
            "dynamic_update yes default -",
            "delta_content no built-in -",
            "delta_port 8005 built-in -"
        ]
    );
    let other = site.ok(&["settings", "effective", "--client", "pc2"]).await;
    assert_eq!((&other[0]["value"], &other[0]["from"]), (&json!("normal"), &json!("default")));
}

/// Mission rows M47 to M53: the wizard, field by field.
#[tokio::test]
async fn create_forms() {
    let site = TestSite::start(Way::Daemon).await;
    assert_eq!(site.ok(&["ts", "create", "--list-types"]).await, json!(["upgrade", "custom"]));
    site.refused("UNKNOWN_TEMPLATE", &["ts", "create", "x", "--type", "bare-metal"]).await;
    site.refused("NAME_REQUIRED", &["ts", "create", "  "]).await;
    site.refused("NAME_REQUIRED", &["ts", "create"]).await;
    site.refused("NAME_TOO_LONG", &["ts", "create", &"n".repeat(51)]).await;
    site.refused("DESCRIPTION_TOO_LONG", &["ts", "create", "x", "--description", &"d".repeat(256)]).await;
    site.refused("CONFLICTING_OPTIONS", &["ts", "create", "x", "--updates", "all"]).await;
    site.refused("UPDATE_NOT_FOUND", &["ts", "create", "x", "--upgrade", "--feature-update", "none"]).await;
    let longest = "n/".repeat(25);
    assert_eq!(site.ok(&["ts", "create", &longest, "--description", &"d".repeat(255)]).await["steps"], 0);

    let esd = esd_file(&site);
    site.ok(&["image", "add", &esd, "--name", "W"]).await;
    let inspected = site.ok(&["image", "inspect", &esd]).await;
    let first = inspected
        .as_array()
        .unwrap()
        .iter()
        .find(|image| !image["edition_id"].is_null() && image["installation_type"] != "WindowsPE");
    let first = first.unwrap()["index"].as_u64().unwrap();
    let created = site.ok(&["ts", "create", "U", "--upgrade", "--image", "W"]).await;
    assert!(
        created["edition"].as_str().unwrap().starts_with(&format!("{first} ")),
        "the first by default: {created}"
    );
    assert_eq!(created["product_key"], "no key");
    site.refused(
        "UPGRADE_SOURCE_INVALID",
        &["ts", "create", "x", "--upgrade", "--image", "W", "--feature-update", "y"],
    )
    .await;
    let ran = site.run(&["ts", "show", "U", "--tree"]).await;
    assert!(ran.stdout.contains("   2    Upgrade Operating System"), "{ran:?}");
    let ran = site.run(&["ts", "list"]).await;
    assert!(ran.stdout.contains("no: empty") && ran.stdout.contains("U "), "{ran:?}");
    let document = site.ok(&["ts", "show", "U"]).await["document"].as_str().unwrap().to_owned();
    let file = path(&site, "u.toml");
    let edit = ["ts", "edit", "U", "--from", &file];
    std::fs::write(&file, document.replace("delay = 60", "delay = 90")).unwrap();
    assert_eq!(site.ok(&edit).await["revision"], 2);
    std::fs::write(&file, document.replace("edition_index", "product_key = \"sealed-7\"\nedition_index"))
        .unwrap();
    site.refused("TASK_SEQUENCE_INVALID", &edit).await;
    std::fs::write(&file, document.replace("target = \"installed-os\"", "target = \"boot-image\"")).unwrap();
    site.refused("RESTART_TARGET_WRONG", &edit).await;
    std::fs::write(&file, vec![b' '; (2 << 20) + 1]).unwrap();
    site.refused("TASK_SEQUENCE_TOO_LARGE", &edit).await;
    assert_eq!(site.ok(&["ts", "show", "U"]).await["revision"], 2);
    let disabled = site.ok(&["ts", "disable", "U"]).await;
    assert_eq!(disabled["enabled"], false);
    assert_eq!(site.ok(&["ts", "enable", "U"]).await["enabled"], true);
}

/// The disk lost the file of an image that task sequences use.
#[tokio::test]
async fn an_image_that_was_lost_is_added_again_under_its_own_name() {
    let site = TestSite::start(Way::Alone).await;
    let esd = esd_file(&site);
    let added = site.ok(&["image", "add", &esd, "--name", "Windows 11"]).await;
    site.ok(&["ts", "create", "Up", "--upgrade", "--image", "Windows 11"]).await;
    let sha256 = added["content"].as_str().expect("a digest").to_owned();
    let listed = site.ok(&["content", "list"]).await;
    let name = added["file_name"].as_str().expect("a name");
    assert_eq!(listed[0]["file_name"], name, "{listed}");
    assert_eq!(listed[0]["files"], json!([format!("XYZ00001/{name}")]), "{listed}");
    let sha1 = listed[0]["sha1"].as_str().expect("a digest").to_owned();
    let shown = site.run(&["content", "list"]).await;
    for part in [&*sha256, &*sha1, name, "XYZ00001"] {
        assert!(shown.stdout.contains(part), "{part}: {shown:?}");
    }

    site.refused("NAME_IN_USE", &["image", "add", &esd, "--name", "Windows 11"]).await;
    let images = site.ok(&["image", "list"]).await;
    let blob = site.folder.path().join("site/content/blobs").join(&sha256[..2]).join(&sha256);
    std::fs::remove_file(&blob).expect("it is ours");
    let status = site.ok(&["status"]).await;
    assert!(status["warnings"].to_string().contains("under its name"), "{status}");
    // Another file is not what the task sequences mean.
    let other = path(&site, "other.esd");
    let mut bytes = std::fs::read(&esd).expect("it is there");
    bytes.push(0);
    std::fs::write(&other, bytes).expect("it is written");
    let refused = site.refused("NAME_IN_USE", &["image", "add", &other, "--name", "Windows 11"]).await;
    assert!(refused.stderr.contains(&sha256), "{refused:?}");
    assert!(!blob.exists());
    let again = site.ok(&["image", "add", &esd, "--name", "windows 11"]).await;
    assert_eq!((&again["id"], &again["content"]), (&added["id"], &added["content"]));
    assert!(blob.exists());
    assert_eq!(site.ok(&["image", "list"]).await, images, "it is what it was");
    let status = site.ok(&["status"]).await;
    assert!(!status["warnings"].to_string().contains("is lost"), "{status}");
    // With `-q` there is the answer, or nothing.
    site.ok(&["--yes", "ts", "delete", "Up"]).await;
    site.ok(&["--yes", "image", "delete", "Windows 11"]).await;
    let quiet = site.run(&["-q", "content", "list"]).await;
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""), "{quiet:?}");
    assert!(site.run(&["content", "list"]).await.stdout.contains("empty"));
}
