//! Where a command is carried out: by the daemon of this site, or here under the site lock.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use catalog::id::TaskId;
use catalog::problem::{Code, Problem};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::progress::Progress;
use super::{Global, Output, said};
use crate::admin::{self, Envelope, Event, Request, wire};
use crate::config::{Loaded, Settings};
use crate::device;
use crate::site::Site;
use crate::software::SoftwareRequest;

/// An answer, and with it the problem where the work was done only in part.
pub struct Called<T> {
    /// What was asked for.
    pub body: T,
    /// Why it is not all of it.
    pub problem: Option<Problem>,
}

impl<T> Called<T> {
    /// Prints the problem, if any, and gives the exit status.
    pub fn finish(self, output: &Output) -> u8 {
        self.problem.map_or(0, |problem| {
            output.problem(&problem);
            problem.code.page().exit.status()
        })
    }
}

/// Sends `request` to whoever works on this site and shows progress until the answer comes.
///
/// # Errors
/// The problem that the site answered with; that of the connection; `WAIT_TIMEOUT` after `--timeout`.
pub async fn call<T: DeserializeOwned>(
    settings: &Loaded,
    global: &Global,
    output: &Output,
    request: Request,
) -> Result<Called<T>, Problem> {
    let envelope = Envelope { request, dry_run: global.dry_run, no_wait: global.no_wait };
    let mut progress = Progress::new(output);
    let patience = Patience::new(global.timeout);
    let connection = tokio::select! {
        biased;
        connection = daemon(settings) => connection?,
        over = patience.over() => return Err(over.keeping("nothing was asked yet")),
    };
    let (body, problem) = match connection {
        Some(connection) => {
            let exchange = settings.settings.exchange_dir();
            by_daemon(connection, &envelope, &exchange, patience, &mut progress, output).await?
        }
        None if envelope.no_wait => {
            return Err(Problem::new(Code::NeedsDaemon, "`--no-wait` leaves the work to a daemon"));
        }
        None => here(settings, envelope, patience, &mut progress).await?,
    };
    Ok(Called { body: expected(body)?, problem })
}

/// Asks the site about software, collections or client settings.
pub(super) async fn software(
    request: SoftwareRequest,
    settings: &Loaded,
    global: &Global,
    output: &Output,
) -> Result<Called<Value>, Problem> {
    call(settings, global, output, Request::Software(request)).await
}

/// Sends a request, and prints an answer whose shape says enough by itself.
pub(super) async fn plain(
    request: Request,
    settings: &Loaded,
    global: &Global,
    output: &Output,
) -> Result<u8, Problem> {
    let called = call::<Value>(settings, global, output, request).await?;
    said::show_value(&called.body, output);
    Ok(called.finish(output))
}

/// For how long somebody waits.
#[derive(Clone, Copy)]
struct Patience(Option<(Duration, Instant)>);

impl Patience {
    /// From now on.
    fn new(limit: Option<Duration>) -> Self {
        Self(limit.and_then(|limit| Some((limit, Instant::now().checked_add(limit)?))))
    }

    /// Comes when it is over, with what to say then.
    async fn over(self) -> Problem {
        let Some((limit, until)) = self.0 else { return std::future::pending().await };
        tokio::time::sleep_until(until).await;
        Problem::new(Code::WaitTimeout, format!("no answer within {limit:?}"))
    }
}

/// What became of work that a daemon does and nobody waits for any more.
fn left_behind(over: Problem, task: Option<TaskId>) -> Problem {
    match task {
        Some(id) => over
            .keeping(format!("task {id} goes on in the daemon"))
            .help(format!("`spsync task wait {id}` waits for it, `spsync task cancel {id}` ends it")),
        None => over
            .keeping("the daemon was asked, and may have done it by now")
            .help("look before you ask again, with a longer `--timeout`"),
    }
}

/// An answer as what it has to be. One that is something else says nothing, and least of all that there is nothing.
///
/// # Errors
/// `INTERNAL`.
pub fn expected<T: DeserializeOwned>(body: Value) -> Result<T, Problem> {
    serde_json::from_value(body).map_err(|error| {
        Problem::new(Code::Internal, "the answer has another shape than expected")
            .because(error.to_string())
            .help("the daemon and the command may be of different versions: restart the daemon")
    })
}

