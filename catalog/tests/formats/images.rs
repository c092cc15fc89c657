//! WIM and solid ESD files made by wimlib, compared with what wimlib itself says of them. Skipped, by name, where
//! `wimlib-imagex` is absent.
#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::fs::File;
use std::path::Path;
use std::process::Command;

use catalog::esd_catalog::Architecture;
use catalog::image::{Compression, ImageInfo};
use catalog::limits::Limits;

fn wimlib(arguments: &[&str]) -> String {
    let output = Command::new("wimlib-imagex").args(arguments).env("LC_ALL", "C.UTF-8").output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ours(path: &Path) -> ImageInfo {
    ImageInfo::read(&mut File::open(path).unwrap(), &Limits::default()).unwrap()
}

/// The values of `label:` in what `wimlib-imagex info` prints.
fn values<'t>(text: &'t str, label: &str) -> Vec<&'t str> {
    let label = format!("{label}:");
    text.lines().filter_map(|line| line.strip_prefix(&label)).map(str::trim).collect()
}

#[test]
fn our_list_equals_that_of_wimlib() {
    if Command::new("wimlib-imagex").arg("--version").output().is_err() {
        println!("skipped: our_list_equals_that_of_wimlib: no wimlib-imagex");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for (image, size) in [("home", 10_000), ("pro", 200_000)] {
        std::fs::create_dir(path(image)).unwrap();
        std::fs::write(format!("{}/common.txt", path(image)), "the same in both").unwrap();
        std::fs::write(format!("{}/own.bin", path(image)), image.repeat(size)).unwrap();
    }
    let (lzx, xpress, stored, solid) =
        (path("lzx.wim"), path("xpress.wim"), path("stored.wim"), path("solid.esd"));
    let facts = |edition, architecture, language, build, revision| {
        [
            ("WINDOWS/EDITIONID", edition),
            ("WINDOWS/INSTALLATIONTYPE", "Client"),
            ("WINDOWS/ARCH", architecture),
            ("WINDOWS/LANGUAGES/LANGUAGE", language),
            ("WINDOWS/LANGUAGES/DEFAULT", language),
            ("WINDOWS/VERSION/MAJOR", "10"),
            ("WINDOWS/VERSION/MINOR", "0"),
            ("WINDOWS/VERSION/BUILD", build),
            ("WINDOWS/VERSION/SPBUILD", revision),
        ]
        .map(|(name, value)| format!("--image-property={name}={value}"))
    };
    let home = facts("Core", "9", "de-DE", "26200", "8246");
    let mut capture = vec!["capture", "PATH", &lzx, "Windows 11 & <Home>", "First", "--compress=LZX"];
    let folder_of_home = path("home");
    capture[1] = &folder_of_home;
    capture.extend(home.iter().map(String::as_str));
    wimlib(&capture);
    let pro = facts("Professional", "12", "zh-TW", "22631", "1");
    let folder_of_pro = path("pro");
    let mut append =
        vec!["append", &folder_of_pro, &lzx, "Windows 11 \u{5c08}\u{696d}\u{7248}", "Second", "--boot"];
    append.extend(pro.iter().map(String::as_str));
    wimlib(&append);
    wimlib(&["export", &lzx, "all", &xpress, "--compress=XPRESS"]);
    wimlib(&["export", &lzx, "all", &stored, "--compress=none"]);
    wimlib(&["export", &lzx, "all", &solid, "--solid"]);

    for (file, compression, version) in [
        (&lzx, Compression::Lzx, 0x10d00),
        (&xpress, Compression::Xpress, 0x10d00),
        (&stored, Compression::None, 0x10d00),
        (&solid, Compression::Lzms, 0xe00),
    ] {
        let ours = ours(Path::new(file));
        let theirs = wimlib(&["info", file]);
        let one = |label: &str| values(&theirs, label)[0].to_owned();
        assert_eq!((ours.compression, ours.version), (compression, version), "{file}");
        assert_eq!(one("Version"), ours.version.to_string());
        assert_eq!(one("Chunk Size"), format!("{} bytes", ours.chunk_size));
        assert_eq!(one("Boot Index"), ours.boot_index.to_string());
        assert_eq!(one("Part Number"), format!("{}/{}", ours.part.0, ours.part.1));
        assert_eq!(one("Image Count"), ours.images.len().to_string());
        let guid: String = ours.guid.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(one("GUID"), format!("0x{guid}"));
        let each =
            |label: &str, ours: Vec<String>| assert_eq!(values(&theirs, label), ours, "{file}: {label}");
        let text = |of: fn(&catalog::image::Image) -> Option<String>| -> Vec<String> {
            ours.images.iter().filter_map(of).collect()
        };
        each("Index", text(|image| Some(image.index.to_string())));
        each("Name", text(|image| Some(image.name.clone())));
        each("Description", text(|image| image.description.clone()));
        each("Edition ID", text(|image| image.edition_id.clone()));
        each("Installation Type", text(|image| image.installation_type.clone()));
        each("Default Language", text(|image| image.default_language.clone()));
        each("Languages", text(|image| Some(image.languages.join(" "))));
        each("Total Bytes", text(|image| image.total_bytes.map(|bytes| bytes.to_string())));
        each("File Count", text(|image| image.file_count.map(|count| count.to_string())));
        each("Build", text(|image| image.version.map(|version| version.build.to_string())));
        each("Service Pack Build", text(|image| image.version.map(|version| version.revision.to_string())));
        let architectures: Vec<_> = ours.images.iter().map(|image| image.architecture).collect();
        assert_eq!(architectures, [Some(Architecture::X64), Some(Architecture::Arm64)]);
        assert_eq!(values(&theirs, "Architecture"), ["x86_64", "ARM64"]);
        assert!(!ours.encrypted);
    }
}
