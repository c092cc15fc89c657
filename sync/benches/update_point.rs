//! What a downstream server costs: the list of a large classification, documents by the hundred, one of 47 MB, and the
//! memory at the peak. Prints figures of this machine; judges nothing.
//!
//! `cargo bench -p spsync --bench update_point`. With `../shared/data` beside the repository also Microsoft's documents.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use catalog::digest::Sha1Digest;
use catalog::id::RevisionId;
use catalog::limits::Limits;
use catalog::server_sync::{
    AUTH_PATH, AuthorizationCookie, Cookie, Filter, IdAndDelta, Request, Response, SERVICE_PATH,
};
use catalog::update::{NAMESPACE, parse};
use catalog::wsus_export::{self, ExportError, Item};
use dp::server::{ContentServer, ServerLimits};
use schema::metadata::Prepared;
use spsync::config::{Loaded, Settings};
use spsync::site::Site;
use spsync::update_point::UpdatePoint;
use tokio::net::TcpListener;

const UPGRADES: &str = "3689bdc8-b205-4af4-8d4a-a63924c5e9d5";
const PRODUCT: &str = "72e7624a-5b00-45d2-b92f-e561c0a6a160";
const MIB: f64 = 1_048_576.0;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        lists(&folder.path().join("lists")).await;
        large(&folder.path().join("large")).await;
        real(&folder.path().join("real")).await;
    });
}

/// 30,000 updates of one classification, among as many of others.
async fn lists(folder: &Path) {
    let server = Server::start(folder).await;
    for part in 0..60_u32 {
        let documents: Vec<_> = (part * 1_000..(part + 1) * 1_000)
            .map(|n| {
                let class = if n % 2 == 0 { UPGRADES } else { "cd5ffd1e-e932-4e3a-bf74-18bf0b1bbd83" };
                prepared(&document(n, class, PRODUCT, 200))
            })
            .collect();
        server.record(documents).await;
    }
    let filter = |anchor: Option<&str>, delta| Filter {
        anchor: anchor.map(str::to_owned),
        categories: vec![IdAndDelta { id: PRODUCT.parse().expect("an id"), delta }],
        classifications: vec![IdAndDelta { id: UPGRADES.parse().expect("an id"), delta }],
        ..Filter::default()
    };
    for round in ["first", "second"] {
        let before = reset_peak();
        let began = Instant::now();
        let answer = server
            .ask(Request::GetRevisionIdList { cookie: server.cookie(), filter: filter(None, false) })
            .await;
        let took = began.elapsed();
        let Response::RevisionIdList(list) = read(&answer) else { panic!("a list") };
        println!(
            "list of {} of 60,000 revisions, {round}: {:.0} ms, {:.1} MiB, peak memory {:.1} MiB more",
            list.revisions.len(),
            took.as_secs_f64() * 1e3,
            answer.len() as f64 / MIB,
            (peak_kib() - before) as f64 / 1024.0
        );
        let began = Instant::now();
        let answer = server
            .ask(Request::GetRevisionIdList {
                cookie: server.cookie(),
                filter: filter(Some(&list.anchor), true),
            })
            .await;
        let Response::RevisionIdList(none) = read(&answer) else { panic!("a list") };
        println!(
            "nothing since then: {} revisions, {:.1} ms",
            none.revisions.len(),
            began.elapsed().as_secs_f64() * 1e3
        );
    }
    let began = Instant::now();
    let answer =
        server.ask(Request::GetRevisionIdList { cookie: server.cookie(), filter: Filter::default() }).await;
    println!(
        "everything: {:.0} ms, {:.1} MiB",
        began.elapsed().as_secs_f64() * 1e3,
        answer.len() as f64 / MIB
    );
    let began = Instant::now();
    for _ in 0..500 {
        server.ask(Request::GetConfigData { cookie: server.cookie(), anchor: None }).await;
    }
    println!("GetConfigData: {:.0} a second, one after another", 500.0 / began.elapsed().as_secs_f64());
}

