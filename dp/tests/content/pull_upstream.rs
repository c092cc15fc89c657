//! The upstream of a point that pulls: it sends as far as a test lets it, lies, dies, and counts who asks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use catalog::digest::{Pieces, Sha256Digest};
use dp::library::{Library, Settings};
use dp::server::{
    Access, Eventually, Gate, Offer, Origin, OtherName, PullLimits, Pulls, Refusal, Servable, ServerLimits,
    Shelf,
};
use dp::transfer::web::{Web, WebPolicy};
use dp::transfer::{At, Fetched, Patience, Policy, Source, SourceKind};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::stage::{Content, Point};

/// What an upstream does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Play {
    Well,
    /// The byte at this offset is another one.
    Lies(usize),
    /// The connection ends there.
    Dies(usize),
    /// The answer has so many bytes more than the file.
    TooLong(usize),
    /// 404.
    Absent,
    /// The whole, whatever was asked for.
    IgnoresRange,
}

/// One place that has every content of a test.
pub struct Upstream {
    pub url: String,
    /// Body bytes of one answer that may leave; more than any file has, at first.
    pub open: watch::Sender<usize>,
    pub asked: Arc<AtomicUsize>,
}

impl Upstream {
    pub async fn start(bytes: Vec<u8>, plays: Vec<Play>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        let open = watch::Sender::new(usize::MAX);
        let asked = Arc::new(AtomicUsize::new(0));
        let (bytes, gate, count) = (Arc::new(bytes), open.clone(), asked.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (bytes, gate, count, plays) =
                    (bytes.clone(), gate.subscribe(), count.clone(), plays.clone());
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    while let Some(from) = asked_from(&mut stream).await {
                        let number = count.fetch_add(1, Ordering::SeqCst);
                        let play = plays.get(number).or(plays.last()).copied().unwrap_or(Play::Well);
                        if answer(stream.get_mut(), &bytes, from, play, gate.clone()).await.is_none() {
                            break;
                        }
                    }
                });
            }
        });
        Self { url, open, asked }
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn source(&self) -> Source {
        let policy = WebPolicy {
            allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
            connect_timeout: Duration::from_secs(2),
            ..WebPolicy::default()
        };
        Source {
            kind: SourceKind::DistributionPoint,
            name: self.url.clone(),
            at: At::Url(self.url.parse().unwrap()),
            web: Arc::new(Web::new(policy).unwrap()),
        }
    }
}

async fn asked_from(stream: &mut BufReader<TcpStream>) -> Option<Option<usize>> {
    let mut from = None;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if let Some(range) = line.to_lowercase().strip_prefix("range: bytes=") {
            from = Some(range.trim().trim_end_matches('-').parse().unwrap());
        }
        if line == "\r\n" {
            return Some(from);
        }
    }
}

async fn answer(
    stream: &mut TcpStream,
    file: &[u8],
    from: Option<usize>,
    play: Play,
    mut gate: watch::Receiver<usize>,
) -> Option<()> {
    if play == Play::Absent {
        return stream.write_all(b"HTTP/1.1 404 x\r\ncontent-length: 0\r\n\r\n").await.ok();
    }
    let from = from.filter(|_| play != Play::IgnoresRange);
    let start = from.unwrap_or(0);
    let mut body = file[start..].to_vec();
    let mut head = match from {
        Some(from) => {
            format!("HTTP/1.1 206 x\r\ncontent-range: bytes {from}-{}/{}\r\n", file.len() - 1, file.len())
        }
        None => "HTTP/1.1 200 x\r\n".to_owned(),
    };
    match play {
        Play::Lies(at) if at >= start => body[at - start] ^= 1,
        Play::TooLong(more) => body.extend(vec![7; more]),
        _ => {}
    }
    if !matches!(play, Play::TooLong(_)) {
        head += &format!("content-length: {}\r\n", body.len());
    }
    stream.write_all((head + "\r\n").as_bytes()).await.ok()?;
    let end = if let Play::Dies(at) = play { at.saturating_sub(start).min(body.len()) } else { body.len() };
    let mut sent = 0;
    while sent < end {
        let open = *gate.wait_for(|open| *open > sent).await.ok()?;
        let to = end.min(open).min(sent + 64 * 1024);
        stream.write_all(&body[sent..to]).await.ok()?;
        sent = to;
    }
    matches!(play, Play::Well | Play::Lies(_) | Play::IgnoresRange).then_some(())
}

