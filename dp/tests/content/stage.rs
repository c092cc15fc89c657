//! One distribution point over known bytes, and a client plain enough to show every byte of an answer.

use std::collections::HashMap;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use catalog::digest::{Checker, Digests, Sha1Digest, Sha256Digest, Wanted};
use dp::client::ClientSettings;
use dp::library::{Library, Settings};
use dp::server::{
    ContentServer, Location, LocationKind, LocationsAnswer, Locator, Servable, ServerLimits, Service, Shelf,
};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Far more than any answer takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process between its fork and the program that it becomes has all files of this one open, those that are written to
/// included: no lease can be had on them meanwhile.
static FORKS: RwLock<()> = RwLock::new(());

/// Starts a program; until it is one, who wants no forks (for a lease) waits.
pub fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let _forking = FORKS.write().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}

/// While what this gives lives, no other test of this process forks.
#[cfg(all(target_os = "linux", not(feature = "portable")))]
pub fn no_forks() -> std::sync::RwLockReadGuard<'static, ()> {
    FORKS.read().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that differ at every offset and for every seed, so that a wrong offset cannot look right.
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = vec![0; size.next_multiple_of(8)];
    for word in bytes.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Content with its names.
pub struct Content {
    pub bytes: Vec<u8>,
    pub sha256: Sha256Digest,
    pub sha1: Sha1Digest,
}

impl Content {
    pub fn new(bytes: Vec<u8>) -> Self {
        let mut checker = Checker::new();
        checker.update(&bytes);
        let print = checker.into_fingerprint();
        Self { bytes, sha256: print.sha256, sha1: print.sha1 }
    }

    pub fn path(&self) -> String {
        format!("/content/{}", self.sha256)
    }

    /// The fields that every answer about this content has.
    pub fn described(&self) -> Vec<(String, String)> {
        let [a, b, c, d, ..] = self.sha256.0;
        let seconds = 1_000_000_000 + u64::from(u32::from_be_bytes([a, b, c, d])) % 134_217_728;
        let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_secs(seconds));
        fields(&[
            ("accept-ranges", "bytes"),
            ("cache-control", "public, max-age=31536000, immutable"),
            ("etag", &format!("\"{}\"", self.sha256)),
            ("last-modified", &date),
            ("x-content-type-options", "nosniff"),
        ])
    }

    /// The `Link` to its Metalink document.
    pub fn described_by(&self) -> String {
        let path = self.path();
        format!("<{path}.meta4>; rel=describedby; type=\"application/metalink4+xml\"")
    }

    /// The fields of an answer that carries it, or `length` bytes of it.
    pub fn carried(&self, length: usize, kind: &str) -> Vec<(String, String)> {
        let base64 = self.sha256.to_base64();
        let mut all = self.described();
        all.extend(fields(&[
            ("content-length", &length.to_string()),
            ("content-type", kind),
            ("digest", &format!("SHA-256={base64}")),
            ("link", &self.described_by()),
            ("repr-digest", &format!("sha-256=:{base64}:")),
        ]));
        all.sort();
        all
    }
}

/// Fields as an [`Answer`] lists them.
pub fn fields(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut all: Vec<_> =
        rows.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    all.sort();
    all
}

/// The fields of an answer about public content by a name that may stand for other content tomorrow.
pub fn by_name(mut base: Vec<(String, String)>) -> Vec<(String, String)> {
    base.iter_mut().filter(|(name, _)| name == "cache-control").for_each(|(_, value)| {
        "public, no-cache".clone_into(value);
    });
    base
}

/// `base` and some more.
pub fn and(mut base: Vec<(String, String)>, rows: &[(&str, &str)]) -> Vec<(String, String)> {
    base.extend(fields(rows));
    base.sort();
    base
}

/// Content that only others serve, with its bytes.
type Elsewhere = Arc<Mutex<HashMap<Sha256Digest, u64>>>;

/// Places that a test has said, instead of the point itself.
type Told = Arc<Mutex<HashMap<Sha256Digest, Vec<Location>>>>;

/// Everything is where it is served.
struct Here {
    shelf: Arc<ArcSwap<Shelf>>,
    told: Told,
    elsewhere: Elsewhere,
}