/// Documents of 47 MB, one and four at once.
async fn large(folder: &Path) {
    let server = Arc::new(Server::start(folder).await);
    for n in 0..4 {
        server.record(vec![prepared(&document(n, UPGRADES, PRODUCT, 47_000_000))]).await;
    }
    let ids = server.ids().await;
    for at_once in [1, 4] {
        let before = reset_peak();
        let began = Instant::now();
        let calls: Vec<_> = ids[..at_once]
            .iter()
            .map(|id| {
                let (server, id) = (server.clone(), *id);
                tokio::spawn(async move {
                    server.throw_away(Request::GetUpdateData { cookie: server.cookie(), ids: vec![id] }).await
                })
            })
            .collect();
        let mut bytes = 0;
        for call in calls {
            bytes += call.await.expect("it is answered");
        }
        println!(
            "{at_once} documents of 47 MB at once: {:.2} s, {:.0} MiB, peak memory {:.0} MiB more",
            began.elapsed().as_secs_f64(),
            bytes as f64 / MIB,
            (peak_kib() - before) as f64 / 1024.0
        );
    }
}

/// Microsoft's categories and detectoids, all documents a hundred at a time.
async fn real(folder: &Path) {
    let export = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/wsus-export/WSUS.cab");
    let Ok(file) = std::fs::File::open(&export) else {
        return println!("skipped: no {}", export.display());
    };
    let server = Server::start(folder).await;
    let mut documents = Vec::new();
    wsus_export::read(std::io::BufReader::new(file), &Limits::default(), |item| {
        if let Item::Document(document) = item {
            documents.push(prepared(document.xml));
        }
        Ok::<_, ExportError>(())
    })
    .expect("it is whole");
    server.record(documents).await;
    let before = reset_peak();
    let began = Instant::now();
    let filter = Filter { get_config: true, ..Filter::default() };
    let answer = server.ask(Request::GetRevisionIdList { cookie: server.cookie(), filter }).await;
    let Response::RevisionIdList(list) = read(&answer) else { panic!("a list") };
    let (mut left, mut calls, mut bytes) = (list.revisions.as_slice(), 0, 0);
    while !left.is_empty() {
        let asked = &left[..left.len().min(100)];
        let answer =
            server.ask(Request::GetUpdateData { cookie: server.cookie(), ids: asked.to_vec() }).await;
        let Response::UpdateData(data) = read(&answer) else { panic!("documents") };
        (calls, bytes) = (calls + 1, bytes + answer.len());
        left = &left[data.updates.len()..];
    }
    let took = began.elapsed().as_secs_f64();
    println!(
        "{} real documents, one call after another: {took:.2} s, {calls} calls, {:.0} MiB, peak memory {:.0} MiB more (with our reading of them)",
        list.revisions.len(),
        bytes as f64 / MIB,
        (peak_kib() - before) as f64 / 1024.0
    );
}

/// One site that answers on loopback, and a client of it.
struct Server {
    site: Arc<Site>,
    root: String,
    http: reqwest::Client,
    cookie: Option<Cookie>,
}

impl Server {
    async fn start(folder: &Path) -> Self {
        let _ = rustls_provider();
        let mut settings = Settings::default();
        settings.site.data_dir = folder.to_owned();
        let site = Site::open(Loaded::from(settings)).await.expect("the site opens");
        let point = UpdatePoint::open(&site).await.expect("the update point opens");
        let limits = ServerLimits { max_connections_per_client: 64, ..ServerLimits::default() };
        let server = ContentServer::new(site.library.clone(), site.shelf.clone(), limits)
            .with_service(Arc::new(point));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let root = format!("http://{}/", listener.local_addr().expect("an address"));
        tokio::spawn(Arc::new(server).serve(listener, std::future::pending()));
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let mut one = Self { site, root, http, cookie: None };
        let request = Request::GetAuthorizationCookie {
            account_name: "bench.example".to_owned(),
            account_guid: UPGRADES.to_owned(),
            program_keys: Vec::new(),
        };
        let Response::AuthorizationCookie(authorization) = read(&one.post(AUTH_PATH, request).await) else {
            panic!("an authorization")
        };
        let authorization: Vec<AuthorizationCookie> = vec![authorization];
        let request = Request::GetCookie { authorization, old: None, protocol_version: "1.20".to_owned() };
        let Response::Cookie(cookie) = read(&one.ask(request).await) else { panic!("a cookie") };
        one.cookie = Some(cookie);
        one
    }

