//! `spsync client …`: the reference client, on the device itself.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Coded as _, Problem};
use clap::Subcommand;
use dp::client::{ClientSettings, ShareSettings};
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

use super::Output;
use super::output::{safe, size};
use crate::config::{Loaded, Settings};
use crate::keys::Secret;
use crate::point;
use crate::point::enrol::Place;

/// The key of a device, in its folder.
pub const KEY_FILE: &str = "device.key";

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
    /// Enrol this device at its site, with the token of `spsync key enrol`
    Enrol {
        /// The file with the token
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
    },
    /// Serve what this client holds to other clients, and say so to the site, until interrupted
    Share,
}

impl Client {
    pub(super) async fn run(self, settings: Loaded, output: &Output) -> Result<u8, Problem> {
        let settings = settings.settings;
        let (content, to, no_later) = match self {
            Self::Fetch { content, to, no_later } => (content, to, no_later),
            Self::Share => return share(&settings, output).await,
            Self::Enrol { token_file } => return enrol(&settings, &token_file, output).await,
        };
        let client = settings_of(&settings, !no_later)?;
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
        // A device that enrolled says who gave what; that is for the site's numbers, and not worth a word if it fails.
        if let Ok(key) = std::fs::read_to_string(key_file(&settings))
            && let Err(fault) = dp::client::report(&client, key.trim(), &fetched).await
        {
            tracing::debug!("the site took no report: {fault}");
        }
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

/// The device gets a key of its own, kept in its folder.
async fn enrol(settings: &Settings, token_file: &Path, output: &Output) -> Result<u8, Problem> {
    let folder = settings.client_dir();
    std::fs::create_dir_all(&folder).map_err(|error| {
        let message = format!("`{}` cannot be made", folder.display());
        Problem::new(Code::DataDirNotWritable, message).because_of(Some(&error))
    })?;
    let place = Place {
        site: point::call::base(&settings.client_site())?,
        ca_file: settings.client.ca_file(),
        key_file: folder.join(KEY_FILE),
        instance: point::instance(&folder.join("device.instance"))?,
    };
    let enrolled = point::enrol::with_token(&place, &Secret::of_file(token_file)?).await?;
    output.one(
        &enrolled,
        |enrolled| enrolled.name.clone(),
        |output| {
            output.line(format!(
                "enrolled as {} `{}` of site {}",
                enrolled.kind,
                safe(&enrolled.name),
                enrolled.site
            ));
        },
    );
    Ok(0)
}

fn key_file(settings: &Settings) -> PathBuf {
    settings.client.key_file().unwrap_or_else(|| settings.client_dir().join(KEY_FILE))
}

fn settings_of(settings: &Settings, wait: bool) -> Result<ClientSettings, Problem> {
    let site = settings.client_site();
    let site = Url::parse(&site).map_err(|error| {
        Problem::new(Code::ClientNoSite, format!("`{site}` is no address of a site")).because_of(Some(&error))
    })?;
    Ok(ClientSettings {
        site,
        dir: settings.client_dir(),
        ca_file: settings.client.ca_file(),
        allow_networks: settings.client.allow_networks.clone(),
        min_free: settings.download.min_free,
        address: settings.client.address()?,
        wait,
    })
}

/// Shares until Ctrl-C or SIGTERM.
async fn share(settings: &Settings, output: &Output) -> Result<u8, Problem> {
    let client = settings_of(settings, false)?;
    // An enrolled device has its key in its folder.
    let path = key_file(settings);
    let key = std::fs::read_to_string(&path).map_err(|error| {
        let message = "this device has no key to share with; `spsync client enrol` gives it one";
        Problem::new(Code::DeviceKeyMissing, message).because(format!("`{}`: {error}", path.display()))
    })?;
    let everywhere = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    let listen = SocketAddr::new(client.address.unwrap_or(everywhere), settings.client.peer_port);
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| {
        Problem::new(Code::Internal, "signals cannot be handled").because_of(Some(&error))
    })?;
    let settings = ShareSettings { client, listen, key: key.trim().to_owned() };
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    let ready = |address: SocketAddr| output.note(format!("other clients are served at {address}"));
    dp::client::share(&settings, ready, stop).await.map_err(|error| error.problem())?;
    Ok(0)
}
