//! What an update server that synchronises from us is told ([MS-WSUSSS] section 3.1.4).

use catalog::server_sync::{Blob, Operation, Response};

use crate::downstream::*;

/// The tree, and five updates: one with two revisions, one of another class, one of another product, one of neither, one
/// that names no category.
fn small() -> Vec<Document> {
    let mut all = tree();
    all.push(software(1, 1, &[UPGRADES, WINDOWS_11], &[1], &[]));
    all.push(software(1, 2, &[UPGRADES, WINDOWS_11], &[1], &[]));
    all.push(software(2, 1, &[UPDATES, WINDOWS_11], &[2], &[]));
    all.push(software(3, 1, &[UPGRADES, WINDOWS_10], &[3], &[]));
    all.push(software(4, 1, &[], &[], &[]));
    all
}

fn ids(all: &[(u32, u32)]) -> Vec<(String, u32)> {
    all.iter().map(|(n, number)| (update(*n), *number)).collect()
}

#[tokio::test]
async fn a_whole_synchronisation_and_the_difference_after_it() {
    let site = site(&small()).await;
    let dss = Downstream::of(&site).await;

    // First the categories.
    let config = dss.list(None, true, "").await;
    let tree = tree();
    let expected: Vec<_> = tree.iter().map(|one| (one.id.clone(), one.number)).collect();
    assert_eq!(pairs(&config.revisions), expected);
    let (number, time) = config.anchor.split_once(',').expect("the form of Windows");
    assert!(
        number.parse::<u64>().is_ok() && time.len() == "2026-10-04 16:33:26.671".len(),
        "{}",
        config.anchor
    );

    // Their documents, to the byte, in the order of the question.
    let mut asked = expected.clone();
    asked.reverse();
    let data = dss.documents(&asked).await;
    for (one, document) in data.updates.iter().zip(tree.iter().rev()) {
        assert_eq!(
            (one.id.update.to_string(), &one.blob),
            (document.id.clone(), &Blob::Plain(document.xml.clone()))
        );
    }
    assert_eq!((data.updates.len(), data.urls.len()), (tree.len(), 0));

    // Then the updates of what is chosen.
    let chosen = |delta| {
        deltas("Categories", &[(WINDOWS_11, delta)])
            + &deltas("Classifications", &[(UPGRADES, delta), (UPDATES, delta)])
    };
    let first = dss.list(None, false, &chosen(false)).await;
    assert_eq!(pairs(&first.revisions), ids(&[(1, 2), (2, 1)]));
    let data = dss.documents(&ids(&[(2, 1), (1, 2)])).await;
    assert_eq!(data.updates[0].digests, [sha1(2)]);
    assert_eq!(data.urls.iter().map(|url| url.digest).collect::<Vec<_>>(), [sha1(2), sha1(1)]);

    // Nothing has changed, until something has.
    let again = dss.list(Some(&first.anchor), false, &chosen(true)).await;
    assert_eq!(again.revisions, []);
    let number = |anchor: &str| anchor.split(',').next().unwrap_or_default().to_owned();
    assert_eq!(number(&again.anchor), number(&first.anchor));
    import(
        &site,
        &[
            software(5, 1, &[UPGRADES, WINDOWS_11], &[], &[]),
            software(6, 1, &[UPGRADES, WINDOWS_10], &[], &[]),
        ],
    )
    .await;
    let delta = dss.list(Some(&again.anchor), false, &chosen(true)).await;
    assert_eq!(pairs(&delta.revisions), ids(&[(5, 1)]));
    assert_eq!(dss.list(Some(&config.anchor), true, "").await.revisions, [], "no category is new");
    let all = dss.list(Some(&again.anchor), false, &chosen(false)).await;
    assert_eq!(
        pairs(&all.revisions),
        ids(&[(1, 2), (2, 1), (5, 1)]),
        "without `Delta` all of it, anchor or not"
    );
    // A product that was ticked since: all of that, and what is new of the others.
    let ticked = deltas("Categories", &[(WINDOWS_11, true), (WINDOWS_10, false)])
        + &deltas("Classifications", &[(UPGRADES, true), (UPDATES, true)]);
    let ticked = dss.list(Some(&again.anchor), false, &ticked).await;
    assert_eq!(pairs(&ticked.revisions), ids(&[(3, 1), (5, 1), (6, 1)]));
}

