//! A small update server on loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use catalog::server_sync::{Blob, DocumentOf, FileUrl, UpdateData};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;

/// What is answered instead: a status, fields and a body.
pub(crate) type Instead = (u16, Vec<(&'static str, String)>, Vec<u8>);

/// What a server has, and how it misbehaves.
#[derive(Default)]
pub(crate) struct Shelf {
    pub(crate) categories: BTreeMap<RevisionId, String>,
    pub(crate) updates: BTreeMap<RevisionId, String>,
    pub(crate) urls: Vec<FileUrl>,
    pub(crate) anchor: u32,
    pub(crate) seen: Vec<Request>,
    /// Answers to the next calls of an operation.
    pub(crate) instead: Vec<(&'static str, Instead)>,
}

/// A server on loopback.
#[derive(Clone)]
pub(crate) struct Fake {
    shelf: Arc<Mutex<Shelf>>,
    pub(crate) address: SocketAddr,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let fake = Self { shelf: Arc::default(), address: listener.local_addr().expect("it is bound") };
        let served = fake.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let fake = served.clone();
                let service = service_fn(move |request| {
                    let fake = fake.clone();
                    async move { Ok::<_, std::convert::Infallible>(fake.answer(request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        fake
    }

    pub(crate) fn shelf(&self) -> std::sync::MutexGuard<'_, Shelf> {
        self.shelf.lock().expect("no test panics while it holds it")
    }

    async fn answer(&self, request: hyper::Request<Incoming>) -> hyper::Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let action = request.headers()["SOAPAction"].to_str().expect("a text").to_owned();
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let (_, request) = Request::read(&body, &Limits::default()).expect("our own request");
        assert_eq!(action, format!("\"{}\"", request.operation().action()));
        let authorization = request.operation().name() == "GetAuthorizationCookie";
        assert_eq!(path.contains("DssAuthWebService"), authorization, "{path}");
        let (status, fields, body) = self.say(request);
        let mut response = hyper::Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(name, value);
        }
        response.body(Full::new(Bytes::from(body))).expect("a response")
    }

    fn say(&self, request: Request) -> Instead {
        let mut shelf = self.shelf();
        let operation = request.operation();
        shelf.seen.push(request.clone());
        if let Some(at) = shelf.instead.iter().position(|(name, _)| *name == operation.name()) {
            return shelf.instead.remove(at).1;
        }
        let response = match &request {
            Request::GetRevisionIdList { filter, .. } => {
                let anchor = shelf.anchor.to_string();
                let new = filter.anchor.as_deref() != Some(&anchor);
                let all = if filter.get_config { &shelf.categories } else { &shelf.updates };
                let revisions = if new { all.keys().copied().collect() } else { Vec::new() };
                Response::RevisionIdList(RevisionIdList { anchor, revisions })
            }
            Request::GetUpdateData { ids, .. } => {
                let text =
                    |id: &RevisionId| shelf.categories.get(id).or_else(|| shelf.updates.get(id)).cloned();
                let documents: Option<Vec<DocumentOf>> = ids
                    .iter()
                    .map(|id| {
                        text(id).map(|text| DocumentOf {
                            id: *id,
                            digests: Vec::new(),
                            blob: Blob::Plain(text),
                        })
                    })
                    .collect();
                match documents {
                    Some(updates) => Response::UpdateData(UpdateData { updates, urls: shelf.urls.clone() }),
                    None => return (500, Vec::new(), said(ErrorCode::InternalServerError)),
                }
            }
            other => standing(other.operation().name(), clock::now().as_millisecond() + 3_600_000),
        };
        (200, Vec::new(), response.write())
    }

    pub(crate) fn fetched(&self) -> Vec<RevisionId> {
        let shelf = self.shelf();
        let ids = shelf.seen.iter().filter_map(|request| match request {
            Request::GetUpdateData { ids, .. } => Some(ids.clone()),
            _ => None,
        });
        ids.flatten().collect()
    }

    pub(crate) fn calls(&self) -> Vec<&'static str> {
        self.shelf().seen.iter().map(|request| request.operation().name()).collect()
    }
}

pub(crate) fn said(code: ErrorCode) -> Vec<u8> {
    Fault::new(code, "").write(None, "http://fake/")
}

const UPGRADES: &str = "3689bdc8-b205-4af4-8d4a-a63924c5e9d5";

fn category(id: RevisionId, category_type: &str, title: &str) -> String {
    format!(
        "<Update xmlns=\"http://schemas.microsoft.com/msus/2002/12/Update\" \
         xmlns:cat=\"http://schemas.microsoft.com/msus/2002/12/UpdateHandlers/Category\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><UpdateIdentity UpdateID=\"{}\" RevisionNumber=\"{}\"/>\
         <Properties UpdateType=\"Category\"/><LocalizedPropertiesCollection><LocalizedProperties><Language>en</Language>\
         <Title>{title}</Title></LocalizedProperties></LocalizedPropertiesCollection><HandlerSpecificData \
         xsi:type=\"cat:Category\"><cat:CategoryInformation CategoryType=\"{category_type}\"/></HandlerSpecificData></Update>",
        id.update, id.number.0
    )
}

/// A product, a classification, and `count` updates of them.
pub(crate) async fn windows(count: u128) -> Fake {
    let fake = Fake::start().await;
    {
        let mut shelf = fake.shelf();
        let upgrades = RevisionId { update: UPGRADES.parse().unwrap(), number: RevisionNumber(5) };
        shelf.categories.insert(id(1), category(id(1), "Product", "Windows 11"));
        shelf.categories.insert(upgrades, category(upgrades, "UpdateClassification", "Upgrades"));
        for n in 0..count {
            shelf.updates.insert(id(1000 + n), xml(id(1000 + n), &[], &[]));
        }
        shelf.anchor = 1;
    }
    fake
}
