//! Update servers that are slow, damaged, hostile or only forgetful: what passes is lived through, everything else is
//! refused or set aside with its code, and what was known before stays.

use catalog::id::RevisionId;
use catalog::server_sync::{ErrorCode, Operation};
use serde_json::Value;
use support::{
    BundleDraft, CategoryType, Damage, Fault, FileDraft, InstalledBy, Outcome, Seeded, ServerFault, TestSite,
    UPGRADES, UpdateServer, WINDOWS_11, Way, cabinet, category, known_categories, software,
};

const GET_AUTH: Operation = Operation::GetAuthConfig;
const GET_COOKIE: Operation = Operation::GetCookie;
const GET_CONFIG: Operation = Operation::GetConfigData;
const LIST: Operation = Operation::GetRevisionIdList;
const DATA: Operation = Operation::GetUpdateData;

fn upgrade(number: u64) -> BundleDraft {
    let name = format!("226{number:02}.1.220506-1250.ni_release_CLIENTBUSINESS_VOL_x64FRE_en-us.esd");
    let esd = FileDraft::of(&name, &Seeded::new(number, 5_000).fingerprint());
    BundleDraft::classic(
        &format!("Windows 11 (business editions) version {number} en-us x64"),
        &[WINDOWS_11],
        esd,
    )
}

async fn server_with(upgrades: u64) -> UpdateServer {
    let server = UpdateServer::start().await.expect("a port");
    server.publish_all(&known_categories());
    (0..upgrades).for_each(|number| _ = server.publish_bundle(&upgrade(number)));
    server
}

/// A site below it that wants Windows 11, and does not wait long.
async fn site_below(server: &UpdateServer) -> TestSite {
    let sync = "products = [\"Windows 11\"]\nrequest_timeout = \"3s\"";
    TestSite::below(Way::Alone, &server.base_url(), sync, "").await
}

/// What a site knows that was never disturbed.
async fn undisturbed(server: &UpdateServer) -> String {
    let site = site_below(server).await;
    site.ok(&["now"]).await;
    server.forget_calls();
    site.dump().await
}

/// Revisions that a run set aside, with their codes.
fn set_aside(report: &Value) -> Vec<(String, String)> {
    let all = report["servers"][0]["set_aside"].as_array().expect("a list");
    all.iter()
        .map(|one| ["update", "code"].map(|field| one[field].as_str().unwrap_or_default().to_owned()))
        .map(|[update, code]| (update, code))
        .collect()
}

