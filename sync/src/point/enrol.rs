//! Getting a key for a one-time token.

use std::path::PathBuf;

use catalog::problem::{Code, Problem};
use url::Url;
use uuid::Uuid;

use super::link;
use crate::config::Settings;
use crate::keys::Secret;
use crate::points::wire::{Enrolled, Enrolment};

/// Enrols with the token of `[dp] token_file`. The key is made before it is asked for and is put in place after: whatever
/// is lost in between, the same request can be made again.
///
/// # Errors
/// `None` where there is no token; else why it did not work.
pub(super) async fn with_token(
    settings: &Settings,
    base: &Url,
    instance: Uuid,
) -> Result<Enrolled, Option<Problem>> {
    let path = settings.dp.token_file().filter(|path| path.exists()).ok_or(None)?;
    let token = Secret::of_file(&path)?;
    let (place, coming) = (settings.point_key_file(), coming(settings));
    let key = Secret::of_own_file(&coming)?;
    let asked = Enrolment { token: token.reveal(), key_sha256: key.hash(), instance };
    let web = link::web(settings, None)?;
    let (status, body) = link::post(&web, &link::join(base, "enrol")?, &asked).await?;
    if status != 200 {
        return Err(Some(link::refusal(&base.origin().ascii_serialization(), status, &body)));
    }
    let enrolled: Enrolled = serde_json::from_slice(&body)
        .map_err(|error| Problem::of(Code::SiteAnswerInvalid, &error))?;
    std::fs::rename(&coming, &place).map_err(|error| {
        Problem::new(Code::DataDirNotWritable, format!("`{}` cannot be written", place.display()))
            .because_of(Some(&error))
    })?;
    Ok(enrolled)
}

/// Where a key waits until the site knows it.
fn coming(settings: &Settings) -> PathBuf {
    let mut name = settings.point_key_file().into_os_string();
    name.push(".new");
    name.into()
}
