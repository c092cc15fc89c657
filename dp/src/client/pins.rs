//! Who needs content of the cache, for those who have no [`Cache`] open.

use catalog::digest::Sha256Digest;

use super::{Cache, ClientError, ClientSettings, blocking};

/// Keeps a content until `holder` needs it no more; it need not be there yet.
///
/// # Errors
/// [`ClientError::Library`].
pub async fn hold(
    settings: &ClientSettings,
    content: Sha256Digest,
    holder: String,
) -> Result<(), ClientError> {
    let (dir, min_free) = (settings.dir.clone(), settings.min_free);
    blocking(move || Cache::open(&dir, min_free)?.pin(content, &holder)).await
}

/// Whoever of the holders is `over` needs nothing any more. Where there is no cache, there is nothing to do.
///
/// # Errors
/// [`ClientError::Library`].
pub async fn release(
    settings: &ClientSettings,
    over: impl Fn(&str) -> bool + Send + 'static,
) -> Result<(), ClientError> {
    let (dir, min_free) = (settings.dir.clone(), settings.min_free);
    blocking(move || if dir.is_dir() { Cache::open(&dir, min_free)?.release(over) } else { Ok(()) }).await
}
