//! Content by the names that update servers give it, and asking for what is not there yet; with curl as the outsider.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use catalog::server_sync::{Operation, content_path};
use support::{TestSite, tool};

use crate::downstream::*;

fn wanted(digests: &[String]) -> String {
    let each: String =
        digests.iter().map(|digest| format!("<base64Binary>{digest}</base64Binary>")).collect();
    format!("<fileDigestList>{each}</fileDigestList>")
}

/// A package that is downloaded, not distributed yet: SHA-1 and size of its first file.
async fn downloaded(site: &TestSite) -> (catalog::digest::Sha1Digest, u64) {
    site.package().await;
    site.ok(&["package", "download", "p"]).await;
    let contents = site.ok(&["content", "list"]).await;
    let sha1 = contents[0]["sha1"].as_str().expect("it has one").parse().expect("a SHA-1");
    (sha1, contents[0]["size"].as_u64().expect("it has one"))
}

#[tokio::test]
async fn content_is_served_by_sha_1_once_it_is_distributed() {
    let site = site(&[]).await;
    let dss = Downstream::of(&site).await;
    let (sha1, size) = downloaded(&site).await;
    let path = format!("/{}", content_path(sha1, "any.esd"));
    assert_eq!(dss.get(&path).await.status, 404, "stored, and not distributed");
    site.ok(&["package", "distribute", "p"]).await;
    let http = support::http();
    let get = |path: &str| http.get(format!("{}{path}", site.url));
    let whole = get(&path).send().await.unwrap();
    assert_eq!((whole.status().as_u16(), whole.headers()["accept-ranges"].to_str().unwrap()), (200, "bytes"));
    let whole = whole.bytes().await.unwrap();
    let mut checker = catalog::digest::Checker::new();
    checker.update(&whole);
    assert_eq!((checker.into_fingerprint().sha1, whole.len() as u64), (sha1, size));
    let lower = path.to_lowercase();
    let part = get(&lower).header("range", "bytes=2-9").send().await.unwrap();
    assert_eq!(
        (part.status().as_u16(), part.headers()["content-range"].to_str().unwrap()),
        (206, format!("bytes 2-9/{size}").as_str())
    );
    assert_eq!(part.bytes().await.unwrap(), whole[2..10]);
    let head = http.head(format!("{}{path}", site.url)).send().await.unwrap();
    assert_eq!(head.headers()["content-length"].to_str().unwrap(), size.to_string());
    let elsewhere = path.replace(&format!("/{}/", &path[9..11]), "/00/");
    assert!(elsewhere == path || dss.get(&elsewhere).await.status == 404, "another folder");
    site.ok(&["package", "withdraw", "p"]).await;
    assert_eq!(dss.get(&path).await.status, 404);
}

#[tokio::test]
async fn files_are_asked_for_and_remembered() {
    let mut all = tree();
    all.push(software(1, 1, &[UPGRADES, WINDOWS_11], &[1, 2], &[9]));
    let site = site(&all).await;
    let dss = Downstream::of(&site).await;
    let (stored, _) = downloaded(&site).await;
    let base64 = |n: u8| sha1(n).to_base64();
    // Files, a licence text, and content that is there.
    for digests in [
        vec![base64(1)],
        vec![base64(1), base64(2), base64(9)],
        vec![stored.to_base64()],
        vec![base64(1); 100],
    ] {
        let heard = dss.ask("DownloadFiles", &wanted(&digests)).await;
        heard.answer(Operation::DownloadFiles);
        assert!(heard.text.contains("<DownloadFilesResponse xmlns=\"http://www.microsoft.com/SoftwareDistribution\"></DownloadFilesResponse>"), "{heard:?}");
    }
    // Of none of them is a feature update made, so nobody can put them into a package.
    let status = site.ok(&["status"]).await;
    assert_eq!(status["wanted"], serde_json::Value::Null, "{status}");
    let (code, message) =
        dss.ask("DownloadFiles", &wanted(&[base64(7), base64(1), base64(8)])).await.refused();
    assert_eq!((code.as_str(), message), ("FileDigestsMissing", format!("{}|{}", base64(7), base64(8))));
    for wrong in
        [wanted(&vec![base64(1); 101]), wanted(&[]), String::new(), wanted(&[STANDARD.encode([1; 32])])]
    {
        let refused = dss.ask("DownloadFiles", &wrong).await.refused();
        assert_eq!(refused, ("InvalidParameters".to_owned(), "fileDigestList".to_owned()));
    }
}

