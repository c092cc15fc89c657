//! Requests that no honest server sends: each is answered with the right status and fault, and nothing comes of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use catalog::server_sync::{Cookie, Operation};

use crate::downstream::*;

#[tokio::test]
async fn cookies_that_are_not_ours_are_invalid() {
    let site = site(&tree()).await;
    let other = site_of_its_own().await;
    let dss = Downstream::of(&site).await;
    let foreign = Downstream::of(&other).await.cookie.data;
    let whole = dss.cookie.data.clone();
    let mut forged = whole.clone();
    forged[20] ^= 1;
    let long: Vec<u8> = std::iter::repeat_n(7, 500_000).collect();
    let filter = "<filter><GetConfig>true</GetConfig></filter>";
    for (what, data) in [
        ("forged", STANDARD.encode(&forged)),
        ("cut", STANDARD.encode(&whole[..whole.len() - 1])),
        ("longer", STANDARD.encode([whole.as_slice(), b"x"].concat())),
        ("empty", String::new()),
        ("another site's", STANDARD.encode(&foreign)),
        ("an authorization", dss.authorization().await),
        ("half a megabyte", STANDARD.encode(&long)),
        ("no base64", "%%%".to_owned()),
    ] {
        let cookie =
            format!("<cookie><Expiration>x</Expiration><EncryptedData>{data}</EncryptedData></cookie>");
        for (name, fields) in [
            ("GetConfigData", ""),
            ("GetRevisionIdList", filter),
            ("GetUpdateData", "<updateIds/>"),
            ("GetUpdateDecryptionData", "<updateIds/>"),
            ("DownloadFiles", "<fileDigestList/>"),
            ("GetDeployments", ""),
        ] {
            let (code, _) = dss.call(name, &format!("{cookie}{fields}")).await.refused();
            assert_eq!(code, "InvalidCookie", "{what}: {name}");
        }
    }
    for none in ["", "<cookie/>", "<cookie xsi:nil=\"true\"/>", "<cookie><Expiration>x</Expiration></cookie>"]
    {
        let (code, _) = dss.call("GetConfigData", none).await.refused();
        assert_eq!(code, "InvalidCookie", "{none}");
    }
    // Of the authorization.
    let authorization = STANDARD.decode(dss.authorization().await).unwrap();
    let mut forged = authorization.clone();
    forged[3] ^= 0x80;
    for (what, data) in [
        ("forged", STANDARD.encode(forged)),
        ("cut", STANDARD.encode(&authorization[1..])),
        ("empty", String::new()),
        ("a cookie", STANDARD.encode(&whole)),
        ("no base64", "%%%".to_owned()),
    ] {
        let (code, _) = dss.call("GetCookie", &Downstream::admission(&data, "1.20")).await.refused();
        assert_eq!(code, "InvalidAuthorizationCookie", "{what}");
    }
    assert!(!dss.list(None, true, "").await.revisions.is_empty(), "the true one is good still");
}

async fn site_of_its_own() -> support::TestSite {
    site(&[]).await
}

