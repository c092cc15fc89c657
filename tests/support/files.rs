//! What is in files that a program has written, and what becomes of them.

use std::path::Path;

use memchr::memmem::Finder;

/// Names of the files below `folder` that hold `wanted`, in either case and in either width of characters.
pub fn files_with(folder: &Path, wanted: &[u8]) -> Vec<String> {
    let narrow = wanted.to_ascii_lowercase();
    let wide: Vec<u8> = narrow.iter().flat_map(|byte| [*byte, 0]).collect();
    let mut found = Vec::new();
    search(folder, &[Finder::new(&narrow), Finder::new(&wide)], &mut found);
    found
}

/// Changes bytes of a file as a disk does that goes bad: its times say that nobody has written to it.
pub fn rot(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let before = std::fs::metadata(path).and_then(|found| found.modified()).expect("it is there");
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("it is ours");
    let mut bytes = std::fs::read(path).expect("it can be read");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("it is written");
    std::fs::File::open(path).and_then(|file| file.set_modified(before)).expect("it is ours");
}

/// What is looked for is in lower case, and so is each file made once: comparing at each place without regard to case
/// took half a minute for the files of one site.
fn search(folder: &Path, wanted: &[Finder<'_>; 2], found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            search(&path, wanted, found);
        } else if path.is_file() {
            // A running program may have removed it.
            let bytes = std::fs::read(&path).unwrap_or_default().to_ascii_lowercase();
            if wanted.iter().any(|wanted| wanted.find(&bytes).is_some()) {
                found.push(path.display().to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_in_whatever_form() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        let wide: Vec<u8> = b"huNter2".iter().flat_map(|byte| [*byte, 0]).collect();
        for (name, text) in [("a", &b"xHunter2"[..]), ("in/b", &wide), ("c", b"hunter 2")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let mut found = files_with(folder.path(), b"hunter2");
        found.sort();
        assert_eq!(found, ["a", "in/b"].map(|name| folder.path().join(name).display().to_string()));
    }
}