#[tokio::test]
async fn what_passes_is_lived_through() {
    let server = server_with(60).await;
    let expected = undisturbed(&server).await;
    let says = |code: ErrorCode| ServerFault::Says(code, String::new());
    type Faults = Vec<(Operation, ServerFault, u32)>;
    let rows: Vec<(&str, Faults)> = vec![
        ("the cookie is refused once", vec![(LIST, says(ErrorCode::InvalidCookie), 1)]),
        ("and among documents", vec![(DATA, says(ErrorCode::InvalidCookie), 2)]),
        (
            "the authorization is refused once",
            vec![(GET_COOKIE, says(ErrorCode::InvalidAuthorizationCookie), 1)],
        ),
        ("the server is another one now", vec![(LIST, says(ErrorCode::ServerChanged), 1)]),
        ("and in the middle", vec![(DATA, says(ErrorCode::ServerChanged), 1)]),
        ("it is busy", vec![(LIST, says(ErrorCode::ServerBusy), 1), (DATA, says(ErrorCode::ServerBusy), 1)]),
        ("it says when to come back", vec![(DATA, ServerFault::Http(Fault::Status(503, Some(0))), 1)]),
        ("it restarts", vec![(LIST, ServerFault::Http(Fault::CloseAtOnce), 1)]),
        ("answers are short", vec![(DATA, ServerFault::AtMost(7), 1_000)]),
        ("cookies end soon", vec![(GET_COOKIE, ServerFault::CookieForCalls(3), 1_000)]),
        ("it has no limit for what it offers", vec![(GET_CONFIG, ServerFault::LimitOf(0), 1)]),
        ("its limit is small", vec![(GET_CONFIG, ServerFault::LimitOf(3), 1)]),
        ("an answer is cut", vec![(DATA, ServerFault::Http(Fault::CutAfter(5_000)), 1)]),
        ("an answer stalls", vec![(DATA, ServerFault::Http(Fault::StallAfter(5_000)), 1)]),
        ("an answer is half of one", vec![(DATA, ServerFault::Http(Fault::Halved), 1)]),
        ("a page comes instead of a list", vec![(LIST, ServerFault::Page, 1)]),
        ("an answer has no end", vec![(DATA, ServerFault::Http(Fault::EndlessBody), 1)]),
        ("it is slow to say how long an answer is", vec![(DATA, ServerFault::Http(Fault::Chunked), 1_000)]),
        ("it fails inside, once", vec![(LIST, says(ErrorCode::InternalServerError), 1)]),
        ("a batch fails", vec![(DATA, says(ErrorCode::InternalServerError), 1)]),
    ];
    for (what, faults) in rows {
        let site = site_below(&server).await;
        for (operation, fault, times) in faults {
            server.fault_times(operation, fault, times);
        }
        let ran = site.json(&["now"]).await;
        assert_eq!(ran.status, 0, "{what}: {ran:?}");
        assert_eq!(site.dump().await, expected, "{what}");
        let hit = server.calls().iter().filter(|call| call.outcome != Outcome::Answered).count();
        assert!(hit > 0, "{what}: it happened");
        server.heal();
        server.forget_calls();
    }
    // What it says that nobody asked for is not believed.
    let site = site_below(&server).await;
    let other = server.publish(&software("unasked"));
    server.fault(DATA, ServerFault::Unasked(other));
    site.ok(&["now"]).await;
    assert_eq!(site.dump().await, expected);
}

