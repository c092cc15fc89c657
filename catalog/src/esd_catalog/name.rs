//! What the name of an ESD says: `26200.8246.260413-0654.25h2_ge_release_svc_refresh_CLIENTBUSINESS_VOL_x64FRE_en-us.esd`.
//!
//! ```text
//! build . revision . date-time . branch _ CLIENT group _ channel _ architecture FRE _ language .esd
//! ```

use serde::{Deserialize, Serialize};

use super::{Architecture, Product};

/// Version and edition as read from a file name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EsdName {
    /// Windows 10 or 11, by the build.
    pub product: Product,
    /// `25H2`; `build NNNNN` where neither the table nor the name knows it.
    pub release: String,
    /// Which build.
    pub build: Build,
    /// `business`, `consumer`, `china`; in 1607 `combined`, `combinedn`, `combinedsl`, `combinedchina`.
    pub edition_group: String,
}

/// A build of Windows, ordered as they were made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Build {
    /// 26200.
    pub major: u32,
    /// 8246.
    pub minor: u32,
    /// Year, month, day, hour and minute of the build: `260413-0654`.
    pub stamp: Option<String>,
}

/// Releases by major build (Microsoft Learn, "Windows 10 release information" and "Windows 11 release information").
const RELEASES: [(u32, &str); 20] = [
    (10240, "1507"),
    (10586, "1511"),
    (14393, "1607"),
    (15063, "1703"),
    (16299, "1709"),
    (17134, "1803"),
    (17763, "1809"),
    (18362, "1903"),
    (18363, "1909"),
    (19041, "2004"),
    (19042, "20H2"),
    (19043, "21H1"),
    (19044, "21H2"),
    (19045, "22H2"),
    (22000, "21H2"),
    (22621, "22H2"),
    (22631, "23H2"),
    (26100, "24H2"),
    (26200, "25H2"),
    (28000, "26H1"),
];

impl EsdName {
    /// Reads a name; `None` where it has another form. Case does not matter: it varies between releases.
    pub fn parse(file_name: &str) -> Option<Self> {
        let name = file_name.to_ascii_lowercase();
        let name = name.strip_suffix(".esd")?;
        let mut parts = name.splitn(4, '.');
        let major = number(parts.next()?)?;
        let minor = number(parts.next()?)?;
        let stamp = parts.next().filter(|stamp| is_stamp(stamp))?;
        let rest = parts.next()?;
        // From the right: the language may not be there in a shortened name, the architecture always is.
        let (before, _language) = rest.rsplit_once("fre_")?;
        let (before, _architecture) = before.rsplit_once('_')?;
        let (branch, edition) = before.rsplit_once("_client")?;
        let edition_group = edition.split('_').next().filter(|group| !group.is_empty())?;
        if !edition_group.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return None;
        }
        let release = RELEASES
            .iter()
            .find(|(build, _)| *build == major)
            .map(|(_, release)| (*release).to_owned())
            .or_else(|| release_token(branch))
            .unwrap_or_else(|| format!("build {major}"));
        Some(Self {
            product: if major >= 22000 { Product::Windows11 } else { Product::Windows10 },
            release,
            build: Build { major, minor, stamp: Some(stamp.to_owned()) },
            edition_group: edition_group.to_owned(),
        })
    }
}

