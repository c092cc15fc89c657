//! What it costs that many devices report at once: one message of each of 10,000, a few hundred of them under way at a time.
//!
//! `cargo bench -p spsync-tests --bench writing`. In turns each in a transaction of its own, as before, and as now, where those that
//! wait at the same time share one; the ratio is that of the same run. On a disk: where syncs cost nothing there is nothing to share.
//! Without `--bench` it is a few devices.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use schema::devices::MessageRow;
use schema::{SchemaError, Store, Writer};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const ROUNDS: u32 = 3;

/// A message is taken down, as `device_plane/status.rs` does it.
fn message(w: &Writer<'_>, device: &str, number: u64) -> Result<(), SchemaError> {
    let mut series = w.series(device, "the only one")?;
    let body = serde_json::json!({ "number": number, "event": "step", "name": "Install" });
    let row = MessageRow { series: series.id, number, received: NOW, body };
    w.keep_message(device, &row, NOW, "XYZ20001")?;
    series.heard = number;
    w.heard(device, series, (0, 0))
}

/// Each device says one thing; seconds until all are answered.
async fn round(store: &Store, devices: u32, at_once: u32, number: u64, shares: bool) -> f64 {
    let began = Instant::now();
    let mut lanes = Vec::new();
    for lane in 0..at_once {
        let store = store.clone();
        lanes.push(tokio::spawn(async move {
            for device in (lane..devices).step_by(at_once as usize) {
                let change = move |w: &Writer<'_>| message(w, &format!("pc-{device:05}"), number);
                let written = match shares {
                    true => store.write_aside(change).await,
                    false => store.write_aside_alone(change).await,
                };
                written.expect("it is written");
            }
        }));
    }
    for lane in lanes {
        lane.await.expect("it ends");
    }
    began.elapsed().as_secs_f64()
}

async fn measure(folder: &Path, devices: u32) {
    let store = Store::open(&folder.join("site.db"), 1).expect("it opens");
    let mut number = 0;
    // Each has its row already.
    round(&store, devices, 256, number, true).await;
    for at_once in [1, 16, 256] {
        let devices = if at_once == 1 { devices / 10 } else { devices };
        let (mut alone, mut shared) = (0.0, 0.0);
        for _ in 0..ROUNDS {
            number += 1;
            alone += round(&store, devices, at_once, number, false).await;
            number += 1;
            shared += round(&store, devices, at_once, number, true).await;
        }
        let rate = |seconds: f64| f64::from(devices * ROUNDS) / seconds;
        println!(
            "{at_once} at once: {:.0} messages/s alone, {:.0} shared: {:.1} times as many; one waits {:.1?} and {:.1?}",
            rate(alone),
            rate(shared),
            alone / shared,
            Duration::from_secs_f64(f64::from(at_once) / rate(alone)),
            Duration::from_secs_f64(f64::from(at_once) / rate(shared)),
        );
    }
    store.close().expect("it closes");
}

fn main() {
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    runtime.block_on(measure(folder.path(), if quick { 40 } else { 10_000 }));
}
