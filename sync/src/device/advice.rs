//! What somebody at a device can do about a refusal. The codes are those of points too, whose advice would lead astray here.

use catalog::problem::{Code, Problem};

/// The advice for a device without a key that is good.
pub const ENROL: &str = "make a new token at the site with `spsync key enrol NAME`, then run `spsync client enrol --token-file FILE` here";
const PLAIN: &str = "use https in `[client] site`; on a network that you trust set `[client] allow_plain_key` here, and \
     `[server] allow_plain_enrolment` at the site";

/// The same problem with the advice for a device, where the code's own is for others.
#[must_use]
pub fn for_device(problem: Problem) -> Problem {
    let help = match problem.code {
        Code::KeyRefused | Code::KeyRevoked | Code::TokenRefused => ENROL,
        Code::PlainHttpRefused => PLAIN,
        Code::SiteAnswerInvalid => {
            "check `[client] site`: it is the address of the site, such as https://site01.example:8531"
        }
        Code::SyncTlsUntrusted => "name the certificate of the site's authority in `[client] ca_file`",
        Code::SourceUnreachable => "check `[client] site`, and whether the site runs: `spsync status` there",
        _ => return problem,
    };
    problem.help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_for_a_device_is_about_devices() {
        for code in [
            Code::KeyRefused,
            Code::KeyRevoked,
            Code::TokenRefused,
            Code::PlainHttpRefused,
            Code::SiteAnswerInvalid,
        ] {
            let help = for_device(Problem::new(code, "no")).help;
            assert!(!help.contains("[dp]") && !help.contains("dp enrol"), "{code}: {help}");
            assert!(help.contains("client"), "{code}: {help}");
        }
        let other = Problem::new(Code::DiskFull, "no");
        assert_eq!(for_device(other.clone()), other);
    }
}
