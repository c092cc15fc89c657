//! What our own client sends to an update server ([MS-WSUSSS] section 3.2.4), as the server sees it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use catalog::id::RevisionId;
use catalog::server_sync::{Filter, IdAndDelta, Operation, PLUG_IN, Request};
use support::{
    ServerFault, TestSite, UPGRADES, UpdateServer, WINDOWS_10, WINDOWS_10_1903, WINDOWS_11, Way,
    known_categories, software,
};

/// Everything that is asked of `server`, in the order in which it comes.
fn listen(server: &UpdateServer) -> Arc<Mutex<Vec<Request>>> {
    let heard: Arc<Mutex<Vec<Request>>> = Arc::default();
    let all = heard.clone();
    server.replay(move |request| {
        all.lock().expect("nobody failed here").push(request.clone());
        None
    });
    heard
}

fn taken(heard: &Mutex<Vec<Request>>) -> Vec<Request> {
    std::mem::take(&mut *heard.lock().expect("nobody failed here"))
}

async fn server_with(updates: u32) -> UpdateServer {
    let server = UpdateServer::start().await.expect("a port");
    server.publish_all(&known_categories());
    for number in 0..updates {
        let product = if number % 2 == 0 { WINDOWS_10_1903 } else { WINDOWS_11 };
        server.publish(
            &software(&format!("update {number}")).deployable().within(&[product]).within(&[UPGRADES]),
        );
    }
    server
}

async fn site_below(server: &UpdateServer, sync: &str) -> TestSite {
    TestSite::below(Way::Alone, &server.base_url(), sync, "").await
}

fn filters(heard: &[Request]) -> Vec<Filter> {
    let lists = heard.iter().filter_map(|request| match request {
        Request::GetRevisionIdList { filter, .. } => Some(filter.clone()),
        _ => None,
    });
    lists.collect()
}

#[tokio::test]
async fn the_order_is_that_of_the_specification_and_we_stay_who_we_are() {
    let server = server_with(4).await;
    let heard = listen(&server);
    let site = site_below(&server, "products = [\"Windows 11\"]\nparallel_requests = 1").await;
    site.ok(&["now"]).await;
    let first = taken(&heard);
    let operations: Vec<Operation> = first.iter().map(Request::operation).collect();
    use Operation::{
        GetAuthConfig, GetAuthorizationCookie, GetConfigData, GetCookie, GetRevisionIdList, GetUpdateData,
    };
    assert_eq!(
        operations,
        [
            GetAuthConfig,
            GetAuthorizationCookie,
            GetCookie,
            GetConfigData,
            GetRevisionIdList,
            GetUpdateData,
            GetRevisionIdList,
            GetUpdateData,
        ]
    );
    let account = |heard: &[Request]| match &heard[1] {
        Request::GetAuthorizationCookie { account_name, account_guid, program_keys } => {
            assert!(program_keys.is_empty(), "reserved");
            (account_name.clone(), account_guid.clone())
        }
        other => panic!("{other:?}"),
    };
    let (name, guid) = account(&first);
    assert!(name.contains('.') && name.is_ascii() && guid.len() == 36, "{name} {guid}");
    let Request::GetCookie { authorization, old, protocol_version } = &first[2] else {
        panic!("{:?}", first[2])
    };
    assert_eq!((authorization.len(), authorization[0].plug_in.as_str(), old), (1, PLUG_IN, &None));
    assert_eq!(protocol_version, "1.20");

    // Again, by another process: the same account, another cookie, and the anchors of the first time.
    site.ok(&["now"]).await;
    let second = taken(&heard);
    assert_eq!(account(&second), (name, guid));
    let anchored = filters(&second).iter().all(|filter| filter.anchor.is_some());
    assert!(anchored && second.iter().all(|request| request.operation() != GetUpdateData), "{second:?}");
}

#[tokio::test]
async fn filters_say_what_is_new_to_whom() {
    let server = server_with(10).await;
    let heard = listen(&server);
    let site = site_below(&server, "products = [\"Windows 11\"]").await;
    site.ok(&["now"]).await;
    let [config, updates] = &filters(&taken(&heard))[..] else { panic!("two lists") };
    assert!(config.get_config && config.categories.is_empty() && config.classifications.is_empty());
    assert_eq!((&config.anchor, &updates.anchor, updates.get_config), (&None, &None, false));
    let one = |id, delta| vec![IdAndDelta { id, delta }];
    assert_eq!(
        (&updates.categories, &updates.classifications),
        (&one(WINDOWS_11, false), &one(UPGRADES, false))
    );

    // Nothing new: each list from where it ended.
    site.ok(&["now"]).await;
    let [config, updates] = &filters(&taken(&heard))[..] else { panic!("two lists") };
    assert!(config.anchor.is_some() && updates.anchor.is_some() && config.anchor != updates.anchor);
    assert_eq!(
        (&updates.categories, &updates.classifications),
        (&one(WINDOWS_11, true), &one(UPGRADES, true))
    );

    // A product more: what is new of the old one, and all of the new ones. Windows 10 stands for both of its products.
    site.ok(&["sync", "products", "--set", "Windows 11", "--set", "Windows 10"]).await;
    site.ok(&["now"]).await;
    let lists = filters(&taken(&heard));
    let asked: BTreeSet<_> = lists
        .iter()
        .filter(|filter| !filter.get_config)
        .flat_map(|filter| filter.categories.iter().map(|one| (one.id, one.delta, filter.anchor.is_some())))
        .collect();
    let expected = [(WINDOWS_11, true, true), (WINDOWS_10, false, false), (WINDOWS_10_1903, false, false)];
    assert_eq!(asked, BTreeSet::from(expected), "{lists:#?}");
}

#[tokio::test]
async fn documents_are_asked_for_once_and_no_more_than_the_server_takes() {
    let server = server_with(230).await;
    for (limit, batch) in [(None, 100), (Some(7), 7), (Some(100_000), 100)] {
        if let Some(limit) = limit {
            server.fault(Operation::GetConfigData, ServerFault::LimitOf(limit));
        }
        let heard = listen(&server);
        let site = site_below(&server, "products = [\"Windows 11\", \"Windows 10\"]").await;
        site.ok(&["now"]).await;
        let mut asked: Vec<RevisionId> = Vec::new();
        for request in taken(&heard) {
            if let Request::GetUpdateData { ids, .. } = request {
                assert!(ids.len() <= batch, "{} ids where {batch} are allowed", ids.len());
                asked.extend(ids);
            }
        }
        asked.sort();
        let mut published = server.revisions();
        published.sort();
        assert_eq!(asked, published, "each once");
        server.heal();
    }
}
