//! `POST /peers/announce` and `POST /peers/report`, beside the content of a site.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use catalog::digest::Sha256Digest;
use catalog::problem::Problem;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{DeviceId, Devices, Full, Noted, Register, Reporter};
use crate::server::body::ContentBody;
use crate::server::{Answering, Call, LogThrottle, Remark, Service, carrying, empty, problem};

/// 4,096 digests in JSON, and room to spare.
const LARGEST_ANNOUNCEMENT: u64 = 512 * 1024;
const LARGEST_REPORT: u64 = 4 * 1024;
/// How soon a device should say it again: three times before its announcement ends.
const AGAIN: Duration = Duration::from_secs(300);
/// Between two warnings that there is no room.
const WARN_APART: Duration = Duration::from_secs(600);

/// `POST /peers/announce`: all that the sender holds. Its address is that of the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnnounceRequest {
    /// The port at which it serves.
    pub port: u16,
    /// What it holds whole and verified; empty takes everything back.
    pub contents: Vec<Sha256Digest>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// How long it holds.
    pub expires_in_seconds: u64,
    /// When to say it again.
    pub again_in_seconds: u64,
}

/// `POST /peers/report`: a peer did not give what it promised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportRequest {
    /// Which content.
    pub content: Sha256Digest,
    /// Where the peer serves.
    pub peer: SocketAddr,
    /// What it did, by its stable code; how much that says is [`super::Weight::of`].
    pub fault: String,
}

/// The two routes.
pub struct PeerService {
    register: Arc<Register>,
    devices: Arc<dyn Devices>,
    started: Instant,
    no_room: LogThrottle,
}

impl PeerService {
    /// A service that keeps announcements of `devices` in `register`. `started` is where the time of the register begins.
    pub fn new(register: Arc<Register>, devices: Arc<dyn Devices>, started: Instant) -> Self {
        Self { register, devices, started, no_room: LogThrottle::new(1, WARN_APART) }
    }

    async fn serve(&self, call: &mut Call<'_>) -> Response<ContentBody> {
        if call.head.method != Method::POST {
            let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        let announces = call.path.last() == Some(&"announce");
        let by_device = announces || call.bearer().is_some();
        // Before a byte of its body is read, and again when all are here: the key may have been taken back meanwhile.
        if let Err(problem) = self.device(by_device, call) {
            return refused(&problem);
        }
        let peer = call.peer.ip();
        let body = match call.body.read().await {
            Ok(body) => body,
            Err(refused) => return refused.response(),
        };
        let device = match self.device(by_device, call) {
            Ok(device) => device,
            Err(problem) => return refused(&problem),
        };
        let now = self.started.elapsed();
        match device {
            Some(device) if announces => match serde_json::from_slice(&body) {
                Ok(AnnounceRequest { port, contents }) if port != 0 => {
                    let address = SocketAddr::new(peer, port);
                    let count = contents.len();
                    let answer =
                        self.register.announce(&device, address, &contents, now).map(|holds| Announced {
                            expires_in_seconds: holds.as_secs(),
                            again_in_seconds: AGAIN.min(holds / 3).as_secs(),
                        });
                    if answer == Err(Full::Register) {
                        self.warn_of_no_room();
                    }
                    announced(answer, &device.0, count)
                }
                Ok(_) | Err(_) => empty(StatusCode::BAD_REQUEST),
            },
            device => match serde_json::from_slice::<ReportRequest>(&body) {
                Ok(report) => self.reported(&report, &Reporter { device, address: peer }, now),
                Err(_) => empty(StatusCode::BAD_REQUEST),
            },
        }
    }

    /// Who is not kept is offered to nobody, and what it holds goes over the wide line once more: somebody should know, once in a while.
    fn warn_of_no_room(&self) {
        if self.no_room.tells(Instant::now()).is_some() {
            warn!(
                "announcements of clients that share are refused: the register of peers is full; a branch with many desks should have a point"
            );
        }
    }

    /// Whose key is shown, where one has to be.
    fn device(&self, needed: bool, call: &Call<'_>) -> Result<Option<DeviceId>, Problem> {
        needed.then(|| self.devices.device(call.bearer(), call.asker())).transpose()
    }

    /// The same answer whatever came of it: nobody learns here who holds what.
    fn reported(&self, report: &ReportRequest, by: &Reporter, now: Duration) -> Response<ContentBody> {
        let noted = self.register.report(by, report.content, report.peer, &report.fault, now);
        let mut response = Response::new(ContentBody::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let fault: String = report.fault.chars().filter(char::is_ascii_graphic).take(40).collect();
        if let Noted::Distrusts(device) = &noted {
            let (device, peer, content) = (&device.0, report.peer, report.content);
            warn!(
                device, %peer, content.sha256 = %content, fault,
                "no client is sent to the device {device} at {peer} for a while: several found {fault} in what it gave, last in {content}"
            );
        }
        let what = if noted == Noted::Ignored { "ignored a report of" } else { "reported" };
        response.extensions_mut().insert(Remark(format!("{what} {}: {fault}", report.peer)));
        response
    }
}

fn refused(why: &Problem) -> Response<ContentBody> {
    let mut response = problem(why);
    response.extensions_mut().insert(Remark(why.code.name().to_owned()));
    response
}

fn announced(answer: Result<Announced, Full>, device: &str, count: usize) -> Response<ContentBody> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(why) => {
            let (mut response, what) = match why {
                Full::Device => {
                    (empty(StatusCode::PAYLOAD_TOO_LARGE), "no device may share so many contents")
                }
                Full::Register => {
                    let mut response = empty(StatusCode::SERVICE_UNAVAILABLE);
                    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("300"));
                    (response, "the register of peers is full")
                }
            };
            response.extensions_mut().insert(Remark(format!("{device} holds {count}: {what}")));
            return response;
        }
    };
    let bytes = Bytes::from(serde_json::to_vec(&answer).unwrap_or_default());
    let mut response = carrying(StatusCode::OK, bytes, "application/json", false);
    response.extensions_mut().insert(Remark(format!("{device} holds {count}")));
    response
}

impl Service for PeerService {
    fn largest_body(&self, path: &[&str]) -> Option<u64> {
        match path {
            ["peers", "announce"] => Some(LARGEST_ANNOUNCEMENT),
            ["peers", "report"] => Some(LARGEST_REPORT),
            _ => None,
        }
    }

    fn answer<'s>(&'s self, call: &'s mut Call<'_>) -> Answering<'s> {
        Box::pin(self.serve(call))
    }
}
