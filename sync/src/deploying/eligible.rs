//! Which devices can do what a task sequence asks, and why not the others: from what they said of themselves. Pure.
//!
//! Only what is certain counts: a check in a step or group with a condition may be skipped, and one whose failure is
//! continued over ends nothing. What a device has not said is not held against it, but for a device that has said
//! nothing at all, of which nothing is known.

use std::collections::HashMap;

use catalog::id::{PackageId, UpdateId};
use serde::{Deserialize, Serialize};

use crate::policy::fits::{self, Lack};
use crate::policy::{Facts, FeatureUpdate, Firmware, Image, NetworkKind, Power, References};
use crate::sequence::action::{CheckReadiness, OsType, UpgradeOs};
use crate::sequence::choose::{self, Why as Skipped};
use crate::sequence::{Action, Node, Sequence};

/// Room that Setup needs beside the download, where the task sequence does not check it itself: MiB.
const SETUP_ROOM_MB: u64 = 20_480;
const MIB: u64 = 1 << 20;

/// Why a device is not eligible: what reports are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Why {
    NoFacts,
    NotDeployable,
    Path,
    OsType,
    Architecture,
    Language,
    Edition,
    Release,
    Superseded,
    Disk,
    Memory,
    Processor,
    Firmware,
    Tpm,
    Power,
    Network,
    Internet,
}

impl Why {
    /// For people: `wrong edition`.
    pub fn words(self) -> &'static str {
        match self {
            Self::NoFacts => "have not said what they are",
            Self::NotDeployable => "nothing deployable for them",
            Self::Path => "no way from their Windows",
            Self::OsType => "server instead of client, or the reverse",
            Self::Architecture => "wrong architecture",
            Self::Language => "wrong language",
            Self::Edition => "wrong edition",
            Self::Release => "wrong release for an enablement package",
            Self::Superseded => "superseded by what is deployed too",
            Self::Disk => "too little disk",
            Self::Memory => "too little memory",
            Self::Processor => "too slow a processor",
            Self::Firmware => "no UEFI",
            Self::Tpm => "no TPM 2.0",
            Self::Power => "on battery",
            Self::Network => "not on the network that is needed",
            Self::Internet => "on the internet",
        }
    }
}

impl From<Skipped> for Why {
    fn from(why: Skipped) -> Self {
        match why {
            Skipped::NotDeployable => Self::NotDeployable,
            Skipped::Path => Self::Path,
            Skipped::Architecture => Self::Architecture,
            Skipped::Language => Self::Language,
            Skipped::Edition => Self::Edition,
            Skipped::Release => Self::Release,
        }
    }
}

impl From<Lack> for Why {
    fn from(lack: Lack) -> Self {
        match lack {
            Lack::Path => Self::Path,
            Lack::OsType => Self::OsType,
            Lack::Architecture => Self::Architecture,
            Lack::Language => Self::Language,
            Lack::Edition => Self::Edition,
            Lack::Disk => Self::Disk,
            Lack::Memory => Self::Memory,
            Lack::Processor => Self::Processor,
            Lack::Firmware => Self::Firmware,
            Lack::Tpm => Self::Tpm,
            Lack::Power => Self::Power,
            Lack::Network => Self::Network,
        }
    }
}

/// One thing that keeps a device back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The sort.
    pub why: Why,
    /// In words.
    pub text: String,
}

fn reason(why: Why, text: impl Into<String>) -> Reason {
    Reason { why, text: text.into() }
}

/// What came of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// Why it is not eligible; nothing: it is.
    pub reasons: Vec<Reason>,
    /// Feature updates that it takes.
    pub updates: Vec<UpdateId>,
    /// OS upgrade packages and applications that it takes.
    pub packages: Vec<PackageId>,
    /// Bytes that it downloads.
    pub bytes: u64,
}

impl Judged {
    /// Whether it can do it.
    pub fn is_eligible(&self) -> bool {
        self.reasons.is_empty()
    }
}

/// What a task sequence needs of a device, for many devices.
pub struct Needs<'a> {
    checks: Vec<&'a CheckReadiness>,
    upgrades: Vec<&'a UpgradeOs>,
    references: &'a References,
    internet: bool,
    judged: HashMap<Class, Judged>,
}