/// The daemon of *this* site, if one runs. One that works on other data is not ours.
async fn daemon(settings: &Loaded) -> Result<Option<wire::Connection>, Problem> {
    let Some(socket) = settings.settings.admin.socket() else { return Ok(None) };
    let Some(connection) = wire::Connection::open(&socket).await? else { return Ok(None) };
    Ok((connection.hello.data_dir == settings.settings.site.data_dir).then_some(connection))
}

type Body = (Value, Option<Problem>);

/// What is left of work that was interrupted.
const KEPT: &str = "what was received and recorded so far is kept; the same command goes on there";

async fn by_daemon(
    mut connection: wire::Connection,
    envelope: &Envelope,
    exchange: &Path,
    patience: Patience,
    progress: &mut Progress,
    output: &Output,
) -> Result<Body, Problem> {
    let mut task = None;
    // What is there is not late.
    tokio::select! {
        biased;
        sent = connection.send(envelope) => sent?,
        over = patience.over() => return Err(left_behind(over, task)),
    }
    loop {
        let event = tokio::select! {
            biased;
            event = connection.next() => event?,
            over = patience.over() => return Err(left_behind(over, task)),
            _ = tokio::signal::ctrl_c() => {
                let id = task.map_or_else(String::new, |id| format!("; task {id} goes on, `spsync task cancel {id}` ends it"));
                output.note(format!("stopped waiting{id}"));
                return Err(Problem::new(Code::Interrupted, "stopped waiting for the daemon"));
            }
        };
        match event {
            Event::Task { task: state } => {
                task = Some(state.id);
                progress.show(&state);
            }
            Event::Done { body, problem } => return Ok((body, problem)),
            Event::Failed { problem } => {
                return Err(with_who_opened(problem, &envelope.request, exchange));
            }
        }
    }
}

/// Says who opened a file of the request that could not be opened: the daemon is another user, and as a service it sees another
/// `/tmp` and no home.
fn with_who_opened(problem: Problem, request: &Request, exchange: &Path) -> Problem {
    // No such file, no permission, a file system that is read-only there.
    const OF_THE_FILE: [&str; 3] = ["(os error 2)", "(os error 13)", "(os error 30)"];
    let missing = matches!(problem.code, Code::SourceMissing | Code::SourceNotWritable);
    let says = |text: &str| OF_THE_FILE.iter().any(|error| text.ends_with(error));
    let could_not = missing || says(&problem.message) || problem.causes.iter().any(|cause| says(cause));
    let named = serde_json::to_value(request).is_ok_and(|request| names_a_path(&request));
    if !could_not || !named {
        return problem;
    }
    problem.because(format!(
        "the daemon opens this path, not the command: as its own user (spsync, where it is installed as a service), which then has a \
         /tmp of its own, no /home, and may write into its data only; `{}` is for files that both reach",
        exchange.display()
    ))
}

fn names_a_path(value: &Value) -> bool {
    match value {
        Value::String(text) => text.starts_with('/'),
        Value::Array(all) => all.iter().any(names_a_path),
        Value::Object(fields) => fields.values().any(names_a_path),
        _ => false,
    }
}

/// A device that enrolled has a key and no database. Whoever types a command of the site there is on the wrong machine, and would be
/// left with an empty site and its answers. Where `spsync serve` has made a site, its commands work.
fn is_a_site(settings: &Settings) -> Result<(), Problem> {
    if settings.db_path().exists() || !device::key::file(None, settings).exists() {
        return Ok(());
    }
    let site = settings.client_site();
    let message = format!("this machine is a device of {site}, and has no site that could be asked");
    Err(Problem::new(Code::NotAtSite, message))
}

