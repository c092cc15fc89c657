//! A real device whose client dies, and another client that goes on from what it has left.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use std::sync::{Arc, Mutex};

use dp::client::{Cache, CacheLimits};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::device::executor::command::{CommandSettings, Real};
use crate::device::machine::{Event, Outcome};
use crate::keys::Secret;

const SECRET: &str = "hunter2hunter2";

/// What a site was asked: paths, and what was said there.
pub(super) type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// A site that says what a function says, by the path and how often that was asked before: a status, and a body. It takes every
/// message.
pub(super) async fn site(says: impl Fn(&str, usize) -> (u16, Value) + Send + 'static) -> (Link, Asked) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Asked::default();
    let keeps = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let (path, body) = loop {
                let mut part = [0; 4096];
                let read = stream.read(&mut part).await.expect("it is asked");
                bytes.extend_from_slice(&part[..read]);
                let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
                let path = head.split(' ').nth(1).expect("a path").to_owned();
                match serde_json::from_slice(&bytes[end + 4..]) {
                    Ok(body) => break (path, body),
                    Err(_) if head.starts_with("GET") => break (path, Value::Null),
                    Err(_) => assert!(read > 0, "a whole request"),
                }
            };
            let before = keeps.lock().expect("a lock").iter().filter(|(one, _)| *one == path).count();
            let (status, mut answer) = says(&path, before);
            if let Some(last) = body["messages"].as_array().and_then(|all| all.last()) {
                answer = json!({ "through": last["number"] });
            }
            keeps.lock().expect("a lock").push((path, body));
            let text = answer.to_string();
            let head = format!(
                "HTTP/1.1 {status} X\r\nretry-after: 7\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                text.len()
            );
            // Whoever asked may be gone.
            let _ = stream.write_all((head + &text).as_bytes()).await;
        }
    });
    let key = Secret::new().expect("random numbers");
    (Link::new(&address, &key, None, false).expect("a link"), asked)
}

struct Stage {
    folder: TempDir,
    policy: Policy,
}