#[tokio::test]
async fn filters_mean_what_the_specification_says() {
    let site = site(&small()).await;
    let dss = Downstream::of(&site).await;
    let all = ids(&[(1, 2), (2, 1), (3, 1), (4, 1)]);
    let list = |categories: &[(&str, bool)], classes: &[(&str, bool)]| {
        deltas("Categories", categories) + &deltas("Classifications", classes)
    };
    let unknown = "00000000-0000-4000-8000-000000000000";
    for (what, lists, expected) in [
        ("no lists", String::new(), all.clone()),
        ("empty lists", list(&[], &[]), all.clone()),
        ("empty elements", "<Categories/><Classifications/>".to_owned(), all.clone()),
        ("categories only", list(&[(WINDOWS_11, false)], &[]), vec![]),
        ("classifications only", list(&[], &[(UPGRADES, false)]), vec![]),
        ("one and one", list(&[(WINDOWS_11, false)], &[(UPGRADES, false)]), ids(&[(1, 2)])),
        ("a delta of nothing known", list(&[(WINDOWS_11, true)], &[(UPGRADES, true)]), ids(&[(1, 2)])),
        ("unknown ids", list(&[(unknown, false)], &[(UPGRADES, false)]), vec![]),
        ("a family", list(&[(FAMILY, false)], &[(UPGRADES, false)]), ids(&[(1, 2), (3, 1)])),
        (
            "a company",
            list(&[(COMPANY, false)], &[(UPGRADES, false), (UPDATES, false)]),
            ids(&[(1, 2), (2, 1), (3, 1)]),
        ),
        (
            "upper case and braces",
            list(
                &[(&format!("{{{}}}", WINDOWS_10.to_uppercase()), false)],
                &[(&UPGRADES.to_uppercase(), false)],
            ),
            ids(&[(3, 1)]),
        ),
        (
            "languages and unknown elements",
            list(&[(WINDOWS_10, false)], &[(UPGRADES, false)])
                + "<Languages><LanguageAndDelta><Id>1031</Id><Delta>true</Delta></LanguageAndDelta></Languages><New><a/></New>",
            ids(&[(3, 1)]),
        ),
    ] {
        assert_eq!(pairs(&dss.list(None, false, &lists).await.revisions), expected, "{what}");
    }
    // Of categories the lists are not looked at.
    let config = dss.list(None, true, &list(&[(unknown, false)], &[])).await;
    assert_eq!(config.revisions.len(), tree().len());
}

#[tokio::test]
async fn anchors_are_ours_or_refused() {
    let site = site(&small()).await;
    let dss = Downstream::of(&site).await;
    let list = |anchor: &str| {
        let fields = format!("<filter><Anchor>{anchor}</Anchor><GetConfig>false</GetConfig></filter>");
        let dss = &dss;
        async move { dss.ask("GetRevisionIdList", &fields).await }
    };
    for garbage in [
        "x",
        "9438",
        "2026-10-05 17:27:44.393",
        "9438,2026-13-04 16:33:26.671",
        "-1,2026-10-04 16:33:26.671",
        "1,2,3",
    ] {
        let refused = list(garbage).await.refused();
        assert_eq!(refused, ("InvalidParameters".to_owned(), "filter".to_owned()), "{garbage}");
    }
    let future = "12,2999-10-04 16:33:26.671";
    let Response::RevisionIdList(none) = list(future).await.answer(Operation::GetRevisionIdList) else {
        panic!()
    };
    assert_eq!(
        (none.revisions.len(), none.anchor.as_str()),
        (0, future),
        "nothing is newer, and nothing passed over"
    );
    // Of another catalog, or of this one before it was brought back to an older state: everything is to be asked anew.
    for other in ["9438,2003-10-04 16:33:26.671", "0,2003-10-04 16:33:26.671"] {
        assert_eq!(list(other).await.refused().0, "ServerChanged", "{other}");
    }
    let now = dss.list(None, false, "").await.anchor;
    let ahead = format!("9999{now}");
    assert_eq!(list(&ahead).await.refused().0, "ServerChanged");
    // Brought back, and its numbers given once more: what has this number now came after the anchor.
    let (number, time) = now.split_once(',').expect("a number and a time");
    let next = number.parse::<i64>().expect("a number") + 1;
    import(&site, &[software(900, 1, &[UPGRADES, WINDOWS_11], &[], &[])]).await;
    assert_eq!(list(&format!("{next},{time}")).await.refused().0, "ServerChanged");
    let since = dss.list(Some(&now), false, "").await;
    assert_eq!(since.revisions.len(), 1, "the anchor from before means what it meant");
    // Nothing, blank and nil are no anchor.
    for none in ["<Anchor/>", "<Anchor></Anchor>", "<Anchor xsi:nil=\"true\"/>"] {
        let heard = dss
            .ask("GetRevisionIdList", &format!("<filter>{none}<GetConfig>true</GetConfig></filter>"))
            .await;
        let Response::RevisionIdList(all) = heard.answer(Operation::GetRevisionIdList) else { panic!() };
        assert_eq!(all.revisions.len(), tree().len(), "{none}");
    }
}

