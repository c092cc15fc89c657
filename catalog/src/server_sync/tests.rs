//! Every message there and back, what real servers do differently, and what damage does not do.

use proptest::prelude::*;

use super::*;
use crate::id::{RevisionId, RevisionNumber};
use crate::limits::Limits;

fn id(n: u128, number: u32) -> RevisionId {
    RevisionId { update: UpdateId(uuid::Uuid::from_u128(n)), number: RevisionNumber(number) }
}

fn cookie() -> Cookie {
    Cookie { expiration: "2026-10-04T20:33:26.65455Z".to_owned(), data: vec![0, 1, 2, 255] }
}

fn requests() -> Vec<Request> {
    let both = |delta| {
        vec![IdAndDelta { id: id(7, 0).update, delta }, IdAndDelta { id: id(8, 0).update, delta: !delta }]
    };
    vec![
        Request::GetAuthConfig,
        Request::GetAuthorizationCookie {
            account_name: "site.example".to_owned(),
            account_guid: id(1, 0).update.to_string(),
            program_keys: vec![id(2, 0).update],
        },
        Request::GetCookie {
            authorization: vec![AuthorizationCookie { plug_in: PLUG_IN.to_owned(), data: vec![9; 40] }],
            old: Some(cookie()),
            protocol_version: PROTOCOL_VERSION.to_owned(),
        },
        Request::GetConfigData {
            cookie: Some(cookie()),
            anchor: Some("9438,2026-10-04 16:33:26.671".to_owned()),
        },
        Request::GetConfigData { cookie: None, anchor: None },
        Request::GetRevisionIdList {
            cookie: Some(cookie()),
            filter: Filter {
                anchor: Some("a<b>&\"c\" \r\n d".to_owned()),
                get_config: false,
                only_63_languages: true,
                categories: both(true),
                classifications: both(false),
                languages: vec![LanguageAndDelta { id: 1031, delta: true }],
            },
        },
        Request::GetUpdateData { cookie: Some(cookie()), ids: vec![id(3, 200), id(4, 1)] },
        Request::GetUpdateDecryptionData { cookie: Some(cookie()), ids: vec![id(3, 200)] },
        Request::GetDeployments {
            cookie: Some(cookie()),
            anchor: Some("1,x".to_owned()),
            sync_anchor: Some("2,y".to_owned()),
        },
        Request::DownloadFiles { cookie: Some(cookie()), digests: vec![Sha1Digest([7; 20])] },
        Request::Ping { level: 3 },
        Request::Unread(Operation::GetDriverIdList),
    ]
}

fn responses() -> Vec<Response> {
    vec![
        Response::AuthConfig(AuthConfig {
            last_change: "2026-10-04T13:16:35.433Z".to_owned(),
            plug_ins: vec![PlugIn { id: PLUG_IN.to_owned(), service_url: AUTH_PATH.to_owned() }],
        }),
        Response::AuthorizationCookie(AuthorizationCookie { plug_in: PLUG_IN.to_owned(), data: vec![1] }),
        Response::Cookie(cookie()),
        Response::ConfigData(ConfigData {
            catalog_only: true,
            lazy: true,
            updates_per_request: 100,
            anchor: "1,2026-10-04 16:33:26.671".to_owned(),
            protocol_version: Some("1.20".to_owned()),
            languages: vec![Language {
                id: 0,
                short: "all".to_owned(),
                long: "All languages".to_owned(),
                enabled: true,
            }],
            decryption_per_request: Some(100),
            ..ConfigData::default()
        }),
        Response::RevisionIdList(RevisionIdList {
            anchor: "1,x".to_owned(),
            revisions: vec![id(1, 1), id(1, 100)],
        }),
        Response::RevisionIdList(RevisionIdList { anchor: String::new(), revisions: Vec::new() }),
        Response::UpdateData(UpdateData {
            updates: vec![
                DocumentOf {
                    id: id(1, 200),
                    digests: vec![Sha1Digest([1; 20]), Sha1Digest([2; 20])],
                    blob: Blob::Plain("<upd:Update a=\"&quot;\">&amp; ä</upd:Update>".to_owned()),
                },
                DocumentOf { id: id(2, 1), digests: Vec::new(), blob: Blob::Compressed(b"MSCF".to_vec()) },
            ],
            urls: vec![
                FileUrl {
                    digest: Sha1Digest([1; 20]),
                    microsoft: Some("http://x/y.esd".to_owned()),
                    upstream: None,
                },
                FileUrl {
                    digest: Sha1Digest([2; 20]),
                    microsoft: None,
                    upstream: Some("http://z/q".to_owned()),
                },
            ],
        }),
        Response::UpdateData(UpdateData::default()),
        Response::DecryptionData(DecryptionData {
            updates: vec![(
                id(1, 1),
                vec![(Sha1Digest([3; 20]), Some("secret".to_owned())), (Sha1Digest([4; 20]), None)],
            )],
        }),
        Response::DecryptionData(DecryptionData::default()),
        Response::DownloadFiles,
        Response::Pong(Pong { time: "2026-10-04T13:16:35.433Z".to_owned(), name: "spsync".to_owned() }),
    ]
}