impl Locator for Here {
    fn locate(&self, _: IpAddr, content: Sha256Digest) -> Option<LocationsAnswer> {
        let shelf = self.shelf.load();
        let elsewhere = || {
            let size = *self.elsewhere.lock().unwrap().get(&content)?;
            Some(Servable::new(size, None, "elsewhere.esd".parse().unwrap()))
        };
        let servable = shelf.contents.get(&content).cloned().or_else(elsewhere)?;
        let told = self.told.lock().unwrap().get(&content).cloned();
        Some(LocationsAnswer {
            content,
            size: servable.size,
            sha1: servable.sha1,
            file_name: servable.name.clone(),
            private: false,
            groups: Vec::new(),
            locations: told.unwrap_or_else(|| {
                vec![Location {
                    kind: LocationKind::DistributionPoint,
                    name: "site".to_owned(),
                    url: format!("/content/{content}"),
                    why: String::new(),
                    reason: String::new(),
                }]
            }),
            later: Vec::new(),
            out: Vec::new(),
            not_told: 0,
            expires_in_seconds: 900,
        })
    }
}

/// A distribution point that runs until it is dropped.
pub struct Point {
    pub address: SocketAddr,
    pub folder: tempfile::TempDir,
    pub library: Library,
    pub shelf: Arc<ArcSwap<Shelf>>,
    pub server: Arc<ContentServer>,
    pub runtime: Runtime,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
    told: Told,
    elsewhere: Elsewhere,
}

impl Point {
    /// With the limits of a real one.
    pub fn start() -> Self {
        Self::with(ServerLimits { max_connections_per_client: 64, ..ServerLimits::default() })
    }

    pub fn with(limits: ServerLimits) -> Self {
        Self::open(limits, |server| server)
    }

    /// One that also has a service.
    pub fn serving(limits: ServerLimits, service: Arc<dyn Service>) -> Self {
        Self::open(limits, |server| server.with_service(service))
    }

    pub fn open(limits: ServerLimits, finish: impl FnOnce(ContentServer) -> ContentServer) -> Self {
        Self::open_over(limits, Settings::default(), |server, _, _| finish(server))
    }

    /// One that is finished with a view of its library and its shelf.
    pub fn open_over(
        limits: ServerLimits,
        settings: Settings,
        finish: impl FnOnce(ContentServer, &Library, &Arc<ArcSwap<Shelf>>) -> ContentServer,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::open(folder.path(), settings).unwrap();
        let shelf = Arc::new(ArcSwap::from_pointee(Shelf::default()));
        let server = ContentServer::new(library.clone(), shelf.clone(), limits);
        let told = Told::default();
        let elsewhere = Elsewhere::default();
        let here = Here { shelf: shelf.clone(), told: told.clone(), elsewhere: elsewhere.clone() };
        let server = Arc::new(finish(server.with_locator(Arc::new(here)), &library, &shelf));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = runtime.spawn(server.clone().serve(listener, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            folder,
            library,
            shelf,
            server,
            runtime,
            stop: Some(stop),
            serving: Some(serving),
            told,
            elsewhere,
        }
    }

    /// Stores content without serving it.
    pub fn store(&self, seed: u64, size: usize) -> Content {
        self.store_bytes(noise(seed, size))
    }

    /// Stores these very bytes without serving them.
    pub fn store_bytes(&self, bytes: Vec<u8>) -> Content {
        let content = Content::new(bytes);
        let digests = Digests { sha256: Some(content.sha256), sha1: Some(content.sha1) };
        let wanted = Wanted::new(content.bytes.len() as u64, digests).unwrap();
        let mut staged = self.library.stage(&wanted).unwrap();
        staged.append(&content.bytes).unwrap();
        let verified = staged.check(&wanted).unwrap();
        staged.commit(verified).unwrap();
        content
    }

    /// Serves content, with a place to ask for it.
    pub fn offer(&self, content: &Content) {
        let size = content.bytes.len() as u64;
        let servable = Servable::new(size, Some(content.sha1), "part.esd".parse().unwrap());
        self.change(|shelf| shelf.offer(content.sha256, servable.clone()));
    }

    /// Says where else content is: these addresses, in this order, whatever was said before.
    pub fn tell(&self, content: &Content, urls: &[(LocationKind, String)]) {
        let place = |(kind, url): &(LocationKind, String)| Location {
            kind: *kind,
            name: "elsewhere".to_owned(),
            url: url.clone(),
            why: String::new(),
            reason: String::new(),
        };
        self.told.lock().unwrap().insert(content.sha256, urls.iter().map(place).collect());
    }

    /// Says that others have content which is not served here.
    pub fn locate_elsewhere(&self, content: &Content) {
        self.elsewhere.lock().unwrap().insert(content.sha256, content.bytes.len() as u64);
    }

    pub fn change(&self, change: impl Fn(&mut Shelf)) {
        let mut shelf = Shelf::clone(&self.shelf.load());
        change(&mut shelf);
        self.shelf.store(Arc::new(shelf));
    }

    /// Stores content and serves it.
    pub fn add(&self, seed: u64, size: usize) -> Content {
        let content = self.store(seed, size);
        self.offer(&content);
        content
    }

    /// A client of this point, that keeps its content in this folder.
    pub fn client(&self, dir: &std::path::Path) -> ClientSettings {
        ClientSettings::new(self.url("/").parse().unwrap(), dir.to_owned())
    }

    /// Bytes that were sent.
    pub fn sent(&self) -> u64 {
        self.server.served.bytes_as(dp::server::Source::Point)
    }

    /// Where the library keeps content.
    pub fn blob(&self, content: &Content) -> PathBuf {
        let name = content.sha256.to_string();
        let path = self.folder.path().join("blobs").join(&name[..2]).join(&name);
        assert!(fs::symlink_metadata(&path).is_ok(), "the library has moved its blobs");
        path
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn connect(&self) -> Wire {
        Wire::over(TcpStream::connect(self.address).unwrap())
    }

    /// One request over its own connection.
    pub fn ask(&self, method: &str, path: &str, more: &[(&str, &str)]) -> Answer {
        let mut wire = self.connect();
        wire.send(&request(method, path, more));
        wire.answer(method == "HEAD")
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[])
    }

    /// Tells the server to stop, without waiting.
    pub fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    /// Waits until it has stopped.
    pub fn stopped(&mut self) {
        let serving = self.serving.take().unwrap();
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, serving).await })
            .expect("the server does not stop")
            .unwrap();
    }
}

