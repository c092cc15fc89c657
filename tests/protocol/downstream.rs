//! A site with documents, and a downstream server that writes its requests itself.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use catalog::digest::Sha1Digest;
use catalog::id::RevisionId;
use catalog::limits::Limits;
use catalog::server_sync::{Cookie, Fault, Operation, Response, RevisionIdList, UpdateData};
use support::{TestSite, Way};

pub const SERVER_SYNC: &str = "/ServerSyncWebService/ServerSyncWebService.asmx";
pub const AUTHORIZATION: &str = "/DssAuthWebService/DssAuthWebService.asmx";
pub const REPORTING: &str = "/ReportingWebService/ReportingWebService.asmx";
pub const ACCOUNT: &str = "0f3a1f30-6d3d-4f5c-9d5a-3d2f6a1b2c3d";

pub const UPGRADES: &str = "3689bdc8-b205-4af4-8d4a-a63924c5e9d5";
pub const UPDATES: &str = "cd5ffd1e-e932-4e3a-bf74-18bf0b1bbd83";
pub const COMPANY: &str = "56309036-4c77-4dd9-951a-99ee9c246a94";
pub const FAMILY: &str = "6964aab4-c5b5-43bd-a17d-ffb4346a8e1d";
pub const WINDOWS_10: &str = "a3c2375d-0c8a-42f9-bce0-28333e198407";
pub const WINDOWS_11: &str = "72e7624a-5b00-45d2-b92f-e561c0a6a160";
pub const DETECTOID: &str = "59653007-e2e9-4f71-8525-2ff588527978";

/// An update of this number.
pub fn update(n: u32) -> String {
    format!("11111111-2222-4333-8444-{n:012}")
}

/// A digest of this number.
pub fn sha1(n: u8) -> Sha1Digest {
    Sha1Digest([n; 20])
}

/// An update document to be.
#[derive(Debug, Clone, Default)]
pub struct Document {
    pub id: String,
    pub number: u32,
    pub xml: String,
}

/// A category, classification or detectoid.
pub fn category(id: &str, kind: &str, title: &str, parent: Option<&str>) -> Document {
    let update_type = if kind == "Detectoid" { "Detectoid" } else { "Category" };
    let handler = format!(
        "<upd:HandlerSpecificData xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
         xmlns:cat=\"http://schemas.microsoft.com/msus/2002/12/UpdateHandlers/Category\" xsi:type=\"cat:Category\">\
         <cat:CategoryInformation CategoryType=\"{kind}\" /></upd:HandlerSpecificData>"
    );
    let handler = if kind == "Detectoid" { String::new() } else { handler };
    let parents: Vec<&str> = parent.into_iter().collect();
    document(id, 1, update_type, title, &parents, &[], &[], &handler)
}

/// Software in categories, with files and licence texts by the number of their digests.
pub fn software(n: u32, number: u32, categories: &[&str], files: &[u8], licenses: &[u8]) -> Document {
    document(
        &update(n),
        number,
        "Software",
        &format!("Größeres <Update> {n}"),
        categories,
        files,
        licenses,
        "",
    )
}

#[expect(clippy::too_many_arguments, reason = "one for each part of a document")]
fn document(
    id: &str,
    number: u32,
    kind: &str,
    title: &str,
    categories: &[&str],
    files: &[u8],
    licenses: &[u8],
    rest: &str,
) -> Document {
    let title = title.replace('<', "&lt;").replace('>', "&gt;");
    let clauses: String = categories
        .iter()
        .map(|id| format!("<upd:AtLeastOne IsCategory=\"true\"><upd:UpdateIdentity UpdateID=\"{id}\" /></upd:AtLeastOne>"))
        .collect();
    let file = |name: &str, n: &u8| {
        format!(
            "<upd:{name} Digest=\"{}\" DigestAlgorithm=\"SHA1\" FileName=\"file{n}.cab\" Size=\"10\" Language=\"l{n}\" />",
            sha1(*n).to_base64()
        )
    };
    let eulas: String = licenses.iter().map(|n| file("EulaFile", n)).collect();
    let files: String = files.iter().map(|n| file("File", n)).collect();
    let xml = format!(
        "<upd:Update xmlns:upd=\"http://schemas.microsoft.com/msus/2002/12/Update\"><upd:UpdateIdentity \
         UpdateID=\"{id}\" RevisionNumber=\"{number}\" /><upd:Properties UpdateType=\"{kind}\" \
         CreationDate=\"2022-09-20T17:00:00Z\" />\r\n<upd:LocalizedPropertiesCollection><upd:LocalizedProperties>\
         <upd:Language>en</upd:Language><upd:Title>{title}</upd:Title></upd:LocalizedProperties>\
         </upd:LocalizedPropertiesCollection>{eulas}<upd:Relationships><upd:Prerequisites>{clauses}</upd:Prerequisites>\
         </upd:Relationships><upd:Files>{files}</upd:Files>{rest}</upd:Update>"
    );
    Document { id: id.to_owned(), number, xml }
}

