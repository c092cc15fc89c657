//! Why a candidate is in, later or out, in words that last.

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;

/// The most peers of one answer; [`Reason::Enough`] says the number.
pub(super) const MOST_PEERS: usize = 8;

/// Why a candidate is where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason<'p> {
    /// It is the client's own computer.
    ThisComputer,
    /// Both are in this subnet.
    SameSubnet(IpNet),
    /// Both are in this group.
    SameGroup(&'p str),
    /// Its group is a neighbour of the client's.
    Neighbour {
        /// Its group.
        group: &'p str,
        /// The client's.
        of: &'p str,
    },
    /// It is in the default site group, to which everybody may fall back.
    DefaultGroup,
    /// The upstream's own link.
    Upstream,
    /// It has no key that is in force: it never enrolled, or its key was taken back.
    NoKey,
    /// It is being worked on.
    Maintenance,
    /// It does not have the content.
    NotThere,
    /// The content is private, and clients do not reach it over TLS.
    NoTls,
    /// The relationship to its group says never.
    Never(&'p str),
    /// Its groups are no neighbours of the client's.
    OutOfReach,
    /// A group of the client does not let peers share.
    PeersOff(&'p str),
    /// Only peers in the client's own subnet may be asked.
    OtherSubnet,
    /// It is in none of the client's groups.
    OtherGroup,
    /// Its address, or the client's, says nothing about where it is.
    Nowhere,
    /// It asks for itself.
    Itself,
    /// Others found that it sends something else.
    Distrusted,
    /// Others could not get it there, and it has not announced itself since.
    Away,
    /// There are enough peers without it.
    Enough,
    /// No group of the client uses the cloud.
    CloudOff,
    /// The deployment does not allow it.
    NotAllowed,
    /// It has no part in this order.
    NotInOrder,
}

impl<'p> Reason<'p> {
    /// A stable word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::ThisComputer => "this-computer",
            Self::SameSubnet(_) => "same-subnet",
            Self::SameGroup(_) => "same-group",
            Self::Neighbour { .. } => "neighbour",
            Self::DefaultGroup => "default-group",
            Self::Upstream => "upstream",
            Self::NoKey => "no-key",
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
            Self::Away => "away",
            Self::Enough => "enough",
            Self::CloudOff => "cloud-off",
            Self::NotAllowed => "not-allowed",
            Self::NotInOrder => "not-in-order",
        }
    }

    /// It for people, in pieces that follow each other. The subnet of [`Self::SameSubnet`] is the one that counts as the
    /// client's own, and `subnet` its text.
    pub(super) fn pieces(&self, subnet: &'p str) -> [&'p str; 3] {
        match *self {
            Self::ThisComputer => ["this computer", "", ""],
            Self::SameSubnet(_) => ["same subnet ", subnet, ""],
            Self::SameGroup(group) => ["group ", group, ""],
            Self::Neighbour { group, of } => [group, " is a neighbour of ", of],
            Self::DefaultGroup => ["default site group", "", ""],
            Self::Upstream => ["the upstream's own link", "", ""],
            Self::NoKey => ["never enrolled, or its key was taken back", "", ""],
            Self::Maintenance => ["in maintenance", "", ""],
            Self::NotThere => ["does not have it", "", ""],
            Self::NoTls => ["private, and it has no tls_url: keys are shown over TLS only", "", ""],
            Self::Never(group) => [group, " is never fallen back to", ""],
            Self::OutOfReach => ["in no group in reach", "", ""],
            Self::PeersOff(group) => [group, " does not let peers share", ""],
            Self::OtherSubnet => ["in another subnet, and only the same one is allowed", "", ""],
            Self::OtherGroup => ["in none of the client's groups", "", ""],
            Self::Nowhere => ["an address that says nothing about its place", "", ""],
            Self::Itself => ["it is the client", "", ""],
            Self::Distrusted => ["sent something else, others report", "", ""],
            Self::Away => ["did not give it to others, and has not announced itself since", "", ""],
            Self::Enough => ["there are 8 peers without it", "", ""],
            Self::CloudOff => ["no group of the client uses the cloud", "", ""],
            Self::NotAllowed => ["the deployment does not allow it", "", ""],
            Self::NotInOrder => ["not used in this order", "", ""],
        }
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subnet = if let Self::SameSubnet(subnet) = self { subnet.to_string() } else { String::new() };
        let reason: Reason<'_> = *self;
        reason.pieces(&subnet).iter().try_for_each(|piece| f.write_str(piece))
    }
}

/// How long a point has said nothing, behind the reason why it is where it is.
pub(super) struct Silence(pub Duration);

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() / 60 {
            minutes @ ..120 => write!(f, ", silent for {minutes} min"),
            minutes @ 120..2_880 => write!(f, ", silent for {} h", minutes / 60),
            minutes => write!(f, ", silent for {} days", minutes / 1_440),
        }
    }
}
