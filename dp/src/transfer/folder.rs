//! A file in a folder as a source: it answers like a web server that knows ranges.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::fault::Fault;
use super::machine::Answer;
use crate::plain::{self, Links};

/// Bytes read at once.
const STRIDE: usize = 1 << 20;

/// An open file that is read on blocking threads.
pub(super) struct FileBody {
    file: Option<File>,
}

/// Opens `path` at `from`.
pub(super) async fn open(path: PathBuf, from: u64) -> Result<(Answer, FileBody), Fault> {
    blocking(move || {
        let (file, total) = open_at(&path, from).map_err(|error| fault_of(&error))?;
        let (total, etag) = (Some(total), None);
        let answer = match from {
            0 => Answer::Whole { total, etag },
            offset => Answer::From { offset, total, etag },
        };
        Ok((answer, FileBody { file: Some(file) }))
    })
    .await
}

fn open_at(path: &Path, from: u64) -> io::Result<(File, u64)> {
    let mut file = plain::open(path, Links::Followed).map_err(|error| match error.kind() {
        // What else has the name is as good as nothing.
        io::ErrorKind::InvalidInput => io::Error::new(io::ErrorKind::NotFound, error),
        _ => error,
    })?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(from))?;
    Ok((file, size))
}

impl FileBody {
    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        let Some(mut file) = self.file.take() else { return Ok(None) };
        let (file, bytes) = blocking(move || {
            let mut bytes = vec![0; STRIDE];
            let count = file.read(&mut bytes).map_err(|error| fault_of(&error))?;
            bytes.truncate(count);
            Ok((file, bytes))
        })
        .await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.file = Some(file);
        Ok(Some(bytes.into()))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(stopped) => Err(Fault::Failed(stopped.to_string())),
    }
}

fn fault_of(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Fault::NotFound(error.to_string()),
        io::ErrorKind::PermissionDenied => Fault::Refused(error.to_string()),
        _ => Fault::Failed(error.to_string()),
    }
}