/// The tree of categories: two classifications, company, family, two products, a detectoid.
pub fn tree() -> Vec<Document> {
    vec![
        category(UPGRADES, "UpdateClassification", "Upgrades", None),
        category(UPDATES, "UpdateClassification", "Updates", None),
        category(COMPANY, "Company", "Microsoft", None),
        category(FAMILY, "ProductFamily", "Windows", Some(COMPANY)),
        category(WINDOWS_10, "Product", "Windows 10", Some(FAMILY)),
        category(WINDOWS_11, "Product", "Windows 11", Some(FAMILY)),
        category(DETECTOID, "Detectoid", "x64", None),
    ]
}

/// A site whose daemon runs, with `documents`.
pub async fn site(documents: &[Document]) -> TestSite {
    let site = configured("[server]\nmax_connections_per_client = 64\n").await;
    import(&site, documents).await;
    site
}

/// A site whose daemon runs, with more configuration.
pub async fn configured(more: &str) -> TestSite {
    let catalogs = |_: &support::Origin, published: &support::DemoCatalog| vec![published.windows11.clone()];
    let mut site = TestSite::with(Way::Alone, catalogs, "").await;
    let folder = site.folder.path().join("conf.d");
    std::fs::create_dir(&folder).expect("it is new");
    std::fs::write(folder.join("test.toml"), more).expect("it is written");
    site.start_daemon().await;
    site
}

/// Takes documents in, as from an export.
pub async fn import(site: &TestSite, documents: &[Document]) {
    if documents.is_empty() {
        return;
    }
    let records: Vec<_> = documents.iter().map(|one| (one.id.clone(), one.number, one.xml.clone())).collect();
    let path = site.folder.path().join("export.xml.gz");
    std::fs::write(&path, support::export(&records)).expect("it is written");
    let imported = site.ok(&["updates", "import", &path.to_string_lossy()]).await;
    assert_eq!((&imported["refused"], &imported["new"]), (&0.into(), &documents.len().into()), "{imported}");
}

/// An HTTP answer.
#[derive(Debug, Clone)]
pub struct Heard {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Heard {
    /// The fault that it must be.
    #[track_caller]
    pub fn fault(&self) -> Fault {
        assert_eq!(self.status, 500, "{self:?}");
        // Whatever it is asked of: a fault is a fault.
        let read = Response::read(Operation::GetCookie, self.text.as_bytes(), &Limits::default());
        read.expect("it is SOAP").expect_err("it is a fault")
    }

    /// Code and message of the fault that it must be.
    #[track_caller]
    pub fn refused(&self) -> (String, String) {
        let fault = self.fault();
        let code = fault.code.expect("every fault has a code").name().to_owned();
        assert!(self.text.contains(&format!("<faultstring>{code}</faultstring>")), "{self:?}");
        assert!(fault.id.parse::<catalog::id::UpdateId>().is_ok(), "a fault has a number: {self:?}");
        (code, fault.message)
    }

    /// The answer to an operation that it must be.
    #[track_caller]
    pub fn answer(&self, operation: Operation) -> Response {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.headers["content-type"], "text/xml; charset=utf-8");
        assert!(!self.headers.contains_key("content-encoding"));
        let read = Response::read(operation, self.text.as_bytes(), &Limits::default());
        read.expect("it is SOAP").unwrap_or_else(|fault| panic!("{fault}"))
    }
}

/// Puts a body into an envelope of SOAP 1.1, as Microsoft's own client does.
pub fn envelope(body: &str) -> String {
    format!(
        "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\">{body}</s:Body></s:Envelope>"
    )
}

/// An operation of the server-sync service.
pub fn operation(name: &str, fields: &str) -> String {
    envelope(&format!("<{name} xmlns=\"http://www.microsoft.com/SoftwareDistribution\">{fields}</{name}>"))
}

/// `cookie`, as a field.
pub fn shown(cookie: &Cookie) -> String {
    format!(
        "<cookie><Expiration>{}</Expiration><EncryptedData>{}</EncryptedData></cookie>",
        cookie.expiration,
        STANDARD.encode(&cookie.data)
    )
}

/// `updateIds`, as a field.
pub fn identities(ids: &[(String, u32)]) -> String {
    let each: String = ids
        .iter()
        .map(|(id, number)| {
            format!("<UpdateIdentity><UpdateID>{id}</UpdateID><RevisionNumber>{number}</RevisionNumber></UpdateIdentity>")
        })
        .collect();
    format!("<updateIds>{each}</updateIds>")
}

/// `Categories` or `Classifications`, as a field.
pub fn deltas(name: &str, ids: &[(&str, bool)]) -> String {
    let each: String = ids
        .iter()
        .map(|(id, delta)| format!("<IdAndDelta><Id>{id}</Id><Delta>{delta}</Delta></IdAndDelta>"))
        .collect();
    format!("<{name}>{each}</{name}>")
}

