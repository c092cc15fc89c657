//! What people see, word by word. `INSTA_UPDATE=always cargo test -p spsync-tests` accepts a change that is meant.

use support::{Ran, TestSite, Way};

/// Output without what differs from run to run: ports, folders, times and seconds.
fn steady(site: &TestSite, ran: &Ran) -> String {
    let mut text = format!("exit {}\n{}", ran.status, ran.stdout);
    if !ran.stderr.is_empty() {
        text += &format!("--- stderr\n{}", ran.stderr);
    }
    for (from, to) in [
        (site.origin.mirror().base_url(), "http://MIRROR"),
        (site.origin.base_url(), "http://ORIGIN"),
        (site.url.clone(), "http://SITE"),
        (site.folder.path().to_string_lossy().into_owned(), "FOLDER"),
    ] {
        text = text.replace(&from, to);
    }
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines() {
        // How often progress is told is a matter of speed; its last word is not.
        if lines.last().is_some_and(|last| phase(last).is_some() && phase(last) == phase(line)) {
            lines.pop();
        }
        lines.push(line);
    }
    lines.into_iter().map(without_times).collect::<Vec<_>>().join("\n")
}

/// The phase of ` catalogs: 1 of 2, 7 new`.
fn phase(line: &str) -> Option<&str> {
    let (phase, done) = line.strip_prefix(' ')?.split_once(": ")?;
    let is_count = done.split_once(" of ").is_some_and(|(done, _)| done.parse::<u64>().is_ok());
    (is_count && !phase.contains(' ')).then_some(phase)
}

/// `2026-11-24 15:05 UTC` becomes `TIME`, `done in 0.1s` becomes `done in SECONDS`, free space is not ours to promise.
fn without_times(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut rest = line.split(' ').peekable();
    while let Some(word) = rest.next() {
        let is_date = word.len() == 10 && word.starts_with("20") && word.matches('-').count() == 2;
        if is_date && rest.peek().is_some_and(|next| next.len() == 5 && next.contains(':')) {
            let zone = rest.nth(1).unwrap_or_default();
            words.push(if zone.ends_with(',') { "TIME,".to_owned() } else { "TIME".to_owned() });
        } else if word.ends_with("s:") && word[..word.len() - 2].parse::<f64>().is_ok() {
            words.push("SECONDS:".to_owned());
        } else if rest.peek() == Some(&"GiB") && line.contains(" free ") {
            rest.next();
            words.push("FREE".to_owned());
        } else {
            words.push(word.to_owned());
        }
    }
    let indent = line.len() - line.trim_start().len();
    " ".repeat(indent) + &apart(&words.join(" "))
}

/// Columns two blanks apart, however wide a port, a zone or a user's name made them.
fn apart(line: &str) -> String {
    let columns: Vec<&str> = line.split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
    let named = |column: &str| {
        if column.ends_with(" (by hand)") { "USER (by hand)".to_owned() } else { column.to_owned() }
    };
    columns.into_iter().map(named).collect::<Vec<_>>().join("  ")
}

#[tokio::test]
async fn a_first_day_looks_like_this() {
    let site = TestSite::start(Way::Alone).await;
    // One file after the other: lists are in the order in which they came.
    let config = site.folder.path().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[download]", "[download]\nparallel_files = 1")).unwrap();
    let mut told = String::new();
    let mut tell = async |args: &[&str]| {
        let ran = site.run(args).await;
        told += &format!("$ spsync {}\n{}\n\n", args.join(" "), steady(&site, &ran));
    };
    tell(&["updates", "list"]).await;
    tell(&["now"]).await;
    tell(&["updates", "list", "-o", "wide"]).await;
    tell(&["sync", "products"]).await;
    tell(&["sync", "plan", "--lang", "de-de"]).await;
    tell(&["updates", "show", "2871b5e3"]).await;
    tell(&["license", "list", "--pending"]).await;
    tell(&["license", "accept", "2871b5e3"]).await;
    tell(&["license", "review", "2871b5e3"]).await;
    tell(&["license", "accept", "2871b5e3"]).await;
    tell(&["package", "create", "win11"]).await;
    tell(&["package", "add", "win11", "--product", "Windows 11", "--arch", "x64"]).await;
    tell(&["package", "show", "win11"]).await;
    tell(&["package", "distribute", "win11"]).await;
    tell(&["-q", "package", "download", "win11"]).await;
    tell(&["package", "distribute", "win11"]).await;
    tell(&["-q", "package", "validate", "win11"]).await;
    tell(&["package", "list"]).await;
    tell(&["dp", "list"]).await;
    tell(&["content", "list"]).await;
    tell(&["sync", "history"]).await;
    tell(&["task", "list"]).await;
    tell(&["status"]).await;
    tell(&["updates", "decline", "2871b5e3"]).await;
    tell(&["--yes", "updates", "decline", "2871b5e3"]).await;
    tell(&["updates", "list"]).await;
    tell(&["package", "show", "nothing"]).await;
    tell(&["explain", "LICENSE_NOT_ACCEPTED"]).await;
    insta::assert_snapshot!(told);
}

