//! The update point: SOAP services for update servers that synchronise from this site ([MS-WSUSSS]).
//!
//! They share the listener of the content ([`dp::server::Service`]). Here a request is taken apart and an answer or a
//! fault put together; what an operation means is in `server_sync`. Paths have no regard to case and may begin with two
//! slashes. SOAP 1.1 and 1.2 are understood; answers are SOAP 1.1, never compressed.
//!
//! Whoever reaches the listener may ask: what is told is what Microsoft publishes. So nothing that is sent is believed
//! further than its limits, and every refusal is a fault with a code.

mod anchor;
mod cookie;
mod languages;
mod room;
mod server_sync;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catalog::limits::Limits;
use catalog::problem::{Coded as _, Problem};
use catalog::server_sync::{
    AUTH_PATH, ErrorCode, Fault, MessageError, Operation, REPORTING_PATH, Request, SERVICE_PATH,
};
use dp::server::body::ContentBody;
use dp::server::{Answering, Call, Received, Remark, Service, carrying, empty};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use schema::update_point::CatalogIdentity;
use tracing::error;
use uuid::Uuid;

use crate::blocking::blocking;
use crate::clock;
use crate::site::Site;
use cookie::{Cookies, Downstream, Key};
use room::Room;

/// The largest request: 10,000 ids at 200 bytes each are read, and refused by their count.
const LARGEST_REQUEST: u64 = 2 << 20;
/// Above this, a request is read where it keeps nobody waiting.
const SMALL_REQUEST: usize = 64 * 1024;
/// How long a request waits for room in memory. Downstream servers wait for minutes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The services of one site.
pub struct UpdatePoint {
    site: Arc<Site>,
    catalog: CatalogIdentity,
    cookies: Cookies,
    room: Room,
}

/// One of its services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    ServerSync,
    Authorization,
    Reporting,
}

impl Route {
    const ALL: [(Self, &'static str); 3] = [
        (Self::ServerSync, SERVICE_PATH),
        (Self::Authorization, AUTH_PATH),
        (Self::Reporting, REPORTING_PATH),
    ];

    fn of(path: &[&str]) -> Option<Self> {
        // The root of a server may end with a slash, and what is put behind it begin with one.
        let first = path.iter().position(|segment| !segment.is_empty())?;
        let is = |route: &str| {
            let mut wanted = route.split('/');
            path[first..]
                .iter()
                .all(|one| wanted.next().is_some_and(|wanted| wanted.eq_ignore_ascii_case(one)))
                && wanted.next().is_none()
        };
        Self::ALL.iter().find(|(_, route)| is(route)).map(|(route, _)| *route)
    }

    fn path(self) -> &'static str {
        Self::ALL.iter().find(|(route, _)| *route == self).map_or("", |(_, path)| path)
    }

    /// Whether it has this operation.
    fn has(self, operation: Operation) -> bool {
        match self {
            Self::ServerSync => operation != Operation::GetAuthorizationCookie,
            Self::Authorization => {
                matches!(operation, Operation::GetAuthorizationCookie | Operation::Ping)
            }
            Self::Reporting => false,
        }
    }
}

/// Why a request has no answer.
#[derive(Debug)]
enum Failure {
    /// Because of it.
    Fault(Fault),
    /// Because of us.
    Problem(Problem),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// What the access log says of a call.
#[derive(Debug, Default)]
struct Answered {
    operation: Option<Operation>,
    who: Option<Downstream>,
    asked: Option<usize>,
    given: Option<usize>,
}

impl UpdatePoint {
    /// The services of a site; its key and the identity of its catalog are made the first time.
    ///
    /// # Errors
    /// `DATA_DIR_NOT_WRITABLE`, those of the database.
    pub async fn open(site: &Arc<Site>) -> Result<Self, Problem> {
        let data_dir = site.settings().site.data_dir.clone();
        let key = blocking(move || Key::of_site(&data_dir)).await?;
        let catalog = match site.read(|r| r.catalog_identity()).await? {
            Some(known) => known,
            None => site.write(|w| w.catalog_identity(Uuid::new_v4(), clock::now())).await?,
        };
        Ok(Self {
            site: site.clone(),
            catalog,
            cookies: Cookies::new(key, catalog),
            room: Room::new(PATIENCE),
        })
    }

