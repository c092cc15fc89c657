//! What Microsoft's own client library insists on, does and bears: each point was measured with it against a scripted
//! server, and each is a test here against the running service.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use catalog::server_sync::{Blob, Operation, Response};

use crate::downstream::*;

fn small() -> Vec<Document> {
    let mut all = tree();
    // Two updates that share a licence text, and two without files.
    all.push(software(1, 1, &[UPGRADES, WINDOWS_11], &[1], &[9]));
    all.push(software(2, 1, &[UPGRADES, WINDOWS_11], &[2, 1], &[9, 8]));
    all.push(software(3, 1, &[UPGRADES, WINDOWS_11], &[], &[]));
    all.push(software(4, 1, &[], &[], &[]));
    all
}

/// Where each of `names` begins as an element, in this order.
#[track_caller]
fn in_order(text: &str, names: &[&str]) {
    let places: Vec<_> = names
        .iter()
        .map(|name| text.find(&format!("<{name}>")).unwrap_or_else(|| panic!("no <{name}>: {text}")))
        .collect();
    assert!(places.is_sorted(), "expected the order {names:?}: {text}");
}

#[tokio::test]
async fn fields_stand_in_the_order_of_the_specification() {
    let site = site(&small()).await;
    let dss = Downstream::of(&site).await;
    let auth = dss.call("GetAuthConfig", "").await;
    in_order(&auth.text, &["LastChange", "AuthInfo", "AuthPlugInInfo", "PlugInID", "ServiceUrl"]);
    assert!(auth.text.contains(
        "<PlugInID>DssTargeting</PlugInID><ServiceUrl>DssAuthWebService/DssAuthWebService.asmx</ServiceUrl>"
    ));
    // The other way round the plug-in is silently lost, and GetCookie faults.
    let granted = dss.post(AUTHORIZATION, Downstream::introduction("dss.example", ACCOUNT)).await;
    in_order(&granted.text, &["PlugInId", "CookieData"]);
    let config = dss.ask("GetConfigData", "").await;
    in_order(
        &config.text,
        &[
            "CatalogOnlySync",
            "LazySync",
            "ServerHostsPsfFiles",
            "MaxNumberOfUpdatesPerRequest",
            "MaxNumberOfDriverSetsPerRequest",
            "MaxNumberOfComputerIdsInRequest",
            "MaxNumberOfPnpHardwareIdsInRequest",
            "NewConfigAnchor",
            "ProtocolVersion",
            "LanguageUpdateList",
            "MaxUpdatesPerRequestInGetUpdateDecryptionData",
        ],
    );
    in_order(
        &config.text,
        &["ServerSyncLanguageData", "LanguageID", "ShortLanguage", "LongLanguage", "Enabled"],
    );
    let list = dss.ask("GetRevisionIdList", "<filter><GetConfig>true</GetConfig></filter>").await;
    in_order(&list.text, &["Anchor", "NewRevisions", "UpdateIdentity", "UpdateID", "RevisionNumber"]);
    let data = dss.ask("GetUpdateData", &identities(&[(update(1), 1)])).await;
    in_order(
        &data.text,
        &[
            "updates",
            "ServerSyncUpdateData",
            "Id",
            "UpdateID",
            "RevisionNumber",
            "XmlUpdateBlob",
            "FileDigestList",
            "base64Binary",
        ],
    );
    in_order(&data.text, &["updates", "fileUrls", "ServerSyncUrlData", "FileDigest", "UssUrl"]);
}

