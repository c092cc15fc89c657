//! What an administrator means by a content: a SHA-256, an update, a package or a file of it, an image, an application, or the
//! name of a file. [`find`] is pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};
use dp::locate::Places;

use crate::deploying::resolve::Stored;
use crate::site::Site;
use crate::updates;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct File {
    /// Its digest.
    pub content: Sha256Digest,
    /// A name for it.
    pub name: String,
    /// Its bytes.
    pub size: u64,
}

/// Something with files.
#[derive(Debug, Clone)]
struct Thing {
    /// What it is, for people.
    sort: &'static str,
    /// By these it is named whole, or by the unique beginning of one.
    names: Vec<String>,
    /// By these it is named whole only.
    whole: Vec<String>,
    files: Vec<File>,
}

/// The files that `name` means.
///
/// # Errors
/// `CONTENT_NOT_FOUND`, `AMBIGUOUS`.
pub(super) async fn files(site: &Arc<Site>, places: &Places, name: &str) -> Result<Vec<File>, Problem> {
    find(name, &things(site, places).await?)
}

async fn things(site: &Arc<Site>, places: &Places) -> Result<Vec<Thing>, Problem> {
    let contents = places.contents().filter_map(|content| {
        let held = places.holds(*content)?;
        let file = File { content: *content, name: held.file_name.to_string(), size: held.size };
        let (names, whole) = (vec![content.to_string()], vec![file.name.clone()]);
        Some(Thing { sort: "content", names, whole, files: vec![file] })
    });
    let mut things: Vec<Thing> = contents.collect();
    let (stored, packages, images, apps) = site
        .read(|r| {
            let mut packages = Vec::new();
            for package in r.packages()? {
                let files = r.package_files(&package.id)?;
                packages.push((package, files));
            }
            Ok((Stored::of(r.stored_files()?), packages, r.images()?, r.apps()?))
        })
        .await?;
    let thing = |sort, names, files| Thing { sort, names, whole: Vec::new(), files };
    for listed in updates::all(site).await? {
        let update = &listed.update;
        let files = update.files.iter().filter_map(|file| {
            let content = stored.sha256(&file.digests)?;
            Some(File { content, name: file.file_name.to_string(), size: file.size })
        });
        let names = vec![update.id.update.to_string(), update.title.clone()];
        things.push(thing("update", names, files.collect()));
    }
    for (package, members) in packages {
        let files = members.iter().filter_map(|member| {
            let content = stored.sha256(&member.digests)?;
            Some(File { content, name: member.file_name.to_string(), size: member.size })
        });
        things.push(thing("package", vec![package.id.to_string(), package.name], files.collect()));
    }
    for row in images {
        let file = File { content: row.content, name: row.file_name.to_string(), size: row.size };
        things.push(thing("OS upgrade package", vec![row.id.to_string(), row.name], vec![file]));
    }
    for row in apps {
        let files = row.files.iter().map(|file| File {
            content: file.content,
            name: file.file_name.to_string(),
            size: file.size,
        });
        things.push(thing("application", vec![row.id.to_string(), row.name.clone()], files.collect()));
    }
    Ok(things)
}

/// The files of the one thing that is called `name`, or of its part behind a slash: by a whole name, else by the unique
/// beginning of one. Several things with the same files are one.
fn find(name: &str, things: &[Thing]) -> Result<Vec<File>, Problem> {
    let wanted = name.trim().to_lowercase();
    if let Some((owner, part)) = wanted.rsplit_once('/') {
        let files = the_one(owner, things)?.into_iter();
        let files: Vec<_> = files.filter(|file| file.name.to_lowercase() == part).collect();
        return match files.is_empty() {
            true => {
                Err(Problem::new(Code::ContentNotFound, format!("there is no file `{part}` in `{owner}`")))
            }
            false => Ok(files),
        };
    }
    the_one(&wanted, things)
}