#[test]
fn every_request_is_read_back_as_it_was_written() {
    for request in requests() {
        let written = request.write();
        let (version, read) = Request::read(&written, &Limits::default()).unwrap();
        assert_eq!((version, &read), (SoapVersion::V11, &request), "{}", String::from_utf8_lossy(&written));
    }
}

#[test]
fn every_response_is_read_back_as_it_was_written() {
    for response in responses() {
        let written = response.write();
        let read = Response::read(response.operation(), &written, &Limits::default()).unwrap();
        assert_eq!(read, Ok(response), "{}", String::from_utf8_lossy(&written));
    }
}

#[test]
fn what_microsofts_own_client_insists_on_is_written() {
    let text = |response: Response| String::from_utf8(response.write()).unwrap();
    let auth = text(responses().swap_remove(0));
    assert!(auth.find("LastChange") < auth.find("AuthInfo") && auth.contains("<AuthPlugInInfo>"));
    let granted = text(responses().swap_remove(1));
    assert!(granted.find("PlugInId") < granted.find("CookieData"), "or the plug-in is silently lost");
    assert!(granted.contains(&format!("<GetAuthorizationCookieResponse xmlns=\"{AUTH_NAMESPACE}\">")));
    let nothing = text(Response::UpdateData(UpdateData::default()));
    assert!(nothing.contains("<updates></updates><fileUrls></fileUrls>"), "empty lists are present");
    assert!(text(responses().swap_remove(5)).contains("<NewRevisions></NewRevisions>"));
    let data = text(responses().swap_remove(6));
    assert!(!data.contains("nil"), "lists are never nil");
    assert_eq!(data.matches("<XmlUpdateBlob").count(), 2, "one document for each update");
    let config = text(responses().swap_remove(3));
    let order = [
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
    ];
    let places: Vec<_> = order.iter().map(|name| config.find(&format!("<{name}>")).unwrap()).collect();
    assert!(places.is_sorted(), "the order of the specification: {places:?}");
    let keys = text(responses().swap_remove(8));
    assert!(
        keys.contains("<UpdateFileDecryptionData><ServerSyncUpdateFileDecryption><UpdateId>")
            && keys.contains("<FileDecryptionData><ServerSyncFileDecryption><FileDigest>"),
        "as in the service description: {keys}"
    );
}