#[tokio::test]
async fn lists_are_there_even_when_they_are_empty_and_limits_are_no_nought() {
    let site = site(&small()).await;
    let dss = Downstream::of(&site).await;
    let no_files = dss.ask("GetUpdateData", &identities(&[(update(3), 1)])).await;
    assert!(
        no_files.text.contains("<fileUrls></fileUrls>") || no_files.text.contains("<fileUrls/>"),
        "{no_files:?}"
    );
    let nothing =
        deltas("Categories", &[(WINDOWS_10, false)]) + &deltas("Classifications", &[(UPGRADES, false)]);
    let nothing = dss
        .ask("GetRevisionIdList", &format!("<filter><GetConfig>false</GetConfig>{nothing}</filter>"))
        .await;
    assert!(
        nothing.text.contains("<NewRevisions></NewRevisions>") || nothing.text.contains("<NewRevisions/>"),
        "{nothing:?}"
    );
    for heard in [&no_files, &nothing] {
        assert!(!heard.text.contains("nil="), "absent or nil crashes it: {heard:?}");
    }
    let asked: Vec<_> = (1..=4).map(|n| (update(n), 1)).collect();
    let data = dss.ask("GetUpdateData", &identities(&asked)).await;
    let count = |what: &str| data.text.matches(what).count();
    assert_eq!(
        (count("<ServerSyncUpdateData>"), count("<XmlUpdateBlob>"), count("XmlUpdateBlobCompressed")),
        (4, 4, 0)
    );
    let config = dss.ask("GetConfigData", "").await;
    assert!(
        config.text.contains("<MaxNumberOfUpdatesPerRequest>100</MaxNumberOfUpdatesPerRequest>"),
        "{config:?}"
    );
    let Response::ConfigData(config) = config.answer(Operation::GetConfigData) else { panic!() };
    assert_eq!((config.catalog_only, config.lazy, config.hosts_express_files), (false, true, false));
    assert_eq!(
        (config.driver_sets_per_request, config.computers_per_request, config.hardware_ids_per_request),
        (0, 0, 0)
    );
    assert_eq!(
        (config.protocol_version.as_deref(), config.decryption_per_request),
        (Some("1.20"), Some(100))
    );
    let all: Vec<_> = config.languages.iter().filter(|one| one.id == 0).collect();
    assert!(matches!(all.as_slice(), [one] if one.short == "all" && one.enabled), "{all:?}");
    assert!(config.languages.iter().any(|one| (one.id, one.short.as_str()) == (1031, "de")));
    // Who knows them is told so.
    let known = dss.ask("GetConfigData", &format!("<configAnchor>{}</configAnchor>", config.anchor)).await;
    assert!(known.text.contains("<LanguageUpdateList></LanguageUpdateList>"), "{known:?}");
}

#[tokio::test]
async fn each_digest_is_named_once_in_an_answer() {
    let site = site(&small()).await;
    let dss = Downstream::of(&site).await;
    let data = dss.documents(&[(update(1), 1), (update(2), 1)]).await;
    assert_eq!(data.updates[0].digests, [sha1(1), sha1(9)], "files first, then licence texts");
    assert_eq!(data.updates[1].digests, [sha1(2), sha1(1), sha1(8), sha1(9)]);
    let named: Vec<_> = data.urls.iter().map(|url| url.digest).collect();
    assert_eq!(named, [sha1(1), sha1(9), sha1(2), sha1(8)], "a dictionary takes no two");
}

#[tokio::test]
async fn documents_are_plain_and_declare_no_encoding() {
    let mut all = small();
    let mut declared = software(5, 1, &[UPGRADES, WINDOWS_11], &[], &[]);
    let bare = declared.xml.clone();
    declared.xml = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n{bare}");
    all.push(declared);
    let site = site(&all).await;
    let dss = Downstream::of(&site).await;
    let data = dss.documents(&[(update(5), 1), (update(1), 1)]).await;
    assert_eq!(data.updates[0].blob, Blob::Plain(bare), "a declaration of UTF-8 inside of a text is refused");
    assert_eq!(data.updates[1].blob, Blob::Plain(all[7].xml.clone()), "and else every byte is as it came");
    // It is text, not elements: nothing of the document is a child.
    let heard = dss.ask("GetUpdateData", &identities(&[(update(1), 1)])).await;
    assert!(
        heard.text.contains("<XmlUpdateBlob>&lt;upd:Update ") && !heard.text.contains("<upd:"),
        "{heard:?}"
    );
}

