//! Setup's media, put together from an ESD or WIM by an outside tool.

use std::path::PathBuf;

use catalog::image::{Image as WimImage, ImageInfo};
use catalog::limits::Limits;
use catalog::problem::{Code, Coded as _, Problem};

use super::super::gather::emptied;
use super::super::process::Ended;
use super::{Executor as _, From, Real, Work};
use crate::blocking::blocking;
use crate::device::machine::Failure;
use crate::policy::ContentFile;
use crate::sequence::action::UpgradeOs;

/// The tool that opens ESDs and WIMs.
pub const WIMLIB: &str = "wimlib-imagex";

/// What could not be done with a disk, as the step says it.
fn failure(problem: Problem) -> Failure {
    Failure { code: problem.code, exit: None, details: problem.to_string() }
}

impl Real {
    /// Setup's media: put together from an image, or a folder that somebody named.
    pub(super) async fn media(
        &self,
        work: Work<'_>,
        upgrade: &UpgradeOs,
    ) -> Result<(PathBuf, From), Failure> {
        let missing = |details: String| Failure { code: Code::SetupMediaMissing, exit: None, details };
        if let Some(path) = &upgrade.source_path {
            let folder = PathBuf::from(work.variables.fill(path, work.secrets));
            return match folder.join("setup.exe").exists() {
                true => Ok((folder, From::Folder)),
                false => Err(missing(format!("there is no setup.exe in `{}`", folder.display()))),
            };
        }
        let file = image_file(work, upgrade)?;
        let path = file.sha256.and_then(|digest| work.files.get(&digest)).cloned();
        let path = path.ok_or_else(|| missing(format!("`{}` is not on the device", file.name)))?;
        let read = path.clone();
        let info = blocking(move || {
            let mut opened = std::fs::File::open(&read).map_err(|error| {
                Problem::new(Code::SetupMediaMissing, format!("`{}`: {error}", read.display()))
            })?;
            ImageInfo::read(&mut opened, &Limits::default())
                .map_err(|error| Problem::new(error.code(), error.to_string()))
        });
        let info = info.await.map_err(failure)?;
        let (wanted, from) = self.editions(&info, work, upgrade)?;
        let media = info.images.iter().find(|image| is_media(image));
        let media = media.ok_or_else(|| missing(format!("`{}` has no setup media", file.name)))?;
        let whole = self.work().join("media");
        let part = self.work().join("media.part");
        let before = [whole.clone(), part.clone()];
        blocking(move || before.iter().try_for_each(|folder| emptied(folder))).await.map_err(failure)?;
        let image = path.display().to_string();
        let folder = part.display().to_string();
        self.wimlib(work, &["apply", &image, &media.index.to_string(), &folder]).await?;
        let sources = part.join("sources");
        std::fs::create_dir_all(&sources).map_err(|error| missing(error.to_string()))?;
        let install = sources.join("install.esd").display().to_string();
        for index in wanted {
            self.wimlib(work, &["export", &image, &index.to_string(), &install]).await?;
        }
        let program = part.join("setup.exe");
        if !program.is_file() {
            return Err(missing(format!("the setup media of `{}` have no setup.exe", file.name)));
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let _ = std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755));
        }
        std::fs::rename(&part, &whole).map_err(|error| missing(error.to_string()))?;
        Ok((whole, from))
    }

    /// The indexes that go onto the media: of a feature update the edition of the device; of an OS upgrade package all, of
    /// which the step means one.
    fn editions(
        &self,
        info: &ImageInfo,
        work: Work<'_>,
        upgrade: &UpgradeOs,
    ) -> Result<(Vec<u32>, From), Failure> {
        let editions = crate::software::images::editions(info);
        if upgrade.image.is_none() {
            let facts = self.facts();
            let mine = |image: &&&WimImage| {
                image.edition_id.as_ref().is_some_and(|edition| edition.eq_ignore_ascii_case(&facts.edition))
            };
            let found = editions.iter().find(mine).ok_or_else(|| Failure {
                code: Code::SetupChoiceUnavailable,
                exit: Some(0xC190_0204),
                details: format!("the feature update has no edition {}", facts.edition),
            })?;
            return Ok((vec![found.index], From::FeatureUpdate));
        }
        let known = upgrade.image.as_ref().and_then(|id| work.frame.assignment.references.image(id));
        let wanted = upgrade
            .edition_index
            .or(known.and_then(|image| image.edition(None)).map(|edition| edition.index))
            .or(editions.first().map(|image| image.index));
        let place = editions.iter().position(|image| Some(image.index) == wanted).ok_or_else(|| Failure {
            code: Code::EditionIndexInvalid,
            exit: None,
            details: "the image has no edition with this index".to_owned(),
        })?;
        let index = u32::try_from(place + 1).unwrap_or(1);
        Ok((editions.iter().map(|image| image.index).collect(), From::Image { index }))
    }

    async fn wimlib(&self, work: Work<'_>, arguments: &[&str]) -> Result<(), Failure> {
        let line = std::iter::once(WIMLIB).chain(arguments.iter().copied()).map(str::to_owned).collect();
        let program = self.program(work, "-expand", line, None);
        let ended = program.run(work.order.limit).await;
        let output = program.output();
        program.forget();
        let fails = |code, details: String| Err(Failure { code, exit: None, details });
        match ended {
            Ok(Ended::Exit(0)) => Ok(()),
            Ok(Ended::Exit(127)) => fails(Code::ToolMissing, format!("`{WIMLIB}` is not installed")),
            Ok(Ended::Exit(code)) => {
                let line = output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
                fails(
                    Code::SetupMediaMissing,
                    format!("`{WIMLIB} {}` ended with {code}: {line}", arguments[0]),
                )
            }
            Ok(Ended::TimedOut) => fails(Code::StepTimedOut, "the image was not unpacked in time".to_owned()),
            Err(error) => fails(Code::ToolMissing, error.to_string()),
        }
    }
}

/// The image among the files of what an upgrade takes.
pub(super) fn image_file<'a>(work: Work<'a>, upgrade: &UpgradeOs) -> Result<&'a ContentFile, Failure> {
    let references = &work.frame.assignment.references;
    let nothing = || Failure {
        code: Code::NoFeatureUpdateApplies,
        exit: Some(0xC190_0200),
        details: work.choice.map(crate::device::evaluate::reasons).unwrap_or_default(),
    };
    if let Some(id) = &upgrade.image {
        return references.image(id).map(|image| &image.file).ok_or_else(nothing);
    }
    let update = references.chosen(work.choice).ok_or_else(nothing)?;
    let esd = |file: &&ContentFile| {
        let name = file.name.as_str().to_ascii_lowercase();
        name.ends_with(".esd") || name.ends_with(".wim")
    };
    update.files.iter().find(esd).ok_or_else(|| Failure {
        code: Code::SetupFormUnsupported,
        exit: None,
        details: format!("`{}` has no image; only Windows' own update agent installs it", update.facts.title),
    })
}

/// The setup media are the image that is no edition and no Windows PE.
fn is_media(image: &WimImage) -> bool {
    let pe = image.installation_type.as_ref().is_some_and(|kind| kind.eq_ignore_ascii_case("WindowsPE"))
        || image.edition_id.as_ref().is_some_and(|edition| edition.eq_ignore_ascii_case("WindowsPE"));
    image.edition_id.is_none() && !pe
}
