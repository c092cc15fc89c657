//! How much memory a process has.

/// KiB of memory of a process (proc(5)): `VmRSS` is what it has now, `VmHWM` the most that it ever had. `None` where it is gone, and
/// on systems that do not tell.
pub fn memory_kib(process: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
