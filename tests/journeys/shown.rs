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
    text.lines().map(without_times).collect::<Vec<_>>().join("\n")
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
