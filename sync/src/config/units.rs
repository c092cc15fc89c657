//! How durations, sizes, rates, networks and proxies are written in a configuration.
//!
//! Each has one reader and one writer, and the writer's text reads back as the same value. The modules at the end
//! plug them into serde (`#[serde(with = "…")]`).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use url::Url;

/// Reads `500ms`, `90s`, `15m`, `3h` or `7d`.
///
/// # Errors
/// What was expected, in words: this is also the reader of durations on the command line.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid =
        || format!("expected a duration such as `90s`, `15m`, `3h` or `7d`, actual `{}`", cut(text));
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| invalid())?;
    let seconds = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(invalid()),
    };
    // A thousand years: longer ones would overflow calendars, and nobody means them.
    let total = number.checked_mul(seconds).filter(|&total| total <= 1_000 * 365 * 86_400);
    total.map(Duration::from_secs).ok_or_else(invalid)
}

/// Writes a duration in the largest unit that holds it exactly.
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if duration.subsec_nanos() != 0 {
        return format!("{}ms", duration.as_millis());
    }
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let fits = units.into_iter().find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit));
    fits.map_or_else(|| format!("{seconds}s"), |(unit, name)| format!("{}{name}", seconds / unit))
}

/// Reads `512MiB`, `5GB` or a plain number of bytes.
///
/// # Errors
/// What was expected, in words.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let invalid = || format!("expected a size such as `512MiB` or `5GB`, actual `{}`", cut(text));
    let size = text.trim().parse::<ByteSize>().map_err(|_| invalid())?.as_u64();
    // The reader saturates where a number is too large for 64 bits.
    if size == u64::MAX { Err(invalid()) } else { Ok(size) }
}

/// Writes a size in the largest unit that holds it exactly, binary units first.
pub fn show_size(size: u64) -> String {
    const UNITS: [(u64, &str); 8] = [
        (1 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
        (1_000_000_000_000, "TB"),
        (1_000_000_000, "GB"),
        (1_000_000, "MB"),
        (1_000, "KB"),
    ];
    let fits = UNITS.into_iter().find(|(unit, _)| size >= *unit && size.is_multiple_of(*unit));
    fits.map_or_else(|| format!("{size}B"), |(unit, name)| format!("{}{name}", size / unit))
}

/// Reads `80MiB/s` as bytes per second; an empty text means no limit.
///
/// # Errors
/// What was expected, in words.
pub fn parse_rate(text: &str) -> Result<Option<u64>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let invalid =
        || format!("expected a rate such as `80MiB/s`, or nothing for no limit, actual `{}`", cut(text));
    let size = text.strip_suffix("/s").ok_or_else(invalid)?;
    match parse_size(size) {
        Ok(rate) if rate > 0 => Ok(Some(rate)),
        _ => Err(invalid()),
    }
}

/// Reads `10.0.0.0/8`; an address alone is a network of one.
///
/// # Errors
/// What was expected, in words.
pub fn parse_network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let alone = || text.parse::<IpAddr>().map(IpNet::from);
    let network = text.parse::<IpNet>().or_else(|_| alone());
    network
        .map_err(|_| format!("expected a network such as `10.0.0.0/8` or `fd00::/8`, actual `{}`", cut(text)))
}

/// Through which proxy downloads go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Proxy {
    /// What the environment says (`HTTPS_PROXY`, `NO_PROXY` and so on).
    #[default]
    System,
    /// None, whatever the environment says.
    None,
    /// This one, for everything.
    Url(Url),
}

impl FromStr for Proxy {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "system" => Ok(Self::System),
            "none" => Ok(Self::None),
            url => web_address(url)
                .map(Self::Url)
                .map_err(|why| format!("expected `system`, `none` or the address of a proxy: {why}")),
        }
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::None => f.write_str("none"),
            Self::Url(url) => f.write_str(url.as_str()),
        }
    }
}

impl TryFrom<String> for Proxy {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Proxy> for String {
    fn from(proxy: Proxy) -> Self {
        proxy.to_string()
    }
}

/// Reads an address of the web. Credentials in it are refused: settings are shown, logged and sent to support.
///
/// # Errors
/// What was expected, in words; never with the credentials.
pub fn web_address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim()).map_err(|why| format!("`{}` is no address ({why})", cut(text)))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("an address with a user name or a password is refused, because settings are not secret"
            .to_owned());
    }
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(format!("`{}` does not begin with `http://` or `https://` and a host", cut(text)));
    }
    Ok(url)
}