    async fn serve(&self, call: &mut Call<'_>) -> Response<ContentBody> {
        let Some(route) = Route::of(call.path) else { return empty(StatusCode::NOT_FOUND) };
        match call.head.method {
            Method::POST => {}
            Method::GET | Method::HEAD => return description(route, call.head.method == Method::HEAD),
            _ => {
                let mut refused = empty(StatusCode::METHOD_NOT_ALLOWED);
                refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
                return refused;
            }
        }
        if !is_soap(&call.head.headers) {
            return empty(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        let body = match call.body.read().await {
            Ok(body) => body,
            Err(refused) => return refused.response(),
        };
        let mut answered = Answered::default();
        let made = match read(body).await {
            Ok(request) => {
                answered.operation = Some(request.operation());
                if route.has(request.operation()) {
                    self.carry_out(request, &mut answered).await
                } else {
                    let message = format!("{} is no operation of this service", request.operation().name());
                    Err(Failure::Fault(Fault::new(ErrorCode::InvalidParameters, message)))
                }
            }
            // What rolls up is no operation that we read.
            Err(_) if route == Route::Reporting => {
                let message = "reports are not taken by this server";
                Err(Failure::Fault(Fault::new(ErrorCode::InternalServerError, message)))
            }
            Err(error) => Err(Failure::Fault(unreadable(&error))),
        };
        let mut response = match made {
            Ok(bytes) => soap(StatusCode::OK, bytes),
            Err(failure) => self.refuse(failure, route, &call.head.headers, &mut answered, call),
        };
        let remark = answered.remark(response.extensions().get::<Fault>());
        response.extensions_mut().insert(Remark(remark));
        response
    }

    fn refuse(
        &self,
        failure: Failure,
        route: Route,
        headers: &HeaderMap,
        answered: &mut Answered,
        call: &Call<'_>,
    ) -> Response<ContentBody> {
        let mut fault = match failure {
            Failure::Fault(fault) => fault,
            Failure::Problem(problem) => {
                error!(client = %call.peer.ip(), "a downstream server could not be answered: {problem}");
                Fault::new(ErrorCode::InternalServerError, "the server failed, and says why in its log")
            }
        };
        fault.id = Uuid::new_v4().to_string();
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let bytes = fault.write(answered.operation, &format!("http://{host}/{}", route.path()));
        let mut response = soap(StatusCode::INTERNAL_SERVER_ERROR, Bytes::from(bytes));
        if fault.code == Some(ErrorCode::ServerBusy) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("30"));
        }
        response.extensions_mut().insert(fault);
        response
    }
}

impl Service for UpdatePoint {
    fn largest_body(&self, path: &[&str]) -> Option<u64> {
        Route::of(path)?;
        self.site.settings().update_point.upstream_role.then_some(LARGEST_REQUEST)
    }

    fn answer<'s>(&'s self, call: &'s mut Call<'_>) -> Answering<'s> {
        Box::pin(self.serve(call))
    }
}

impl Answered {
    /// `GetUpdateData of dss.example (7b3f…): 100 asked, 80 given`; a fault with its code and number.
    fn remark(&self, fault: Option<&Fault>) -> String {
        let mut text = self.operation.map_or("?", Operation::name).to_owned();
        if let Some(who) = &self.who {
            text += &format!(" of {} ({})", who.name, who.account);
        }
        let counts = [(self.asked, "asked"), (self.given, "given")];
        let counts: Vec<_> =
            counts.iter().filter_map(|(count, what)| Some(format!("{} {what}", (*count)?))).collect();
        if !counts.is_empty() {
            text += &format!(": {}", counts.join(", "));
        }
        if let Some(fault) = fault {
            let code = fault.code.as_ref().map_or("", ErrorCode::name);
            text += &format!("; fault {code} {}", fault.id);
        }
        text
    }
}

/// Reads a request under limits of its own: nothing in one is large.
async fn read(body: Received) -> Result<Request, MessageError> {
    fn now(body: &Received) -> Result<Request, MessageError> {
        let largest = LARGEST_REQUEST;
        let limits = Limits {
            document_bytes: largest,
            // UTF-16 becomes longer where it is not Latin.
            unpacked_bytes: 2 * largest,
            xml_depth: 32,
            xml_attributes: 32,
            export_documents: 50_000,
            ..Limits::default()
        };
        Request::read(body, &limits).map(|(_, request)| request)
    }
    if body.len() <= SMALL_REQUEST {
        return now(&body);
    }
    let read = tokio::task::spawn_blocking(move || now(&body)).await;
    read.unwrap_or_else(|died| {
        error!("a request could not be read: {died}");
        Err(MessageError::Missing { message: "the request", field: "a reader" })
    })
}

/// The fault for what is not understood, with the parameter that it is about where it is about one.
fn unreadable(error: &MessageError) -> Fault {
    let field = match error {
        MessageError::Value { field, .. } | MessageError::Missing { field, .. } => *field,
        MessageError::TooLarge { what, .. } => what,
        _ => "",
    };
    let parameter = match field {
        "CookieData" => return Fault::new(ErrorCode::InvalidAuthorizationCookie, "authCookies"),
        "UpdateID" | "RevisionNumber" | "UpdateIdentity" => "updateIds",
        "Id" | "Delta" | "IdAndDelta" | "LanguageAndDelta" | "GetConfig" | "Get63LanguageOnly" => "filter",
        "base64Binary" => "fileDigestList",
        "guid" => "programKeys",
        "AuthorizationCookie" => "authCookies",
        "pingLevel" => "pingLevel",
        _ => {
            let problem = error.clone().problem();
            let why: Vec<_> = std::iter::once(problem.message).chain(problem.causes).collect();
            return Fault::new(ErrorCode::InvalidParameters, why.join(": "));
        }
    };
    Fault::new(ErrorCode::InvalidParameters, parameter)
}

