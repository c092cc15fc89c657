//! Messages on their way to the site beside a run: whoever waits for a step, a download or Setup has told before what it waits for,
//! and no step waits for a site that is slow or away.
//!
//! Nothing is forgotten here: what the site has taken is counted, and the run forgets it when it writes down what is remembered. What
//! is brought twice is taken once, by its number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::device::link::Link;
use crate::jitter;
use crate::policy::StatusBatch;

/// How far apart messages are brought: ten thousand devices that work at the same time are some 170 calls a second at most.
pub(super) const PERIOD: Duration = Duration::from_secs(60);
/// How far apart at most where the site does not take them.
const RAREST: Duration = Duration::from_secs(900);

/// Brings what was handed over last.
pub(super) struct Courier {
    latest: watch::Sender<Option<StatusBatch>>,
    taken: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Courier {
    /// Begins; whoever begins with others comes at another moment of the period.
    pub(super) fn start(link: Link, period: Duration) -> Self {
        let (latest, news) = watch::channel(None);
        let taken = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(carry(link, news, Arc::clone(&taken), period));
        Self { latest, taken, task }
    }

    /// Hands over what the site does not have, in place of what was handed over before.
    pub(super) fn bring(&self, batch: Option<StatusBatch>) {
        self.latest.send_replace(batch);
    }

    /// The site has everything up to this number.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    link: Link,
    mut news: watch::Receiver<Option<StatusBatch>>,
    taken: Arc<AtomicU64>,
    period: Duration,
) {
    let mut pause = period.mul_f64(jitter::random());
    while news.changed().await.is_ok() {
        loop {
            tokio::time::sleep(pause).await;
            // Whatever came meanwhile goes along.
            let Some(batch) = news.borrow_and_update().clone() else { break };
            match link.status(&batch).await {
                Ok(ack) => {
                    taken.fetch_max(ack.through, Ordering::AcqRel);
                    pause = period.mul_f64(0.9 + 0.2 * jitter::random());
                    break;
                }
                Err(problem) => {
                    tracing::debug!("messages stay here: {problem}");
                    pause = jitter::of(pause.max(period).saturating_mul(2).min(RAREST));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::site;
    use super::*;

    fn batch(numbers: std::ops::RangeInclusive<u64>) -> StatusBatch {
        let message = |number: u64| json!({ "number": number, "time": "2026-01-01T00:00:00Z", "deployment": "XYZ20001", "run": 1, "state": "running" });
        let messages: Vec<_> = numbers.map(message).collect();
        serde_json::from_value(json!({ "series": uuid::Uuid::nil(), "messages": messages })).expect("a batch")
    }

    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let waited = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waited).await.unwrap_or_else(|_| panic!("{what}"));
    }

    #[tokio::test]
    async fn what_is_handed_over_arrives_also_where_the_site_was_away() {
        let (link, asked) = site(|_, before| (if before < 2 { 503 } else { 200 }, Value::Null)).await;
        let courier = Courier::start(link, Duration::from_millis(20));
        courier.bring(Some(batch(1..=1)));
        courier.bring(Some(batch(1..=3)));
        // Nothing new comes, and yet it is tried until it is taken.
        until("the third time it is taken", || courier.taken() == 3).await;
        courier.bring(Some(batch(4..=4)));
        until("and so is what comes later", || courier.taken() == 4).await;
        let last = asked.lock().unwrap().last().unwrap().1["messages"].clone();
        assert_eq!(last.as_array().unwrap().len(), 1);
        // What the site has is not brought again, and nothing goes on without the run.
        courier.bring(None);
        let task = courier.task.abort_handle();
        drop(courier);
        until("it ends with the run", || task.is_finished()).await;
    }
}
