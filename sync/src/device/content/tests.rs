//! What is fetched ahead of a run: on which device, of which steps.

use serde_json::{Value, json};

use super::*;
use crate::policy::Policy;

const UPDATE: &str = "00000000-0000-0000-0000-000000000007";

fn file(name: &str, digest: &str) -> Value {
    json!({ "name": name, "size": 1, "sha256": digest.repeat(32) })
}

fn image(id: &str, digest: &str, architecture: &str, language: &str) -> Value {
    json!({ "id": id, "name": format!("Windows {architecture} {language}"), "os_type": "client",
        "file": file("install.wim", digest),
        "editions": [{ "index": 1, "name": "Ent", "architecture": architecture, "languages": [language], "build": [26100, 1] }] })
}

/// A task sequence that refers to everything: three OS upgrade packages for different devices, a feature update, an
/// application, and what a disabled step and one for other devices need.
fn assignment() -> Assignment {
    let step = |kind: &str, rest: &str| {
        format!("[[step]]\ntype = \"{kind}\"\nname = \"{kind} {}\"\n{rest}\n", rest.len())
    };
    let document = [
        "format = 1\nname = \"x\"\nkind = \"custom\"\n".to_owned(),
        step("upgrade-os", "image = \"XYZ00001\"\n"),
        step("upgrade-os", "image = \"XYZ00002\"\ncontinue_on_error = true\n"),
        step("download-content", "packages = [\"XYZ00003\", \"XYZ00001\"]"),
        step("upgrade-os", &format!("feature_updates = [\"{UPDATE}\"]\n\n")),
        step("install-application", "applications = [\"XYZ00004\"]"),
        step("install-application", "applications = [\"XYZ00005\"]\ndisabled = true"),
        step("install-application", "applications = [\"XYZ00006\"]\n[step.when.os]\nlanguage = \"de-de\""),
    ];
    let app = |id: &str, digest: &str| json!({ "id": id, "name": id, "install": "x", "usable": true, "files": [file("setup.exe", digest)] });
    let policy: Policy = serde_json::from_value(json!({
        "format": 1, "version": "1", "site": "XYZ", "device": "PC1", "made": "2026-01-01T00:00:00Z", "refresh_seconds": 60,
        "assignments": [{ "deployment": "XYZ20001", "task_sequence": "XYZ00001", "revision": 1, "name": "x",
            "purpose": "available", "available": "2026-01-01T00:00:00Z", "document": document.concat(),
            "references": {
                "images": [image("XYZ00001", "01", "x64", "en-us"), image("XYZ00002", "02", "arm64", "en-us"),
                    image("XYZ00003", "03", "x64", "de-de")],
                "feature_updates": [{ "facts": { "id": UPDATE, "title": "25H2", "os_type": "client", "build": [26200, 1],
                    "architecture": "x64", "language": "en-us", "shape": "esd" }, "files": [file("25h2.esd", "07")] }],
                "applications": [app("XYZ00004", "04"), app("XYZ00005", "05"), app("XYZ00006", "06")],
            } }],
    }))
    .expect("a policy");
    policy.assignments.into_iter().next().expect("there is one")
}

fn facts(architecture: &str, language: &str) -> Facts {
    serde_json::from_value(json!({
        "os_type": "client", "version": "10.0.22631", "edition": "Enterprise", "architecture": architecture, "language": language
    }))
    .expect("facts")
}

fn told<'a>(assignment: &'a Assignment, updates: &'a [DeployedUpdate]) -> Told<'a> {
    Told { assignment, updates, scan: None }
}

