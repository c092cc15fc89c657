//! Waiting for what is to come.

use std::time::Duration;

/// How long a test waits for something that a good program comes to by itself: how long it takes is not what is tested, and a busy
/// machine is slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `holds`.
///
/// # Panics
/// Where it does not within two minutes.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waits = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waits).await.is_ok(), "it never came to this: {what}");
}