#[tokio::test]
async fn authoring_looks_like_this() {
    let site = TestSite::start(Way::Daemon).await;
    let file = |name: &str| site.folder.path().join(name).to_string_lossy().into_owned();
    site.ok(&["now"]).await;
    let esd = site
        .published
        .find("Windows 11", "business", catalog::esd_catalog::Architecture::X64, "en-us")
        .unwrap();
    std::fs::write(file("install.esd"), esd.content.read(0, esd.wanted.size as usize)).unwrap();
    std::fs::write(file("facts.toml"), "os_type = \"client\"\nversion = \"10.0.22631\"\nedition = \"Enterprise\"\narchitecture = \"x64\"\nlanguage = \"en-us\"\n").unwrap();
    std::fs::write(file("key"), "ABCDE-12345-FGHIJ-67890-KLMNO").unwrap();
    let mut told = String::new();
    let mut tell = async |args: &[&str]| {
        let ran = site.run(args).await;
        let args = args.join(" ").replace(&*site.folder.path().to_string_lossy(), "FOLDER");
        told += &format!("$ spsync {args}\n{}\n\n", steady(&site, &ran));
    };
    tell(&["ts", "create", "--list-types"]).await;
    tell(&["ts", "create", "--choices"]).await;
    tell(&["ts", "create", "Upgrade", "--upgrade"]).await;
    tell(&["ts", "create", "Upgrade", "--upgrade", "--feature-update", "2871b5e3"]).await;
    tell(&["-q", "license", "review", "2871b5e3"]).await;
    tell(&["license", "accept", "2871b5e3"]).await;
    tell(&["ts", "create", "Upgrade", "--upgrade", "--feature-update", "2871b5e3", "--updates", "required"])
        .await;
    tell(&["ts", "list"]).await;
    tell(&["ts", "show", "Upgrade", "--tree"]).await;
    tell(&["ts", "show", "Upgrade"]).await;
    tell(&["ts", "refs", "Upgrade", "--pre-download"]).await;
    tell(&["ts", "plan", "Upgrade", "--facts", &file("facts.toml")]).await;
    tell(&["ts", "lint", "Upgrade"]).await;
    tell(&["media", "create", "Upgrade", "--to", &file("staging")]).await;
    tell(&["prestage", "create", "Upgrade", "--to", &file("x.pkgx")]).await;
    tell(&["ts", "export", "Upgrade", "--to", &file("up.zip")]).await;
    tell(&["ts", "import", &file("up.zip"), "--duplicates", "create-new"]).await;
    tell(&["ts", "lint", "XYZ00002"]).await;
    tell(&["ts", "diff", "XYZ00001", "XYZ00002"]).await;
    tell(&["image", "add", &file("install.esd"), "--name", "Windows 11", "--image-version", "25H2"]).await;
    tell(&[
        "ts",
        "create",
        "By image",
        "--upgrade",
        "--image",
        "Windows 11",
        "--product-key-file",
        &file("key"),
    ])
    .await;
    tell(&[
        "ts",
        "step",
        "add",
        "By image",
        "run-command",
        "name=Collect",
        "command=cmd /c dir",
        "--in",
        "Collect logs",
    ])
    .await;
    tell(&["image", "list"]).await;
    tell(&["collection", "create", "ring-1"]).await;
    tell(&["collection", "add", "ring-1", "PC1"]).await;
    tell(&["settings", "set", "slow", "priority=5", "thread_priority=low", "collection=ring-1"]).await;
    tell(&["settings", "list"]).await;
    tell(&["settings", "effective", "--client", "PC1"]).await;
    insta::assert_snapshot!(told);
}