impl EsdName {
    /// What machines it is for, and in which language; `None` where the name has another form. The catalog says the same
    /// in fields of its own; an update document does not.
    pub fn parse_target(file_name: &str) -> Option<(Architecture, String)> {
        Self::parse(file_name)?;
        let name = file_name.to_ascii_lowercase();
        let (before, language) = name.strip_suffix(".esd")?.rsplit_once("fre_")?;
        let (_, architecture) = before.rsplit_once('_')?;
        Some((architecture.parse().ok()?, language.to_owned()))
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// `260413-0654`.
fn is_stamp(text: &str) -> bool {
    text.len() == 11
        && text.bytes().enumerate().all(|(i, b)| if i == 6 { b == b'-' } else { b.is_ascii_digit() })
}

/// `25h2_ge_release…` names its release itself.
fn release_token(branch: &str) -> Option<String> {
    let token = branch.split('_').next()?;
    let bytes = token.as_bytes();
    let halves = bytes.len() == 4
        && bytes[..2].iter().all(u8::is_ascii_digit)
        && bytes[2] == b'h'
        && bytes[3].is_ascii_digit();
    halves.then(|| token.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_era_are_read() {
        let rows = [
            (
                "26200.8246.260413-0654.25h2_ge_release_svc_refresh_CLIENTBUSINESS_VOL_x64FRE_en-us.esd",
                ("Windows 11", "25H2", 26200, 8246, "business"),
            ),
            (
                "14393.0.161119-1705.rs1_refresh_CLIENTCombinedSL_RET_x64fre_ar-sa.esd",
                ("Windows 10", "1607", 14393, 0, "combinedsl"),
            ),
            (
                "19045.3803.231204-0204.22H2_RELEASE_SVC_REFRESH_CLIENTCHINA_RET_X86FRE_ZH-CN.ESD",
                ("Windows 10", "22H2", 19045, 3803, "china"),
            ),
            (
                "29999.1.290101-0000.29h1_xx_release_CLIENTCONSUMER_RET_A64FRE_sr-latn-rs.esd",
                ("Windows 11", "29H1", 29999, 1, "consumer"),
            ),
            (
                "30000.1.290101-0000.zz_release_CLIENTCONSUMER_RET_A64FRE_de-de.esd",
                ("Windows 11", "build 30000", 30000, 1, "consumer"),
            ),
        ];
        for (text, (product, release, major, minor, group)) in rows {
            let name = EsdName::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(
                (
                    name.product.to_string().as_str(),
                    name.release.as_str(),
                    name.build.major,
                    name.build.minor,
                    name.edition_group.as_str()
                ),
                (product, release, major, minor, group),
                "{text}"
            );
        }
    }

    #[test]
    fn the_target_is_the_end_of_the_name() {
        let target =
            |text: &str| EsdName::parse_target(text).map(|(arch, language)| format!("{arch} {language}"));
        let name = "19045.3803.231204-0204.22H2_RELEASE_SVC_REFRESH_CLIENTCHINA_RET_X86FRE_ZH-CN.ESD";
        assert_eq!(target(name).as_deref(), Some("x86 zh-cn"));
        let name = "29999.1.290101-0000.29h1_xx_release_CLIENTCONSUMER_RET_A64FRE_sr-latn-rs.esd";
        assert_eq!(target(name).as_deref(), Some("arm64 sr-latn-rs"));
        assert_eq!(target("install_x64FRE_en-us.esd"), None);
    }

    #[test]
    fn other_names_are_unrecognised() {
        for text in [
            "",
            "install.esd",
            "26200.8246.260413-0654.esd",
            "26200.8246.26041-0654.x_CLIENTBUSINESS_VOL_x64FRE_en-us.esd",
            "99999999999.1.260413-0654.x_CLIENTBUSINESS_VOL_x64FRE_en-us.esd",
            "26200.8246.260413-0654.x_CLIENT_VOL_x64FRE_en-us.esd",
            "26200.8246.260413-0654.x_CLIENTBUSINESS_VOL_x64FRE_en-us.wim",
            "26200.+1.260413-0654.x_CLIENTBUSINESS_VOL_x64FRE_en-us.esd",
        ] {
            assert_eq!(EsdName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn builds_are_ordered_as_they_were_made() {
        let build = |minor, stamp: &str| Build { major: 1, minor, stamp: Some(stamp.to_owned()) };
        assert!(build(2, "200101-0000") > build(1, "210101-0000"));
        assert!(build(2, "200102-0000") > build(2, "200101-2359"));
    }
}