/// Devices of one class are judged alike.
#[derive(PartialEq, Eq, Hash)]
struct Class {
    texts: [String; 5],
    release: Option<String>,
    server: bool,
    numbers: [u64; 3],
    uefi: Option<bool>,
    tpm: Option<bool>,
    battery: bool,
    network: u8,
    internet: bool,
    beside: Vec<UpdateId>,
}

impl Class {
    fn of(facts: &Facts, beside: &[UpdateId]) -> Self {
        Self {
            beside: beside.to_vec(),
            texts: [&facts.version, &facts.edition, &facts.architecture, &facts.language, &facts.agent]
                .map(|text| text.to_lowercase()),
            release: facts.release.clone(),
            server: facts.os_type == OsType::Server,
            numbers: [facts.memory_mb, facts.processor_mhz.into(), facts.free_disk_mb],
            uefi: match facts.firmware {
                Firmware::Uefi => Some(true),
                Firmware::Bios => Some(false),
                Firmware::Unknown => None,
            },
            tpm: facts.tpm,
            battery: facts.power == Power::Battery,
            network: match facts.network {
                NetworkKind::Wired => 0,
                NetworkKind::Wireless => 1,
                NetworkKind::None => 2,
                NetworkKind::Unknown => 3,
            },
            internet: facts.internet,
        }
    }
}

impl<'a> Needs<'a> {
    /// What `sequence` needs. `internet`: devices on the internet are offered it too.
    pub fn of(sequence: &'a Sequence, references: &'a References, internet: bool) -> Self {
        let mut needs =
            Self { checks: Vec::new(), upgrades: Vec::new(), references, internet, judged: HashMap::new() };
        needs.visit(&sequence.nodes, true, true);
        needs
    }

    /// `open`: no condition is above; `fatal`: no failure is continued over.
    fn visit(&mut self, nodes: &'a [Node], open: bool, fatal: bool) {
        for node in nodes.iter().filter(|node| !node.common().disabled) {
            let common = node.common();
            let (open, fatal) = (open && common.when.is_none(), fatal && !common.continue_on_error);
            match node {
                Node::Group(group) => self.visit(&group.nodes, open, fatal),
                Node::Step(step) => match &step.action {
                    Action::CheckReadiness(check) if open && fatal => self.checks.push(check),
                    // The template's own group continues over errors, so that what comes after a failure can run.
                    Action::UpgradeOs(upgrade) if open => self.upgrades.push(upgrade),
                    _ => {}
                },
            }
        }
    }

    /// Judges a device. `beside`: updates that are deployed to it otherwise.
    pub fn judge(&mut self, facts: Option<&Facts>, beside: &[UpdateId]) -> Judged {
        let Some(facts) = facts else {
            return Judged {
                reasons: vec![reason(Why::NoFacts, "it has not said what it is")],
                ..Judged::default()
            };
        };
        let class = Class::of(facts, beside);
        if let Some(known) = self.judged.get(&class) {
            return known.clone();
        }
        let judged = self.decide(facts, beside);
        self.judged.insert(class, judged.clone());
        judged
    }

    fn decide(&self, facts: &Facts, beside: &[UpdateId]) -> Judged {
        let mut judged = Judged::default();
        if facts.internet && !self.internet {
            judged.reasons.push(reason(Why::Internet, "it is on the internet, where this is not offered"));
        }
        let mut room_checked = false;
        for check in &self.checks {
            let lacks = fits::readiness(check, facts).into_iter();
            judged.reasons.extend(lacks.map(|(lack, text)| reason(lack.into(), text)));
            room_checked |= check.free_disk_mb.is_some();
        }
        let mut upgrades = false;
        for upgrade in &self.upgrades {
            if !upgrade.feature_updates.is_empty() {
                upgrades |= self.by_update(upgrade, facts, beside, &mut judged);
            } else if let Some(id) = &upgrade.image
                && let Some(image) = self.references.image(id)
            {
                upgrades |= by_image(upgrade, image, facts, &mut judged);
            }
        }
        for app in self.references.applications.iter().filter(|app| app.usable) {
            judged.bytes += app.files.iter().map(|file| file.size).sum::<u64>();
            judged.packages.push(app.id.clone());
        }
        let needed = judged.bytes.div_ceil(MIB) + if upgrades && !room_checked { SETUP_ROOM_MB } else { 0 };
        if facts.free_disk_mb > 0 && facts.free_disk_mb < needed {
            let text =
                format!("{} MiB are free, downloading and upgrading need {needed}", facts.free_disk_mb);
            judged.reasons.push(reason(Why::Disk, text));
        }
        judged
    }

