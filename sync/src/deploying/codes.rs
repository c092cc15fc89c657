//! What the codes mean that devices report: those of Windows, and our own.

use std::str::FromStr as _;

use catalog::problem::Code;
use serde::{Deserialize, Serialize};

/// A documented code of Windows or of the task sequence engine.
struct Documented {
    code: u32,
    meaning: &'static str,
}

const DOCUMENTED: [Documented; 43] = [
    doc(0x8007_0490, "stand-alone media was asked for with a feature update"),
    doc(4316, "Check Readiness: at least one of its checks failed"),
    doc(0xC190_0210, "the compatibility scan found nothing: success"),
    doc(0xC190_0208, "an application or driver blocks the upgrade"),
    doc(0xC190_0204, "what should be kept cannot be kept: another edition, language or architecture"),
    doc(0xC190_0200, "the device is not eligible for this upgrade"),
    doc(0xC190_020E, "there is not enough free disk"),
    doc(3010, "a restart is needed; the task sequence goes on after it"),
    doc(0x8009_1007, "a hash is wrong: the content is not what it should be"),
    doc(0x8024_6002, "the update agent found a wrong hash"),
    doc(0x8004_0102, "no location of the content is known"),
    doc(0x8007_0194, "the source does not have the file (404)"),
    doc(0x87D2_0417, "a rule could not download its content"),
    doc(12007, "a name could not be resolved"),
    doc(0x8007_0005, "access was denied"),
    doc(0x8019_01F4, "the distribution point answered with an error (500), or a firewall stands before it"),
    doc(0x87D0_0656, "enforcement gave up while Setup still worked"),
    doc(0x8004_1001, "media at a central site with a step that installs a package"),
    doc(
        0x8004_1010,
        "the client's policy was not compiled yet when the task sequence went on after the upgrade",
    ),
    // What Windows Update Agent says where it meets an update point or the way to it: Microsoft's "Windows Update error reference",
    // and the error messages of WinHTTP and WinINet.
    doc(0x8024_000B, "the update agent's work was cancelled"),
    doc(0x8024_0016, "another installation goes on, or a restart is due before this one"),
    doc(0x8024_0017, "no update applies to this device"),
    doc(0x8024_0022, "it failed for all updates: the log of the update agent has the code of each"),
    doc(0x8024_0438, "there is no way to the update point: route, firewall, proxy, or no network"),
    doc(0x8024_4007, "the update point answered with a SOAP fault: the logs of both say which"),
    doc(0x8024_4008, "the answer of the update point could not be parsed"),
    doc(0x8024_4010, "the scan took more round trips than the agent allows; the next one goes on there"),
    doc(0x8024_4016, "the update point refused the request as malformed (400)"),
    doc(0x8024_4017, "the server asks who it is (401): a proxy or a gate before the update point"),
    doc(0x8024_4018, "the server refuses it (403): a proxy or a gate before the update point"),
    doc(
        0x8024_4019,
        "the server has nothing at this address (404): is WUServer the address of the update point?",
    ),
    doc(0x8024_401B, "a proxy asks who it is (407)"),
    doc(0x8024_401C, "the server gave up waiting for the request (408)"),
    doc(0x8024_401F, "the update point failed (500): see its log"),
    doc(0x8024_4021, "a gateway before the update point had no answer from it (502)"),
    doc(
        0x8024_4022,
        "the update point, or a proxy before it, is not available or has too much to do (503); it is tried again",
    ),
    doc(0x8024_4023, "a gateway before the update point waited in vain for it (504)"),
    doc(0x8024_402C, "the name of the update point or of the proxy could not be resolved"),
    doc(0x8007_2EE2, "the update point did not answer in time"),
    doc(0x8007_2EE7, "the name of the update point could not be resolved"),
    doc(0x8007_2EFD, "no connection to the update point: it does not run, or its port is blocked"),
    doc(0x8007_2EFE, "the connection was closed or reset before the answer was there"),
    doc(
        0x8007_2F8F,
        "the certificate of the update point is not trusted, is for another name, or the clock is wrong",
    ),
];

const fn doc(code: u32, meaning: &'static str) -> Documented {
    Documented { code, meaning }
}

/// An error as reports name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Named {
    /// `HASH_MISMATCH`, `0xC1900208`, `1603`.
    pub code: String,
    /// What it means; empty where nobody has written it down.
    pub meaning: String,
}

