//! Until when a certificate is good that somebody else made. Only that is read of it (RFC 5280 section 4.1).

use jiff::Timestamp;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of its validity; `None` where it cannot be understood.
pub(crate) fn good_until(der: &[u8]) -> Option<Timestamp> {
    let (certificate, _) = expect(SEQUENCE, der)?;
    let (mut to_be_signed, _) = expect(SEQUENCE, certificate)?;
    // The version may be missing; serial number, algorithm and issuer come before the validity.
    if let Some((_, rest)) = expect(VERSION, to_be_signed) {
        to_be_signed = rest;
    }
    let (_, rest) = expect(INTEGER, to_be_signed)?;
    let (_, rest) = expect(SEQUENCE, rest)?;
    let (_, rest) = expect(SEQUENCE, rest)?;
    let (validity, _) = expect(SEQUENCE, rest)?;
    let (_, _, until) = element(validity)?;
    let (tag, text, _) = element(until)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// The content of the first element, which has to be of this kind, and what follows it.
fn expect(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    element(bytes).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// The first element: its tag, its content, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, bytes) = bytes.split_first()?;
    let (&first, bytes) = bytes.split_first()?;
    let (length, bytes) = match first {
        0..0x80 => (usize::from(first), bytes),
        _ => {
            let (octets, rest) =
                bytes.split_at_checked(usize::from(first & 0x7f)).filter(|(o, _)| o.len() <= 4)?;
            (octets.iter().fold(0, |length, octet| (length << 8) | usize::from(*octet)), rest)
        }
    };
    let (content, rest) = bytes.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDhhmmssZ`, where 50 and more is of the last century, or `YYYYMMDDhhmmssZ`.
fn time(tag: u8, text: &str) -> Option<Timestamp> {
    let text = match tag {
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", text)
        .ok()?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()
        .map(|at| at.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read() {
        for (year, month, day, expected) in [
            (2027, 3, 9, "2027-03-09T00:00:00Z"),
            (2049, 12, 31, "2049-12-31T00:00:00Z"),
            (2061, 1, 2, "2061-01-02T00:00:00Z"),
        ] {
            let mut params = rcgen::CertificateParams::new(vec!["site01.example".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, month, day);
            let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            assert_eq!(good_until(made.der()), Some(expected.parse().unwrap()));
            for cut in 0..made.der().len().min(200) {
                let _ = good_until(&made.der()[..cut]);
            }
        }
        assert_eq!(good_until(b""), None);
        assert_eq!(good_until(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x30]), None);
    }
}