/// The bytes of one request.
pub fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: dp\r\n");
    for (name, value) in more {
        head += &format!("{name}: {value}\r\n");
    }
    (head + "\r\n").into_bytes()
}

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub version: String,
    pub status: u16,
    /// Sorted, names in lower case, without `date`.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// One connection.
pub struct Wire {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

impl Wire {
    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, unread: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// More bytes; 0 where the connection has ended, in whatever way. Silence is a failure.
    fn more(&mut self) -> usize {
        let mut buffer = vec![0; 256 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                count
            }
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => 0,
            Err(error) => panic!("the server neither answers nor closes: {error}"),
        }
    }

    /// The head of the next answer, or `None` where the connection ends before it.
    pub fn head(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if self.more() == 0 {
                assert!(self.unread.is_empty(), "half a head: {:?}", String::from_utf8_lossy(&self.unread));
                return None;
            }
        };
        let text: String = String::from_utf8(self.unread.drain(..end + 4).collect()).unwrap();
        let mut lines = text.trim_end().split("\r\n");
        let mut first = lines.next().unwrap().splitn(3, ' ');
        let (version, status) = (first.next().unwrap().to_owned(), first.next().unwrap().parse().unwrap());
        let mut fields: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let dates = fields.extract_if(.., |(name, _)| name == "date").count();
        assert_eq!(dates, 1, "every answer has its date once (RFC 9110 section 6.6.1)");
        fields.sort();
        let answer = Answer { version, status, fields, body: Vec::new() };
        assert_eq!(answer.field("transfer-encoding"), None, "bodies are never chunked");
        assert_eq!(answer.field("content-encoding"), None, "bodies are never compressed");
        Some(answer)
    }

    /// Up to `count` bytes of a body; fewer where the connection ends.
    pub fn body(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            if self.more() == 0 {
                break;
            }
        }
        let count = count.min(self.unread.len());
        self.unread.drain(..count).collect()
    }

    /// The next answer, whole.
    pub fn answer(&mut self, head: bool) -> Answer {
        let mut answer = self.head().expect("the connection was closed without an answer");
        if !head && !matches!(answer.status, 204 | 304) {
            let length = answer.field("content-length").expect("no length").parse().unwrap();
            answer.body = self.body(length);
            assert_eq!(answer.body.len(), length, "the body was cut");
        }
        answer
    }

    /// Whether nothing more comes and the connection ends.
    pub fn ends(&mut self) {
        let more = self.body(1);
        assert!(more.is_empty(), "more than one answer, or a body that is too long");
    }
}