#[tokio::test]
async fn what_does_not_pass_is_refused_and_changes_nothing() {
    let server = server_with(3).await;
    let site = site_below(&server).await;
    site.ok(&["now"]).await;
    let before = site.dump().await;
    let new = server.publish_bundle(&upgrade(50));
    let says = |code: ErrorCode| ServerFault::Says(code, String::new());
    let http = ServerFault::Http;
    let elsewhere = |to: &str| ServerFault::Http(Fault::RedirectTo(to.to_owned()));
    let there = |to: &str| ServerFault::AuthorizesAt(to.to_owned());
    let rows: Vec<(Operation, ServerFault, &[&str])> = vec![
        (LIST, ServerFault::Page, &["PROTOCOL_MALFORMED"]),
        (GET_AUTH, ServerFault::Page, &["PROTOCOL_MALFORMED"]),
        (LIST, http(Fault::Halved), &["PROTOCOL_MALFORMED"]),
        (LIST, http(Fault::FlipsByte(60)), &["PROTOCOL_MALFORMED"]),
        (LIST, ServerFault::OtherAnswer, &["PROTOCOL_MALFORMED"]),
        (LIST, http(Fault::EndlessBody), &["TRANSFER_TOO_LONG", "TRANSFER_STALLED"]),
        (LIST, http(Fault::StallAfter(200)), &["TRANSFER_STALLED"]),
        (LIST, http(Fault::CutAfter(200)), &["TRANSFER_CUT_SHORT", "SOURCE_UNREACHABLE"]),
        (LIST, http(Fault::CloseAtOnce), &["SOURCE_UNREACHABLE"]),
        (LIST, http(Fault::GzipEncoded), &["SOURCE_CODED"]),
        (LIST, http(Fault::Status(503, Some(3_600))), &["UPSTREAM_BUSY"]),
        (LIST, http(Fault::Status(500, None)), &["SOURCE_FAILED"]),
        (GET_AUTH, http(Fault::Status(404, None)), &["SOURCE_NOT_FOUND"]),
        (GET_AUTH, http(Fault::Status(403, None)), &["SOURCE_REFUSED"]),
        (LIST, elsewhere("http://10.9.8.7/"), &["REDIRECT_NOT_ALLOWED"]),
        (GET_AUTH, elsewhere("file:///etc/passwd"), &["REDIRECT_NOT_ALLOWED"]),
        (GET_AUTH, there("http://10.9.8.7/DssAuthWebService.asmx"), &["PROTOCOL_MALFORMED"]),
        (GET_AUTH, there("//10.9.8.7/DssAuthWebService.asmx"), &["SOURCE_NOT_FOUND"]),
        (GET_AUTH, there("../../other.asmx"), &["PROTOCOL_MALFORMED"]),
        (GET_CONFIG, ServerFault::Speaks("2.0".to_owned()), &["UPSTREAM_INCOMPATIBLE"]),
        (GET_COOKIE, says(ErrorCode::IncompatibleProtocolVersion), &["UPSTREAM_INCOMPATIBLE"]),
        (LIST, says(ErrorCode::ServerBusy), &["UPSTREAM_BUSY"]),
        (LIST, says(ErrorCode::InvalidCookie), &["UPSTREAM_COOKIE"]),
        (GET_COOKIE, says(ErrorCode::InvalidAuthorizationCookie), &["UPSTREAM_COOKIE"]),
        (LIST, says(ErrorCode::ServerChanged), &["UPSTREAM_FAULT"]),
        (LIST, says(ErrorCode::InternalServerError), &["UPSTREAM_FAULT"]),
        (LIST, says(ErrorCode::Other("Unheard".to_owned())), &["UPSTREAM_FAULT"]),
        (LIST, ServerFault::SaysNoCode, &["UPSTREAM_FAULT"]),
    ];
    for (operation, fault, codes) in rows {
        server.fault(operation, fault.clone());
        let ran = site.json(&["now"]).await;
        let what = format!("{} {fault:?}: {ran:?}", operation.name());
        assert!(ran.status != 0 && codes.contains(&ran.code().as_str()), "{what}");
        assert!(ran.stderr.contains(&server.base_url()), "it names the server: {what}");
        assert_eq!(site.dump().await, before, "{what}");
        server.heal();
    }
    // Afterwards all is as if nothing had been: but a server that changed is asked for its lists in full.
    site.ok(&["now"]).await;
    assert_eq!(site.dump().await, undisturbed(&server).await);
    assert!(site.dump().await.contains(&new.update.to_string().replace('-', "")));
}

#[tokio::test]
async fn a_revision_that_cannot_be_had_stops_no_other_and_is_tried_again() {
    let server = server_with(60).await;
    let site = site_below(&server).await;
    let [poisoned, withheld] = [17, 43].map(|number| upgrade(number).children[0].id());
    server.damage(poisoned, Damage::Poisoned);
    server.damage(withheld, Damage::Withheld);
    let ran = site.json(&["now"]).await;
    assert_eq!((ran.status, ran.code().as_str()), (7, "REVISION_QUARANTINED"), "{ran:?}");
    let report = ran.json();
    let mut expected: Vec<_> =
        [poisoned, withheld].map(|id| (id.update.to_string(), "REVISION_QUARANTINED".to_owned())).into();
    expected.sort();
    assert_eq!(set_aside(&report), expected);
    assert_eq!(report["servers"][0]["updates"]["fetched"], 120 - 2, "{report:#}");
    let list = site.ok(&["updates", "list"]).await;
    let ready = list["updates"].as_array().unwrap().iter().filter(|row| row["deployable"] == true).count();
    assert_eq!(ready, 58, "the two whose parts are missing wait");
    let calls = server.calls_of(DATA);
    let times = |id: RevisionId| calls.iter().filter(|call| call.ids.contains(&id)).count();
    assert!(times(poisoned) <= 9, "halved down to it: {} calls", times(poisoned));

    // Again, apart from everything else; and once it is good again, it comes.
    server.forget_calls();
    let again = site.json(&["now"]).await;
    assert_eq!(
        (
            again.status,
            server
                .calls_of(DATA)
                .iter()
                .flat_map(|call| &call.ids)
                .all(|id| [poisoned, withheld].contains(id))
        ),
        (7, true)
    );
    server.mend(poisoned);
    server.mend(withheld);
    site.ok(&["now"]).await;
    assert_eq!(site.dump().await, undisturbed(&server).await);
}

