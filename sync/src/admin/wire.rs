//! The admin socket: JSON, one value a line, over a Unix socket that only its group may open.
//!
//! ```text
//! daemon  ─▶ {"spsync":"0.1.0","site":"XYZ","data_dir":"/var/lib/spsync"}
//! command ─▶ {"request":{"verb":"now","full":false},"dry_run":false,"no_wait":false}
//! daemon  ─▶ {"event":"task","task":{…}}            as often as something changes, at most five times a second
//! daemon  ─▶ {"event":"done","body":{…}}  or  {"event":"failed","problem":{…}}
//! ```
//! A command that goes away leaves its task running.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use catalog::problem::{Code, Problem};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::{Envelope, Event, answer};
use crate::site::Site;

/// The most bytes of one line: a licence text of 4 MiB in base64, with room to spare.
const LONGEST_LINE: u64 = 16 << 20;
/// A peer that sends nothing for this long after connecting is let go.
const FIRST_LINE: Duration = Duration::from_secs(10);

/// How the daemon introduces itself, so that a command never works on another site by mistake.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the daemon.
    pub spsync: String,
    /// Site code.
    pub site: String,
    /// Where its data is: what makes two sites different.
    pub data_dir: PathBuf,
}

/// The socket that [`listen`] made, and no other file of that name.
#[derive(Debug)]
pub struct Made {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Made {
    fn at(path: &Path) -> std::io::Result<Self> {
        let found = std::fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    /// Takes its name away, once nothing listens there, unless that is of something else by now.
    pub fn remove(&self) {
        let is_it = |now: Self| (now.device, now.inode) == (self.device, self.inode);
        // The system may have given its number to the socket of another daemon, which answers.
        let answers = || std::os::unix::net::UnixStream::connect(&self.path).is_ok();
        if is_socket(&self.path) && Self::at(&self.path).is_ok_and(is_it) && !answers() {
            let _ = std::fs::remove_file(&self.path); // the next daemon replaces it
        }
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// Opens the socket for its owner and group. A left-over of a dead daemon is replaced: the caller holds the site
/// lock, so no other daemon of this site is alive. Anything else of that name is somebody's, and stays.
///
/// # Errors
/// `LISTEN_FAILED` with the path.
pub fn listen(path: &Path) -> Result<(UnixListener, Made), Problem> {
    let failed = |error: &std::io::Error| {
        Problem::new(Code::ListenFailed, format!("the admin socket `{}` cannot be opened", path.display()))
            .because_of(Some(error))
            .help("set `[admin] socket` to a path whose folder this user may write")
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| failed(&error))?;
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => {
            let problem =
                Problem::new(Code::ListenFailed, format!("another daemon answers at `{}`", path.display()));
            return Err(problem.help("give each site its own `[admin] socket`"));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        // The same is said of every file that is no socket.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused && is_socket(path) => {
            std::fs::remove_file(path).map_err(|error| failed(&error))?;
        }
        Err(error) if is_socket(path) => return Err(failed(&error)),
        Err(_) => {
            let problem =
                Problem::new(Code::ListenFailed, format!("`{}` is there and is no socket", path.display()));
            return Err(problem.keeping("it is as it was").help(
                "set `[admin] socket` to a name that nothing has, as `/run/spsync/admin.sock`, or move away what has it",
            ));
        }
    }
    let listener = UnixListener::bind(path).map_err(|error| failed(&error))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(|error| failed(&error))?;
    let made = Made::at(path).map_err(|error| failed(&error))?;
    Ok((listener, made))
}

/// Answers commands until `shutdown`.
pub async fn serve(site: Arc<Site>, listener: UnixListener, shutdown: impl Future<Output = ()>) {
    tokio::pin!(shutdown);
    loop {
        let stream = tokio::select! {
            () = &mut shutdown => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!("the admin socket cannot accept: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await; // EMFILE must not spin
                    continue;
                }
            },
        };
        let site = site.clone();
        tokio::spawn(async move {
            if let Err(error) = converse(site, stream).await {
                debug!("an admin connection ended: {error}");
            }
        });
    }
}

async fn converse(site: Arc<Site>, stream: UnixStream) -> std::io::Result<()> {
    let who =
        stream.peer_cred().map_or_else(|_| "unknown".to_owned(), |peer| crate::site::user_name(peer.uid()));
    let (reading, mut writing) = stream.into_split();
    let hello = Hello {
        spsync: env!("CARGO_PKG_VERSION").to_owned(),
        site: site.code().to_string(),
        data_dir: site.settings().site.data_dir.clone(),
    };
    send(&mut writing, &hello).await?;
    let mut line = String::new();
    let mut reader = BufReader::new(reading.take(LONGEST_LINE));
    match tokio::time::timeout(FIRST_LINE, reader.read_line(&mut line)).await {
        Ok(Ok(1..)) => {}
        _ => return Ok(()), // only looked whether a daemon is there
    }
    let envelope: Envelope = match serde_json::from_str(&line) {
        Ok(envelope) => envelope,
        Err(error) => {
            let problem = Problem::new(Code::Usage, "the daemon does not understand this request")
                .because(error.to_string())
                .help("the daemon and the command may be of different versions: restart the daemon");
            return send(&mut writing, &Event::Failed { problem }).await;
        }
    };
    let (events, mut inbox) = mpsc::channel(16);
    tokio::spawn(async move { answer(&site, envelope, &who, events).await });
    while let Some(event) = inbox.recv().await {
        send(&mut writing, &event).await?;
    }
    Ok(())
}

async fn send(writing: &mut tokio::net::unix::OwnedWriteHalf, value: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    writing.write_all(&line).await
}

/// The command's end of the socket.
pub struct Connection {
    lines: BufReader<tokio::io::Take<tokio::net::unix::OwnedReadHalf>>,
    writing: tokio::net::unix::OwnedWriteHalf,
    /// Who answers.
    pub hello: Hello,
}

impl Connection {
    /// `None` where no daemon listens.
    ///
    /// # Errors
    /// `NOT_PERMITTED` where the socket exists and may not be opened; `DAEMON_UNREACHABLE` where what answers is
    /// no daemon.
    pub async fn open(path: &Path) -> Result<Option<Self>, Problem> {
        let stream = match UnixStream::connect(path).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                let message = format!("the admin socket `{}` may not be opened", path.display());
                return Err(Problem::new(Code::NotPermitted, message).because_of(Some(&error)));
            }
            Err(_) => return Ok(None),
        };
        let (reading, writing) = stream.into_split();
        // The limit counts every byte of the conversation; progress of a day's work stays far below it.
        let mut lines = BufReader::new(reading.take(u64::MAX));
        let silent = || {
            let message =
                format!("what listens at `{}` does not answer like a daemon of spsync", path.display());
            Problem::new(Code::DaemonUnreachable, message)
        };
        let mut line = String::new();
        let read = tokio::time::timeout(FIRST_LINE, lines.read_line(&mut line)).await;
        if !matches!(read, Ok(Ok(1..))) {
            return Err(silent());
        }
        let hello = serde_json::from_str(&line).map_err(|_| silent())?;
        Ok(Some(Self { lines, writing, hello }))
    }