#[tokio::test]
async fn documents_come_in_answers_of_a_bearable_size() {
    let mut all = tree();
    // Each is about 300,000 bytes inside of a message.
    let padding = "<p/>".repeat(30_000);
    let big = |n: u32, padding: &str| {
        let mut one = software(n, 1, &[UPGRADES, WINDOWS_11], &[n as u8], &[]);
        one.xml = one.xml.replace("</upd:Update>", &format!("{padding}</upd:Update>"));
        one
    };
    all.extend((1..=10).map(|n| big(n, &padding)));
    all.push(big(11, &padding.repeat(20)));
    let site = site(&all).await;
    let dss = Downstream::of(&site).await;
    let asked = ids(&(1..=10).map(|n| (n, 1)).collect::<Vec<_>>());
    let heard = dss.ask("GetUpdateData", &identities(&asked)).await;
    assert!((1_500_000..2_100_000).contains(&heard.text.len()), "{}", heard.text.len());
    let Response::UpdateData(data) = heard.answer(Operation::GetUpdateData) else { panic!() };
    assert!((5..10).contains(&data.updates.len()), "{}", data.updates.len());
    assert_eq!(data.urls.len(), data.updates.len(), "files of what is answered, and no others");
    let rest = dss.documents(&asked[data.updates.len()..]).await;
    assert_eq!(rest.updates.len() + data.updates.len(), 10, "the rest at the second time");
    // One that is larger than an answer comes alone.
    let one = dss.documents(&ids(&[(11, 1), (1, 1)])).await;
    assert_eq!(one.updates.len(), 1);
    assert_eq!(one.updates[0].blob, Blob::Plain(all.last().unwrap().xml.clone()));
    // Whatever is asked twice is answered once.
    let twice = dss.documents(&ids(&[(1, 1), (2, 1), (1, 1)])).await;
    assert_eq!(pairs(&twice.updates.iter().map(|one| one.id).collect::<Vec<_>>()), ids(&[(1, 1), (2, 1)]));
}

#[tokio::test]
async fn what_is_not_known_or_too_much_is_refused_by_name() {
    let site = site(&small()).await;
    let dss = Downstream::of(&site).await;
    let code = |text: &str| text.to_owned();
    // As real servers: one of them poisons the call, and the fault says which.
    for unknown in [(update(99), 1), (update(1), 7)] {
        let asked = [(update(2), 1), unknown.clone()];
        let refused = dss.ask("GetUpdateData", &identities(&asked)).await.refused();
        let message = format!("{}/{} is not known", unknown.0, unknown.1);
        assert_eq!(refused, (code("InternalServerError"), message));
    }
    assert_eq!(
        dss.documents(&ids(&[(1, 1)])).await.updates.len(),
        1,
        "older revisions too: bundles name them"
    );
    let hundred: Vec<_> = vec![(update(1), 2); 100];
    assert_eq!(dss.documents(&hundred).await.updates.len(), 1);
    let refused = (code("InvalidParameters"), code("updateIds"));
    for too_many in [101, 10_000] {
        let asked = identities(&vec![(update(1), 2); too_many]);
        assert_eq!(dss.ask("GetUpdateData", &asked).await.refused(), refused, "{too_many}");
    }
    for wrong in [
        "",
        "<updateIds/>",
        "<updateIds><UpdateIdentity><UpdateID>x</UpdateID></UpdateIdentity></updateIds>",
        "<updateIds><UpdateIdentity><RevisionNumber>1</RevisionNumber></UpdateIdentity></updateIds>",
    ] {
        assert_eq!(dss.ask("GetUpdateData", wrong).await.refused(), refused, "{wrong}");
    }
    // Keys of encrypted files: there are none.
    let heard = dss.ask("GetUpdateDecryptionData", &identities(&ids(&[(1, 2)]))).await;
    assert!(
        matches!(heard.answer(Operation::GetUpdateDecryptionData), Response::DecryptionData(data) if data.updates.is_empty())
    );
    assert!(heard.text.contains("<UpdateFileDecryptionData></UpdateFileDecryptionData>"), "{heard:?}");
    let too_many = identities(&vec![(update(1), 2); 101]);
    assert_eq!(dss.ask("GetUpdateDecryptionData", &too_many).await.refused(), refused);
    // What a whole upstream offers too.
    for name in ["GetDeployments", "GetDriverIdList", "GetDriverSetData", "GetRelatedRevisionsForUpdates"] {
        let (code, message) = dss.ask(name, "").await.refused();
        assert_eq!(
            (code.as_str(), message),
            ("InternalServerError", format!("{name} is not offered by this server"))
        );
    }
    for name in ["GetRollupConfiguration", "RollupDownstreamServers"] {
        let (code, _) = dss.post(REPORTING, operation(name, "")).await.refused();
        assert_eq!(code, "InternalServerError", "{name}");
    }
    // An operation at the wrong service, and one that nobody has.
    let (wrong, _) = dss.post(AUTHORIZATION, operation("GetAuthConfig", "")).await.refused();
    let (other, _) = dss.post(SERVER_SYNC, Downstream::introduction("dss.example", ACCOUNT)).await.refused();
    let (none, message) = dss.call("GetNothing", "").await.refused();
    assert_eq!([wrong, other, none], [(); 3].map(|()| code("InvalidParameters")));
    assert!(message.contains("GetNothing"), "{message}");
    // `Ping` is answered, by both.
    let ping = envelope(
        "<Ping xmlns=\"http://www.microsoft.com/SoftwareDistribution/Server/IMonitorable\"><pingLevel>1</pingLevel></Ping>",
    );
    for path in [SERVER_SYNC, AUTHORIZATION] {
        let heard = dss.post(path, ping.clone()).await;
        assert!(
            matches!(heard.answer(Operation::Ping), Response::Pong(pong) if pong.name == "spsync"),
            "{heard:?}"
        );
    }
}

