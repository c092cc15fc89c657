//! Turning documents of the classification *Upgrades* into feature updates.
//!
//! A document says what an administrator approves; its files are in bundled revisions, up to three levels down. Each is
//! looked at once, and again while a part of it is missing. What a document comes to is decided by
//! [`catalog::feature_update`]; here its parts, its products and the addresses of its files are found.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use catalog::feature_update::{self, FeatureUpdate, UPGRADES};
use catalog::id::RevisionId;
use catalog::limits::Limits;
use catalog::problem::Problem;
use catalog::update::{self, Revision};
use jiff::Timestamp;
use schema::updates::{NewFile, NewLicense, NewRevision, Recorded, Unoffered};
use schema::{Reader, SchemaError};
use tracing::warn;

use crate::clock;
use crate::select;
use crate::site::Site;

/// The most revisions of one bundle: real ones have some twenty.
const MOST_PARTS: usize = 1_000;
/// Documents in one transaction: the writer is free in between.
const AT_ONCE: usize = 500;

/// Looks at what was recorded since, and records what it came to.
///
/// # Errors
/// Those of the database. A document that cannot be read any more is told in the log and left as it is.
pub async fn refresh(site: &Arc<Site>) -> Result<Recorded, Problem> {
    let mut sum = Recorded::default();
    let open = site.read(|r| r.unoffered(UPGRADES)).await?;
    let mut changed = false;
    for batch in open.chunks(AT_ONCE) {
        let batch = batch.to_vec();
        // Read and described beside the writer. What still lacks as much as before is left alone: a synchronisation
        // that brings nothing writes nothing.
        let described = site
            .read(move |r| {
                let described = batch.into_iter().map(|one| Ok((offer(r, &one)?, one)));
                let told = described.filter(|described| match described {
                    Ok((Some(new), one)) => one.lacked != Some(new.missing),
                    Ok((None, one)) => one.lacked.is_none(),
                    Err(_) => true,
                });
                told.collect::<Result<Vec<_>, SchemaError>>()
            })
            .await?;
        if described.is_empty() {
            continue;
        }
        changed = true;
        let recorded = site
            .write(move |w| {
                let mut recorded = Recorded::default();
                for (new, one) in &described {
                    match new {
                        Some(new) => w.record_offer(one, new, clock::now(), &mut recorded)?,
                        None => w.record_no_offer(one)?,
                    }
                }
                w.share_links()?;
                Ok(recorded)
            })
            .await?;
        sum.new += recorded.new;
        sum.revised += recorded.revised;
        sum.unchanged += recorded.unchanged;
    }
    if changed {
        site.refresh_shelf().await?;
    }
    Ok(sum)
}

/// What one document comes to; `None` where it cannot be read, or is no feature update after all.
fn offer(reader: &Reader<'_>, of: &Unoffered) -> Result<Option<NewRevision>, SchemaError> {
    let Some(whole) = read(reader, of.id)? else { return Ok(None) };
    if !feature_update::is_offered(&whole) {
        return Ok(None);
    }
    let (parts, missing) = parts(reader, &whole)?;
    let described = FeatureUpdate::describe(&whole, &parts);
    let mut products = Vec::new();
    for category in whole.categories() {
        if reader.category_type(category)?.as_deref() == Some("Product")
            && let Some(title) = reader.category_title(category)?
        {
            products.push(title);
        }
    }
    let mut files = Vec::new();
    for file in &described.files {
        let urls = match file.digests.sha1 {
            Some(sha1) => reader.metadata_urls(sha1)?,
            None => Vec::new(),
        };
        files.push(NewFile { file_name: file.name.clone(), size: file.size, digests: file.digests, urls });
    }
    // The largest first: it stands for the update where there is room for one.
    files.sort_by_key(|file| std::cmp::Reverse(file.size));
    let license_key = described.license.map(|id| format!("eula:{id}"));
    Ok(Some(NewRevision {
        update: of.id.update,
        number: Some(of.id.number),
        title: described.title,
        classification: select::UPGRADES.to_owned(),
        product: described.product.map(|product| product.to_string()),
        products,
        release: described.release,
        build: described.build.map(|build| (build.major, build.minor, build.stamp)),
        edition_group: described.edition_group,
        editions: Vec::new(),
        architecture: described.architecture,
        language: described.language,
        shape: described.shape,
        told_by: described.told_by,
        bases: described.bases,
        files,
        encrypted: described.encrypted,
        license_required: license_key.is_some(),
        license_key,
        licenses: described
            .licenses
            .into_iter()
            .map(|text| NewLicense { language: text.language, size: text.size, digests: text.digests })
            .collect(),
        created: described.created.and_then(|ms| Timestamp::from_millisecond(ms).ok()),
        expired: described.expired,
        missing: (missing + described.unusable_files) as u64,
    }))
}

/// Every revision that a bundle contains, all the way down, each once; how many of them are not known. A bundle that
/// contains itself ends all the same.
fn parts(reader: &Reader<'_>, whole: &Revision) -> Result<(Vec<Revision>, usize), SchemaError> {
    let bundled = |revision: &Revision| -> Vec<RevisionId> {
        revision.bundled.iter().flat_map(|clause| clause.any_of.iter().copied()).collect()
    };
    let mut seen = BTreeSet::from([whole.id]);
    let mut open: VecDeque<RevisionId> = bundled(whole).into();
    let (mut parts, mut missing) = (Vec::new(), 0);
    while let Some(id) = open.pop_front() {
        if !seen.insert(id) {
            continue;
        }
        if seen.len() > MOST_PARTS {
            warn!("{} has more than {MOST_PARTS} parts; the rest is not looked at", whole.id);
            missing += 1;
            break;
        }
        match read(reader, id)? {
            Some(part) => {
                open.extend(bundled(&part));
                parts.push(part);
            }
            None => missing += 1,
        }
    }
    Ok((parts, missing))
}

fn read(reader: &Reader<'_>, id: RevisionId) -> Result<Option<Revision>, SchemaError> {
    let Some(document) = reader.metadata_document(id)? else { return Ok(None) };
    match update::parse(&document, &Limits::default()) {
        Ok(revision) => Ok(Some(revision)),
        Err(error) => {
            warn!("the recorded document of {id} cannot be read: {error}");
            Ok(None)
        }
    }
}