async fn here(
    settings: &Loaded,
    envelope: Envelope,
    patience: Patience,
    progress: &mut Progress,
) -> Result<Body, Problem> {
    is_a_site(&settings.settings)?;
    let site = tokio::select! {
        biased;
        site = Site::open(settings.clone()) => site?,
        over = patience.over() => return Err(over.keeping("nothing was begun").help("give it a longer `--timeout`")),
    };
    let (events, mut inbox) = mpsc::channel(16);
    let who = crate::site::user_name(rustix::process::getuid().as_raw());
    let working = tokio::spawn({
        let site: Arc<Site> = site.clone();
        async move { admin::answer(&site, envelope, &who, events).await }
    });
    let ended = loop {
        let event = tokio::select! {
            biased;
            event = inbox.recv() => event,
            _ = tokio::signal::ctrl_c() => {
                working.abort();
                site.tasks.interrupt().await;
                break Err(Problem::new(Code::Interrupted, "interrupted").keeping(KEPT));
            }
            over = patience.over() => {
                working.abort();
                site.tasks.interrupt().await;
                break Err(over.because("no daemon runs, so the work ended with the command").keeping(KEPT).help(
                    "look what is there before you make anything twice; give it a longer `--timeout`, or have a daemon do it: `spsync serve`",
                ));
            }
        };
        match event {
            Some(Event::Task { task }) => progress.show(&task),
            Some(Event::Done { body, problem }) => break Ok((body, problem)),
            Some(Event::Failed { problem }) => break Err(problem),
            None => break Err(Problem::new(Code::Internal, "the work ended without an answer")),
        }
    };
    site.close().await;
    ended
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::deploy::{CheckBy, StatusBy};
    use crate::cli::{app, collection, deploy, image, settings, ts};

    #[test]
    fn a_device_becomes_no_site_by_a_command() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.site.data_dir = folder.path().to_owned();
        settings.client.site = "https://site01.example:8531".to_owned();
        is_a_site(&settings).expect("a site whose machine is to be a device of it too, on its first day");
        std::fs::create_dir(folder.path().join("client")).unwrap();
        std::fs::write(folder.path().join("client/device.key"), "x").unwrap();
        let refused = is_a_site(&settings).unwrap_err();
        assert_eq!(refused.code, Code::NotAtSite);
        assert!(refused.message.contains("site01.example"), "{refused}");
        std::fs::write(settings.db_path(), "x").unwrap();
        is_a_site(&settings).expect("it is both");
    }

    #[test]
    fn who_could_not_open_a_file_is_said() {
        let import = |file: &str| Request::UpdatesImport { file: file.into() };
        let missing = std::io::Error::from_raw_os_error(2);
        let cannot = || Problem::new(Code::DiskError, "x").because_of(Some(&missing));
        let exchange = Path::new("/var/lib/spsync/exchange");
        let told = with_who_opened(cannot(), &import("/home/me/WSUS.cab"), exchange);
        assert!(told.causes[1].contains("/var/lib/spsync/exchange"), "{told:?}");
        assert_eq!(with_who_opened(cannot(), &Request::Status, exchange), cannot(), "it names no file");
        let other = Problem::new(Code::CabMalformed, "x");
        assert_eq!(with_who_opened(other.clone(), &import("/x"), exchange), other, "it was opened");
    }

    #[tokio::test]
    async fn who_stops_waiting_for_a_daemon_is_told_which_task_goes_on() {
        let over = Patience::new(Some(Duration::from_millis(1))).over().await;
        assert_eq!((over.code, over.message.as_str()), (Code::WaitTimeout, "no answer within 1ms"));
        let told = left_behind(over.clone(), Some(TaskId(12)));
        assert_eq!(told.state.as_deref(), Some("task 12 goes on in the daemon"));
        assert!(told.help.contains("spsync task wait 12"), "{told}");
        let told = left_behind(over, None);
        assert!(!told.help.contains("task"), "there is none: {told}");
        let never = tokio::time::timeout(Duration::from_millis(20), Patience::new(None).over());
        assert!(never.await.is_err(), "who has all the time");
    }

    type Print = fn(&Value, &Output) -> Result<(), Problem>;

    /// A daemon of another version answers what this command cannot read: that is no empty list.
    #[test]
    fn an_answer_that_cannot_be_read_is_no_empty_list() {
        let lists: [(&str, Print); 9] = [
            ("applications", app::list),
            ("OS upgrade packages", image::list),
            ("collections", collection::list),
            ("windows", collection::windows),
            ("client settings", settings::list),
            ("settings of a device", settings::effective),
            ("task sequences", ts::print::list),
            ("deployments", deploy::print::list),
            ("devices", deploy::devices::clients),
        ];
        let more: [(&str, Print); 6] = [
            ("deployments of updates", deploy::print::updates),
            ("phased deployments", deploy::print::plans),
            ("what task sequences are made from", ts::print::choices),
            ("what happened on a device", deploy::devices::history),
            ("a check", |body, output| deploy::print::checked(body, CheckBy::Client, output)),
            ("how far devices are", |body, output| deploy::print::status(body, StatusBy::State, output)),
        ];
        let output = Output::for_tests();
        for (what, print) in lists.into_iter().chain(more) {
            let refused = print(&json!([{ "of": "another version" }]), &output).expect_err(what);
            assert_eq!(refused.code, Code::Internal, "{what}");
        }
        for (what, print) in lists {
            print(&json!([]), &output).expect(what);
        }
    }
}