#[tokio::test]
async fn what_is_no_soap_is_refused_as_what_it_is() {
    let site = site(&tree()).await;
    let dss = Downstream::of(&site).await;
    let good = operation("GetAuthConfig", "");
    let deep = |depth: usize| {
        operation("GetAuthConfig", &format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth)))
    };
    let entity = format!("<!DOCTYPE x [<!ENTITY a \"b\">]>{}", operation("GetAuthConfig", "&a;"));
    let outside = "<!DOCTYPE x SYSTEM \"file:///etc/passwd\"><x/>".to_owned();
    let attributes: String = (0..100).map(|n| format!(" a{n}=\"1\"")).collect();
    for (what, body) in [
        ("nothing", String::new()),
        ("blanks", "   \r\n".to_owned()),
        ("text", "hello".to_owned()),
        ("another document", "<html><body/></html>".to_owned()),
        ("an envelope of nobody", "<Envelope><Body/></Envelope>".to_owned()),
        ("no body", envelope("").replace("s:Body", "s:Other")),
        ("an empty body", envelope("")),
        ("cut", good[..good.len() - 20].to_owned()),
        ("something after it", format!("{good}<x/>")),
        ("a document type", entity),
        ("an outside entity", outside),
        ("an entity that is not defined", operation("GetAuthConfig", "&b;")),
        ("a prefix that is not bound", envelope("<q:GetAuthConfig/>")),
        ("too deep", deep(100)),
        ("much too deep", deep(100_000)),
        ("too many attributes", operation("GetAuthConfig", &format!("<a{attributes}/>"))),
        ("an attribute twice", operation("GetAuthConfig", "<a b='1' b='2'/>")),
        ("a character that is none", operation("GetAuthConfig", "&#0;")),
        ("another namespace", good.replace("SoftwareDistribution", "Other")),
        (
            "an answer",
            envelope("<GetAuthConfigResponse xmlns=\"http://www.microsoft.com/SoftwareDistribution\"/>"),
        ),
    ] {
        let (code, message) = dss.post(SERVER_SYNC, body).await.refused();
        assert_eq!(code, "InvalidParameters", "{what}");
        assert!(!message.is_empty() && message.len() < 1_000, "{what}: {message}");
    }
    for (what, bytes) in [("no UTF-8", vec![0xff; 100]), ("zeros", vec![0; 1_000])] {
        assert_eq!(dss.post(SERVER_SYNC, bytes).await.refused().0, "InvalidParameters", "{what}");
    }
    // UTF-16 is read, with a mark or without; unknown elements and headers are passed over.
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked: Vec<u8> = [vec![0xff, 0xfe], utf16.clone()].concat();
    let headed = good.replace("<s:Body ", "<s:Header><x y='z'><w/></x></s:Header><s:Body ");
    for body in
        [utf16, marked, headed.into_bytes(), deep(10).into_bytes(), format!("\u{feff}{good}").into_bytes()]
    {
        dss.post(SERVER_SYNC, body).await.answer(Operation::GetAuthConfig);
    }
    // Numbers that are none.
    for (name, fields, parameter) in [
        (
            "GetUpdateData",
            "<updateIds><UpdateIdentity><UpdateID>zz</UpdateID></UpdateIdentity></updateIds>",
            "updateIds",
        ),
        ("GetRevisionIdList", "<filter><GetConfig>maybe</GetConfig></filter>", "filter"),
        (
            "GetRevisionIdList",
            "<filter><Categories><IdAndDelta><Id>1</Id></IdAndDelta></Categories></filter>",
            "filter",
        ),
        (
            "DownloadFiles",
            "<fileDigestList><base64Binary>AAAA</base64Binary></fileDigestList>",
            "fileDigestList",
        ),
    ] {
        let refused = dss.ask(name, fields).await.refused();
        assert_eq!(refused, ("InvalidParameters".to_owned(), parameter.to_owned()), "{name} {fields}");
    }
    assert!(!dss.list(None, true, "").await.revisions.is_empty(), "it lives");
}

#[tokio::test]
async fn methods_and_media_types_that_are_not_taken() {
    let site = site(&[]).await;
    let dss = Downstream::of(&site).await;
    let http = support::http();
    for path in [SERVER_SYNC, AUTHORIZATION, REPORTING] {
        let seen = dss.get(path).await;
        assert_eq!(
            (seen.status, seen.headers["content-type"].to_str().unwrap()),
            (200, "text/plain; charset=utf-8")
        );
        assert!(seen.text.contains("web service") && seen.text.contains(path), "{seen:?}");
        let head = dss.send(http.head(format!("{}{path}", site.url))).await;
        assert_eq!(
            (head.status, head.text.as_str(), &head.headers["content-length"]),
            (200, "", &seen.headers["content-length"])
        );
    }
    for method in ["PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        let method = method.parse().unwrap();
        let heard = dss.send(http.request(method, format!("{}{SERVER_SYNC}", site.url))).await;
        assert_eq!((heard.status, &heard.headers["allow"]), (405, &"GET, HEAD, POST".parse().unwrap()));
    }
    for kind in [
        "application/x-www-form-urlencoded",
        "application/json",
        "text/html",
        "multipart/related",
        "text/xml2",
    ] {
        let heard = dss.post_as(SERVER_SYNC, kind, operation("GetAuthConfig", "")).await;
        assert_eq!(heard.status, 415, "{kind}");
    }
    let zipped = dss.request(SERVER_SYNC).header("content-encoding", "gzip");
    assert_eq!(dss.send(zipped.body(operation("GetAuthConfig", ""))).await.status, 415);
    dss.post_as(SERVER_SYNC, "Text/XML", operation("GetAuthConfig", ""))
        .await
        .answer(Operation::GetAuthConfig);
}

