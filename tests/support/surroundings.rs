//! What may be beside the repository or on the machine. A test that lacks it says so by name, and ends.

use std::path::{Path, PathBuf};

/// The folder `name` of `../shared/data`, beside the repository: real documents that cannot be published with it.
/// `None`, and a printed line, where it is not there.
pub fn data_dir(name: &str) -> Option<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if data.is_dir() {
        return Some(data);
    }
    println!("skipped: {}: no ../shared/data", test_name(name));
    None
}

/// The outside program `name`, as `PATH` finds it. `None`, and a printed line, where it is not installed.
pub fn tool(name: &str) -> Option<PathBuf> {
    let found = quiet_tool(name);
    if found.is_none() {
        println!("skipped: {}: no {name}", test_name(name));
    }
    found
}

/// The same where a test goes on without it.
pub fn quiet_tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| is_program(file))
}

#[cfg(unix)]
fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(file: &Path) -> bool {
    file.is_file()
}

/// The test that asks: its thread bears its name, unless all run in one.
fn test_name(otherwise: &str) -> String {
    match std::thread::current().name() {
        Some(name) if name != "main" && !name.starts_with("tokio") => name.to_owned(),
        _ => otherwise.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_found_where_they_are() {
        assert!(tool("sh").is_some_and(|sh| sh.is_absolute()));
        assert_eq!(tool("no-such-program-anywhere"), None);
        assert_eq!(data_dir("no-such-folder"), None);
        assert_eq!(test_name("x").rsplit("::").next(), Some("tools_are_found_where_they_are"));
    }
}