/// Names an error: the exit code of Windows where it is a documented one, else our own code, else the bare number.
pub fn named(code: Option<&str>, exit: Option<i64>) -> Option<Named> {
    let documented = exit.and_then(|exit| {
        let value = unsigned(exit)?;
        let known = DOCUMENTED.iter().find(|known| known.code == value)?;
        Some(Named { code: written(value), meaning: known.meaning.to_owned() })
    });
    let ours = code.filter(|code| !code.is_empty()).map(|code| Named {
        code: code.to_owned(),
        meaning: Code::from_str(code).map_or_else(|_| String::new(), |known| known.page().meaning.to_owned()),
    });
    let bare = exit.filter(|exit| *exit != 0).map(|exit| Named {
        code: unsigned(exit).map_or_else(|| exit.to_string(), written),
        meaning: String::new(),
    });
    documented.or(ours).or(bare)
}

/// What a code that devices report means: the documented words, and our own codes of the same meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reported {
    /// `0xC1900208`, `4316`.
    pub code: String,
    /// What it means; empty where only our own codes say it.
    pub meaning: &'static str,
    /// Our codes that stand for it.
    pub codes: Vec<Code>,
}

/// Explains a code as reports write it (`0xC1900208`, `4316`) or as programs print it (`-1047526904`).
pub fn reported(text: &str) -> Option<Reported> {
    let value = unsigned(number(text)?)?;
    let known = DOCUMENTED.iter().find(|known| known.code == value);
    let same = |code: &&Code| code.page().windows.and_then(number).and_then(unsigned) == Some(value);
    let codes: Vec<Code> = Code::ALL.iter().filter(same).copied().collect();
    (known.is_some() || !codes.is_empty()).then(|| Reported {
        code: written(value),
        meaning: known.map_or("", |known| known.meaning),
        codes,
    })
}

fn number(text: &str) -> Option<i64> {
    let text = text.trim();
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Exit codes of Windows are 32 bits, and some report them as negative numbers.
fn unsigned(exit: i64) -> Option<u32> {
    u32::try_from(exit).ok().or_else(|| i32::try_from(exit).ok().map(i32::cast_unsigned))
}

/// Small ones as numbers, the others as everybody writes them.
fn written(code: u32) -> String {
    if code < 0x1_0000 { code.to_string() } else { format!("0x{code:08X}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever a page calls the Windows code of the same meaning, and whatever reports call an error, can be explained.
    #[test]
    fn what_is_reported_can_be_explained() {
        for text in ["4316", "0xC1900208", "0xc1900208", "-1047526904", " 3010 "] {
            assert!(reported(text).is_some_and(|found| !found.meaning.is_empty()), "{text}");
        }
        assert_eq!(reported("4316").unwrap().codes, [Code::ReadinessFailed]);
        for code in Code::ALL.iter().filter(|code| code.page().windows.is_some()) {
            let windows = code.page().windows.unwrap();
            assert!(reported(windows).is_some_and(|found| found.codes.contains(code)), "{code} {windows}");
        }
        // Those that clients of an update point report.
        for text in ["0x80244022", "0x8024401C", "0x80072EE2", "0x80072f8f", "0x80240022", "-2145107934"] {
            assert!(reported(text).is_some_and(|found| !found.meaning.is_empty()), "{text}");
        }
        let mut codes: Vec<_> = DOCUMENTED.iter().map(|known| known.code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), DOCUMENTED.len(), "each has one meaning");
        for text in ["1603", "", "0x", "nothing", "0x1FFFFFFFFFF", "99999999999999999999"] {
            assert_eq!(reported(text), None, "{text}");
        }
    }

    #[test]
    fn errors_have_names() {
        for (code, exit, expected, explained) in [
            (None, None, None, false),
            (None, Some(0), None, false),
            (None, Some(0xC190_0208), Some("0xC1900208"), true),
            (None, Some(-1_047_526_904), Some("0xC1900208"), true),
            (Some("STEP_FAILED"), Some(0xC190_020E), Some("0xC190020E"), true),
            (Some("HASH_MISMATCH"), None, Some("HASH_MISMATCH"), true),
            (Some("HASH_MISMATCH"), Some(1), Some("HASH_MISMATCH"), true),
            (Some("OF_THE_FUTURE"), None, Some("OF_THE_FUTURE"), false),
            (Some(""), Some(1603), Some("1603"), false),
            (None, Some(4316), Some("4316"), true),
            (None, Some(i64::MAX), Some("9223372036854775807"), false),
        ] {
            let named = named(code, exit);
            assert_eq!(named.as_ref().map(|named| named.code.as_str()), expected, "{code:?} {exit:?}");
            assert_eq!(named.is_some_and(|named| !named.meaning.is_empty()), explained, "{code:?} {exit:?}");
        }
    }
}
