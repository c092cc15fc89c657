//! The lock of a site: one process at a time works on it, the daemon or a command.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use catalog::problem::{Code, Problem};

/// How long a command waits for another one to finish with the site.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Takes the site lock, waiting a little for a command that is about to end.
pub(super) async fn lock(data_dir: &Path) -> Result<File, Problem> {
    let path = data_dir.join("spsync.lock");
    let failed = |error: std::io::Error| {
        Problem::new(Code::DataDirNotWritable, format!("the lock `{}` cannot be opened", path.display()))
            .because_of(Some(&error))
    };
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    let since = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(std::fs::TryLockError::WouldBlock) if since.elapsed() < LOCK_PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let message = format!("another process works on this site ({})", holder.trim());
                return Err(
                    Problem::new(Code::SiteLocked, message).because(format!("it holds `{}`", path.display()))
                );
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
    let role = std::env::args().take(4).collect::<Vec<_>>().join(" ");
    let _ = file.set_len(0).and_then(|()| file.rewind());
    let _ = write!(file, "process {}: {role}", std::process::id());
    Ok(file)
}
