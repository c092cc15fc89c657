//! What keeps a device from what a task sequence asks: one judgement for the site that foresees it and the device that does it.
//! Pure.
//!
//! What a device has not said is not held against it: neither the site nor the device itself knows it, and a guess would
//! stop upgrades that succeed.

use super::{Facts, Firmware, Image, NetworkKind, Power};
use crate::sequence::action::CheckReadiness;
use crate::sequence::choose::{self, differs, numbers};

/// What it is that a device lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Lack {
    Path,
    OsType,
    Architecture,
    Language,
    Edition,
    Disk,
    Memory,
    Processor,
    Firmware,
    Tpm,
    Power,
    Network,
}

/// Every check of Check Readiness that fails on a device; all are made.
pub fn readiness(check: &CheckReadiness, facts: &Facts) -> Vec<(Lack, String)> {
    let mut lacks = Vec::new();
    for (lack, what, has, least) in [
        (Lack::Memory, "MiB of memory", facts.memory_mb, check.memory_mb),
        (Lack::Processor, "MHz of the processor", facts.processor_mhz.into(), check.processor_mhz),
        (Lack::Disk, "MiB free on the disk", facts.free_disk_mb, check.free_disk_mb),
    ] {
        if let Some(least) = least.map(u64::from).filter(|least| has > 0 && has < *least) {
            lacks.push((lack, format!("{what}: {has}, at least {least} is needed")));
        }
    }
    if check.os_type.is_some_and(|wanted| wanted != facts.os_type) {
        lacks.push((Lack::OsType, format!("the device is a {}", facts.os_type)));
    }
    for (lack, what, wanted, is) in [
        (Lack::Architecture, "architecture", &check.architecture, &facts.architecture),
        (Lack::Language, "language", &check.language, &facts.language),
    ] {
        if wanted.as_ref().is_some_and(|wanted| differs(wanted, is)) {
            lacks.push((lack, format!("the {what} is {is}")));
        }
    }
    let (said, version) = (!facts.version.is_empty(), numbers(&facts.version));
    if check.os_at_least.as_ref().is_some_and(|least| said && version < numbers(least)) {
        lacks.push((Lack::Path, format!("version {} is too old", facts.version)));
    }
    if check.os_at_most.as_ref().is_some_and(|most| said && version > numbers(most)) {
        lacks.push((Lack::Path, format!("version {} is too new", facts.version)));
    }
    let no_cable = matches!(facts.network, NetworkKind::Wireless | NetworkKind::None);
    for (wanted, fails, lack, what) in [
        (check.ac_power, facts.power == Power::Battery, Lack::Power, "it runs on its battery"),
        (check.network, facts.network == NetworkKind::None, Lack::Network, "it is on no network"),
        (check.wired, no_cable, Lack::Network, "its network has no cable"),
        (check.uefi, facts.firmware == Firmware::Bios, Lack::Firmware, "its firmware is not UEFI"),
        (check.tpm, facts.tpm == Some(false), Lack::Tpm, "it has no TPM 2.0 that is enabled"),
    ] {
        if wanted && fails {
            lacks.push((lack, what.to_owned()));
        }
    }
    lacks
}

/// What keeps an image from a device. `index`: the edition that the step means.
pub fn image(image: &Image, index: Option<u32>, facts: &Facts) -> Vec<(Lack, String)> {
    let Some(edition) = image.edition(index) else {
        return vec![(Lack::Edition, format!("`{}` has no such edition", image.name))];
    };
    let mut lacks = Vec::new();
    if let Err(problem) = choose::path(&facts.device(), image.os_type, edition.build) {
        lacks.push((Lack::Path, problem.message));
    }
    if let Some(wanted) = edition.architecture.as_ref().filter(|wanted| differs(wanted, &facts.architecture))
    {
        lacks.push((Lack::Architecture, format!("for {wanted}, the device is {}", facts.architecture)));
    }
    if !edition.languages.is_empty()
        && edition.languages.iter().all(|wanted| differs(wanted, &facts.language))
    {
        let text = format!("in {}, the device is in {}", edition.languages.join(", "), facts.language);
        lacks.push((Lack::Language, text));
    }
    if let Some(wanted) = edition.edition.as_ref().filter(|wanted| differs(wanted, &facts.edition)) {
        lacks.push((Lack::Edition, format!("for edition {wanted}, the device has {}", facts.edition)));
    }
    lacks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_not_held_against_a_device() {
        let strict = CheckReadiness {
            memory_mb: Some(1 << 20),
            processor_mhz: Some(9_000),
            free_disk_mb: Some(1 << 20),
            ac_power: true,
            network: true,
            wired: true,
            uefi: true,
            tpm: true,
            architecture: Some("x64".to_owned()),
            language: Some("de-de".to_owned()),
            os_at_least: Some("10.0.22631".to_owned()),
            ..CheckReadiness::default()
        };
        let silent: Facts = serde_json::from_str(
            r#"{"os_type":"client","version":"","edition":"","architecture":"","language":""}"#,
        )
        .unwrap();
        assert_eq!(readiness(&strict, &silent), []);
        let worst: Facts = serde_json::from_str(
            r#"{"os_type":"client","version":"10.0.19045","edition":"E","architecture":"x86","language":"en-us",
                "memory_mb":1,"processor_mhz":1,"free_disk_mb":1,"power":"battery","network":"none",
                "firmware":"bios","tpm":false}"#,
        )
        .unwrap();
        let lacks: Vec<Lack> = readiness(&strict, &worst).into_iter().map(|(lack, _)| lack).collect();
        assert_eq!(
            lacks,
            [
                Lack::Memory,
                Lack::Processor,
                Lack::Disk,
                Lack::Architecture,
                Lack::Language,
                Lack::Path,
                Lack::Power,
                Lack::Network,
                Lack::Network,
                Lack::Firmware,
                Lack::Tpm,
            ]
        );
    }
}