#[tokio::test]
async fn answers_are_soap_1_1_of_the_right_namespace_and_never_compressed() {
    let site = site(&small()).await;
    let dss = Downstream::of(&site).await;
    let soap11 = "xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\"";
    let calls = [
        ("GetAuthConfig", String::new()),
        ("GetConfigData", shown(&dss.cookie)),
        ("GetRevisionIdList", format!("{}<filter><GetConfig>true</GetConfig></filter>", shown(&dss.cookie))),
        ("GetUpdateData", format!("{}{}", shown(&dss.cookie), identities(&[(update(1), 1)]))),
    ];
    for (name, fields) in &calls {
        let request = dss.request(SERVER_SYNC).header("accept-encoding", "gzip, xpress, deflate");
        let heard = dss.send(request.body(operation(name, fields))).await;
        assert!(!heard.headers.contains_key("content-encoding"), "{name}");
        assert_eq!(heard.headers["content-type"], "text/xml; charset=utf-8");
        assert!(heard.text.contains(soap11), "{heard:?}");
        let response =
            format!("<{name}Response xmlns=\"http://www.microsoft.com/SoftwareDistribution\"><{name}Result>");
        assert!(heard.text.contains(&response), "{heard:?}");
        // Asked in 1.2, it is answered in 1.1, which every client of this protocol reads.
        let newer = operation(name, fields)
            .replace("http://schemas.xmlsoap.org/soap/envelope/", "http://www.w3.org/2003/05/soap-envelope");
        let heard = dss.post_as(SERVER_SYNC, "application/soap+xml; charset=utf-8", newer).await;
        assert!(
            heard.status == 200 && heard.text.contains(soap11) && heard.text.contains(&response),
            "{heard:?}"
        );
        heard.answer(Operation::ALL.into_iter().find(|one| one.name() == *name).unwrap());
    }
    let granted = dss.post(AUTHORIZATION, Downstream::introduction("dss.example", ACCOUNT)).await;
    let namespace = "http://www.microsoft.com/SoftwareDistribution/Server/DssAuthWebService";
    assert!(
        granted.text.contains(&format!("<GetAuthorizationCookieResponse xmlns=\"{namespace}\">")),
        "{granted:?}"
    );
    let fault = dss.call("GetConfigData", "").await;
    assert!(
        fault.text.contains(soap11) && fault.text.contains("<detail><ErrorCode>InvalidCookie</ErrorCode>"),
        "{fault:?}"
    );
    assert_eq!(fault.headers["content-type"], "text/xml; charset=utf-8");
    let method = "<Method>\"http://www.microsoft.com/SoftwareDistribution/GetConfigData\"</Method>";
    let actor = format!("<faultactor>{}{SERVER_SYNC}</faultactor>", site.url);
    assert!(fault.text.contains(method) && fault.text.contains(&actor), "{fault:?}");
}

#[tokio::test]
async fn paths_with_two_slashes_and_in_any_case_are_found() {
    let site = site(&[]).await;
    let dss = Downstream::of(&site).await;
    let introduction = Downstream::introduction("dss.example", ACCOUNT);
    // What the client asks where a ServiceUrl begins with a slash; and the specification's own spelling.
    for path in [
        "//DssAuthWebService/DssAuthWebService.asmx",
        "/dssAuthWebService/DssAuthWebService.asmx",
        "/DSSAUTHWEBSERVICE/DSSAUTHWEBSERVICE.ASMX",
        "/DssAuthWebService/DssAuthWebService.asmx?x=1",
    ] {
        dss.post(path, introduction.clone()).await.answer(Operation::GetAuthorizationCookie);
    }
    for path in [
        "//ServerSyncWebService/serversyncwebservice.asmx",
        "/serversyncwebservice/serversyncwebservice.asmx",
    ] {
        dss.post(path, operation("GetAuthConfig", "")).await.answer(Operation::GetAuthConfig);
    }
    assert_eq!(
        dss.post("/DssAuthWebService/", introduction).await.status,
        400,
        "no other route takes a body"
    );
}

