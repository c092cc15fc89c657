//! Catalogs: real ones, unchanged ones, bad ones.

use serde_json::json;
use support::{CatalogFormat, Fault, TestSite, Way, data_dir};

/// File records, ESDs and bytes of the real catalogs, counted independently of this program.
const REAL: [(&str, u64, u64, u64); 8] = [
    ("products_win10_1607_20170116.cab", 1320, 124, 388_827_265_594),
    ("products_win10_1709_20180105.cab", 2136, 154, 460_981_001_736),
    ("products_win10_1903_20190502.cab", 3196, 230, 620_553_873_006),
    ("products_win10_2004_20200514.cab", 3196, 230, 658_517_341_677),
    ("products_win10_22h2_19045.3803.xml.gz", 3196, 230, 796_158_451_529),
    ("products_win11_22h2_22621.1702.xml.gz", 1978, 153, 623_572_502_755),
    ("products_win11_24h2_26100.4349.xml", 1978, 153, 687_392_640_421),
    ("products_win11_25h2_26200.8246.xml", 1978, 153, 866_310_407_430),
];

#[tokio::test]
async fn every_real_catalog_goes_into_one_database() {
    let Some(folder) = data_dir("esd-catalog") else { return };
    let names: Vec<String> =
        REAL.iter().map(|row| folder.join(row.0).to_string_lossy().into_owned()).collect();
    let site = TestSite::with(Way::Alone, |_, _| names, "").await;
    let report = site.ok(&["now"]).await;
    for (catalog, (name, records, esds, bytes)) in report["catalogs"].as_array().unwrap().iter().zip(REAL) {
        assert!(catalog["location"].as_str().unwrap().ends_with(name));
        assert_eq!(
            (&catalog["records"], &catalog["esds"], &catalog["bytes"]),
            (&json!(records), &json!(esds), &json!(bytes)),
            "{name}"
        );
        assert_eq!(
            (&catalog["languages"], &catalog["signature"]),
            (&json!(38), &json!("not checked")),
            "{name}"
        );
    }
    assert_eq!(report["new"], 1427);
    let before = site.dump().await;
    let again = site.ok(&["now"]).await;
    assert!(again["catalogs"].as_array().unwrap().iter().all(|catalog| catalog["unchanged"] == true));
    assert_eq!(site.dump().await, before);

    let all = site.ok(&["updates", "list", "--all"]).await;
    let encrypted: Vec<_> =
        all["updates"].as_array().unwrap().iter().filter(|u| u["encrypted"] == true).collect();
    assert_eq!(encrypted.len(), 124, "Windows 10 1607");
    assert!(encrypted.iter().all(|update| update["deployable"] == false));
    site.ok(&["package", "create", "p"]).await;
    let picked = site.ok(&["package", "add", "p", "--release", "1607"]).await;
    assert_eq!(picked["added"], json!([]), "never picked");
    let id = encrypted[0]["update"].as_str().unwrap();
    assert_eq!(
        site.ok(&["package", "add", "p", id]).await["added"].as_array().unwrap().len(),
        1,
        "but by its id"
    );
}

#[tokio::test]
async fn an_unchanged_catalog_costs_one_question_and_one_row() {
    let site = TestSite::start(Way::Alone).await;
    site.ok(&["now"]).await;
    let path = site.published.windows11.strip_prefix(&site.origin.base_url()).unwrap();
    let before = site.dump().await;
    let second = site.ok(&["now"]).await;
    assert!(second["catalogs"].as_array().unwrap().iter().all(|catalog| catalog["unchanged"] == true));
    let asked = site.origin.requests_for(path);
    assert_eq!((asked.len(), asked[1].status, asked[1].bytes_sent), (2, Some(304), 0));
    assert_eq!(site.dump().await, before);
    let full = site.ok(&["now", "--full"]).await;
    assert_eq!(
        (&full["catalogs"][0]["unchanged"], &full["new"], &full["revised"]),
        (&json!(false), &json!(0), &json!(0))
    );
    assert_eq!(site.dump().await, before);
}