#[tokio::test]
async fn a_damaged_document_is_set_aside_with_its_code() {
    let server = server_with(10).await;
    let id = upgrade(3).children[0].id();
    let other = upgrade(4).children[0].id();
    let document = server.document(id).unwrap();
    let utf16: Vec<u8> = document.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let with = |from: &str, to: &str| Damage::Is(document.replacen(from, to, 1));
    let rows = [
        (Damage::Halved, "CATALOG_TRUNCATED"),
        (Damage::CallsItself(other), "CATALOG_MALFORMED"),
        (Damage::Is("<html><body>Sign in</body></html>".to_owned()), "CATALOG_MALFORMED"),
        (Damage::Is(String::new()), "PROTOCOL_MALFORMED"),
        (with("<upd:Update ", "<!DOCTYPE x [<!ENTITY a \"b\">]><upd:Update "), "CATALOG_MALFORMED"),
        (with(" Size=\"5000\"", " Size=\"many\""), "CATALOG_MALFORMED"),
        (with(" Digest=\"", " Digest=\"!"), "CATALOG_MALFORMED"),
        (
            with("</upd:Files>", &("<x>".repeat(100) + &"</x>".repeat(100) + "</upd:Files>")),
            "CATALOG_TOO_LARGE",
        ),
        (Damage::Packed(b"MSCF and no more".to_vec()), "CAB_MALFORMED"),
        (Damage::Packed(utf16.clone()), "CAB_MALFORMED"),
        (Damage::Packed(cabinet("blob", &utf16)[..200].to_vec()), "CAB_MALFORMED"),
        (Damage::Packed(cabinet("blob", b"\xff\xfe\x00")), "CATALOG_MALFORMED"),
    ];
    let expected = undisturbed(&server).await;
    for (damage, code) in rows {
        let site = site_below(&server).await;
        server.damage(id, damage.clone());
        let ran = site.json(&["now"]).await;
        assert_eq!((ran.status, ran.code().as_str()), (7, "REVISION_QUARANTINED"), "{damage:?}: {ran:?}");
        assert_eq!(set_aside(&ran.json()), [(id.update.to_string(), code.to_owned())], "{damage:?}");
        server.mend(id);
        site.ok(&["now"]).await;
        assert_eq!(site.dump().await, expected, "{damage:?}");
    }
}

