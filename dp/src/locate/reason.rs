//! Why a candidate is in, later or out, in words that last.

use std::fmt;

use ipnet::IpNet;

/// The most peers of one answer.
pub(super) const MOST_PEERS: usize = 8;

/// Why a candidate is where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is the client's own computer.
    ThisComputer,
    /// Both are in this subnet.
    SameSubnet(IpNet),
    /// Both are in this group.
    SameGroup(String),
    /// Its group is a neighbour of the client's.
    Neighbour {
        /// Its group.
        group: String,
        /// The client's.
        of: String,
    },
    /// It is in the default site group, to which everybody may fall back.
    DefaultGroup,
    /// The upstream's own link.
    Upstream,
    /// It is being worked on.
    Maintenance,
    /// It does not have the content.
    NotThere,
    /// The content is private, and clients do not reach it over TLS.
    NoTls,
    /// The relationship to its group says never.
    Never(String),
    /// Its groups are no neighbours of the client's.
    OutOfReach,
    /// A group of the client does not let peers share.
    PeersOff(String),
    /// Only peers in the client's own subnet may be asked.
    OtherSubnet,
    /// It is in none of the client's groups.
    OtherGroup,
    /// Its address, or the client's, says nothing about where it is.
    Nowhere,
    /// It asks for itself.
    Itself,
    /// Others found that it does not give what it promised.
    Distrusted,
    /// There are enough peers without it.
    Enough,
    /// No group of the client uses the cloud.
    CloudOff,
    /// The deployment does not allow it.
    NotAllowed,
    /// It has no part in this order.
    NotInOrder,
}

impl Reason {
    /// A stable word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::ThisComputer => "this-computer",
            Self::SameSubnet(_) => "same-subnet",
            Self::SameGroup(_) => "same-group",
            Self::Neighbour { .. } => "neighbour",
            Self::DefaultGroup => "default-group",
            Self::Upstream => "upstream",
            Self::Maintenance => "maintenance",
            Self::NotThere => "not-there",
            Self::NoTls => "no-tls",
            Self::Never(_) => "never",
            Self::OutOfReach => "out-of-reach",
            Self::PeersOff(_) => "peers-off",
            Self::OtherSubnet => "other-subnet",
            Self::OtherGroup => "other-group",
            Self::Nowhere => "nowhere",
            Self::Itself => "itself",
            Self::Distrusted => "distrusted",
            Self::Enough => "enough",
            Self::CloudOff => "cloud-off",
            Self::NotAllowed => "not-allowed",
            Self::NotInOrder => "not-in-order",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ThisComputer => write!(f, "this computer"),
            Self::SameSubnet(subnet) => write!(f, "same subnet {subnet}"),
            Self::SameGroup(group) => write!(f, "group {group}"),
            Self::Neighbour { group, of } => write!(f, "{group} is a neighbour of {of}"),
            Self::DefaultGroup => write!(f, "default site group"),
            Self::Upstream => write!(f, "the upstream's own link"),
            Self::Maintenance => write!(f, "in maintenance"),
            Self::NotThere => write!(f, "does not have it"),
            Self::NoTls => write!(f, "private, and it has no tls_url: keys are shown over TLS only"),
            Self::Never(group) => write!(f, "{group} is never fallen back to"),
            Self::OutOfReach => write!(f, "in no group in reach"),
            Self::PeersOff(group) => write!(f, "{group} does not let peers share"),
            Self::OtherSubnet => write!(f, "in another subnet, and only the same one is allowed"),
            Self::OtherGroup => write!(f, "in none of the client's groups"),
            Self::Nowhere => write!(f, "an address that says nothing about its place"),
            Self::Itself => write!(f, "it is the client"),
            Self::Distrusted => write!(f, "did not give what it promised, others report"),
            Self::Enough => write!(f, "there are {MOST_PEERS} peers without it"),
            Self::CloudOff => write!(f, "no group of the client uses the cloud"),
            Self::NotAllowed => write!(f, "the deployment does not allow it"),
            Self::NotInOrder => write!(f, "not used in this order"),
        }
    }
}
