//! Certificates that are made, renewed and read, as tables and at every step between.

use std::os::unix::fs::MetadataExt as _;

use super::*;

fn settings(folder: &Path) -> Settings {
    let mut settings = Settings::default();
    settings.site.data_dir = folder.to_owned();
    settings
}

#[test]
fn certificates_are_made_renewed_in_time_and_refused_where_others_read_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    assert_eq!(identity(&settings).unwrap_err().code, Code::TlsNotSetUp);
    let names = ["site01.example".to_owned(), "127.0.0.1".to_owned()];
    let made = init(&settings, "XYZ", &names, now).unwrap();
    assert_eq!(made.until, "2026-05-30T00:00:00Z".parse().unwrap(), "what is written into it");
    identity(&settings).unwrap();
    let file = |name: &str| folder.path().join("tls").join(name);
    let mode = |name: &str| std::fs::metadata(file(name)).unwrap().mode() & 0o777;
    assert_eq!((mode("ca.key"), mode("server.key"), mode("ca.pem")), (0o600, 0o600, 0o644));
    assert!(!made.is_due(after(now, 59)) && made.is_due(after(now, 61)));

    let (authority, certificate) =
        (std::fs::read(file("ca.pem")).unwrap(), std::fs::read(file("server.pem")).unwrap());
    let later = renew(&settings, &[], after(now, 61)).unwrap();
    assert_eq!((later.names, later.authority), (made.names, made.authority));
    assert_eq!(std::fs::read(file("ca.pem")).unwrap(), authority, "who trusts the site trusts it on");
    assert_ne!(std::fs::read(file("server.pem")).unwrap(), certificate);
    identity(&settings).unwrap();

    let open = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    std::fs::set_permissions(file("server.key"), open).unwrap();
    assert_eq!(identity(&settings).unwrap_err().code, Code::TlsInvalid);
}

/// What is shown and warned of is what others hold the certificate to.
#[test]
fn a_certificate_ends_when_it_is_said_to() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let now: Timestamp = "2026-03-01T18:30:00Z".parse().unwrap();
    init(&settings, "XYZ", &["site01".to_owned()], now).unwrap();
    let made = about(&settings).unwrap().unwrap();
    let tls = folder.path().join("tls");
    for (file, said) in [("server.pem", made.until), ("ca.pem", made.authority_until)] {
        let certificate = CertificateDer::from_pem_file(tls.join(file)).unwrap();
        assert_eq!(crate::status::good_until(&certificate), Some(said), "{file}");
    }
    // As it was written down before.
    let earlier = Certificates { until: after(now, 90), authority_until: after(now, 3_650), ..made.clone() };
    std::fs::write(tls.join("about.json"), serde_json::to_vec(&earlier).unwrap()).unwrap();
    assert_eq!(about(&settings).unwrap(), Some(made));
}

#[test]
fn nothing_is_signed_by_an_authority_that_is_over_nor_made_again_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let start: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    let names = ["site01".to_owned()];
    let made = init(&settings, "XYZ", &names, start).unwrap();
    // In its last days a certificate ends with it, and another one would be no better.
    let late = after(start, AUTHORITY_DAYS - 20);
    let last = renew(&settings, &[], late).unwrap();
    assert_eq!(last.until, last.authority_until);
    assert!(last.is_due(late), "a point asks its site, which may have another authority");
    assert!([0, 19, 40].iter().all(|days| !last.is_renewed(after(late, *days))), "{last:?}");
    assert!(!last.is_better_than(&last) && made.is_renewed(late));
    let tls = folder.path().join("tls");
    let files = || ["server.pem", "server.key"].map(|name| std::fs::read(tls.join(name)).unwrap());
    let before = files();
    let key = KeyPair::generate().unwrap();
    for over in [last.authority_until, after(late, 40)] {
        assert_eq!(renew(&settings, &[], over).unwrap_err().code, Code::TlsInvalid);
        assert_eq!(sign_for(&settings, &names, &key, over).unwrap_err().code, Code::TlsInvalid);
    }
    assert_eq!(files(), before);
    sign_for(&settings, &names, &key, late).unwrap();
}

#[test]
fn a_certificate_that_is_not_good_yet_is_due() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    for (ahead, due) in [(0, false), (1, false), (2, true), (400, true)] {
        let _ = std::fs::remove_dir_all(folder.path().join("tls"));
        let made = init(&settings, "XYZ", &["site01".to_owned()], after(now, ahead)).unwrap();
        assert_eq!((made.is_due(now), made.is_renewed(now)), (due, due), "made {ahead} days ahead");
        let anew = renew(&settings, &[], now).unwrap();
        assert_eq!(anew.is_better_than(&made), ahead > 0);
        assert!(!anew.is_due(now) && anew.since == now, "made anew {ahead} days ahead");
    }
}

