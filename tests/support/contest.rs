//! What benchmarks against other servers share: gates, and the surroundings in which they may be judged.

use std::fs;
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Above this load average figures say nothing.
pub const QUIET: f64 = 1.5;

/// Figures that must be reached.
#[derive(Debug, Default)]
pub struct Gates {
    failed: Vec<String>,
}

impl Gates {
    /// Shows a figure that must not be less than its gate.
    pub fn at_least(&mut self, what: &str, value: f64, gate: f64) {
        println!("{what}: {value:.2} (gate: at least {gate})");
        if value.is_nan() || value < gate {
            self.failed.push(what.to_owned());
        }
    }

    /// Shows a figure that must not be more than its gate.
    pub fn at_most(&mut self, what: &str, value: f64, gate: f64) {
        println!("{what}: {value:.2} (gate: at most {gate})");
        if value.is_nan() || value > gate {
            self.failed.push(what.to_owned());
        }
    }

    /// Ends the program, unsuccessfully where a gate was missed; `load` is the load average before the run, as what we did
    /// ourselves is in it by now. `quick` runs are too short to be judged.
    #[must_use = "it is how the benchmark ends, after everything that it started"]
    pub fn judge(self, quick: bool, load: f64) -> ExitCode {
        if quick {
            println!("not judged: a quick run");
        } else if load > QUIET {
            println!("not judged: the load average was {load}, more than {QUIET}");
        } else if !self.failed.is_empty() {
            println!("failed: {}", self.failed.join("; "));
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }
}

/// The load average of the last minute.
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Waits until somebody listens at a port of this machine.
pub fn wait_for_port(port: u16) {
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(began.elapsed() < Duration::from_secs(60), "nobody listens at {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether nginx must be told to stay what we are.
pub fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

/// The value below which `part` of all are (nearest rank); sorts them. Not a number where there are none.
pub fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = ((values.len() as f64 * part).ceil() as usize).clamp(1, values.len().max(1));
    values.get(at - 1).copied().unwrap_or(f64::NAN)
}

/// Bytes that do not repeat, of a seed.
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