/// Mission row M57: what is installed is fetched before, each update with its own files.
#[test]
fn updates_bring_the_files_of_those_that_are_installed() {
    let mut assignment = assignment();
    assignment.document = "format = 1\nname = \"x\"\nkind = \"custom\"\n[[step]]\ntype = \"install-updates\"\nname = \"u\"\nmode = \"mandatory\"\n".to_owned();
    let update = |number: u8, mandatory: bool, files: &[&str]| -> DeployedUpdate {
        let files: Vec<_> = files.iter().map(|digest| file(&format!("{digest}.cab"), digest)).collect();
        let id = format!("00000000-0000-0000-0000-0000000000{number:02}");
        serde_json::from_value(json!({ "id": id, "title": id, "mandatory": mandatory, "files": files }))
            .unwrap()
    };
    let updates = [
        update(1, true, &["0a", "0b"]),
        update(2, false, &["0c"]),
        update(3, true, &[]),
        update(4, true, &["0d"]),
    ];
    let plan = Plan::of(&assignment.sequence().unwrap());
    let names = |needs: &[Need<'_>]| {
        needs.iter().map(|need| need.file.name.to_string()).collect::<Vec<_>>().join(" ")
    };
    let told = told(&assignment, &updates);
    let all = ahead(told, &plan, &facts("x64", "en-us"), true);
    assert_eq!(names(&all.needs), "0a.cab 0b.cab 0d.cab");
    assert!(all.needs.iter().all(|need| need.feature_update), "they are asked for as updates are");
    let before = ahead(told, &plan, &facts("x64", "en-us"), false);
    assert_eq!((before.needs.len(), before.left_out.len()), (0, 3));
    assert_eq!(before.left_out[0], "`0a.cab` (updates are not fetched ahead)");
    let (_, _, action) = plan.steps().next().unwrap();
    let parts: Vec<_> = (0..4).map(|part| names(&needs_of(told, action, None, part))).collect();
    assert_eq!(parts, ["0a.cab 0b.cab", "", "0d.cab", ""], "of each part its own");
    let applies = [Scanned { id: updates[3].id, title: "4".to_owned() }];
    assert_eq!(names(&needs(Told { scan: Some(&applies), ..told }, action, None)), "0d.cab");
}

/// Mission rows M20 and M68.
#[test]
fn precache_only_matching_osup() {
    let assignment = assignment();
    let plan = Plan::of(&assignment.sequence().unwrap());
    for (architecture, language, all, fetched, left_out) in [
        ("x64", "en-us", false, "01 04", "arm64 en-us, x64 de-de, 25h2.esd"),
        ("x64", "en-us", true, "01 07 04", "arm64 en-us, x64 de-de"),
        ("ARM64", "en-us", false, "02 04", "x64 en-us, x64 de-de"),
        ("x64", "de-DE", false, "03 04 06", "x64 en-us, arm64 en-us"),
        ("x86", "fr-fr", true, "04", "x64 en-us, arm64 en-us, x64 de-de"),
    ] {
        let ahead = ahead(told(&assignment, &[]), &plan, &facts(architecture, language), all);
        let digest = |need: &Need<'_>| need.file.sha256.expect("each has one").to_string()[..2].to_owned();
        let found: Vec<_> = ahead.needs.iter().map(digest).collect();
        assert_eq!(found.join(" "), fetched, "{architecture} {language} {all}");
        let named = |why: &String| {
            why.split('`').nth(1).unwrap_or_default().trim_start_matches("Windows ").to_owned()
        };
        let mut left: Vec<_> = ahead.left_out.iter().map(named).collect();
        left.sort();
        let mut expected: Vec<_> = left_out.split(", ").collect();
        expected.sort_unstable();
        assert_eq!(left, expected, "{architecture} {language} {all}: {:?}", ahead.left_out);
    }
}

#[test]
fn nobody_is_nobody_and_wrong_bytes_are_wrong_bytes() {
    use dp::transfer::fault::Fault;
    use dp::transfer::{At, SourceFailure};
    let faults = |fault: Fault| {
        let at = At::File(PathBuf::from("x"));
        let source = SourceFailure {
            kind: SourceKind::Cloud,
            name: "catalog".to_owned(),
            at,
            bytes: 0,
            faults: vec![fault],
            shared: false,
            unreachable: None,
        };
        let file = "x.esd".parse().expect("a name");
        ClientError::Fetch(FetchError::AllFailed { file, kept: 0, sources: vec![source] })
    };
    let without = Allowed { points: false, ..Allowed::default() };
    let digests = || Fault::Digest(catalog::digest::Mismatch::Size { expected: 1, actual: 2 });
    for (error, allowed, code) in [
        (faults(Fault::NotFound("404".to_owned())), without, Code::ContentUnavailable),
        (faults(Fault::Stalled), without, Code::ContentUnavailable),
        (faults(Fault::Stalled), Allowed::default(), Code::TransferStalled),
        (faults(digests()), without, digests().code()),
        (
            ClientError::Fetch(FetchError::NoSource { file: "x".parse().unwrap() }),
            Allowed::default(),
            Code::ContentUnavailable,
        ),
    ] {
        let failure = failure(&error, "x.esd", allowed);
        assert_eq!(failure.code, code, "{error:?}");
        let says = failure.details.contains("there is no deployment package");
        assert_eq!(says, code == Code::ContentUnavailable && !allowed.points, "{}", failure.details);
    }
}