/// The power went between the renames of a renewal, or the disk was full.
#[test]
fn a_pair_that_does_not_fit_together_is_made_anew_where_it_is_ours() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    assert_eq!(identity_at_start(&settings, now).unwrap_err().code, Code::TlsNotSetUp, "nothing is made");
    let made = init(&settings, "XYZ", &["site01.example".to_owned()], now).unwrap();
    let file = |name: &str| folder.path().join("tls").join(name);
    let another = || KeyPair::generate().unwrap().serialize_pem();
    write_private(&file("server.key"), another().as_bytes()).unwrap();
    assert_eq!(identity(&settings).unwrap_err().code, Code::TlsInvalid);
    identity_at_start(&settings, now).unwrap();
    identity(&settings).unwrap();
    assert_eq!(about(&settings).unwrap().unwrap().names, made.names);

    write_private(&file("server.key"), another().as_bytes()).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    std::fs::set_permissions(file("server.key"), open).unwrap();
    assert_eq!(identity_at_start(&settings, now).unwrap_err().code, Code::TlsInvalid, "others may read it");
    write_private(&file("server.key"), another().as_bytes()).unwrap();
    let mut theirs = settings.clone();
    theirs.tls.cert_file = file("server.pem").display().to_string();
    theirs.tls.key_file = file("server.key").display().to_string();
    assert_eq!(identity_at_start(&theirs, now).unwrap_err().code, Code::TlsInvalid, "an operator's");
    std::fs::remove_file(file("ca.key")).unwrap();
    assert_eq!(identity_at_start(&settings, now).unwrap_err().code, Code::TlsInvalid, "nobody can sign it");
}

/// Nobody may be there who could sign another pair.
#[test]
fn the_power_may_go_between_any_two_steps() {
    let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    for steps in 0..3 {
        let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let settings = settings(before.path());
        let made = init(&settings, "XYZ", &["site01".to_owned()], now).unwrap();
        let new = after.path().join("tls");
        make_folder(&new).unwrap();
        std::fs::copy(before.path().join("tls/ca.key"), new.join("ca.key")).unwrap();
        issue(&new, made, now).unwrap();
        let tls = before.path().join("tls");
        std::fs::remove_file(tls.join("ca.key")).unwrap();
        for (from, to) in
            [("server.key", "server.key.next"), ("server.pem", "server.pem")].into_iter().take(steps)
        {
            std::fs::copy(new.join(from), tls.join(to)).unwrap();
        }
        assert!(identity(&settings).is_ok(), "after {steps} steps");
    }
    let folder = tempfile::tempdir().unwrap();
    init(&settings(folder.path()), "XYZ", &["site01".to_owned()], now).unwrap();
    assert!(!folder.path().join("tls/server.key.next").exists(), "none waits for ever");
}

#[test]
fn a_certificate_for_another_machine_is_taken_over_there_and_only_with_its_key() {
    let (site, point) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (site, point) = (settings(site.path()), settings(point.path()));
    let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    let key = KeyPair::generate().unwrap();
    let names = ["lyon01".to_owned(), "10.1.2.3".to_owned()];
    assert_eq!(sign_for(&site, &names, &key, now).unwrap_err().code, Code::TlsNotSetUp);
    init(&site, "XYZ", &["site01".to_owned()], now).unwrap();
    let (signed, authority) = sign_for(&site, &names, &key, now).unwrap();
    assert_eq!(signed.about.names, names);
    let other = KeyPair::generate().unwrap();
    assert_eq!(take_over(&point, &other, &signed, &authority).unwrap_err().code, Code::TlsInvalid);
    assert_eq!(identity(&point).unwrap_err().code, Code::TlsNotSetUp, "nothing was written");
    take_over(&point, &key, &signed, &authority).unwrap();
    identity(&point).unwrap();
    assert_eq!(about(&point).unwrap(), Some(signed.about));
    assert!(!has_authority(&point) && has_authority(&site));
    assert_eq!(about(&site).unwrap().unwrap().names, ["site01"], "its own is as it was");
}

#[test]
fn an_authority_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    init(&settings, "XYZ", &["site01".to_owned()], now).unwrap();
    let file = |name: &str| folder.path().join("tls").join(name);
    let authority = || (std::fs::read(file("ca.key")).ok(), std::fs::read(file("ca.pem")).ok());
    let before = authority();
    std::fs::remove_file(file("about.json")).unwrap();
    assert_eq!(about(&settings).unwrap(), None);
    let again = || init(&settings, "XYZ", &["site01".to_owned()], now).unwrap_err();
    assert_eq!((again().code, authority()), (Code::TlsExists, before.clone()), "what it says was lost");
    std::fs::remove_file(file("ca.pem")).unwrap();
    assert_eq!((again().code, authority().0), (Code::TlsExists, before.0), "only the key is left");
    // A folder by that name cannot be read, whoever runs this.
    std::fs::create_dir(file("about.json")).unwrap();
    assert_eq!(about(&settings).unwrap_err().code, Code::TlsInvalid);
}

#[test]
fn names_are_hosts_or_addresses() {
    assert!(checked(&["site01.example".to_owned(), "10.1.2.3".to_owned(), "fd00::1".to_owned()]).is_ok());
    for wrong in ["", "http://x", "a b", "a/b"] {
        assert_eq!(checked(&[wrong.to_owned()]).unwrap_err().code, Code::Usage, "{wrong}");
    }
    assert_eq!(checked(&[]).unwrap_err().code, Code::Usage);
}

/// Who may ask under which name goes by the certificate that is shown, from when it is.
#[tokio::test]
async fn a_name_that_a_renewal_drops_is_nobodys_at_once() {
    let (_folder, site) = crate::site::small(|_| {}).await;
    let caller = Caller { who: "admin".to_owned(), dry_run: false };
    let is_ours = |name: &str| site.called.load().iter().any(|ours| ours == name);
    let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let init = TlsVerb::Init { names: names(&["old.example", "both.example"]) };
    carry_out(&site, init, &caller).await.unwrap();
    assert_eq!(["old.example", "both.example", "new.example"].map(is_ours), [true, true, false]);
    let renewed = TlsVerb::Renew { names: names(&["both.example", "new.example"]) };
    carry_out(&site, renewed, &caller).await.unwrap();
    assert_eq!(["old.example", "both.example", "new.example"].map(is_ours), [false, true, true]);
    site.close().await;
}