    fn cookie(&self) -> Option<Cookie> {
        self.cookie.clone()
    }

    async fn record(&self, documents: Vec<Prepared>) {
        let write = self.site.write(move |w| {
            for one in &documents {
                w.record_metadata("bench", one, jiff::Timestamp::UNIX_EPOCH)?;
            }
            Ok(())
        });
        write.await.expect("it is recorded");
    }

    async fn ids(&self) -> Vec<RevisionId> {
        let read =
            self.site.read(|r| r.metadata_ids()?.into_iter().map(|row| r.metadata_identity(row)).collect());
        read.await.expect("they are known")
    }

    async fn send(&self, path: &str, request: Request) -> reqwest::Response {
        let post =
            self.http.post(format!("{}{path}", self.root)).header("content-type", "text/xml; charset=utf-8");
        post.body(request.write()).send().await.expect("it answers")
    }

    async fn post(&self, path: &str, request: Request) -> Answer {
        let operation = request.operation();
        let bytes = self.send(path, request).await.bytes().await.expect("the answer is whole");
        Answer { operation, bytes }
    }

    async fn ask(&self, request: Request) -> Answer {
        self.post(SERVICE_PATH, request).await
    }

    /// The same without keeping the answer; its bytes.
    async fn throw_away(&self, request: Request) -> u64 {
        let mut response = self.send(SERVICE_PATH, request).await;
        assert_eq!(response.status().as_u16(), 200);
        let mut bytes = 0;
        while let Some(chunk) = response.chunk().await.expect("the answer is whole") {
            bytes += chunk.len() as u64;
        }
        bytes
    }
}

struct Answer {
    operation: catalog::server_sync::Operation,
    bytes: bytes::Bytes,
}

impl Answer {
    fn len(&self) -> usize {
        self.bytes.len()
    }
}

fn read(answer: &Answer) -> Response {
    Response::read(answer.operation, &answer.bytes, &Limits::default())
        .expect("it is SOAP")
        .expect("it is no fault")
}

fn rustls_provider() -> Result<(), Arc<rustls::crypto::CryptoProvider>> {
    rustls::crypto::ring::default_provider().install_default()
}

/// An update of about so many bytes.
fn document(n: u32, class: &str, product: &str, size: usize) -> String {
    let mut sha1 = [7; 20];
    sha1[..4].copy_from_slice(&n.to_le_bytes());
    let mut text = format!(
        "<upd:Update xmlns:upd=\"{NAMESPACE}\"><upd:UpdateIdentity UpdateID=\"11111111-2222-4333-8444-{n:012}\" RevisionNumber=\"1\" />\
         <upd:Properties UpdateType=\"Software\" CreationDate=\"2022-09-20T17:00:00Z\" /><upd:Relationships><upd:Prerequisites>"
    );
    for id in [class, product] {
        write!(
            text,
            "<upd:AtLeastOne IsCategory=\"true\"><upd:UpdateIdentity UpdateID=\"{id}\" /></upd:AtLeastOne>"
        )
        .expect("memory takes it");
    }
    write!(
        text,
        "</upd:Prerequisites></upd:Relationships><upd:Files><upd:File Digest=\"{}\" DigestAlgorithm=\"SHA1\" \
         FileName=\"file{n}.cab\" Size=\"10\" /></upd:Files><upd:ApplicabilityRules>",
        Sha1Digest(sha1).to_base64()
    )
    .expect("memory takes it");
    let mut part = 0_u32;
    while text.len() < size {
        part += 1;
        write!(text, "<upd:Component Name=\"part-{part:08}\" Version=\"10.0.{}.{part}\" />", n + 22_000)
            .expect("memory takes it");
    }
    text + "</upd:ApplicabilityRules></upd:Update>"
}

fn prepared(document: &str) -> Prepared {
    let revision = parse(document.as_bytes(), &Limits::default()).expect("it is an update");
    Prepared::new(revision, document.as_bytes()).expect("it is compressed")
}

/// The most memory that this process had since [`reset_peak`], in KiB.
fn peak_kib() -> u64 {
    status_kib("VmHWM:")
}

/// Forgets the peak; what the process has now, in KiB.
fn reset_peak() -> u64 {
    // Without it the figures are those since the start.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    status_kib("VmRSS:")
}

fn status_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
