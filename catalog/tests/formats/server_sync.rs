//! The captured messages of real servers.

use std::path::PathBuf;

use catalog::id::RevisionId;
use catalog::limits::Limits;
use catalog::server_sync::{Blob, ErrorCode, Filter, IdAndDelta, Operation, Request, Response, decode_blob};

fn real(path: &str) -> Option<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(path);
    let found = std::fs::read(path).ok();
    if found.is_none() {
        eprintln!("skipped: {path:?} is not there", path = "../shared/data");
    }
    found
}

fn answer(operation: Operation, name: &str) -> Option<Response> {
    let bytes = real(&format!("wsus-wire/server-sync/{name}"))?;
    Some(Response::read(operation, &bytes, &Limits::default()).expect("it is read").expect("it is no fault"))
}

#[test]
fn captured_answers_are_read() {
    let Some(Response::AuthConfig(auth)) =
        answer(Operation::GetAuthConfig, "000001-GetAuthConfig.response.xml")
    else {
        return;
    };
    assert_eq!(auth.plug_ins.len(), 1);
    assert_eq!(
        (auth.plug_ins[0].id.as_str(), auth.plug_ins[0].service_url.as_str()),
        ("DssTargeting", "DssAuthWebService/DssAuthWebService.asmx")
    );
    let Some(Response::Cookie(cookie)) = answer(Operation::GetCookie, "000003-GetCookie.response.xml") else {
        panic!("a cookie")
    };
    assert_eq!(cookie.expiration, "2026-10-04T20:33:26.65455Z");
    assert_eq!(cookie.expires_unix_ms(), Some(1_791_146_006_654));
    assert!(cookie.data.len() > 100);
    let list = answer(Operation::GetRevisionIdList, "000006-GetRevisionIdList.response.xml");
    let Some(Response::RevisionIdList(list)) = list else { panic!("a list") };
    assert_eq!((list.anchor.as_str(), list.revisions.len()), ("9438,2026-10-04 16:33:26.671", 30));
    let config = answer(Operation::GetConfigData, "microsoft-GetConfigData-20261006.response.xml");
    let Some(Response::ConfigData(config)) = config else { panic!("a configuration") };
    assert_eq!((config.updates_per_request, config.languages.len()), (100, 39));
    assert_eq!(
        (config.protocol_version.as_deref(), config.anchor.as_str()),
        (Some("1.21"), "2026-10-05 17:27:44.393")
    );
    assert!(config.catalog_only && config.lazy && config.decryption_per_request == Some(500));
    let enabled: Vec<_> =
        config.languages.iter().filter(|one| one.enabled).map(|one| one.short.as_str()).collect();
    assert_eq!(enabled, ["all"]);
}

#[test]
fn captured_requests_and_faults_are_read() {
    let Some(bytes) = real("wsus-wire/server-sync/000009-GetRevisionIdList.request.xml") else { return };
    let (_, request) = Request::read(&bytes, &Limits::default()).unwrap();
    let Request::GetRevisionIdList { cookie: Some(_), filter } = request else { panic!("{request:?}") };
    let only = |id: &str| vec![IdAndDelta { id: id.parse().unwrap(), delta: false }];
    let expected = Filter {
        categories: only("8c3fcc84-7410-4a95-8b89-a166a0190486"),
        classifications: only("e0789628-ce08-4437-be74-2495b842f43b"),
        ..Filter::default()
    };
    assert_eq!(filter, expected);
    let bytes = real("wsus-wire/server-sync/000014-GetUpdateData.request.xml").unwrap();
    let (_, request) = Request::read(&bytes, &Limits::default()).unwrap();
    let Request::GetUpdateData { cookie: Some(_), ids } = request else { panic!("{request:?}") };
    assert_eq!(ids.len(), 1);
    let bytes = real("wsus-wire/server-sync/000018-fault-InvalidParameters.response.xml").unwrap();
    let fault =
        Response::read(Operation::GetRevisionIdList, &bytes, &Limits::default()).unwrap().unwrap_err();
    assert_eq!((fault.code, fault.message.as_str()), (Some(ErrorCode::InvalidParameters), "filter"));
    assert_eq!(fault.id, "94327110-fc7e-4c3c-878d-186ab273d9fd");
}

#[test]
fn captured_documents_decode_to_what_was_transcribed() {
    for (name, compressed) in [
        ("000013-GetUpdateData.response.xml", true),
        ("000014-GetUpdateData.response.xml", true),
        ("000015-GetUpdateData.response.xml", false),
        ("000016-GetUpdateData.response.xml", true),
    ] {
        let Some(Response::UpdateData(data)) = answer(Operation::GetUpdateData, name) else { return };
        let [one] = <[_; 1]>::try_from(data.updates).expect("one update");
        assert_eq!(matches!(one.blob, Blob::Compressed(_)), compressed, "{name}");
        let id: RevisionId = one.id;
        let document = decode_blob(id, one.blob, &Limits::default()).unwrap();
        let kept = real(&format!("update-xml/{}-r{}.xml", id.update, id.number.0)).unwrap();
        assert!(document.as_bytes() == kept.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&kept), "{name} differs");
        let revision = catalog::update::parse(document.as_bytes(), &Limits::default()).unwrap();
        assert_eq!(revision.id, id);
        let files: Vec<_> = revision.files.iter().filter_map(|file| file.digests.sha1).collect();
        assert_eq!(files, one.digests, "{name}");
        for digest in &one.digests {
            let url = data.urls.iter().find(|url| url.digest == *digest).expect("each file has an address");
            assert!(url.microsoft.as_deref().is_some_and(|url| url.contains(&digest.to_string())), "{url:?}");
        }
    }
}
