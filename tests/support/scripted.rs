//! A real WSUS, as far as it was recorded: answers that came from one, word by word, under the clock of that day.

use bytes::Bytes;
use catalog::id::RevisionId;
use catalog::limits::Limits;
use catalog::server_sync::{Operation, Request, Response, RevisionIdList};
use catalog::wsus_export::{self, ExportError, Item};
use spsync::fixture::UpdateServer;

use crate::data_dir;

/// What the recorded server answers.
pub struct Recorded {
    /// It.
    pub server: UpdateServer,
    /// The categories that its list names: 30 revisions, older ones among them.
    pub listed: Vec<RevisionId>,
    /// Where that list ends.
    pub anchor: String,
}

/// A server that answers `GetAuthConfig`, `GetCookie`, `GetConfigData` and the list of categories with recorded bytes, the
/// authorization as the specification says, and documents from a real export. Lists of updates are empty. `None`, and a
/// printed line, where the recordings are not there.
///
/// # Panics
/// Where the recordings are not as their README says.
pub async fn recorded_server() -> Option<Recorded> {
    let wire = data_dir("wsus-wire")?.join("server-sync");
    let export = data_dir("wsus-export")?.join("WSUS.cab");
    let recorded = |name: &str| Bytes::from(std::fs::read(wire.join(name)).expect("it is in the folder"));
    let list = recorded("000006-GetRevisionIdList.response.xml");
    let read = Response::read(Operation::GetRevisionIdList, &list, &Limits::default());
    let Ok(Ok(Response::RevisionIdList(RevisionIdList { anchor, revisions: listed }))) = read else {
        panic!("{read:?}")
    };
    let server = UpdateServer::start().await.expect("a port");
    let bytes = std::fs::read(export).expect("it is in the folder");
    wsus_export::read::<ExportError>(bytes.as_slice(), &Limits::default(), |item| {
        if let Item::Document(document) = item {
            server.publish_document(document.xml);
        }
        Ok(())
    })
    .expect("a good export");
    let (auth, cookie, config) = (
        recorded("000001-GetAuthConfig.response.xml"),
        recorded("000003-GetCookie.response.xml"),
        recorded("microsoft-GetConfigData-20261006.response.xml"),
    );
    let nothing = RevisionIdList { anchor: anchor.clone(), revisions: Vec::new() };
    let nothing = Bytes::from(Response::RevisionIdList(nothing).write());
    server.replay(move |request| match request {
        Request::GetAuthConfig => Some(auth.clone()),
        Request::GetCookie { .. } => Some(cookie.clone()),
        Request::GetConfigData { .. } => Some(config.clone()),
        Request::GetRevisionIdList { filter, .. } if filter.get_config => Some(list.clone()),
        Request::GetRevisionIdList { .. } => Some(nothing.clone()),
        _ => None,
    });
    // The recorded cookie ended that evening, by the clock of that server.
    server.set_clock("2026-10-04T16:33:27Z".parse().expect("a time"));
    server.trust_any_cookie();
    Some(Recorded { server, listed, anchor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everything_that_is_listed_has_a_document() {
        let Some(recorded) = recorded_server().await else { return };
        assert_eq!(recorded.listed.len(), 30);
        assert_eq!(recorded.anchor, "9438,2026-10-04 16:33:26.671");
        let missing: Vec<_> =
            recorded.listed.iter().filter(|id| recorded.server.document(**id).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert_eq!(recorded.server.revisions().len(), 4_125);
    }
}
