//! Product keys: their format, what can be said of one without showing it, and a type that never shows it.

use std::fmt;

use catalog::problem::{Code, Problem};
use serde::{Deserialize, Serialize};

/// A text that nobody may see: [`fmt::Debug`] and [`fmt::Display`] mask it. It is serialised only on its way through
/// the admin socket, from the command that read it to the site that seals it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HiddenText(String);

/// What is shown in its place.
pub const MASK: &str = "*****";

impl HiddenText {
    /// Takes a text in, without the line end that files have.
    pub fn new(text: &str) -> Self {
        Self(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// The text itself, for sealing and for the device that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HiddenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for HiddenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// What sort of key it is, which is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyKind {
    /// A client setup key that Microsoft publishes for everybody (GVLK).
    Gvlk,
    /// A multiple activation key or another one.
    MakOrOther,
    /// An opaque volume key.
    Encoded,
}

impl KeyKind {
    /// As shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Gvlk => "GVLK",
            Self::MakOrOther => "MAK/other",
            Self::Encoded => "encoded",
        }
    }
}

/// Client setup keys, published in the Windows Server activation guide; they open nothing.
const GVLKS: [&str; 24] = [
    "W269N-WFGWX-YVC9B-4J6C9-T83GX", // Pro
    "MH37W-N47XK-V7XM9-C7227-GCQG9", // Pro N
    "NRG8B-VKK3Q-CXVCJ-9G2XF-6Q84J", // Pro for Workstations
    "9FNHH-K3HBT-3W4TD-6383H-6XYWF", // Pro for Workstations N
    "6TP4R-GNPTD-KYYHQ-7B7DP-J447Y", // Pro Education
    "YVWGF-BXNMC-HTQYQ-CPQ99-66QFC", // Pro Education N
    "NPPR9-FWDCX-D2C8J-H872K-2YT43", // Enterprise
    "DPH2V-TTNVB-4X9Q3-TJR4H-KHJW4", // Enterprise N
    "YYVX9-NTFWV-6MDM3-9PT4T-4M68B", // Enterprise G
    "44RPN-FTY23-9VTTB-MP9BX-T84FV", // Enterprise G N
    "NW6C2-QMPVW-D7KKK-3GKT6-VCFB2", // Education
    "2WH4N-8QGBV-H22JP-CT43Q-MDWWJ", // Education N
    "M7XTQ-FN8P6-TTKYV-9D4CC-J462D", // Enterprise LTSC
    "92NFX-8DJQP-P6BBQ-THF9C-7CG2H", // Enterprise LTSC N
    "WC2BQ-8NRM3-FDDYY-2BFGV-KHKQY", // Server 2016 Standard
    "CB7KF-BWN84-R7R2Y-793K2-8XDDG", // Server 2016 Datacenter
    "N69G4-B89J2-4G8F4-WWYCC-J464C", // Server 2019 Standard
    "WMDGN-G9PQG-XVVXX-R3X43-63DFG", // Server 2019 Datacenter
    "VDYBN-27WPP-V4HQT-9VMD4-VMK7H", // Server 2022 Standard
    "WX4NM-KYWYW-QJJR4-XV3QB-6VM33", // Server 2022 Datacenter
    "NTBV8-9K7Q8-V27C6-M2BTV-KHMXV", // Server 2022 Datacenter: Azure Edition
    "TVRH6-WHNXV-R9WG3-9XRFY-MY832", // Server 2025 Standard
    "D764K-2NDRG-47T6Q-P8T8W-YP6DF", // Server 2025 Datacenter
    "XGN3F-F394H-FD2MY-PP6FD-8MCRC", // Server 2025 Datacenter: Azure Edition
];
/// The longest encoded volume key.
const LONGEST_ENCODED: usize = 512;

/// A product key of a known format, in upper case where it is a standard one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductKey {
    /// The key.
    pub secret: HiddenText,
    /// What sort it is.
    pub kind: KeyKind,
}

impl ProductKey {
    /// Five groups of five letters or digits with dashes; with `encoded` any printable text without blanks.
    ///
    /// # Errors
    /// `PRODUCT_KEY_FORMAT`, which never repeats the key.
    pub fn parse(text: &HiddenText, encoded: bool) -> Result<Self, Problem> {
        let refused = |why: &str| {
            Err(Problem::new(Code::ProductKeyFormat, "the product key cannot be used")
                .because(why.to_owned()))
        };
        let text = text.reveal().trim();
        if encoded {
            return match text.len() {
                0 => refused("it is empty"),
                1..=LONGEST_ENCODED if text.bytes().all(|b| b.is_ascii_graphic()) => {
                    Ok(Self { secret: HiddenText::new(text), kind: KeyKind::Encoded })
                }
                _ => refused("an encoded key is at most 512 printable characters without blanks"),
            };
        }
        let upper = text.to_ascii_uppercase();
        let groups: Vec<&str> = upper.split('-').collect();
        if groups.len() != 5 {
            return refused("it has not five groups separated by dashes");
        }
        if groups.iter().any(|group| group.len() != 5) {
            return refused("a group has not five characters");
        }
        if !groups.iter().all(|group| group.bytes().all(|b| b.is_ascii_alphanumeric())) {
            return refused("it has a character that is neither a letter nor a digit");
        }
        let kind = if GVLKS.contains(&upper.as_str()) { KeyKind::Gvlk } else { KeyKind::MakOrOther };
        Ok(Self { secret: HiddenText::new(&upper), kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn product_key_table() {
        let parse = |text: &str| ProductKey::parse(&HiddenText::new(text), false);
        let good = parse("abcde-12345-fghij-67890-klmno\n").unwrap();
        assert_eq!(good.secret.reveal(), "ABCDE-12345-FGHIJ-67890-KLMNO");
        assert_eq!(good.kind, KeyKind::MakOrOther);
        assert_eq!(parse("nppr9-fwdcx-d2c8j-h872k-2yt43").unwrap().kind, KeyKind::Gvlk);
        assert_eq!(parse(GVLKS[GVLKS.len() - 1]).unwrap().kind, KeyKind::Gvlk);
        let distinct: std::collections::BTreeSet<_> =
            GVLKS.iter().map(|key| parse(key).unwrap().secret.reveal().to_owned()).collect();
        assert_eq!(distinct.len(), GVLKS.len(), "each of them is a key, and another one");
        for bad in [
            "",
            "ABCDE",
            "ABCDE12345FGHIJ67890KLMNO",
            "ABCDE-12345-FGHIJ-67890",
            "ABCD-12345-FGHIJ-67890-KLMNO",
            "ABCDE-12345-FGHIJ-67890-KLMN!",
            "ABCDE-12345-FGHIJ-67890-KLMNÄ",
            "ABCDE-12345-FGHIJ-67890-KLMNO-PQRST",
        ] {
            let problem = parse(bad).unwrap_err();
            assert_eq!(problem.code, Code::ProductKeyFormat, "{bad}");
            assert!(bad.is_empty() || !format!("{problem:?}").contains(bad), "the key is never repeated");
        }
        let encoded = |text: &str| ProductKey::parse(&HiddenText::new(text), true);
        assert_eq!(encoded("AgAAAA+/=").unwrap().kind, KeyKind::Encoded);
        assert!(encoded("").is_err() && encoded("a b").is_err() && encoded(&"x".repeat(513)).is_err());
    }

    #[test]
    fn a_secret_masks_itself() {
        let secret = HiddenText::new("ABCDE-12345-FGHIJ-67890-KLMNO");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "***** ***** Some(*****)");
    }
}
