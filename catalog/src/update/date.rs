//! Times as XML writes them (XML Schema part 2, section 3.2.7 `dateTime`).

use super::Timestamp;

impl Timestamp {
    /// Keeps the text and reads what it means.
    pub(crate) fn of(text: &str) -> Self {
        let text = text.trim();
        Self { unix_ms: unix_ms(text), text: text.chars().take(64).collect() }
    }
}

/// `2004-02-28T18:17:34.1032476-08:00`, to whole milliseconds. Both `Z` and offsets occur; fractions have three digits or
/// seven.
fn unix_ms(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let is = |at: usize, byte: u8| text.as_bytes().get(at) == Some(&byte);
    if ![(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')].into_iter().all(|(at, byte)| is(at, byte))
    {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    // 24:00:00 is the end of a day, which XML allows and nobody writes.
    let possible =
        (1..=12).contains(&month) && (1..=days).contains(&day) && hour < 24 && minute < 60 && second < 60;
    if !possible {
        return None;
    }
    let rest = text.get(19..)?;
    let (millis, zone) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(fraction) => {
            let end = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
            let (digits, zone) = fraction.split_at(end);
            if digits.is_empty() {
                return None;
            }
            let three = digits.bytes().chain(*b"00").take(3);
            (three.fold(0, |sum, byte| sum * 10 + i64::from(byte - b'0')), zone)
        }
    };
    let offset_minutes = match zone.as_bytes() {
        [] | [b'Z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2]
            if [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()) =>
        {
            let two = |a: &u8, b: &u8| i64::from(a - b'0') * 10 + i64::from(b - b'0');
            let minutes = two(h1, h2) * 60 + two(m1, m2);
            if minutes > 14 * 60 {
                return None; // the widest offset there is (section 3.2.7.3)
            }
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some((seconds - offset_minutes * 60) * 1_000 + millis)
}

/// Days of the Gregorian calendar, counted in years that begin in March: so the leap day is the last one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month < 3 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    // From 0000-03-01 to 1970-01-01 there are 719,468 days.
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::unix_ms;

    #[test]
    fn times_are_read_with_their_offset() {
        let rows = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2004-02-28T18:17:34.1032476-08:00", Some(1_078_021_054_103)),
            ("2004-02-29T02:17:34.103Z", Some(1_078_021_054_103)),
            ("2004-02-29T02:17:34.1", Some(1_078_021_054_100)),
            ("2026-10-04T12:00:58.381Z", Some(1_791_115_258_381)),
            ("2000-03-01T00:00:00+14:00", Some(951_818_400_000)),
            ("1969-12-31T23:59:59.999Z", Some(-1)),
            ("2023-02-29T00:00:00Z", None),
            ("2023-13-01T00:00:00Z", None),
            ("2023-01-01T24:00:00Z", None),
            ("2023-01-01T00:00:00.Z", None),
            ("2023-01-01T00:00:00+15:00", None),
            ("2023-01-01 00:00:00Z", None),
            ("+023-01-01T00:00:00Z", None),
            ("2023-01-01", None),
            ("", None),
            ("\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}", None),
        ];
        for (text, expected) in rows {
            assert_eq!(unix_ms(text), expected, "{text}");
        }
    }
}