fn the_one(wanted: &str, things: &[Thing]) -> Result<Vec<File>, Problem> {
    let is =
        |thing: &&Thing| thing.names.iter().chain(&thing.whole).any(|name| name.to_lowercase() == wanted);
    let begins = |thing: &&Thing| {
        !wanted.is_empty() && thing.names.iter().any(|name| name.to_lowercase().starts_with(wanted))
    };
    let mut found: Vec<&Thing> = things.iter().filter(is).collect();
    if found.is_empty() {
        found = things.iter().filter(begins).collect();
    }
    let nothing = |message: String| Err(Problem::new(Code::ContentNotFound, message));
    if found.is_empty() {
        return nothing(format!(
            "no content, update, package, image, application or file is called `{wanted}`"
        ));
    }
    let mut different: BTreeMap<Vec<Sha256Digest>, &Thing> = BTreeMap::new();
    for thing in &found {
        let mut digests: Vec<_> = thing.files.iter().map(|file| file.content).collect();
        digests.sort();
        digests.dedup();
        different.entry(digests).or_insert(thing);
    }
    different.remove(&Vec::new());
    let mut one = different.values();
    match (one.next(), one.next()) {
        (None, _) => {
            let message = format!("what `{wanted}` consists of is not known by a SHA-256 yet");
            Err(Problem::new(Code::ContentNotFound, message).help("it is known once it is downloaded"))
        }
        (Some(thing), None) => {
            let mut files = thing.files.clone();
            files.sort_by(|a, b| (&a.name, a.content).cmp(&(&b.name, b.content)));
            files.dedup_by(|a, b| a.content == b.content);
            Ok(files)
        }
        (Some(_), Some(_)) => {
            let names =
                different.values().take(8).map(|thing| format!("{} {}", thing.sort, thing.names.join(" ")));
            let message = format!("{} things are called `{wanted}…`", different.len());
            Err(Problem::new(Code::Ambiguous, message).because(names.collect::<Vec<_>>().join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(number: u8, name: &str) -> File {
        File { content: Sha256Digest([number; 32]), name: name.to_owned(), size: 1 }
    }

    fn thing(sort: &'static str, names: &[&str], files: &[File]) -> Thing {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Thing { sort, names, whole: Vec::new(), files: files.to_vec() }
    }

    #[test]
    fn names_table() {
        let (esd, setup, data) = (file(0x7c, "win.esd"), file(0x11, "setup.exe"), file(0x12, "data.cab"));
        let content = |file: &File| Thing {
            whole: vec![file.name.clone()],
            ..thing("content", &[&file.content.to_string()], std::slice::from_ref(file))
        };
        let things = [
            content(&esd),
            content(&setup),
            thing(
                "update",
                &["7d3e91aa-0000-4000-8000-000000000000", "Windows 11, version 25H2"],
                std::slice::from_ref(&esd),
            ),
            thing("update", &["7d3e91ab-0000-4000-8000-000000000000", "Windows 11, version 24H2"], &[]),
            thing("package", &["XYZ00001", "p"], &[esd.clone(), setup.clone()]),
            thing("OS upgrade package", &["XYZ00002", "win"], std::slice::from_ref(&esd)),
            thing("application", &["XYZ00003", "office"], &[setup.clone(), data.clone()]),
        ];
        let digest = esd.content.to_string();
        let several = [data.clone(), setup.clone()];
        let both = [setup.clone(), esd.clone()];
        let one = [esd.clone()];
        for (name, expected) in [
            (digest.as_str(), Ok(&one[..])),
            (&digest[..3], Ok(&one)),
            // The update and the content are the same file.
            ("7", Ok(&one)),
            ("7d3e91aa", Ok(&one)),
            ("WINDOWS 11, version 25", Ok(&one)),
            ("7d3e91ab", Err(Code::ContentNotFound)),
            ("p", Ok(&both)),
            ("P/Win.ESD", Ok(&one)),
            ("p/other.esd", Err(Code::ContentNotFound)),
            ("xyz00002", Ok(&one)),
            ("office", Ok(&several)),
            ("office/data.cab", Ok(&several[..1])),
            ("win.esd", Ok(&one)),
            ("setup.exe", Ok(&both[..1])),
            ("setup", Err(Code::ContentNotFound)),
            ("xyz", Err(Code::Ambiguous)),
            ("", Err(Code::ContentNotFound)),
            ("/", Err(Code::ContentNotFound)),
            ("nothing", Err(Code::ContentNotFound)),
        ] {
            let found = find(name, &things).map_err(|problem| problem.code);
            assert_eq!(found, expected.map(<[File]>::to_vec), "{name}");
        }
    }
}
