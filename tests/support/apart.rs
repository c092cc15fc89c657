//! A test in namespaces of its own: it begins itself anew in them, as a program of its own. What it makes there, networks and
//! file systems, nobody else sees, and none of it is left when that program has ended, however it ended.

use std::process::{Command, Stdio};

use crate::surroundings::quiet_tool;

/// Set where a test was begun anew.
const INSIDE: &str = "SPSYNC_TEST_APART";

/// What a test has for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// Networks: `ip` may do there what it likes.
    Network,
    /// What is mounted where.
    Mounts,
}

/// Where a test goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Apart {
    /// It was begun anew, here: it has what it wanted.
    Here,
    /// It was begun anew and came to its good end.
    Done,
    /// It has nothing for itself, for this reason.
    Nothing(String),
}

/// Begins the test of this name (as `--exact` wants it) anew in namespaces of its own, where `tries`, a script for `sh`, comes to a
/// good end in such. Whoever is not root becomes it there, where the system lets him.
///
/// # Panics
/// Where the test that was begun anew does not end well; what it said is printed.
pub fn apart(test: &str, own: Own, tries: &str) -> Apart {
    if std::env::var_os(INSIDE).is_some() {
        return Apart::Here;
    }
    let Some(unshare) = quiet_tool("unshare") else { return Apart::Nothing("no unshare".to_owned()) };
    let new = match own {
        Own::Network => "--net",
        Own::Mounts => "--mount",
    };
    let mut why = String::new();
    for ways in [&[new][..], &["--map-root-user", new]] {
        let mut probe = Command::new(&unshare);
        let probed = probe.args(ways).args(["--", "sh", "-ec", tries]).stdin(Stdio::null()).output();
        let probed = probed.expect("unshare starts");
        if !probed.status.success() {
            why = String::from_utf8_lossy(&probed.stderr).trim().replace('\n', "; ");
            continue;
        }
        let here = std::env::current_exe().expect("a test has a path");
        let mut anew = Command::new(&unshare);
        anew.args(ways).arg("--").arg(here).args(["--exact", test, "--nocapture", "--test-threads", "1"]);
        let ended = anew.env(INSIDE, "1").stdin(Stdio::null()).output().expect("unshare starts");
        print!("{}", String::from_utf8_lossy(&ended.stdout));
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{test} in namespaces of its own: {said}");
        assert!(
            String::from_utf8_lossy(&ended.stdout).contains("test result: ok. 1 passed"),
            "no test has the name {test}"
        );
        return Apart::Done;
    }
    Apart::Nothing(why)
}