#[tokio::test]
async fn what_is_asked_for_of_a_feature_update_is_told_to_the_administrator() {
    let site = site(&tree()).await;
    let name = "22001.1.220506-1250.ni_release_CLIENTBUSINESS_VOL_x64FRE_en-us.esd";
    let print = support::Seeded::new(1, 2_000).fingerprint();
    let title = "Windows 11 (business editions) en-us x64";
    let mut drafts = support::known_categories();
    let bundle =
        support::BundleDraft::classic(title, &[support::WINDOWS_11], support::FileDraft::of(name, &print));
    drafts.extend(bundle.drafts().cloned());
    let file = site.folder.path().join("more.cab");
    std::fs::write(&file, support::export_drafts(&drafts)).unwrap();
    site.ok(&["updates", "import", &file.to_string_lossy()]).await;
    let status = async || site.ok(&["status"]).await;
    let before = status().await;
    assert_eq!(before["wanted"], serde_json::Value::Null);
    let dss = Downstream::of(&site).await;
    dss.ask("DownloadFiles", &wanted(&[print.sha1.to_base64()])).await.answer(Operation::DownloadFiles);
    let after = status().await;
    let told = &after["wanted"];
    assert_eq!((&told["files"], &told["updates"]), (&1.into(), &serde_json::json!([title])), "{told}");
    let shown = site.run(&["status"]).await.stdout;
    assert!(
        shown.contains(&format!(" WANTED   1 file of `{title}` by update servers below, since ")),
        "{shown}"
    );
    assert_eq!(
        after["warnings"], before["warnings"],
        "whoever introduces himself by any name makes no site ill"
    );
}

#[tokio::test]
async fn curl_synchronises_too() {
    let Some(curl) = tool("curl") else { return };
    let site = site(&tree()).await;
    let dss = Downstream::of(&site).await;
    let file = site.folder.path().join("request.xml");
    let ask = |kind: &str, more: &[&str], body: &str| {
        std::fs::write(&file, body).unwrap();
        let output = std::process::Command::new(&curl)
            .args([
                "--silent",
                "--show-error",
                "--noproxy",
                "*",
                "--max-time",
                "30",
                "--write-out",
                "\n%{http_code}",
            ])
            .args(["--header", &format!("Content-Type: {kind}")])
            .arg("--data-binary")
            .arg(format!("@{}", file.display()))
            .args(more)
            .arg(format!("{}{SERVER_SYNC}", site.url))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.to_owned(), body.to_owned())
    };
    let list = operation(
        "GetRevisionIdList",
        &format!("{}<filter><GetConfig>true</GetConfig></filter>", shown(&dss.cookie)),
    );
    let ids = identities(&vec![(UPGRADES.to_owned(), 1); 10_000]);
    let many = operation("GetUpdateData", &format!("{}{ids}", shown(&dss.cookie)));
    assert!(many.len() > 1 << 20, "curl waits for leave to send so much");
    for more in [
        &[][..],
        &["--header", "Transfer-Encoding: chunked"],
        &["--header", "Expect: 100-continue"],
        &["--http1.0"],
    ] {
        let (status, body) = ask("text/xml", more, &list);
        assert_eq!(
            (status.as_str(), body.matches("<UpdateIdentity>").count()),
            ("200", tree().len()),
            "{more:?}: {body}"
        );
        let (status, body) = ask("text/xml", more, &many);
        // HTTP/1.0 has no chunks, and is never asked to continue.
        assert!(
            status == "500" && body.contains("<Message>updateIds</Message>"),
            "{more:?}: {status} {body}"
        );
    }
    let (status, _) = ask("application/json", &[], &list);
    assert_eq!(status, "415");
    let (status, _) = ask("text/xml", &[], &"x".repeat(3 << 20));
    assert_eq!(status, "413");
}