#[tokio::test]
async fn bodies_have_a_largest_size_a_time_and_one_framing() {
    // A body that does not come is waited for as short as is allowed.
    let site = configured("[server]\nread_timeout = \"1s\"\nmax_connections_per_client = 64\n").await;
    let url = site.url.clone();
    let head = |fields: &str| {
        format!("POST {SERVER_SYNC} HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\n{fields}\r\n")
    };
    let good = operation("GetAuthConfig", "");
    let length = format!("Content-Length: {}\r\n", good.len());
    let chunk = |bytes: &str| format!("{:x}\r\n{bytes}\r\n", bytes.len());
    let chunks: String =
        good.as_bytes().chunks(7).map(|piece| chunk(std::str::from_utf8(piece).unwrap())).collect();
    let hidden = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let rows: Vec<(&str, String, &str)> = vec![
        ("a length", head(&format!("{length}Connection: close\r\n")) + &good, "200"),
        (
            "chunks, and something behind them",
            head("Transfer-Encoding: chunked\r\n") + &chunks + "0\r\n\r\n" + hidden,
            "200",
        ),
        ("HTTP/1.0", head(&length).replace("HTTP/1.1", "HTTP/1.0") + &good, "200"),
        ("a GB is announced", head("Content-Length: 1000000000\r\n"), "413"),
        ("a GB to who waits", head("Content-Length: 1000000000\r\nExpect: 100-continue\r\n"), "413"),
        ("2 MiB and a byte", head("Content-Length: 2097153\r\n"), "413"),
        (
            "endless chunks",
            head("Transfer-Encoding: chunked\r\n") + &chunk(&"x".repeat(60_000)).repeat(40),
            "413",
        ),
        ("a body that does not come", head(&length) + &good[..20], "408"),
        ("chunks that do not come", head("Transfer-Encoding: chunked\r\n") + "ff\r\n<x>", "408"),
        ("no chunks", head("Transfer-Encoding: chunked\r\n") + &good, "400"),
        (
            "a chunk that is longer than it says",
            head("Transfer-Encoding: chunked\r\n") + "1\r\n<x>\r\n0\r\n\r\n",
            "400",
        ),
        (
            "CL and TE",
            head(&format!("{length}Transfer-Encoding: chunked\r\n")) + &chunks + "0\r\n\r\n",
            "400",
        ),
        (
            "TE and CL",
            head(&format!("Transfer-Encoding: chunked\r\n{length}")) + &chunks + "0\r\n\r\n",
            "400",
        ),
        ("two lengths", head(&format!("{length}Content-Length: 3\r\n")) + &good, "400"),
        (
            "chunked twice",
            head("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n") + &chunks,
            "400",
        ),
        ("GET with a body", head(&length).replace("POST", "GET") + &good, "400"),
    ];
    for (what, request, status) in rows {
        let (url, request) = (url.clone(), request.into_bytes());
        let answer = tokio::task::spawn_blocking(move || raw(&url, &[&request])).await.unwrap();
        assert_eq!(answer.get(9..12), Some(status), "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "one answer, and the end: {what}: {answer}");
    }
    // A gigabyte that really comes, from many at once: none of it stays.
    let before = memory(&site);
    let piece = vec![b'x'; 1 << 20];
    let floods: Vec<_> = (0..8)
        .map(|_| {
            let (url, piece) = (url.clone(), piece.clone());
            let head = head("Content-Length: 1000000000\r\n").into_bytes();
            tokio::task::spawn_blocking(move || {
                let mut pieces: Vec<&[u8]> = vec![&head];
                pieces.extend(std::iter::repeat_n(piece.as_slice(), 100));
                raw(&url, &pieces)
            })
        })
        .collect();
    for flood in floods {
        assert_eq!(flood.await.unwrap().get(9..12), Some("413"));
    }
    let grown = memory(&site).saturating_sub(before);
    assert!(grown < 64 << 20, "{} MiB more", grown >> 20);
    Downstream::of(&site).await;
}

/// Bytes of memory that the daemon has.
fn memory(site: &support::TestSite) -> u64 {
    1024 * support::memory_kib(site.daemon_id(), "VmRSS").expect("it runs")
}

#[tokio::test]
async fn many_at_once_are_all_answered() {
    let mut all = tree();
    let padding = "<p/>".repeat(100_000);
    all.extend((1..=12).map(|n| {
        let mut one = software(n, 1, &[UPGRADES, WINDOWS_11], &[], &[]);
        one.xml = one.xml.replace("</upd:Update>", &format!("{padding}</upd:Update>"));
        one
    }));
    let site = site(&all).await;
    let dss = std::sync::Arc::new(Downstream::of(&site).await);
    let cookie = Cookie { expiration: "x".to_owned(), data: vec![1; 143] };
    let calls: Vec<_> = (0..48_u32)
        .map(|n| {
            let (dss, cookie) = (dss.clone(), cookie.clone());
            tokio::spawn(async move {
                match n % 3 {
                    0 => assert_eq!(dss.documents(&[(update(1 + n % 12), 1)]).await.updates.len(), 1),
                    1 => assert_eq!(dss.list(None, false, "").await.revisions.len(), 12),
                    _ => {
                        let (code, _) = dss.call("GetConfigData", &shown(&cookie)).await.refused();
                        assert_eq!(code, "InvalidCookie");
                    }
                }
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
}