#[tokio::test]
async fn who_a_server_is_and_what_it_speaks_is_checked() {
    let site = site(&[]).await;
    let dss = Downstream::of(&site).await;
    for (name, guid, parameter) in [
        ("", ACCOUNT, "accountName"),
        ("no name", ACCOUNT, "accountName"),
        ("dss.example", "no-guid", "accountGuid"),
    ] {
        let refused = dss.post(AUTHORIZATION, Downstream::introduction(name, guid)).await.refused();
        assert_eq!(refused, ("InvalidParameters".to_owned(), parameter.to_owned()), "{name} {guid}");
    }
    let authorization = dss.authorization().await;
    for (version, expected) in [
        ("1.1", None),
        ("1.20", None),
        ("1.99", None),
        ("2.0", Some("IncompatibleProtocolVersion")),
        ("0.9", Some("IncompatibleProtocolVersion")),
        ("1", Some("InvalidParameters")),
        ("", Some("InvalidParameters")),
        ("a.b", Some("InvalidParameters")),
    ] {
        let heard = dss.call("GetCookie", &Downstream::admission(&authorization, version)).await;
        match expected {
            None => drop(heard.answer(Operation::GetCookie)),
            Some(code) => assert_eq!(heard.refused().0, code, "{version}"),
        }
    }
    let one = Downstream::admission(&authorization, "1.20");
    let twice = one.replace("</authCookies>", "<AuthorizationCookie/></authCookies>");
    for wrong in [
        "<protocolVersion>1.20</protocolVersion>",
        "<authCookies/><protocolVersion>1.20</protocolVersion>",
        &twice,
    ] {
        let refused = dss.call("GetCookie", wrong).await.refused();
        assert_eq!(refused, ("InvalidParameters".to_owned(), "authCookies".to_owned()), "{wrong}");
    }
    // The cookie from before, whatever it is, is no hindrance.
    for old in [
        "<oldCookie/>",
        "<oldCookie><Expiration>x</Expiration><EncryptedData>AAAA</EncryptedData></oldCookie>",
    ] {
        let heard = dss.call("GetCookie", &format!("{one}{old}")).await;
        heard.answer(Operation::GetCookie);
    }
}

#[tokio::test]
async fn the_role_can_be_switched_off_and_the_key_is_a_secret_of_the_site() {
    let mut site = configured("[update_point]\nupstream_role = false\n").await;
    let http = support::http();
    for path in [SERVER_SYNC, AUTHORIZATION, REPORTING] {
        let status = http.get(format!("{}{path}", site.url)).send().await.unwrap().status();
        assert_eq!(status, 404, "{path}");
    }
    // A reload applies it.
    std::fs::write(site.folder.path().join("conf.d/test.toml"), "").unwrap();
    site.hang_up().await;
    let status = async || http.get(format!("{}{SERVER_SYNC}", site.url)).send().await.unwrap().status();
    support::until("it is on again", async || status().await == 200).await;
    // A cookie outlives the daemon.
    let dss = Downstream::of(&site).await;
    site.stop_daemon().await;
    site.start_daemon().await;
    assert_eq!(dss.list(None, false, "").await.revisions, []);
    let key = std::fs::read(site.folder.path().join("site/update-point.key")).unwrap();
    assert_eq!(key.len(), 32);
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!site.dump().await.contains(&hex));
}