/// What a test says of contents, as a site would.
pub struct Said {
    offers: Mutex<HashMap<Sha256Digest, Offer>>,
    pub names: Mutex<HashMap<OtherName, Sha256Digest>>,
    shelf: Arc<ArcSwap<Shelf>>,
    pub questions: AtomicUsize,
    pub used: AtomicUsize,
    /// Nobody can be asked.
    pub away: AtomicBool,
}

impl Origin for Said {
    fn find(&self, content: Sha256Digest) -> Eventually<'_, Result<Option<Offer>, Refusal>> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        let found = self.offers.lock().unwrap().get(&content).cloned();
        let away = self.away.load(Ordering::SeqCst);
        Box::pin(async move { if away { Err(Refusal::Upstream) } else { Ok(found) } })
    }

    fn named(&self, name: OtherName) -> Eventually<'_, Result<Option<Sha256Digest>, Refusal>> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        let found = self.names.lock().unwrap().get(&name).copied();
        Box::pin(async move { Ok(found) })
    }

    fn make_room(&self, _: u64) -> Eventually<'_, Result<(), Refusal>> {
        Box::pin(async { Ok(()) })
    }

    fn stored<'s>(&'s self, content: Sha256Digest, offer: &'s Offer, _: &'s Fetched) -> Eventually<'s, ()> {
        let mut shelf = Shelf::clone(&self.shelf.load());
        shelf.offer(content, offer.servable.clone().on_demand());
        self.shelf.store(Arc::new(shelf));
        Box::pin(async {})
    }

    fn used(&self, _: Sha256Digest) {
        self.used.fetch_add(1, Ordering::SeqCst);
    }
}

/// A point that pulls.
pub struct Pulling {
    pub point: Point,
    pub said: Arc<Said>,
    pub pulls: Arc<Pulls>,
}

/// Whose token opens private content.
struct OneToken;

impl Gate for OneToken {
    fn may(&self, token: Option<&str>, _: dp::server::Asker) -> bool {
        token == Some("key")
    }
}

impl Pulling {
    pub fn start(wait: Duration) -> Self {
        Self::over(wait, Settings::default())
    }

    pub fn over(wait: Duration, settings: Settings) -> Self {
        let mut made = None;
        let limits = ServerLimits { max_connections_per_client: 256, ..ServerLimits::default() };
        let point = Point::open_over(limits, settings, |server, library: &Library, shelf| {
            let said = Arc::new(Said {
                offers: Mutex::default(),
                names: Mutex::default(),
                shelf: shelf.clone(),
                questions: AtomicUsize::new(0),
                used: AtomicUsize::new(0),
                away: AtomicBool::new(false),
            });
            let policy = Policy::of(Patience {
                attempts_per_source: 2,
                first_delay: Duration::from_millis(5),
                longest_delay: Duration::from_millis(10),
                ..Patience::default()
            });
            let limits = PullLimits { wait, ..PullLimits::default() };
            let pulls = Arc::new(Pulls::new(library.clone(), said.clone(), limits, policy));
            made = Some((said, pulls.clone()));
            server.with_pulls(pulls).with_gate(Arc::new(OneToken))
        });
        let (said, pulls) = made.unwrap();
        Self { point, said, pulls }
    }

    pub fn upstream(&self, content: &Content, plays: &[Play]) -> Upstream {
        self.point.runtime.block_on(Upstream::start(content.bytes.clone(), plays.to_vec()))
    }

    /// Says that a content may be had, and from whom.
    pub fn offer(&self, content: &Content, upstreams: &[&Upstream], pieces: bool, access: Access) {
        let size = content.bytes.len() as u64;
        let servable =
            Servable::new(size, Some(content.sha1), "part.esd".parse().unwrap()).with_access(access);
        let offer = Offer {
            servable,
            sources: upstreams.iter().map(|upstream| upstream.source()).collect(),
            pieces: pieces.then(|| pieces_of(content)),
            rate: None,
        };
        self.said.offers.lock().unwrap().insert(content.sha256, offer);
    }
}

fn pieces_of(content: &Content) -> Pieces {
    let mut checker = catalog::digest::Checker::new();
    checker.update(&content.bytes);
    let print = checker.into_fingerprint();
    Pieces::new(print.size, print.pieces).unwrap()
}