/// A downstream server.
pub struct Downstream {
    pub url: String,
    http: reqwest::Client,
    pub cookie: Cookie,
}

impl Downstream {
    /// One that has its cookie.
    pub async fn of(site: &TestSite) -> Self {
        let nothing = Cookie { expiration: String::new(), data: Vec::new() };
        let mut one = Self { url: site.url.clone(), http: support::http(), cookie: nothing };
        one.cookie = one.new_cookie("1.20").await;
        one
    }

    /// Posts a request.
    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Heard {
        self.post_as(path, "text/xml; charset=utf-8", body).await
    }

    pub async fn post_as(&self, path: &str, kind: &str, body: impl Into<reqwest::Body>) -> Heard {
        let request = self.http.post(format!("{}{path}", self.url)).header("content-type", kind);
        self.send(request.header("soapaction", "\"x\"").body(body)).await
    }

    pub async fn get(&self, path: &str) -> Heard {
        self.send(self.http.get(format!("{}{path}", self.url))).await
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Heard {
        let response = request.send().await.expect("the daemon answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Heard { status, headers, text: response.text().await.expect("the answer is whole") }
    }

    /// A request that is not sent yet.
    pub fn request(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.post(format!("{}{path}", self.url)).header("content-type", "text/xml; charset=utf-8")
    }

    /// Calls an operation of the server-sync service without a cookie.
    pub async fn call(&self, name: &str, fields: &str) -> Heard {
        self.post(SERVER_SYNC, operation(name, fields)).await
    }

    /// Calls one with the cookie.
    pub async fn ask(&self, name: &str, fields: &str) -> Heard {
        self.call(name, &format!("{}{fields}", shown(&self.cookie))).await
    }

    /// What an authorization is asked with.
    pub fn introduction(name: &str, guid: &str) -> String {
        envelope(&format!(
            "<GetAuthorizationCookie xmlns=\"http://www.microsoft.com/SoftwareDistribution/Server/DssAuthWebService\">\
             <accountName>{name}</accountName><accountGuid>{guid}</accountGuid></GetAuthorizationCookie>"
        ))
    }

    /// The `CookieData` of an authorization, in base64.
    pub async fn authorization(&self) -> String {
        let heard = self.post(AUTHORIZATION, Self::introduction("dss.example", ACCOUNT)).await;
        let Response::AuthorizationCookie(cookie) = heard.answer(Operation::GetAuthorizationCookie) else {
            panic!("{heard:?}")
        };
        STANDARD.encode(cookie.data)
    }

    /// The fields of `GetCookie`.
    pub fn admission(authorization: &str, version: &str) -> String {
        format!(
            "<authCookies><AuthorizationCookie><PlugInId>DssTargeting</PlugInId><CookieData>{authorization}</CookieData>\
             </AuthorizationCookie></authCookies><protocolVersion>{version}</protocolVersion>"
        )
    }

    pub async fn new_cookie(&self, version: &str) -> Cookie {
        let authorization = self.authorization().await;
        let heard = self.call("GetCookie", &Self::admission(&authorization, version)).await;
        let Response::Cookie(cookie) = heard.answer(Operation::GetCookie) else { panic!("{heard:?}") };
        cookie
    }

    /// A list of categories (`config`) or updates.
    pub async fn list(&self, anchor: Option<&str>, config: bool, lists: &str) -> RevisionIdList {
        let anchor = anchor.map_or_else(String::new, |anchor| format!("<Anchor>{anchor}</Anchor>"));
        let fields = format!("<filter>{anchor}<GetConfig>{config}</GetConfig>{lists}</filter>");
        let heard = self.ask("GetRevisionIdList", &fields).await;
        let Response::RevisionIdList(list) = heard.answer(Operation::GetRevisionIdList) else {
            panic!("{heard:?}")
        };
        list
    }

    /// Documents.
    pub async fn documents(&self, ids: &[(String, u32)]) -> UpdateData {
        let heard = self.ask("GetUpdateData", &identities(ids)).await;
        let Response::UpdateData(data) = heard.answer(Operation::GetUpdateData) else { panic!("{heard:?}") };
        data
    }
}

/// Ids as pairs, to compare.
pub fn pairs(ids: &[RevisionId]) -> Vec<(String, u32)> {
    ids.iter().map(|id| (id.update.to_string(), id.number.0)).collect()
}

/// Sends bytes as they are, and reads until the connection ends.
pub fn raw(url: &str, pieces: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).expect("the daemon listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("it is a socket");
    for piece in pieces {
        // It may have had enough already.
        let _ = stream.write_all(piece);
    }
    let mut answer = Vec::new();
    // A reset after the answer is the end as well.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
