//! A boundary: addresses that lie together.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// How a boundary is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BoundaryKind {
    /// An IPv4 subnet.
    Subnet,
    /// From one address to another.
    Range,
    /// Everything below an IPv6 prefix.
    Ipv6Prefix,
}

impl BoundaryKind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Subnet => "subnet",
            Self::Range => "range",
            Self::Ipv6Prefix => "ipv6-prefix",
        }
    }
}

impl fmt::Display for BoundaryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Addresses of one family that lie together; never none. Written as `10.20.4.0/24`, `10.0.0.1-10.0.0.9` or
/// `2001:db8::/32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Boundary(Drawn);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Drawn {
    Net(IpNet),
    Range(IpAddr, IpAddr),
}

/// Why a text is no boundary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBoundary {
    /// It has another form.
    #[error("`{0}` is no subnet (10.20.4.0/24), range (10.20.4.1-10.20.4.99) or IPv6 prefix (2001:db8::/32)")]
    Form(String),
    /// An address inside of a net, where the net was meant.
    #[error("`{given}` has bits beyond its prefix: `{net}` is the net around it")]
    HostBits {
        /// What was given.
        given: String,
        /// What may have been meant.
        net: IpNet,
    },
    /// The last address comes before the first, or is of the other family.
    #[error("`{0}` does not lead from a first address to a later one of the same family")]
    Backwards(String),
    /// IPv4 in the clothes of IPv6.
    #[error("`{0}` is an IPv4 network written as IPv6; write it as IPv4")]
    Mapped(String),
}

impl Boundary {
    /// How it is drawn.
    pub fn kind(&self) -> BoundaryKind {
        match self.0 {
            Drawn::Net(IpNet::V4(_)) => BoundaryKind::Subnet,
            Drawn::Net(IpNet::V6(_)) => BoundaryKind::Ipv6Prefix,
            Drawn::Range(..) => BoundaryKind::Range,
        }
    }

    /// Its first and last address.
    pub fn ends(&self) -> (IpAddr, IpAddr) {
        match self.0 {
            Drawn::Net(net) => (net.network(), net.broadcast()),
            Drawn::Range(first, last) => (first, last),
        }
    }

    /// The net that it is, unless it is a range.
    pub fn net(&self) -> Option<IpNet> {
        match self.0 {
            Drawn::Net(net) => Some(net),
            Drawn::Range(..) => None,
        }
    }

    /// Whether `address` is inside.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let (first, last) = self.ends();
        first.is_ipv4() == address.is_ipv4() && first <= address && address <= last
    }
}

impl From<Ipv4Net> for Boundary {
    fn from(net: Ipv4Net) -> Self {
        Self(Drawn::Net(IpNet::V4(net.trunc())))
    }
}

impl From<Ipv6Net> for Boundary {
    fn from(net: Ipv6Net) -> Self {
        Self(Drawn::Net(IpNet::V6(net.trunc())))
    }
}

impl FromStr for Boundary {
    type Err = InvalidBoundary;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || InvalidBoundary::Form(text.to_owned());
        let text = text.trim();
        if let Some((first, last)) = text.split_once('-') {
            let [first, last]: [IpAddr; 2] =
                [first.trim().parse().map_err(|_| form())?, last.trim().parse().map_err(|_| form())?];
            if [first, last].iter().any(|address| address.to_canonical() != *address) {
                return Err(InvalidBoundary::Mapped(text.to_owned()));
            }
            if first.is_ipv4() != last.is_ipv4() || last < first {
                return Err(InvalidBoundary::Backwards(text.to_owned()));
            }
            return Ok(Self(Drawn::Range(first, last)));
        }
        let net: IpNet = text.parse().map_err(|_| form())?;
        if net.addr() != net.network() {
            return Err(InvalidBoundary::HostBits { given: text.to_owned(), net: net.trunc() });
        }
        if net.prefix_len() >= 96 && net.addr().to_canonical() != net.addr() {
            return Err(InvalidBoundary::Mapped(text.to_owned()));
        }
        Ok(Self(Drawn::Net(net)))
    }
}

impl fmt::Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Drawn::Net(net) => write!(f, "{net}"),
            Drawn::Range(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

impl Serialize for Boundary {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Boundary {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An address as a number of its family.
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The subnet that an address is taken to be in where no boundary says it: /24 of IPv4, /64 of IPv6.
pub(super) fn usual_subnet(address: IpAddr) -> Option<IpNet> {
    let length = if address.is_ipv4() { 24 } else { 64 };
    IpNet::new(address, length).ok().map(|net| net.trunc())
}

/// Teredo: such an address says nothing about where its owner is.
pub(super) fn says_nothing(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(Ipv4Addr { .. }) => false,
        IpAddr::V6(address) => {
            let [first, second, ..] = Ipv6Addr::segments(&address);
            (first, second) == (0x2001, 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_boundaries_and_are_written_the_same() {
        for (text, kind, inside, outside) in [
            ("10.20.4.0/24", BoundaryKind::Subnet, "10.20.4.255", "10.20.5.0"),
            ("10.20.4.0/24", BoundaryKind::Subnet, "::ffff:10.20.4.1", "::10.20.4.1"),
            ("10.0.0.1-10.0.0.9", BoundaryKind::Range, "10.0.0.9", "10.0.0.10"),
            ("0.0.0.0/0", BoundaryKind::Subnet, "255.255.255.255", "::1"),
            ("2001:db8::/32", BoundaryKind::Ipv6Prefix, "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", BoundaryKind::Ipv6Prefix, "ffff::", "::ffff:10.0.0.1"),
            ("fd00::1-fd00::ff", BoundaryKind::Range, "fd00::a", "fd00::100"),
        ] {
            let boundary: Boundary = text.parse().unwrap();
            assert_eq!((boundary.kind(), boundary.to_string().as_str()), (kind, text));
            assert!(boundary.contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(!boundary.contains(outside.parse().unwrap()), "{text} {outside}");
            let json = serde_json::to_string(&boundary).unwrap();
            assert_eq!(serde_json::from_str::<Boundary>(&json).unwrap(), boundary);
        }
    }

    #[test]
    fn what_is_none_says_why() {
        for (text, why) in [
            ("10.20.4.7/24", "`10.20.4.0/24` is the net around it"),
            ("10.0.0.9-10.0.0.1", "later one"),
            ("10.0.0.1-::5", "same family"),
            ("10.0.0.0/33", "is no subnet"),
            ("LYON", "is no subnet"),
            ("", "is no subnet"),
            ("10.0.0.1", "is no subnet"),
            ("-", "is no subnet"),
            ("::ffff:10.0.0.0/104", "write it as IPv4"),
            ("::ffff:10.0.0.1-::ffff:10.0.0.9", "write it as IPv4"),
        ] {
            let error = text.parse::<Boundary>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn teredo_says_nothing() {
        for (address, nothing) in
            [("2001:0:53aa::1", true), ("2001:1::1", false), ("2001:db8::1", false), ("32.1.0.0", false)]
        {
            assert_eq!(says_nothing(address.parse().unwrap()), nothing, "{address}");
        }
    }
}