#[tokio::test]
async fn contradictions_are_not_believed() {
    let server = server_with(5).await;
    let site = site_below(&server).await;
    site.ok(&["now"]).await;
    let before = site.dump().await;
    // A revision that changes its bytes: it is known, so nobody asks for it, in full neither.
    server.damage(upgrade(2).parent.id(), Damage::Altered);
    site.ok(&["now", "--full"]).await;
    assert_eq!(site.dump().await, before);

    // An anchor that goes back is told; what the server then names again is known.
    let anchor = server.anchor();
    server.fault_times(LIST, ServerFault::EndsAt("1,2001-01-01 00:00:00.000".to_owned()), 4);
    server.publish(&software("new").within(&[WINDOWS_11]).within(&[UPGRADES]));
    let report = site.ok(&["now"]).await;
    assert!(report["servers"][0]["notes"].to_string().contains("went back"), "{report:#}");
    assert!(server.anchor() > anchor);
    server.heal();
    server.forget_calls();
    site.ok(&["now"]).await;
    site.ok(&["now"]).await;
    assert_eq!(server.calls_of(DATA).len(), 0, "nothing is asked for twice");
    // One that the server itself does not take any more costs a list in full.
    server.fault_times(LIST, ServerFault::Says(ErrorCode::InvalidParameters, "filter".to_owned()), 1);
    site.ok(&["now"]).await;
    let lists = server.calls_of(LIST);
    assert!(lists.iter().any(|call| call.filter.as_ref().unwrap().anchor.is_none()), "{lists:?}");
    assert_eq!(server.calls_of(DATA).len(), 0);

    // Ids that are not there, one of them with a number that no revision has.
    let nobody = RevisionId { number: catalog::id::RevisionNumber(u32::MAX), ..upgrade(2).parent.id() };
    server.fault_times(LIST, ServerFault::NamesAlso(vec![nobody]), 2);
    let ran = site.json(&["now"]).await;
    assert_eq!((ran.status, set_aside(&ran.json()).len()), (7, 1), "{ran:?}");
}

#[tokio::test]
async fn cycles_and_bundles_of_themselves_do_no_harm() {
    let server = server_with(1).await;
    let deployable = |title: &str| software(title).deployable().within(&[WINDOWS_11]).within(&[UPGRADES]);
    let [a, b, c] = ["a", "b", "c"].map(|title| deployable(title).id());
    // Each replaces the next, and bundles it too; one contains itself; a product is in itself.
    server.publish_all(&[
        deployable("a").supersedes(b.update).bundles(b),
        deployable("b").supersedes(c.update).bundles(c),
        deployable("c").supersedes(a.update).bundles(a),
    ]);
    let product = category(CategoryType::Product, "ouroboros");
    let itself = product.id().update;
    server.publish(&product.within(&[itself]));
    let own = deployable("own").installed_by(InstalledBy::Cbs);
    let own_id = own.id();
    server.publish(&own.bundles(own_id).supersedes(own_id.update));
    let site = site_below(&server).await;
    let ran = site.json(&["now"]).await;
    let report = ran.json();
    assert_eq!(set_aside(&report), [(own_id.update.to_string(), "CATALOG_MALFORMED".to_owned())], "{ran:?}");
    let list = site.ok(&["updates", "list", "--all"]).await;
    assert!(list["updates"].as_array().unwrap().iter().any(|row| row["deployable"] == true), "{list:#}");
    site.ok(&["updates", "supersedence", "plan"]).await;
    site.ok(&["sync", "products"]).await;
    let dump = site.dump().await;
    site.json(&["now"]).await;
    assert_eq!(site.dump().await, dump);
}

/// Documents that are large and good are no bad input.
#[tokio::test]
async fn large_and_compressed_documents_are_taken() {
    let server = server_with(2).await;
    server.compress();
    let large = |title: &str, bytes: u64| {
        software(title)
            .within(&[WINDOWS_11])
            .within(&[UPGRADES])
            .installed_by(InstalledBy::Cbs)
            .of_size(bytes)
    };
    // The largest real ones have 47 MB; a debug build takes minutes to read that.
    let largest = if cfg!(debug_assertions) { 5 << 20 } else { 47_000_000 };
    let ids =
        server.publish_all(&[large("packed", 60_000), large("large", 3 << 20), large("largest", largest)]);
    let site = site_below(&server).await;
    site.configure(|text| text.replace("request_timeout = \"3s\"", "request_timeout = \"60s\""));
    let report = site.ok(&["now"]).await;
    assert_eq!(report["servers"][0]["updates"]["fetched"], 4 + ids.len(), "{report:#}");
    let dump = site.dump().await;
    assert!(ids.iter().all(|id| dump.contains(&id.update.to_string().replace('-', ""))));
}
