//! Being let in: the cookie, the server's limits, and servers that are not talked to.

use super::*;

#[test]
fn a_cookie_is_renewed_by_the_servers_clock_before_it_ends() {
    const MINUTE: i64 = 60_000;
    // Hours between the clocks change nothing: only what is left of the cookie's life does.
    for (skew, life, after, renewed) in [
        (0, 240 * MINUTE, 237 * MINUTE, false),
        (0, 240 * MINUTE, 238 * MINUTE, true),
        (-600 * MINUTE, 240 * MINUTE, 237 * MINUTE, false),
        (600 * MINUTE, 240 * MINUTE, 238 * MINUTE, true),
        (0, 4 * MINUTE, 2 * MINUTE, false),
        (0, 4 * MINUTE, 3 * MINUTE, true),
        // One that is over already, or nearly, is used until it is refused.
        (0, -MINUTE, 600 * MINUTE, false),
        (0, 3, 600 * MINUTE, false),
    ] {
        let mut session = Session::new("site.example".to_owned(), update(1));
        let now = 1_000_000_000;
        for operation in ["GetAuthConfig", "GetAuthorizationCookie", "GetCookie", "GetConfigData"] {
            assert_eq!(session.request().operation().name(), operation);
            let server_time = now + skew;
            session.on(standing(operation, server_time + life), Some(server_time), now).unwrap();
        }
        assert_eq!(session.standing(now), Standing::Good);
        let standing = session.standing(now + after);
        assert_eq!(standing == Standing::Needed, renewed, "{skew} {life} {after}");
        if renewed {
            let Request::GetCookie { old, .. } = session.request() else {
                panic!("the kept proof is enough")
            };
            assert!(old.is_some());
        }
    }
}

#[test]
fn a_server_that_limits_nothing_or_too_much_is_asked_for_what_windows_allows() {
    for (said, expected) in
        [(0, "ask for 100"), (1, "ask for 20/100"), (30, "ask for 20"), (5_000, "ask for 100")]
    {
        let pending = if said == 1 || said == 30 { 20 } else { 150 };
        let pass = Pass {
            ends: Anchor { anchor: "1,a".to_owned(), filter: ListFilter::default() },
            pending: ids(1..=pending),
        };
        // What an earlier run left is known before the limit is.
        let known = Known { passes: [(Scope::Categories, pass)].into(), ..Known::default() };
        let mut desk = Desk::new(options(), known);
        for operation in ["GetAuthConfig", "GetAuthorizationCookie", "GetCookie"] {
            assert_eq!(desk.step(), operation);
            desk.answer_standing(operation);
        }
        assert_eq!(desk.step(), "GetConfigData");
        let config = ConfigData { updates_per_request: said, ..ConfigData::default() };
        desk.answer(Answer::Said(Response::ConfigData(config)));
        assert_eq!(desk.step(), expected, "{said}");
    }
}

#[test]
fn another_major_version_and_another_server_are_not_talked_to() {
    let mut desk = Desk::new(options(), Known::default());
    for operation in ["GetAuthConfig", "GetAuthorizationCookie", "GetCookie"] {
        assert_eq!(desk.step(), operation);
        desk.answer_standing(operation);
    }
    desk.step();
    let config = ConfigData { protocol_version: Some("2.0".to_owned()), ..ConfigData::default() };
    desk.answer(Answer::Said(Response::ConfigData(config)));
    assert_eq!(desk.step(), "give up UPSTREAM_INCOMPATIBLE");

    for (plug_in, url, code) in [
        (PLUG_IN, "DssAuthWebService/DssAuthWebService.asmx", None),
        (PLUG_IN, "/DssAuthWebService/DssAuthWebService.asmx", None),
        (PLUG_IN, "https://evil.example/x.asmx", Some("PROTOCOL_MALFORMED")),
        (PLUG_IN, "//evil.example/x.asmx", None),
        (PLUG_IN, "a/../../x.asmx", Some("PROTOCOL_MALFORMED")),
        (PLUG_IN, "..\\x.asmx", Some("PROTOCOL_MALFORMED")),
        (PLUG_IN, "", Some("PROTOCOL_MALFORMED")),
        ("Other", "DssAuthWebService/DssAuthWebService.asmx", Some("UPSTREAM_INCOMPATIBLE")),
    ] {
        let mut session = Session::new("site.example".to_owned(), update(1));
        let config = AuthConfig {
            last_change: String::new(),
            plug_ins: vec![PlugIn { id: plug_in.to_owned(), service_url: url.to_owned() }],
        };
        let answered = session.on(Response::AuthConfig(config), None, 0);
        assert_eq!(answered.err().map(|problem| problem.code.name()), code, "{url}");
        assert!(!session.path().starts_with('/'), "it stays below the root: {url}");
    }
}

#[test]
fn a_refusal_of_an_old_cookie_says_nothing_about_the_new_one() {
    let mut desk = Desk::fetching_with(Options { parallel: 3, ..options() }, 300);
    assert_eq!(
        (desk.step(), desk.step(), desk.step()),
        ("ask for 100".into(), "ask for 100".into(), "ask for 100".into())
    );
    // All three were made with the cookie that the server has forgotten; one refusal is one refusal.
    for _ in 0..3 {
        desk.answer(fault(ErrorCode::InvalidCookie));
    }
    desk.stand_again();
    assert_eq!(desk.steps(), ["ask for 100", "ask for 100", "ask for 100", "wait"]);
    for _ in 0..3 {
        desk.answer(fault(ErrorCode::InvalidCookie));
    }
    desk.stand_again();
    assert_eq!(desk.step(), "ask for 100", "six refusals in all, and two of a session");
}