#[test]
fn both_soap_versions_any_prefix_nil_blanks_and_unknown_elements_are_read() {
    let request = format!(
        "<x:Envelope xmlns:x='{}' xmlns:i='http://www.w3.org/2001/XMLSchema-instance'><x:Header><a/></x:Header><x:Body>\
         <t:GetRevisionIdList xmlns:t='{NAMESPACE}'><t:new>1</t:new><t:cookie><t:Expiration>now</t:Expiration>\
         <t:EncryptedData> AAEC /w== </t:EncryptedData></t:cookie><t:filter><t:Anchor i:nil='true'/>\
         <t:GetConfig> true </t:GetConfig><t:Categories i:nil='1'/><t:Classifications><t:IdAndDelta>\
         <t:Id>{{3689BDC8-B205-4AF4-8D4A-A63924C5E9D5}}</t:Id><t:Delta>1</t:Delta></t:IdAndDelta></t:Classifications>\
         </t:filter></t:GetRevisionIdList></x:Body></x:Envelope>",
        envelope::SOAP12
    );
    let (version, read) = Request::read(request.as_bytes(), &Limits::default()).unwrap();
    let upgrades = "3689bdc8-b205-4af4-8d4a-a63924c5e9d5".parse().unwrap();
    let filter = Filter {
        get_config: true,
        classifications: vec![IdAndDelta { id: upgrades, delta: true }],
        ..Filter::default()
    };
    let cookie = Some(Cookie { expiration: "now".to_owned(), data: vec![0, 1, 2, 255] });
    assert_eq!((version, read), (SoapVersion::V12, Request::GetRevisionIdList { cookie, filter }));
    let bare = format!(
        "<Envelope xmlns='{}'><Body><GetAuthConfig xmlns='{NAMESPACE}' xmlns:i='http://www.w3.org/2001/XMLSchema-instance' i:nil='true'/></Body></Envelope>",
        envelope::SOAP11
    );
    assert_eq!(Request::read(bare.as_bytes(), &Limits::default()).unwrap().1, Request::GetAuthConfig);
}

#[test]
fn faults_are_read_in_both_versions_and_written_with_a_code() {
    let fault =
        Fault { code: Some(ErrorCode::FileDigestsMissing), message: "a|b".to_owned(), id: "1".to_owned() };
    let written = fault.write(Some(Operation::DownloadFiles), "http://x/y");
    let text = String::from_utf8(written.clone()).unwrap();
    assert!(
        text.contains("<faultcode>soap:Client</faultcode><faultstring>FileDigestsMissing</faultstring>"),
        "{text}"
    );
    let limits = Limits::default();
    assert_eq!(Response::read(Operation::DownloadFiles, &written, &limits).unwrap(), Err(fault.clone()));
    let newer = format!(
        "<s:Envelope xmlns:s='{}'><s:Body><s:Fault><s:Code><s:Value>s:Sender</s:Value></s:Code><s:Reason><s:Text>no</s:Text></s:Reason>\
         <s:Detail><Detail><ErrorCode>FileDigestsMissing</ErrorCode><Message>a|b</Message><ID>1</ID></Detail></s:Detail></s:Fault></s:Body></s:Envelope>",
        envelope::SOAP12
    );
    assert_eq!(Response::read(Operation::DownloadFiles, newer.as_bytes(), &limits).unwrap(), Err(fault));
    let silent = format!(
        "<s:Envelope xmlns:s='{}'><s:Body><s:Fault><faultcode>s:Server</faultcode><faultstring>Server was unable</faultstring></s:Fault></s:Body></s:Envelope>",
        envelope::SOAP11
    );
    let read = Response::read(Operation::GetCookie, silent.as_bytes(), &limits).unwrap().unwrap_err();
    assert_eq!((read.code, read.message.as_str()), (None, "Server was unable"));
}

