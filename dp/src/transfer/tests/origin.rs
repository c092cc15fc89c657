//! A small web server that misbehaves on request.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

/// How one request is answered.
#[derive(Debug, Clone)]
pub(crate) enum Play {
    /// As HTTP asks.
    Well,
    /// Only so many bytes of the body, then the connection is closed.
    CutAfter(usize),
    /// Only so many bytes of the body, then nothing, for as long as the test lasts.
    StallAfter(usize),
    /// A status and further header lines, without content.
    Status(u16, String),
    /// The whole, whatever range was asked for.
    IgnoresRange,
    /// A byte of the whole is not what it should be.
    FlipsByte(usize),
    /// So many bytes more than the file has, without a length.
    TooLong(usize),
    /// Another part than was asked for.
    WrongRange,
    /// Another file than the one that it has.
    Instead(Vec<u8>),
    /// As HTTP asks, with this `Content-Encoding`.
    Coded(&'static str),
    /// Bytes that are no HTTP.
    Garbage,
}

/// A small HTTP/1.1 server: one file under every path, one [`Play`] a request, the last one over and over.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    sent: Arc<Mutex<Vec<usize>>>,
}

impl Origin {
    pub(crate) async fn start(file: Vec<u8>, plays: &[Play]) -> Self {
        Self::start_at("127.0.0.1:0", file, plays).await
    }

    pub(crate) async fn start_at(address: &str, file: Vec<u8>, plays: &[Play]) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, sent) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (file, plays) = (Arc::new(file), plays.to_vec());
        let (seen, counted) = (requests.clone(), sent.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (file, plays) = (file.clone(), plays.clone());
                let (seen, counted) = (seen.clone(), counted.clone());
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    while let Some(head) = read_head(&mut stream).await {
                        let number = {
                            let mut seen = seen.lock().unwrap();
                            seen.push(head.clone());
                            counted.lock().unwrap().push(0);
                            seen.len() - 1
                        };
                        let play = plays.get(number).or(plays.last()).cloned().unwrap_or(Play::Well);
                        if answer(stream.get_mut(), &head, &file, &play, |n| {
                            counted.lock().unwrap()[number] += n
                        })
                        .await
                        .is_none()
                        {
                            break;
                        }
                    }
                });
            }
        });
        Self { address, requests, sent }
    }

    pub(crate) fn url(&self) -> Url {
        Url::parse(&format!("http://{}/file.esd", self.address)).unwrap()
    }

    /// The `Range` of each request, `-` where there was none.
    pub(crate) fn ranges(&self) -> Vec<String> {
        self.field("range")
    }

    pub(crate) fn field(&self, name: &str) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        let of = |head: &String| {
            head.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap_or("-").to_owned()
        };
        requests.iter().map(of).collect()
    }

    /// Body bytes that were written to a socket, over all requests.
    pub(crate) fn sent(&self) -> usize {
        self.sent.lock().unwrap().iter().sum()
    }
}

pub(crate) async fn read_head(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            return Some(head.to_lowercase().replace('\r', ""));
        }
        head.push_str(&line);
    }
}

/// Answers one request; `None` where the connection is of no use afterwards.
async fn answer(
    stream: &mut TcpStream,
    head: &str,
    file: &[u8],
    play: &Play,
    count: impl Fn(usize),
) -> Option<()> {
    let file = if let Play::Instead(other) = play { other } else { file };
    let asked = head.lines().find_map(|line| line.strip_prefix("range: bytes="));
    let (from, last) = asked.and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
    let from: usize = from.parse().unwrap();
    let end = last.parse().map_or(file.len(), |last: usize| (last + 1).min(file.len()));
    let partial = asked.is_some() && !matches!(play, Play::IgnoresRange);
    let mut body = if partial { file[from.min(end)..end].to_vec() } else { file.to_vec() };
    let mut close = false;
    let mut lines = String::new();
    match play {
        Play::Status(status, more) => {
            let head = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n{more}\r\n");
            return stream.write_all(head.as_bytes()).await.ok();
        }
        Play::Garbage => {
            stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await.ok()?;
            return None;
        }
        Play::FlipsByte(place) => {
            if let Some(byte) =
                place.checked_sub(if partial { from } else { 0 }).and_then(|at| body.get_mut(at))
            {
                *byte ^= 1;
            }
        }
        Play::Coded(coding) => lines.push_str(&format!("content-encoding: {coding}\r\n")),
        Play::TooLong(more) => {
            body.extend(std::iter::repeat_n(7, *more));
            close = true;
        }
        _ => {}
    }
    if partial {
        let first = if matches!(play, Play::WrongRange) { from + 1 } else { from };
        lines.push_str(&format!("content-range: bytes {first}-{}/{}\r\n", end - 1, file.len()));
    }
    if !close {
        lines.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    let status = if partial { 206 } else { 200 };
    let head = format!("HTTP/1.1 {status} x\r\netag: \"tag\"\r\n{lines}\r\n");
    stream.write_all(head.as_bytes()).await.ok()?;
    let most = match play {
        Play::CutAfter(count) | Play::StallAfter(count) => *count,
        _ => body.len(),
    };
    for part in body[..most.min(body.len())].chunks(64 * 1024) {
        stream.write_all(part).await.ok()?;
        count(part.len());
    }
    match play {
        Play::StallAfter(_) => {
            let mut rest = [0; 16];
            let _ = stream.read(&mut rest).await; // until the client goes away
            None
        }
        Play::CutAfter(_) | Play::TooLong(_) => None,
        _ => Some(()),
    }
}