/// The media types of SOAP 1.1 and 1.2. Requests are never compressed ([MS-WSUSSS] section 2.1).
fn is_soap(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let kind = text(header::CONTENT_TYPE).and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    let plain = text(header::CONTENT_ENCODING).is_none_or(|coding| coding.eq_ignore_ascii_case("identity"));
    plain && ["text/xml", "application/soap+xml"].iter().any(|known| kind.eq_ignore_ascii_case(known))
}

fn soap(status: StatusCode, bytes: Bytes) -> Response<ContentBody> {
    carrying(status, bytes, "text/xml; charset=utf-8", false)
}

/// What people see who open the address of a service, to find out whether it is there.
fn description(route: Route, head: bool) -> Response<ContentBody> {
    let text = format!(
        "spsync: /{} is a web service for update servers ([MS-WSUSSS]). It takes SOAP 1.1 requests by POST.\n",
        route.path()
    );
    carrying(StatusCode::OK, Bytes::from(text), "text/plain; charset=utf-8", head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_no_regard_to_case_and_may_begin_with_two_slashes() {
        for (path, expected) in [
            ("ServerSyncWebService/ServerSyncWebService.asmx", Some(Route::ServerSync)),
            ("serversyncwebservice/SERVERSYNCWEBSERVICE.ASMX", Some(Route::ServerSync)),
            ("/DssAuthWebService/DssAuthWebService.asmx", Some(Route::Authorization)),
            ("dssAuthWebService/DssAuthWebService.asmx", Some(Route::Authorization)),
            ("ReportingWebService/ReportingWebService.asmx", Some(Route::Reporting)),
            ("ServerSyncWebService/ServerSyncWebService.asmx/", None),
            ("ServerSyncWebService//ServerSyncWebService.asmx", None),
            ("ServerSyncWebService", None),
            ("ServerSyncWebService/DssAuthWebService.asmx", None),
            ("x/ServerSyncWebService/ServerSyncWebService.asmx", None),
            ("content/x", None),
            ("", None),
            ("/", None),
        ] {
            let segments: Vec<_> = path.split('/').collect();
            assert_eq!(Route::of(&segments), expected, "{path}");
        }
    }

    #[test]
    fn soap_is_known_by_its_media_type() {
        for (kind, coding, expected) in [
            ("text/xml; charset=utf-8", None, true),
            ("Text/XML", Some("identity"), true),
            ("application/soap+xml; charset=utf-8; action=\"x\"", None, true),
            ("text/xml", Some("gzip"), false),
            ("text/xmlx", None, false),
            ("application/x-www-form-urlencoded", None, false),
            ("", None, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            if let Some(coding) = coding {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
            }
            assert_eq!(is_soap(&headers), expected, "{kind} {coding:?}");
        }
        assert!(!is_soap(&HeaderMap::new()));
    }

    #[test]
    fn the_access_log_says_who_asked_for_what() {
        let who = Downstream { account: Uuid::nil(), name: "dss.example".to_owned() };
        let answered = Answered {
            operation: Some(Operation::GetUpdateData),
            who: Some(who),
            asked: Some(100),
            given: Some(80),
        };
        assert_eq!(
            answered.remark(None),
            "GetUpdateData of dss.example (00000000-0000-0000-0000-000000000000): 100 asked, 80 given"
        );
        let fault = Fault { id: "7".to_owned(), ..Fault::new(ErrorCode::InvalidCookie, "cookie") };
        assert_eq!(Answered::default().remark(Some(&fault)), "?; fault InvalidCookie 7");
    }

    #[test]
    fn what_is_not_understood_names_its_parameter() {
        let value = |field| MessageError::Value { field, expected: "a GUID", actual: "x".to_owned() };
        for (error, code, message) in [
            (value("UpdateID"), ErrorCode::InvalidParameters, "updateIds"),
            (value("Id"), ErrorCode::InvalidParameters, "filter"),
            (value("base64Binary"), ErrorCode::InvalidParameters, "fileDigestList"),
            (value("CookieData"), ErrorCode::InvalidAuthorizationCookie, "authCookies"),
            (
                MessageError::Missing { message: "UpdateIdentity", field: "RevisionNumber" },
                ErrorCode::InvalidParameters,
                "updateIds",
            ),
            (
                MessageError::Missing { message: "Envelope", field: "Body" },
                ErrorCode::InvalidParameters,
                "`Envelope` has no `Body`",
            ),
        ] {
            assert_eq!(unreadable(&error), Fault::new(code, message));
        }
    }
}