    /// Sends the request; events follow through [`Self::next`].
    ///
    /// # Errors
    /// `DAEMON_UNREACHABLE` where the daemon has gone.
    pub async fn send(&mut self, envelope: &Envelope) -> Result<(), Problem> {
        send(&mut self.writing, envelope).await.map_err(|error| gone(Some(&error)))
    }

    /// The next event.
    ///
    /// # Errors
    /// `DAEMON_UNREACHABLE` where the daemon ended in the middle.
    pub async fn next(&mut self) -> Result<Event, Problem> {
        let mut line = String::new();
        match self.lines.read_line(&mut line).await {
            Ok(0) => Err(gone(None)),
            Ok(_) => serde_json::from_str(&line).map_err(|error| {
                gone(None).because(error.to_string()).help("restart the daemon: its version differs")
            }),
            Err(error) => Err(gone(Some(&error))),
        }
    }
}

fn gone(error: Option<&std::io::Error>) -> Problem {
    let problem = Problem::new(Code::DaemonUnreachable, "the daemon ended before it answered")
        .keeping("what it had acknowledged is kept; a task that was running is marked interrupted");
    match error {
        Some(error) => problem.because_of(Some(error)),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_socket_of_a_dead_daemon_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("spsync.db"), "all that the site knows").unwrap();
        std::os::unix::fs::symlink(at("spsync.db"), at("link")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        for name in ["spsync.db", "link", "folder"] {
            let refused = listen(&at(name)).map(drop).unwrap_err();
            assert_eq!(refused.code, Code::ListenFailed, "{name}: {refused}");
            assert!(refused.message.contains("is no socket"), "{name}: {refused}");
        }
        assert_eq!(std::fs::read(at("spsync.db")).unwrap(), b"all that the site knows");

        let path = at("admin.sock");
        let (listener, made) = listen(&path).unwrap();
        let second = listen(&path).map(drop).unwrap_err();
        assert!(second.message.contains("another daemon answers"), "{second}");
        drop(listener);
        assert!(is_socket(&path), "it died");
        let (listener, again) = listen(&path).unwrap();
        made.remove();
        assert!(is_socket(&path), "that is the socket of another one");
        drop(listener);
        again.remove();
        assert!(!path.exists());

        // Somebody put a file in its place while it listened.
        let (_listener, made) = listen(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "theirs").unwrap();
        made.remove();
        assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
    }
}