#[test]
fn what_is_no_answer_is_refused_by_its_reason() {
    let limits = Limits::default();
    let read = |text: &str| Response::read(Operation::GetCookie, text.as_bytes(), &limits).unwrap_err();
    let inside = |body: &str| {
        format!("<s:Envelope xmlns:s='{}'><s:Body>{body}</s:Body></s:Envelope>", envelope::SOAP11)
    };
    assert!(matches!(read("<html><body>It works!</body></html>"), MessageError::NoEnvelope { .. }));
    assert!(matches!(read(&inside("")), MessageError::Missing { field: "Body", .. }));
    assert!(
        matches!(read(&inside("<GetCookieResponse/>")), MessageError::Unexpected { .. }),
        "another namespace"
    );
    assert!(matches!(
        read(&inside(&format!("<GetCookieResponse xmlns='{NAMESPACE}'/>"))),
        MessageError::Missing { .. }
    ));
    let other = String::from_utf8(responses().swap_remove(4).write()).unwrap();
    assert!(matches!(read(&other), MessageError::Unexpected { .. }), "an answer to another question");
    let cut = String::from_utf8(Response::Cookie(cookie()).write()).unwrap();
    assert!(matches!(read(&cut[..cut.len() - 30]), MessageError::Xml(XmlError::Truncated { .. })));
    let bomb = Limits { unpacked_bytes: 100, ..limits };
    assert!(matches!(
        Response::read(Operation::GetCookie, cut.as_bytes(), &bomb),
        Err(MessageError::Xml(XmlError::TooLarge { .. }))
    ));
    let both = format!(
        "<GetUpdateDataResponse xmlns='{NAMESPACE}'><GetUpdateDataResult><updates><ServerSyncUpdateData><Id><UpdateID>{}</UpdateID>\
         <RevisionNumber>1</RevisionNumber></Id><XmlUpdateBlob>a</XmlUpdateBlob><XmlUpdateBlobCompressed>YQ==</XmlUpdateBlobCompressed>\
         </ServerSyncUpdateData></updates></GetUpdateDataResult></GetUpdateDataResponse>",
        id(1, 1).update
    );
    let read = Response::read(Operation::GetUpdateData, inside(&both).as_bytes(), &limits);
    assert!(matches!(read, Err(MessageError::Unexpected { .. })), "{read:?}");
}

#[test]
fn the_path_of_content_is_that_of_real_servers() {
    let sha1 = "87f5bd0469585006aa5d3a77d1c662fd2895ddcd".parse().unwrap();
    assert_eq!(content_path(sha1, "AM_Delta.EXE"), "Content/CD/87F5BD0469585006AA5D3A77D1C662FD2895DDCD.exe");
    assert_eq!(content_path(sha1, "none"), "Content/CD/87F5BD0469585006AA5D3A77D1C662FD2895DDCD");
    assert_eq!(content_path(sha1, "a.../../x"), "Content/CD/87F5BD0469585006AA5D3A77D1C662FD2895DDCD.x");
}

proptest! {
    #[test]
    fn damage_is_an_error_or_another_value_and_never_a_crash(
        which in 0_usize..25,
        changes in prop::collection::vec((0_usize..4096, any::<u8>()), 1..6),
        cut in prop::option::of(0_usize..4096),
    ) {
        let mut messages: Vec<Vec<u8>> = requests().iter().map(Request::write).collect();
        messages.extend(responses().iter().map(Response::write));
        let mut bytes = messages.swap_remove(which % messages.len());
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut % bytes.len());
        }
        let limits = Limits::default();
        drop(Request::read(&bytes, &limits));
        for operation in Operation::ALL {
            drop(Response::read(operation, &bytes, &limits));
        }
    }

    #[test]
    fn any_text_survives_in_any_field(text in "[\\x09\\x0a\\x0d\\x20-\\x{d7ff}]{0,40}", number in any::<u32>(), data in prop::collection::vec(any::<u8>(), 1..80)) {
        let request = Request::GetRevisionIdList {
            cookie: Some(Cookie { expiration: "x".to_owned(), data }),
            filter: Filter { anchor: Some(format!("x{text}")), ..Filter::default() },
        };
        prop_assert_eq!(&Request::read(&request.write(), &Limits::default()).unwrap().1, &request);
        let one = DocumentOf { id: id(u128::from(number), number), digests: Vec::new(), blob: Blob::Plain(format!("<a>{text}")) };
        let response = Response::UpdateData(UpdateData { updates: vec![one], urls: Vec::new() });
        let read = Response::read(Operation::GetUpdateData, &response.write(), &Limits::default()).unwrap();
        prop_assert_eq!(read, Ok(response));
    }
}
