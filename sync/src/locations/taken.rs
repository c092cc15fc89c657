//! `POST /client/report`: what clients took from whom, counted by their boundary groups.
//!
//! It is the word of a device about itself: it is counted and shown, and opens nothing. The group is that of the address of
//! the connection, and nobody can have taken more of a content than there is of it.

use std::sync::Arc;

use dp::client::{TakenFrom, TakenReport};
use dp::peers::Devices as _;
use dp::server::body::ContentBody;
use dp::server::tally::Grouping as _;
use dp::server::{Answering, Call, Remark, Service};
use http::{Method, Response, StatusCode};

use crate::plane::answer;
use crate::site::Site;

/// A digest, and four kinds with their bytes.
const LARGEST: u64 = 4 << 10;

/// The route.
pub struct TakenService {
    site: Arc<Site>,
}

impl TakenService {
    /// Counts at `site`.
    pub fn new(site: Arc<Site>) -> Self {
        Self { site }
    }

    /// 204 whatever came of a report that is one: nobody learns here what the site knows. 400, 401, 403, 405, 413.
    async fn serve(&self, call: &mut Call<'_>) -> Response<ContentBody> {
        if call.head.method != Method::POST {
            return answer::not_allowed("POST");
        }
        let locations = &self.site.locations;
        let device = match self.site.keys.device(call.bearer(), call.asker()) {
            Ok(device) => device,
            Err(problem) => return answer::problem(&problem),
        };
        let body = match call.body.read().await {
            Ok(body) => body,
            Err(refused) => return refused.response(),
        };
        let Ok(report) = serde_json::from_slice::<TakenReport>(&body) else {
            return answer::empty(StatusCode::BAD_REQUEST);
        };
        let size = locations.last_made().holds(report.content).map(|held| held.size);
        let all = report.taken.iter().try_fold(0_u64, |all, one| all.checked_add(one.bytes));
        let counted = size.zip(all).is_some_and(|(size, all)| all <= size);
        if counted {
            let row = locations.taken.row(locations.group_of(call.peer.ip()).as_deref());
            for (kind, of) in TakenFrom::ALL.iter().enumerate() {
                row.add(kind, report.taken.iter().filter(|one| one.kind == *of).map(|one| one.bytes).sum());
            }
        }
        let mut response = answer::empty(StatusCode::NO_CONTENT);
        let what = if counted { "took" } else { "says what cannot be: it took" };
        let bytes = all.map_or_else(|| "too much".to_owned(), |all| format!("{all} bytes"));
        response
            .extensions_mut()
            .insert(Remark(format!("{} {what} {bytes} of {}", device.0, report.content)));
        response
    }
}

impl Service for TakenService {
    fn largest_body(&self, path: &[&str]) -> Option<u64> {
        (path == ["client", "report"]).then_some(LARGEST)
    }

    fn answer<'s>(&'s self, call: &'s mut Call<'_>) -> Answering<'s> {
        Box::pin(self.serve(call))
    }
}
