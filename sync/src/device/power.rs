//! Whether this machine runs on its battery, as the kernel says (Linux, `Documentation/ABI/testing/sysfs-class-power`).

use std::fs;
use std::path::Path;

/// Where the kernel shows what gives this machine its power.
const SUPPLIES: &str = "/sys/class/power_supply";

/// Whether it runs on a battery of its own. A machine of which that is not known does not.
pub fn runs_on_battery() -> bool {
    is_on_battery(Path::new(SUPPLIES))
}

/// No line gives anything, and a battery that is not that of a mouse gives something.
fn is_on_battery(supplies: &Path) -> bool {
    let Ok(all) = fs::read_dir(supplies) else { return false };
    let mut discharges = false;
    for supply in all.filter_map(Result::ok) {
        let said = |name: &str| fs::read_to_string(supply.path().join(name)).unwrap_or_default();
        match said("type").trim() {
            "Mains" | "USB" | "Wireless" if said("online").trim() == "1" => return false,
            "Battery" if said("scope").trim() != "Device" => {
                discharges |= said("status").trim() == "Discharging";
            }
            _ => {}
        }
    }
    discharges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_gives_nothing_and_a_battery_of_its_own_are_a_battery() {
        const LINE: &[(&str, &str)] = &[("type", "Mains"), ("online", "1")];
        const LOOSE: &[(&str, &str)] = &[("type", "Mains"), ("online", "0")];
        const FULL: &[(&str, &str)] = &[("type", "Battery"), ("status", "Full")];
        const GIVES: &[(&str, &str)] = &[("type", "Battery"), ("status", "Discharging"), ("scope", "System")];
        const MOUSE: &[(&str, &str)] = &[("type", "Battery"), ("status", "Discharging"), ("scope", "Device")];
        const DOCK: &[(&str, &str)] = &[("type", "USB"), ("online", "1")];
        const ODD: &[(&str, &str)] = &[("type", "UPS")];
        for (supplies, expected) in [
            (&[][..], false),
            (&[LINE], false),
            (&[LOOSE, GIVES], true),
            (&[GIVES], true),
            (&[LINE, GIVES], false),
            (&[LOOSE, GIVES, DOCK], false),
            (&[LOOSE, FULL], false),
            (&[LOOSE, MOUSE], false),
            (&[ODD, &[]], false),
        ] {
            let folder = tempfile::tempdir().unwrap();
            for (number, supply) in supplies.iter().enumerate() {
                let place = folder.path().join(number.to_string());
                fs::create_dir(&place).unwrap();
                for (name, value) in *supply {
                    fs::write(place.join(name), format!("{value}\n")).unwrap();
                }
            }
            assert_eq!(is_on_battery(folder.path()), expected, "{supplies:?}");
        }
        assert!(!is_on_battery(Path::new("/nowhere")));
    }
}
