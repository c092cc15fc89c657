//! Which addresses are one asker's.

use std::net::IpAddr;

/// What one asker may have for itself: an IPv4 address, or a network of IPv6, as who has one address there has all 64 bits of it. On a
/// link without a router everybody has the same network: there each address counts, as on this machine.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() && !v6.is_unicast_link_local() => {
            IpAddr::V6((v6.to_bits() >> 64 << 64).into())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_an_address_of_ipv6_has_its_network() {
        for (address, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::"),
            ("fd00::7", "fd00::"),
            ("fe80::7", "fe80::7"),
            ("::1", "::1"),
        ] {
            let parsed = |text: &str| text.parse::<IpAddr>().unwrap();
            assert_eq!(network(parsed(address)), parsed(expected), "{address}");
        }
    }
}