    /// The first feature update that applies. Where none does, the reason of the one that is nearest.
    fn by_update(
        &self,
        upgrade: &UpgradeOs,
        facts: &Facts,
        beside: &[UpdateId],
        judged: &mut Judged,
    ) -> bool {
        let found = upgrade.feature_updates.iter().filter_map(|id| self.references.update(id));
        let updates: Vec<&FeatureUpdate> = found.collect();
        let candidates: Vec<_> = updates.iter().map(|update| update.facts.clone()).collect();
        let device = facts.device();
        let choice = choose::first_applicable(&candidates, &device, beside);
        if let Some(id) = choice.chosen {
            let files = updates.iter().find(|update| update.id() == id).map(|update| &update.files);
            judged.bytes += files.into_iter().flatten().map(|file| file.size).sum::<u64>();
            judged.updates.push(id);
            return true;
        }
        let all: Option<Vec<_>> =
            candidates.iter().map(|candidate| choose::why_not(candidate, &device)).collect();
        let nearest = all.map(|all| all.into_iter().max_by_key(|(why, _)| *why));
        judged.reasons.push(match nearest {
            Some(Some((why, text))) => reason(why.into(), text),
            Some(None) => reason(Why::NotDeployable, "its step names no feature update that is known"),
            None => reason(Why::Superseded, "what applies is superseded by what is deployed too"),
        });
        false
    }
}

/// Whether the image of a step is for a device.
fn by_image(upgrade: &UpgradeOs, image: &Image, facts: &Facts, judged: &mut Judged) -> bool {
    let lacks = fits::image(image, upgrade.edition_index, facts);
    let fits = lacks.is_empty();
    judged.reasons.extend(lacks.into_iter().map(|(lack, text)| reason(lack.into(), text)));
    judged.bytes += image.file.size;
    judged.packages.push(image.id.clone());
    fits
}

#[cfg(test)]
mod tests {
    use catalog::feature_update::Shape;
    use catalog::id::UpdateId;

    use super::*;
    use crate::policy::ContentFile;
    use crate::sequence::choose::Candidate;
    use crate::sequence::{Common, Group, Kind, Step};