/// Enough to recognise a value in a message, and no more.
pub(super) fn cut(text: &str) -> String {
    text.trim().chars().take(80).collect()
}

/// A text in the file, a value in the program: `name, type, reader, writer`.
macro_rules! as_text {
    ($($(#[$doc:meta])* $name:ident, $type:ty, $read:expr, $show:expr;)*) => {$(
        $(#[$doc])*
        pub(super) mod $name {
            use super::*;
            pub fn serialize<S: serde::Serializer>(value: &$type, serializer: S) -> Result<S::Ok, S::Error> {
                let show: fn(&$type) -> String = $show;
                serializer.serialize_str(&show(value))
            }
            pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                let read: fn(&str) -> Result<$type, String> = $read;
                read(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    )*};
}
as_text! {
    duration, Duration, parse_duration, |value| show_duration(*value);
    size, u64, parse_size, |value| show_size(*value);
    rate, Option<u64>, parse_rate, |value| value.map_or_else(String::new, |rate| show_size(rate) + "/s");
}

/// A list of networks, each of which may be a bare address.
pub(super) mod networks {
    use super::*;
    pub fn serialize<S: serde::Serializer>(value: &[IpNet], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(value.iter().map(ToString::to_string))
    }
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts
            .iter()
            .map(|text| parse_network(text))
            .collect::<Result<_, _>>()
            .map_err(serde::de::Error::custom)
    }
}

/// A path. One that is no text cannot come from a file, only from the program; it is shown as well as it can be.
pub(super) mod path {
    use std::path::{Path, PathBuf};

    use super::*;
    pub fn serialize<S: serde::Serializer>(value: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.to_string_lossy())
    }
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        String::deserialize(deserializer).map(PathBuf::from)
    }
}

/// A number of things. TOML counts to 2^63 - 1; a program that means "no limit" may say more.
pub(super) mod count {
    use super::*;
    pub fn serialize<S: serde::Serializer>(value: &usize, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(i64::try_from(*value).unwrap_or(i64::MAX))
    }
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
        usize::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write() {
        let rows = [("90s", 90), ("15m", 900), ("3h", 10_800), ("7d", 604_800), ("0s", 0), (" 100s ", 100)];
        for (text, seconds) in rows {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        assert_eq!(parse_duration("250ms").unwrap(), Duration::from_millis(250));
        for same in ["90s", "15m", "3h", "7d", "0s", "250ms", "36h"] {
            assert_eq!(show_duration(parse_duration(same).unwrap()), same);
        }
        for bad in [
            "",
            "90",
            "s",
            "-5s",
            "1.5h",
            "5 m",
            "5M",
            "5w",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(parse_duration(bad).unwrap_err().contains("such as `90s`"), "{bad}");
        }
    }

    #[test]
    fn sizes_and_rates_read_and_write() {
        let rows =
            [("512MiB", 512 << 20), ("5GB", 5_000_000_000), ("1024", 1024), ("1.5GiB", 3 << 29), ("0B", 0)];
        for (text, bytes) in rows {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        for same in ["512MiB", "5GB", "1GiB", "123B", "0B", "2TiB"] {
            assert_eq!(show_size(parse_size(same).unwrap()), same);
        }
        for bad in ["", "GiB", "-1GiB", "5 apples", "1.2.3GB", "99999999EiB"] {
            assert!(parse_size(bad).unwrap_err().contains("such as `512MiB`"), "{bad}");
        }
        assert_eq!(parse_rate("80MiB/s").unwrap(), Some(80 << 20));
        assert_eq!(parse_rate("").unwrap(), None);
        for bad in ["80MiB", "0B/s", "fast", "/s"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_and_proxies_read() {
        for good in ["10.0.0.0/8", "127.0.0.1", "::1", "fd00::/8"] {
            assert!(parse_network(good).is_ok(), "{good}");
        }
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "intranet"] {
            assert!(parse_network(bad).is_err(), "{bad}");
        }
        for same in ["system", "none", "http://proxy.example:3128/"] {
            assert_eq!(same.parse::<Proxy>().unwrap().to_string(), same);
        }
        for bad in ["", "yes", "ftp://x/", "http://"] {
            assert!(bad.parse::<Proxy>().is_err(), "{bad}");
        }
        let refused = "http://user:hunter2@proxy.example/".parse::<Proxy>().unwrap_err();
        assert!(refused.contains("password") && !refused.contains("hunter2"), "{refused}");
    }
}
