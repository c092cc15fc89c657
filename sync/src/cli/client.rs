//! `spsync client …`: the reference client, on the device itself.

use std::path::PathBuf;

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Coded as _, Problem};
use clap::Subcommand;
use dp::client::ClientSettings;
use url::Url;

use super::Output;
use super::output::{safe, size};
use crate::config::Loaded;

/// The reference client, on a device
#[derive(Debug, Subcommand)]
pub enum Client {
    /// Fetch a content by its SHA-256 from wherever the site says: peers, distribution points, the cloud; verified
    Fetch {
        /// SHA-256 of the content
        content: Sha256Digest,
        /// Also place the file here under its name
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        /// Fail at once where nobody gives it now, though others might be asked after their fallback time
        #[arg(long)]
        no_later: bool,
    },
}

impl Client {
    pub(super) async fn run(self, settings: Loaded, output: &Output) -> Result<u8, Problem> {
        let Self::Fetch { content, to, no_later } = self;
        let settings = settings.settings;
        let site = if settings.client.site.is_empty() {
            settings.public_url()
        } else {
            settings.client.site.clone()
        };
        let site = Url::parse(&site).map_err(|error| {
            Problem::new(Code::ClientNoSite, format!("`{site}` is no address of a site"))
                .because_of(Some(&error))
        })?;
        let client = ClientSettings {
            site,
            dir: settings.client_dir(),
            ca_file: settings.client.ca_file(),
            allow_networks: settings.client.allow_networks.clone(),
            min_free: settings.download.min_free,
            address: settings.client.address()?,
            wait: !no_later,
        };
        let bar = output.bars.then(indicatif::ProgressBar::no_length);
        let told = bar.clone();
        let fetching = dp::client::fetch_content(&client, content, to.as_deref(), move |at| {
            if let Some(bar) = &told {
                bar.set_length(at.size);
                bar.set_position(at.have);
            }
        });
        let fetched = tokio::select! {
            fetched = fetching => fetched.map_err(|error| error.problem())?,
            _ = tokio::signal::ctrl_c() => {
                return Err(Problem::new(Code::Interrupted, "interrupted").keeping("what was received is kept"));
            }
        };
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        output.one(
            &fetched,
            |f| f.content.to_string(),
            |output| {
                output.line(format!(
                    " ✔ {} {} verified: {}",
                    safe(fetched.file_name.as_str()),
                    size(fetched.size),
                    fetched.path.display()
                ));
                if fetched.resumed_from > 0 {
                    output.line(format!("     resumed from {}", size(fetched.resumed_from)));
                }
                for served in &fetched.served {
                    output.line(format!(
                        "     {} from {} {}: {}",
                        size(served.bytes),
                        served.kind,
                        safe(&served.name),
                        safe(&served.outcome)
                    ));
                }
                if fetched.already_there {
                    output.line("     it was there already");
                }
            },
        );
        Ok(0)
    }
}