#[tokio::test]
async fn a_bad_catalog_changes_nothing_and_says_where_it_is_bad() {
    let site = TestSite::with(Way::Alone, |_, published| vec![published.windows11.clone()], "").await;
    site.ok(&["now"]).await;
    let before = site.dump().await;
    let url = site.published.windows11.clone();
    let path = url.strip_prefix(&site.origin.base_url()).unwrap().to_owned();
    let cabinet = support::http().get(&url).send().await.unwrap().bytes().await.unwrap();
    let xml = site.origin.catalog_document().xml();
    let publish = |bytes: Vec<u8>| site.origin.publish_bytes(&path, "application/octet-stream", bytes);
    for (code, bytes) in [
        ("CAB_MALFORMED", cabinet[..cabinet.len() / 2].to_vec()),
        ("CATALOG_TRUNCATED", xml[..xml.len() / 2].to_vec()),
        ("CATALOG_MALFORMED", b"<html><body>Sign in</body></html>".to_vec()),
        ("CATALOG_MALFORMED", [b"<!DOCTYPE MCT [<!ENTITY a \"b\">]>".as_slice(), &xml].concat()),
        ("CATALOG_TOO_LARGE", vec![b' '; (64 << 20) + 1]),
    ] {
        publish(bytes);
        let ran = site.refused(code, &["now"]).await;
        assert!(ran.stderr.contains(&path), "it names the document: {ran:?}");
        assert_eq!(site.dump().await, before, "{code}");
    }
    publish(cabinet.to_vec());
    for (fault, codes) in [
        (Fault::Status(404, None), &["SOURCE_NOT_FOUND"][..]),
        (Fault::Status(500, None), &["SOURCE_FAILED"]),
        (Fault::CutAfter(100), &["TRANSFER_CUT_SHORT", "SOURCE_UNREACHABLE"]),
        (Fault::CloseAtOnce, &["SOURCE_UNREACHABLE"]),
        (Fault::RedirectLoop, &["TOO_MANY_REDIRECTS"]),
        (Fault::RedirectTo("http://evil.example/products.cab".to_owned()), &["REDIRECT_NOT_ALLOWED"]),
        (
            Fault::RedirectTo("http://10.9.8.7/products.cab".to_owned()),
            &["REDIRECT_NOT_ALLOWED", "NETWORK_NOT_ALLOWED"],
        ),
        (Fault::RedirectTo("file:///etc/passwd".to_owned()), &["SCHEME_NOT_ALLOWED", "REDIRECT_NOT_ALLOWED"]),
        (Fault::EndlessBody, &["CATALOG_TOO_LARGE", "TRANSFER_TOO_LONG"]),
    ] {
        site.origin.fault(&path, fault.clone());
        let ran = site.json(&["now", "--full"]).await;
        assert!(codes.contains(&ran.code().as_str()), "{fault:?}: {ran:?}");
        assert_eq!(site.dump().await, before, "{fault:?}");
        site.origin.heal(&path);
    }
    assert_eq!(site.ok(&["now", "--full"]).await["new"], 0);
}

#[tokio::test]
async fn a_bad_catalog_does_not_stop_the_others() {
    let site = TestSite::with(
        Way::Alone,
        |origin, published| {
            let bad = origin.publish_bytes("/bad.cab", "application/octet-stream", b"MSCFgarbage".to_vec());
            vec![bad, published.windows10.clone()]
        },
        "",
    )
    .await;
    let ran = site.refused("SYNC_PARTIAL", &["now"]).await;
    assert_eq!((ran.status, &ran.json()["new"]), (7, &json!(1)));
    let history = site.ok(&["sync", "history"]).await;
    assert_eq!(history[0]["state"], "partly");
}

#[tokio::test]
async fn a_private_address_must_be_named() {
    let site = TestSite::with(
        Way::Alone,
        |origin, published| {
            vec![
                published.windows11.replace("127.0.0.1", "localhost"),
                origin.publish_catalog("x.xml", CatalogFormat::Plain),
            ]
        },
        "",
    )
    .await;
    // Without the network nothing on loopback is reached, by name or by number.
    let config = site.folder.path().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let (head, source) = text.split_once("[[source]]").unwrap();
    let without = format!("{head}[[source]]{}", source.replace("allow_networks = [\"127.0.0.0/8\"]", ""));
    std::fs::write(&config, without).unwrap();
    let before = site.origin.requests().len();
    site.refused("NETWORK_NOT_ALLOWED", &["now"]).await;
    assert_eq!(site.origin.requests().len(), before, "not even asked");
    std::fs::write(&config, text).unwrap();
    site.ok(&["now"]).await;
}