/// Its requests, as it writes them.
#[tokio::test]
async fn its_requests_are_understood() {
    let site = site(&small()).await;
    let dss = Downstream::of(&site).await;
    let nil = "<GetAuthConfig xmlns=\"http://www.microsoft.com/SoftwareDistribution\" \
               xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\" i:nil=\"true\"/>";
    dss.post(SERVER_SYNC, envelope(nil)).await.answer(Operation::GetAuthConfig);
    // Name and GUID the other way round, protocol 1.7, no cookie from before.
    let swapped = dss.post(AUTHORIZATION, Downstream::introduction(ACCOUNT, "dss.example")).await;
    let Response::AuthorizationCookie(authorization) = swapped.answer(Operation::GetAuthorizationCookie)
    else {
        panic!()
    };
    assert_eq!(authorization.plug_in, "DssTargeting");
    let admission = Downstream::admission(&STANDARD.encode(authorization.data), "1.7");
    let Response::Cookie(cookie) = dss.call("GetCookie", &admission).await.answer(Operation::GetCookie)
    else {
        panic!()
    };
    // The expiry is written anew: fewer digits, another zone, or what it likes.
    let fields = |expiration: &str, rest: &str| {
        let data = STANDARD.encode(&cookie.data);
        format!(
            "<cookie><Expiration>{expiration}</Expiration><EncryptedData>{data}</EncryptedData></cookie>{rest}"
        )
    };
    let shorter = cookie.expiration.trim_end_matches('Z').trim_end_matches('0').to_owned();
    for expiration in [&cookie.expiration, &format!("{shorter}Z"), &shorter, &format!("{shorter}0000+00:00")]
    {
        // No anchor of the configuration either.
        dss.call("GetConfigData", &fields(expiration, "")).await.answer(Operation::GetConfigData);
    }
    // A filter that says only these two.
    let filter = "<filter><GetConfig>true</GetConfig><Get63LanguageOnly>false</Get63LanguageOnly></filter>";
    let heard = dss.call("GetRevisionIdList", &fields(&cookie.expiration, filter)).await;
    let Response::RevisionIdList(list) = heard.answer(Operation::GetRevisionIdList) else { panic!() };
    assert_eq!(list.revisions.len(), tree().len());
}

#[tokio::test]
async fn one_cookie_serves_every_retry_and_faults_are_read_from_their_string() {
    let site = site(&small()).await;
    let dss = Downstream::of(&site).await;
    // A failed GetUpdateData is tried ten times with the same cookie.
    for _ in 0..10 {
        let refused = dss.ask("GetUpdateData", &identities(&[(update(99), 1)])).await;
        assert!(refused.text.contains("<faultstring>InternalServerError</faultstring>"), "{refused:?}");
        assert!(refused.text.contains("<faultcode>soap:Server</faultcode>"), "{refused:?}");
    }
    assert_eq!(dss.documents(&[(update(1), 1)]).await.updates.len(), 1);
    let refused = dss.call("GetUpdateData", &identities(&[(update(1), 1)])).await;
    assert!(
        refused.text.contains("<faultcode>soap:Client</faultcode><faultstring>InvalidCookie</faultstring>"),
        "{refused:?}"
    );
    // It compares with its own clock, so a life of hours, in a form that says its zone.
    let expires = dss.cookie.expires_unix_ms().expect("it is a time");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let left = Duration::from_millis(expires as u64) - now;
    assert!((Duration::from_secs(239 * 60)..=Duration::from_secs(240 * 60)).contains(&left), "{left:?}");
    assert!(dss.cookie.expiration.ends_with('Z'));
}
