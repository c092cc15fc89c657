//! Work that waits for a disk or reckons for long, off the threads that answer.

use catalog::problem::{Code, Problem};

/// Does `work` on a thread where it may block.
///
/// # Errors
/// Those of the work; `INTERNAL` where it panicked.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|died| Problem::of(Code::Internal, &died))?
}
