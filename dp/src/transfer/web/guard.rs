//! Which addresses a source may lead us to: public ones, and the networks that were named for it.
//!
//! The check happens where the address is used, not before: names are resolved by [`GuardedResolver`] alone, and
//! what it leaves out can never be connected to. Hosts that are addresses themselves never reach a
//! resolver; [`Guard::check_literal`] is asked about those on every hop.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::transfer::fault::Fault;

/// The networks open to one source.
#[derive(Debug, Clone, Default)]
pub(super) struct Guard {
    pub(super) allow_networks: Vec<IpNet>,
    /// Hosts that may be anywhere: the operator named them.
    pub(super) trusted_hosts: HashSet<String>,
    /// Names that may be resolved to anything, because requests go through them.
    pub(super) proxy_hosts: HashSet<String>,
}

impl Guard {
    fn allows(&self, address: IpAddr) -> bool {
        let plain = address.to_canonical(); // `::ffff:10.0.0.1` is meant by `10.0.0.0/8` too
        is_public(address)
            || self.allow_networks.iter().any(|net| net.contains(&address) || net.contains(&plain))
    }

    /// Refuses a URL whose host is an address in a network that is not open.
    pub(super) fn check_literal(&self, url: &Url) -> Result<(), Fault> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) => return Ok(()),
            None => return Err(Fault::SchemeNotAllowed(url.scheme().to_owned())),
        };
        let trusted = url.host_str().is_some_and(|host| self.trusted_hosts.contains(host));
        if trusted || self.allows(address) {
            return Ok(());
        }
        Err(Fault::NetworkNotAllowed { host: address.to_string(), address })
    }
}

/// Resolves names and keeps only the addresses that are allowed.
pub(super) struct GuardedResolver(pub(super) Arc<Guard>);

/// Every address of a name was refused; found again in the chain of the connection's error.
#[derive(Debug, thiserror::Error)]
#[error("`{host}` has no public address")]
pub(super) struct Blocked {
    pub(super) host: String,
    pub(super) address: IpAddr,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = Arc::clone(&self.0);
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            Ok(Box::new(keep_allowed(&guard, host, found)?.into_iter()) as Addrs)
        })
    }
}

fn keep_allowed(guard: &Guard, host: String, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Blocked> {
    if guard.trusted_hosts.contains(&host) || guard.proxy_hosts.contains(&host) {
        return Ok(found);
    }
    let (kept, refused): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| guard.allows(found.ip()));
    match refused.first() {
        Some(first) if kept.is_empty() => Err(Blocked { host, address: first.ip() }),
        _ => Ok(kept),
    }
}

/// Whether an address is one of the public internet, by the special-purpose registries of IANA (RFC 6890).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = a == 0 // this network
        || a >= 224 // multicast, reserved, broadcast
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || (a == 100 && (64..128).contains(&b)) // shared by carriers, RFC 6598
        || (a, b, c) == (192, 0, 0) // protocol assignments
        || (a == 198 && (18..20).contains(&b)); // benchmarks, RFC 2544
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    if segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        // NAT64 (RFC 6052): as public as the IPv4 address inside.
        let [.., a, b, c, d] = address.octets();
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    let global_unicast = segments[0] & 0xe000 == 0x2000; // leaves out ::/3, fc00::/7, fe80::/10, ff00::/8, mapped
    let special = match segments[..2] {
        [0x2001, second] => second < 0x0200 || second == 0x0db8, // protocol assignments (Teredo), documentation
        [0x2002, _] => true,                                     // 6to4: an IPv4 address in disguise
        [0x3fff, second] => second < 0x1000,                     // documentation, RFC 9637
        _ => false,
    };
    global_unicast && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for (address, public) in [
            ("8.8.8.8", true),
            ("100.63.255.255", true),
            ("100.128.0.0", true),
            ("172.15.0.1", true),
            ("172.32.0.1", true),
            ("2606:4700::1111", true),
            ("64:ff9b::808:808", true),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("127.9.9.9", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("192.168.0.1", false),
            ("192.0.0.8", false),
            ("198.18.0.1", false),
            ("203.0.113.9", false),
            ("224.0.0.1", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::ffff:8.8.8.8", false),
            ("::ffff:127.0.0.1", false),
            ("::7f00:1", false),
            ("64:ff9b::7f00:1", false),
            ("64:ff9b:1::1", false),
            ("2001::1", false),
            ("2001:db8::1", false),
            ("2002:7f00:1::1", false),
            ("fc00::1", false),
            ("fd12:3456::1", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }

    #[test]
    fn a_named_network_opens_itself_only() {
        let guard = Guard { allow_networks: vec!["10.1.0.0/16".parse().unwrap()], ..Guard::default() };
        assert!(guard.allows("10.1.2.3".parse().unwrap()));
        assert!(guard.allows("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!guard.allows("10.2.0.1".parse().unwrap()));
        assert!(!guard.allows("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn an_address_in_disguise_is_still_refused() {
        let guard = Guard::default();
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://017700000001/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://169.254.169.254/latest/meta-data/",
        ] {
            let refused = guard.check_literal(&Url::parse(url).unwrap());
            assert!(matches!(refused, Err(Fault::NetworkNotAllowed { .. })), "{url}");
        }
        assert!(guard.check_literal(&Url::parse("http://8.8.8.8/").unwrap()).is_ok());
    }

    #[test]
    fn a_name_with_mixed_addresses_keeps_the_allowed_ones() {
        let guard = Guard { proxy_hosts: HashSet::from(["proxy.corp".to_owned()]), ..Guard::default() };
        let at = |texts: &[&str]| {
            texts.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect::<Vec<_>>()
        };
        let kept = |host: &str, texts: &[&str]| keep_allowed(&guard, host.to_owned(), at(texts));
        assert_eq!(kept("mixed", &["10.0.0.1", "8.8.8.8", "::1"]).unwrap(), at(&["8.8.8.8"]));
        assert_eq!(kept("inside", &["10.0.0.1"]).unwrap_err().address.to_string(), "10.0.0.1");
        assert_eq!(kept("proxy.corp", &["10.0.0.1"]).unwrap(), at(&["10.0.0.1"]));
        assert!(kept("nowhere", &[]).unwrap().is_empty());
    }
}