impl Stage {
    fn new(steps: &str, secrets: &Value, references: &Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let steps = steps.replace("DIR", &folder.path().display().to_string());
        let policy = json!({
            "format": 1, "version": "1", "site": "XYZ", "device": "PC1", "made": "2026-01-01T00:00:00Z", "refresh_seconds": 60,
            "settings": {},
            "assignments": [{ "deployment": "XYZ20001", "task_sequence": "XYZ00001", "revision": 1, "name": "x",
                "purpose": "required", "available": "2026-01-01T00:00:00Z", "deadline": "2026-01-02T00:00:00Z",
                "document": format!("format = 1\nname = \"x\"\nkind = \"custom\"\n{steps}"),
                "references": references, "secrets": secrets }],
        });
        let facts = "os_type = \"client\"\nversion = \"10.0.22631\"\nedition = \"Enterprise\"\narchitecture = \"x64\"\n\
            language = \"en-us\"\n";
        fs::write(folder.path().join("facts.toml"), facts).expect("it is written");
        fs::write(folder.path().join("boot"), "one").expect("it is written");
        Self { policy: serde_json::from_value(policy).expect("a policy"), folder }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The client begins, or begins again.
    fn device(&self) -> Device<Real> {
        let settings = CommandSettings {
            folder: self.state(),
            facts: self.folder.path().join("facts.toml"),
            restart: "true".to_owned(),
            boot_id: self.folder.path().join("boot"),
        };
        let hands = Real::new(settings).expect("facts are there");
        Device::open(Journal::open(&self.state()).expect("a journal"), hands).expect("a device")
    }

    /// A client that dies at this moment.
    async fn dies(&self, device: Device<Real>, at: Moment) {
        let mut device = device;
        device.hands.dies_at = Some(at);
        let ended = device.round(&self.policy, &[]).await;
        assert!(matches!(ended, Err(Stopped::Power)), "{ended:?}");
    }

    /// What another client makes of it.
    async fn goes_on(&self) -> Line {
        let mut round = self.device().round(&self.policy, &[]).await.expect("it goes on");
        round.deployments.remove(0)
    }

    fn witness(&self) -> usize {
        fs::read_to_string(self.folder.path().join("witness")).unwrap_or_default().lines().count()
    }

    fn marks(&self) -> Vec<PathBuf> {
        below(&self.state().join("work"))
    }
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("it is listed").path());
    let deeper =
        |path: PathBuf| if path.is_dir() { [vec![path.clone()], below(&path)].concat() } else { vec![path] };
    entries.flat_map(deeper).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[tokio::test]
async fn a_step_is_done_once_whenever_the_client_dies() {
    for retries in [0, 2] {
        let step = format!(
            "[[step]]\ntype = \"run-command\"\nname = \"a\"\nretries = {retries}\ncommand = \"echo x >> DIR/witness\"\n"
        );
        for (at, state, times) in [
            (Moment::Ended(1), RunState::Succeeded, 1),
            (Moment::Noted(1), RunState::Succeeded, 1),
            // Nobody knows whether it did anything.
            (
                Moment::Begins(1),
                if retries == 0 { RunState::Failed } else { RunState::Succeeded },
                retries.min(1),
            ),
        ] {
            let stage = Stage::new(&step, &json!([]), &json!({}));
            stage.dies(stage.device(), at).await;
            let line = stage.goes_on().await;
            assert_eq!((line.state, stage.witness()), (state, times), "{retries} {at:?}: {line:?}");
            assert_eq!(stage.marks(), Vec::<PathBuf>::new(), "{retries} {at:?}");
        }
    }
}

#[tokio::test]
async fn a_client_that_dies_while_a_step_runs_learns_how_that_ended() {
    let step = "[[step]]\ntype = \"run-command\"\nname = \"a\"\n\
        command = \"echo x >> DIR/witness; while [ ! -e DIR/go ]; do sleep 0.02; done\"\n";
    let stage = Stage::new(step, &json!([]), &json!({}));
    let mut device = stage.device();
    let policy = stage.policy.clone();
    let begun = async {
        while stage.witness() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        ended = device.round(&policy, &[]) => panic!("it waits for a word: {ended:?}"),
        () = begun => {}
    }
    drop(device);
    fs::write(stage.folder.path().join("go"), "").unwrap();
    let line = stage.goes_on().await;
    assert_eq!((line.state, stage.witness()), (RunState::Succeeded, 1), "{line:?}");
}

#[tokio::test]
async fn what_a_program_printed_is_told_to_nobody_where_its_secrets_are_not_known_any_more() {
    let steps = "[[step]]\ntype = \"set-variable\"\nname = \"secret\"\nvariable = \"Word\"\nhidden_value = \"sealed-2\"\n\
        [[step]]\ntype = \"run-command\"\nname = \"uses it\"\ncommand = \"echo it is %Word%\"\noutput_variable = \"Out\"\n";
    let secrets = json!([{ "place": "sealed-2", "of": "variable", "present": true }]);
    let own = vec![(Sealed::numbered(2), HiddenText::new(SECRET))];
    for known in [true, false] {
        let stage = Stage::new(steps, &secrets, &json!({}));
        let mut device = stage.device();
        device.own_secrets = Some(own.clone());
        stage.dies(device, Moment::Ended(2)).await;
        // In plain sight: for its owner alone, in folders that nobody else may enter.
        let printed =
            stage.marks().into_iter().find(|path| path.extension().is_some_and(|kind| kind == "out"));
        let printed = printed.unwrap();
        assert!(fs::read_to_string(&printed).unwrap().contains(SECRET));
        assert_eq!(mode(&printed), 0o600);
        assert_eq!(mode(&stage.state()), 0o700);
        for folder in below(&stage.state()).iter().filter(|path| path.is_dir()) {
            assert_eq!(mode(folder), 0o700, "{}", folder.display());
        }

        let mut device = stage.device();
        device.own_secrets = known.then(|| own.clone());
        let round = device.round(&stage.policy, &[]).await.unwrap();
        assert_eq!(round.deployments[0].state, RunState::Succeeded);
        drop(device);
        let mut all = String::new();
        for path in below(&stage.state()).iter().filter(|path| path.is_file()) {
            all.push_str(&String::from_utf8_lossy(&fs::read(path).unwrap()));
        }
        assert!(!all.contains(SECRET), "known: {known}");
        let told = format!("{:?}", stage.device().memory());
        assert_eq!(told.contains("is dropped"), !known, "{told}");
    }
}

const NEEDS: &str = "[[step]]\ntype = \"set-variable\"\nname = \"secret\"\nvariable = \"Word\"\nhidden_value = \"sealed-2\"\n\
    [[step]]\ntype = \"run-command\"\nname = \"uses it\"\ncommand = \"[ %Word% = hunter2hunter2 ] && echo x >> DIR/witness\"\n";

fn needs_secrets() -> Stage {
    let secrets = json!([{ "place": "sealed-2", "of": "variable", "present": true }]);
    Stage::new(NEEDS, &secrets, &json!({}))
}

/// Decision 0027: a site that is away for a minute fails no run that has not begun.
#[tokio::test]
async fn a_run_does_not_begin_before_the_site_gives_its_secrets() {
    let (link, _asked) = site(|path, before| match (path.starts_with("/client/secrets/"), before) {
        (true, 0) => (503, Value::Null),
        (true, 1) => (403, Value::Null),
        (true, _) => (200, json!({ "deployment": "XYZ20001", "secrets": [["sealed-2", SECRET]] })),
        _ => (200, Value::Null),
    })
    .await;
    let stage = needs_secrets();
    let mut device = stage.device();
    device.link = Some(link);
    for times in 1..=2 {
        let round = device.round(&stage.policy, &[]).await.unwrap();
        let line = &round.deployments[0];
        assert_eq!((line.state, line.run, stage.witness()), (RunState::Waiting, None, 0), "{line:?}");
        assert!(line.code.is_some() && line.details.contains("secrets"), "{line:?}");
        assert_eq!(round.held, std::slice::from_ref(&line.deployment));
        assert_eq!(device.away.times, times, "it asks again soon, then less often");
    }
    let told = device.memory().outbox.back().expect("the site is told why");
    assert_eq!((told.run, told.state), (0, RunState::Waiting));
    let round = device.round(&stage.policy, &[]).await.unwrap();
    assert_eq!((round.deployments[0].state, stage.witness()), (RunState::Succeeded, 1), "{round:?}");
    assert_eq!(round.held, []);
}

#[tokio::test]
async fn a_secret_is_missing_only_where_the_site_says_so() {
    let place = [Sealed::numbered(2)];
    for (status, body, expected) in [
        (503, Value::Null, "later"),
        (429, Value::Null, "later"),
        (403, Value::Null, "refused"),
        (200, json!({ "deployment": "XYZ20001", "secrets": [] }), "missing"),
        (200, json!({ "deployment": "XYZ20001", "secrets": [["sealed-2", SECRET]] }), "known"),
    ] {
        let answer = body.clone();
        let (link, _asked) = site(move |_, _| (status, answer.clone())).await;
        let stage = needs_secrets();
        let mut device = stage.device();
        device.link = Some(link);
        let found = match device.need_secrets(&stage.policy.assignments[0], &place).await {
            Some(Event::Later(wait, failure)) => {
                assert!(wait.as_secs() == 7 && failure.code != Code::SecretMissing, "{failure:?}");
                "later"
            }
            Some(Event::Ended(Outcome::Failed(failure))) => match failure.code {
                Code::SecretMissing => "missing",
                _ => "refused",
            },
            None => "known",
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected, "{status} {body}");
    }
}

#[tokio::test]
async fn the_site_hears_of_a_step_while_it_runs() {
    let (link, asked) = site(|_, _| (200, Value::Null)).await;
    let step = "[[step]]\ntype = \"run-command\"\nname = \"long\"\n\
        command = \"while [ ! -e DIR/go ]; do sleep 0.02; done\"\n";
    let stage = Stage::new(step, &json!([]), &json!({}));
    let mut device = stage.device();
    device.link = Some(link);
    device.telling = Duration::from_millis(20);
    let policy = stage.policy.clone();
    let heard = async {
        loop {
            let told = asked.lock().unwrap().iter().map(|(_, body)| body.to_string()).collect::<String>();
            if told.contains("\"running\"") && told.contains("long") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        fs::write(stage.folder.path().join("go"), "").unwrap();
        std::future::pending::<()>().await;
    };
    let round = tokio::select! {
        round = device.round(&policy, &[]) => round.unwrap(),
        () = heard => unreachable!("it never ends"),
    };
    assert_eq!(round.deployments[0].state, RunState::Succeeded);
    assert!(device.memory().outbox.is_empty(), "and of its end");
}

#[tokio::test]
async fn content_of_a_run_stays_until_its_end() {
    let bytes = b"an image";
    let digest = Sha256Digest::of(bytes);
    let stage = Stage::new(
        "[[step]]\ntype = \"download-content\"\nname = \"d\"\npackages = [\"XYZ00009\"]\n\
         [[step]]\ntype = \"run-command\"\nname = \"a\"\ncommand = \"true\"\n",
        &json!([]),
        &json!({ "images": [{ "id": "XYZ00009", "name": "i", "os_type": "client", "editions": [],
                              "file": { "name": "x.wim", "size": 8, "sha256": digest } }] }),
    );
    // What is here is asked of nobody.
    let folder = stage.folder.path().join("cache");
    let client = ClientSettings::new("http://127.0.0.1:1/".parse().unwrap(), folder.clone());
    let mut device = stage.device();
    device.client = Some(client.clone());
    device.unpin().await;
    assert!(!folder.exists(), "nobody needs one yet");
    let cache = Cache::open(&folder, 0).unwrap();
    let digests = catalog::digest::Digests { sha256: Some(digest), sha1: None };
    let arrives = stage.folder.path().join("arrives");
    fs::write(&arrives, bytes).unwrap();
    cache.library.ingest(&arrives, &catalog::digest::Wanted { size: 8, digests }).unwrap();
    let pinned = || cache.list().unwrap()[0].pinned_by.clone();
    let clean = || cache.clean(CacheLimits::default(), 0, true, crate::clock::now(), false).unwrap().len();

    cache.pin(digest, "run-9").unwrap();
    cache.pin(digest, "somebody").unwrap();
    stage.dies(device, Moment::Ended(2)).await;
    assert_eq!(pinned(), ["run-1", "somebody"], "the run that goes on, and others; not one that is over");
    cache.unpin(digest, "somebody").unwrap();
    assert_eq!((clean(), pinned()), (0, vec!["run-1".to_owned()]));
    let mut device = stage.device();
    device.client = Some(client);
    let round = device.round(&stage.policy, &[]).await.unwrap();
    assert_eq!(round.deployments[0].state, RunState::Succeeded);
    assert_eq!((pinned(), clean()), (Vec::new(), 1));
}