    fn facts() -> Facts {
        let text = r#"{"os_type":"client","version":"10.0.22631","edition":"Enterprise","architecture":"x64",
            "language":"en-us","firmware":"uefi","memory_mb":8192,"processor_mhz":2000,"free_disk_mb":60000,
            "power":"mains","network":"wired","tpm":true}"#;
        serde_json::from_str(text).expect("facts")
    }

    fn update(language: &str, architecture: &str) -> FeatureUpdate {
        let id = UpdateId::of_esd("Windows 11", 26200, "business", architecture, language);
        let facts = Candidate {
            id,
            title: language.to_owned(),
            os_type: OsType::Client,
            build: Some((26200, 1)),
            architecture: architecture.to_owned(),
            language: language.to_owned(),
            editions: vec!["Enterprise".to_owned()],
            shape: Shape::Esd,
            bases: Vec::new(),
            superseded_by: Vec::new(),
            undeployable: None,
        };
        let file =
            ContentFile { name: "x.esd".parse().expect("a name"), size: 4 << 30, sha256: None, sha1: None };
        FeatureUpdate { facts, release: None, files: vec![file] }
    }

    fn sequence(check: CheckReadiness, common: Common, updates: &[FeatureUpdate]) -> Sequence {
        let feature_updates = updates.iter().map(FeatureUpdate::id).collect();
        let upgrade = Action::UpgradeOs(UpgradeOs { feature_updates, ..UpgradeOs::default() });
        let checks =
            Node::Step(Step { common: Common::named("check"), action: Action::CheckReadiness(check) });
        let nodes = vec![
            Node::Group(Group { common, nodes: vec![checks] }),
            Node::Step(Step { common: Common::named("upgrade"), action: upgrade }),
        ];
        Sequence { nodes, ..Sequence::empty("x", "", Kind::Upgrade) }
    }

    #[test]
    fn eligibility_table() {
        let updates = [update("en-us", "x64"), update("de-de", "x64"), update("en-us", "arm64")];
        let references = References { feature_updates: updates.to_vec(), ..References::default() };
        let check = CheckReadiness {
            ac_power: true,
            wired: true,
            uefi: true,
            tpm: true,
            ..CheckReadiness::default()
        };
        let sequence = sequence(check, Common::named("prepare"), &updates);
        let mut needs = Needs::of(&sequence, &references, false);
        let base = facts;
        let rows: Vec<(&str, Facts, Vec<Why>)> = vec![
            ("fits", base(), vec![]),
            ("German", Facts { language: "de-DE".to_owned(), ..base() }, vec![]),
            (
                "French: the nearest says why",
                Facts { language: "fr-fr".to_owned(), ..base() },
                vec![Why::Language],
            ),
            ("x86", Facts { architecture: "x86".to_owned(), ..base() }, vec![Why::Architecture]),
            ("Home", Facts { edition: "Core".to_owned(), ..base() }, vec![Why::Edition]),
            ("is there already", Facts { version: "10.0.26200".to_owned(), ..base() }, vec![Why::Path]),
            ("Vista", Facts { version: "6.0".to_owned(), ..base() }, vec![Why::Path]),
            ("a server", Facts { os_type: OsType::Server, ..base() }, vec![Why::OsType, Why::Path]),
            ("a full disk", Facts { free_disk_mb: 1000, ..base() }, vec![Why::Disk, Why::Disk]),
            ("says nothing of its disk", Facts { free_disk_mb: 0, ..base() }, vec![]),
            ("little memory", Facts { memory_mb: 1024, ..base() }, vec![Why::Memory]),
            ("slow", Facts { processor_mhz: 900, ..base() }, vec![Why::Processor]),
            (
                "old, on the sofa",
                Facts {
                    firmware: Firmware::Bios,
                    tpm: Some(false),
                    power: Power::Battery,
                    network: NetworkKind::Wireless,
                    ..base()
                },
                vec![Why::Power, Why::Network, Why::Firmware, Why::Tpm],
            ),
            ("says nothing of its TPM", Facts { tpm: None, firmware: Firmware::Unknown, ..base() }, vec![]),
            ("away", Facts { internet: true, ..base() }, vec![Why::Internet]),
        ];
        for (name, facts, expected) in rows {
            let judged = needs.judge(Some(&facts), &[]);
            let reasons: Vec<Why> = judged.reasons.iter().map(|reason| reason.why).collect();
            assert_eq!(reasons, expected, "{name}: {judged:?}");
            assert_eq!(needs.judge(Some(&facts), &[]), judged, "{name}: twice the same");
        }
        assert_eq!(needs.judge(None, &[]).reasons[0].why, Why::NoFacts);
        let judged = needs.judge(Some(&facts()), &[]);
        assert_eq!((judged.bytes, judged.updates), (4 << 30, vec![updates[0].id()]));
        // Of one that something beside it supersedes nothing comes; it is said of whom that is told alone.
        let newer = UpdateId::of_esd("Windows 11", 28000, "business", "x64", "en-us");
        let mut old = references.clone();
        old.feature_updates[0].facts.superseded_by = vec![newer];
        let mut needs = Needs::of(&sequence, &old, false);
        assert!(needs.judge(Some(&facts()), &[]).is_eligible());
        assert_eq!(needs.judge(Some(&facts()), &[newer]).reasons[0].why, Why::Superseded);
        assert!(needs.judge(Some(&facts()), &[updates[1].id()]).is_eligible());
        // What may be skipped or continued over keeps nobody back.
        let mut lenient = Common::named("prepare");
        lenient.continue_on_error = true;
        let lenient = self::sequence(CheckReadiness::default(), lenient, &updates);
        let slow = Facts { processor_mhz: 900, ..facts() };
        assert!(Needs::of(&lenient, &references, true).judge(Some(&slow), &[]).is_eligible());
        assert!(
            Needs::of(&lenient, &references, true)
                .judge(Some(&Facts { internet: true, ..facts() }), &[])
                .is_eligible()
        );
    }
}
