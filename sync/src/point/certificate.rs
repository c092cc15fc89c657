//! The certificate of a point whose `[tls] from_site` is on: asked of its site, renewed in time, and anew for other hosts.
//!
//! The key is made here and never leaves. While the site does not answer, the certificate that is here is shown on.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use catalog::problem::{Code, Problem};
use rcgen::{KeyPair, SigningKey as _};
use tracing::{error, info};

use super::call;
use crate::clock;
use crate::points::wire::{CertificateAnswer, CertificateRequest, certificate_proof};
use crate::site::Site;
use crate::tls;

/// How often it is looked at, beside whenever the assignment is another one.
const LOOK: Duration = Duration::from_secs(3_600);
/// After this long what failed is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// What a point of this name asks for a key.
///
/// # Errors
/// `INTERNAL`.
pub(crate) fn certificate_request(point: &str, key: &KeyPair) -> Result<CertificateRequest, Problem> {
    let public_key = STANDARD.encode(key.public_key_raw());
    let said = certificate_proof(point, &public_key);
    let proof = key.sign(said.as_bytes()).map_err(|error| Problem::of(Code::Internal, &error))?;
    Ok(CertificateRequest { public_key, proof: STANDARD.encode(proof) })
}

/// Sees to it that there is one, for as long as it is polled.
pub(super) async fn keep(site: &Arc<Site>) {
    let mut assigned = site.point.assigned.subscribe();
    let mut failed = None;
    loop {
        let mut pause = LOOK;
        if is_due(site) {
            let code = match renew(site).await {
                Ok(()) => None,
                Err(problem) => {
                    pause = AGAIN;
                    let code = Some(problem.code);
                    if failed != code {
                        error!("the site gives no certificate: {problem}");
                    }
                    code
                }
            };
            failed = code;
        }
        let _ = tokio::time::timeout(pause, assigned.changed()).await;
    }
}

/// Whether one is wanted now: there is none that can be used, it is for other hosts, it is over soon, or it is not good yet.
fn is_due(site: &Site) -> bool {
    let settings = site.settings();
    let (tag, assignment) = site.point.assignment();
    if !settings.certificate_from_site() || tag.is_none() {
        return false;
    }
    let usable = tls::identity(&settings).is_ok();
    if assignment.certificate.is_empty() {
        return !usable; // the site has no authority, and says so
    }
    let fits = |made: &tls::Certificates| made.names == assignment.certificate && !made.is_due(clock::now());
    !(usable && matches!(tls::about(&settings), Ok(Some(made)) if fits(&made)))
}

async fn renew(site: &Arc<Site>) -> Result<(), Problem> {
    let settings = site.settings();
    let base = call::base(&settings.dp.site)?;
    let web = call::web_of_point(&settings, &base)?;
    let pair = KeyPair::generate().map_err(|error| Problem::of(Code::Internal, &error))?;
    let asked = certificate_request(&site.point.assignment().1.point, &pair)?;
    let answer: CertificateAnswer =
        call::tell(&web, &call::join(&base, "point/certificate")?, &asked).await?;
    let about = &answer.signed.about;
    // The authority of the site may be in its last days: then another certificate is no better, and one key is as good as another.
    let has_as_good = tls::identity(&settings).is_ok()
        && matches!(tls::about(&settings), Ok(Some(made)) if made.names == about.names && !about.is_better_than(&made));
    if has_as_good {
        return Ok(());
    }
    tls::take_over(&settings, &pair, &answer.signed, &answer.authority)?;
    info!("the site gave a certificate for {}, good until {}", about.names.join(", "), about.until);
    tls::refresh(site)
}
