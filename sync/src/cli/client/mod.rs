//! `spsync client …`: the reference client, on the device itself.

mod explain;
mod run;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Coded as _, Problem};
use clap::{Args, Subcommand};
use dp::client::{
    Cache, CacheLimits, CachedContent, ClientFetched, ClientSettings, Delta, DeviceKey, FetchOptions,
    MOST_NAMED, Removed, SharePace, ShareSettings, Why,
};
use dp::library::LibraryError;
use dp::server::{Served, Source};
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

use super::output::{Rows, safe, size, when};
use super::{Global, Output};
use crate::blocking::blocking;
use crate::clock;
use crate::config::{Loaded, Settings, parse_rate};
use crate::device::advice::for_device;
use crate::device::facts;
use crate::device::key::{self, INSTANCE_FILE};
use crate::device::power;
use crate::keys::Secret;
use crate::plane::call;
use crate::plane::enrol::{self, Place};
use crate::whole;
use crate::words::counted;

/// The reference client, on a device; and at the site the devices that it knows
#[derive(Debug, Subcommand)]
pub enum Client {
    /// Fetch a content by its SHA-256 from wherever the site says: peers, distribution points, the cloud; verified
    Fetch(Fetch),
    /// Enrol this device at its site, with the token of `spsync key enrol`
    Enrol {
        /// The file with the token
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
    },
    /// Serve what this client holds to other clients, and say so to the site, until interrupted; never what is private
    Share {
        /// The most that is sent, to all together, as 2MiB/s; as `[client] share_rate` says if not given
        #[arg(long, value_name = "RATE", value_parser = rate)]
        max_rate: Option<u64>,
    },
    /// Run the task sequences that are deployed to this device
    Run(run::Run),
    /// Check a file that says what a device is, or print an example of one
    Facts {
        /// The file, TOML: the one of `client run --facts` and `ts plan --facts`
        #[arg(required_unless_present = "example", conflicts_with = "example")]
        file: Option<PathBuf>,
        /// Print a commented example
        #[arg(long)]
        example: bool,
        /// One of a pretended device instead, for `client run --simulate`
        #[arg(long, requires = "example")]
        simulate: bool,
    },
    /// Show where this device would get a content, and who is not asked, with the reasons; for each of its deployments
    Explain {
        /// SHA-256 of the content
        content: Sha256Digest,
        /// Where the device remembers its runs
        #[arg(long, value_name = "DIR")]
        state_dir: Option<PathBuf>,
    },
    /// What this device keeps of a run: its scripts, and the end of its log
    #[command(flatten)]
    Here(run::Here),
    /// List what this client keeps, used last first
    Content,
    /// Remove what is beyond `[client] cache_size` and `cache_age`, never what a task needs or what was used within ten minutes
    Clean {
        /// Remove everything else
        #[arg(long)]
        all: bool,
        /// Instead of `cache_size`: 40GiB
        #[arg(long, value_name = "SIZE", value_parser = crate::config::parse_size)]
        max_size: Option<u64>,
        /// Instead of `cache_age`: 90d
        #[arg(long, value_name = "TIME", value_parser = crate::config::parse_duration)]
        max_age: Option<Duration>,
    },
    /// What the site knows of devices
    #[command(flatten)]
    AtSite(super::deploy::AtSite),
}

/// How a content is fetched.
#[derive(Debug, Args)]
pub struct Fetch {
    /// SHA-256 of the content
    content: Sha256Digest,
    /// Also place the file here under its name
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Fail at once where nobody gives it now, though others might be asked after their fallback time
    #[arg(long)]
    no_later: bool,
    /// The key of this device, for private content; that of its enrolment if not given
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Take what it has in common with this file, read whole; `auto`: with what this client keeps, as far as that is
    /// promising; `off`: fetch all of it
    #[arg(long, value_name = "FILE|auto|off", default_value = "auto")]
    delta_from: Vec<PathBuf>,
}

impl Client {
    pub(in crate::cli) async fn run(
        self,
        settings: Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        if let Self::AtSite(verb) = self {
            return verb.run(&settings, global, output).await;
        }
        let settings = settings.settings;
        match self {
            Self::AtSite(_) => Ok(0), // it was asked of the site
            Self::Fetch(fetch) => fetch.run(&settings, output).await,
            Self::Share { max_rate } => share(&settings, max_rate, output).await,
            Self::Enrol { token_file } => enrol(&settings, &token_file, output).await,
            Self::Run(run) => run.run(&settings, output).await,
            Self::Facts { file, simulate, .. } => facts(file.as_deref(), simulate, output),
            Self::Explain { content, state_dir } => {
                explain::explain(&settings, content, state_dir, output).await
            }
            Self::Here(here) => here.run(&settings, output),
            Self::Content => {
                let all = in_cache(&settings, |cache| cache.list()).await?;
                list(&all, output);
                Ok(0)
            }
            Self::Clean { all, max_size, max_age } => {
                let own = settings.client.limits();
                let limits = CacheLimits { size: max_size.or(own.size), age: max_age.or(own.age) };
                let dry_run = global.dry_run;
                let removed =
                    in_cache(&settings, move |cache| cache.clean(limits, 0, all, clock::now(), dry_run))
                        .await?;
                cleaned(&removed, dry_run, output);
                Ok(0)
            }
        }
    }
}

impl Fetch {
    async fn run(self, settings: &Settings, output: &Output) -> Result<u8, Problem> {
        let mut client = settings_of(settings, !self.no_later)?;
        if let Some(path) = &self.key_file {
            client.key = Some((&key::read(path)?).into());
        }
        let options =
            FetchOptions { target: self.to, delta: delta(self.delta_from)?, ..FetchOptions::default() };
        let bar = output.bars.then(indicatif::ProgressBar::no_length);
        let told = bar.clone();
        let fetching = dp::client::fetch_content_with(&client, self.content, &options, move |at| {
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
        if let Err(fault) = dp::client::report(&client, &fetched).await {
            tracing::debug!("the site took no report: {fault}");
        }
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        output.one(&fetched, |f| f.content.to_string(), |output| print(&fetched, output));
        Ok(0)
    }
}

/// Whether a file of facts can be used, or an example of one.
fn facts(file: Option<&Path>, simulate: bool, output: &Output) -> Result<u8, Problem> {
    let Some(file) = file else {
        output.line(if simulate { facts::SIMULATED } else { facts::EXAMPLE }.trim_end());
        return Ok(0);
    };
    let facts = facts::of_file(file)?;
    output.one(
        &facts,
        |facts| facts.version.clone(),
        |output| {
            let text = toml::to_string(&facts).unwrap_or_default();
            text.lines().for_each(|line| output.line(safe(line)));
        },
    );
    Ok(0)
}

fn print(fetched: &ClientFetched, output: &Output) {
    output.line(format!(
        " ✔ {} {} verified: {}",
        safe(fetched.file_name.as_str()),
        size(fetched.size),
        fetched.path.display()
    ));
    output.served(fetched.resumed_from, &fetched.served);
    if fetched.bytes.earlier > 0 {
        output.line(format!("     saved {} of {}", size(fetched.bytes.earlier), size(fetched.size)));
    }
    if fetched.private {
        output.line("     it is private, and is not shared");
    }
    if fetched.already_there {
        output.line("     it was there already");
    }
}

/// Files from which may be taken, or a word.
fn delta(from: Vec<PathBuf>) -> Result<Delta, Problem> {
    let words: Vec<_> = from.iter().filter(|path| matches!(path.to_str(), Some("auto" | "off"))).collect();
    match (from.as_slice(), words.as_slice()) {
        ([one], [word]) if one == *word => {
            Ok(if one.as_os_str() == "off" { Delta::Off } else { Delta::Auto })
        }
        (files, []) if files.len() <= MOST_NAMED => Ok(Delta::From(from)),
        (_, []) => Err(Problem::new(Code::Usage, format!("`--delta-from` takes at most {MOST_NAMED} files"))),
        _ => Err(Problem::new(Code::Usage, "`auto` and `off` stand alone in `--delta-from`")
            .help("a file of that name is `./auto`")),
    }
}

fn rate(text: &str) -> Result<u64, String> {
    parse_rate(text)?.ok_or_else(|| "expected a rate such as `2MiB/s`".to_owned())
}

async fn in_cache<T: Send + 'static>(
    settings: &Settings,
    work: impl FnOnce(&Cache) -> Result<T, LibraryError> + Send + 'static,
) -> Result<T, Problem> {
    let (dir, min_free) = (settings.client_dir(), settings.download.min_free);
    blocking(move || Ok(work(&Cache::open(&dir, min_free)?)?)).await
}

fn list(all: &[CachedContent], output: &Output) {
    let mut rows = Rows::new(&["SHA256", "NAME", "SIZE", "USED", "KEPT FOR", "SHARED"]);
    for one in all {
        rows.push([
            one.content.to_string(),
            one.file_name.as_ref().map_or_else(|| "-".to_owned(), |name| safe(name.as_str())),
            size(one.size),
            one.used.map_or_else(|| "-".to_owned(), when),
            if one.pinned_by.is_empty() { "-".to_owned() } else { safe(&one.pinned_by.join(", ")) },
            if one.private { "never, it is private" } else { "may be" }.to_owned(),
        ]);
    }
    output.list(&all, all, |one| one.content.to_string(), rows, "this client keeps nothing");
}

fn cleaned(removed: &[Removed], dry_run: bool, output: &Output) {
    let mut rows = Rows::new(&["SHA256", "NAME", "SIZE", "WHY"]);
    for Removed { content: one, why } in removed {
        let why = match why {
            Why::Age => "nobody used it for too long",
            Why::Size => "there is too much",
            Why::All => "everything goes",
        };
        let name = one.file_name.as_ref().map_or_else(|| "-".to_owned(), |name| safe(name.as_str()));
        let bytes = if one.partial { format!("{} of it", size(one.size)) } else { size(one.size) };
        rows.push([one.content.to_string(), name, bytes, why.to_owned()]);
    }
    output.list(&removed, removed, |one| one.content.content.to_string(), rows, "nothing has to go");
    if output.for_people() && !removed.is_empty() {
        let bytes = removed.iter().map(|one| one.content.size).sum();
        let done = if dry_run { "would be removed" } else { "removed" };
        output.line(format!("{}, {} {done}", counted(removed.len(), "content"), size(bytes)));
    }
}

/// Where a device enrols, and where its key is kept: where everything else looks for it.
fn place_of(settings: &Settings) -> Result<Place, Problem> {
    let folder = settings.client_dir();
    std::fs::create_dir_all(&folder).map_err(|error| {
        let message = format!("`{}` cannot be made", folder.display());
        Problem::new(whole::code_of(&error), message).because_of(Some(&error))
    })?;
    Ok(Place {
        site: call::base(&settings.client_site())?,
        ca_file: settings.client.ca_file(),
        plain: settings.client.allow_plain_key,
        key_file: key::file(None, settings),
        instance: enrol::instance(&folder.join(INSTANCE_FILE))?,
    })
}

/// The device gets a key of its own.
async fn enrol(settings: &Settings, token_file: &Path, output: &Output) -> Result<u8, Problem> {
    let place = place_of(settings)?;
    let token = Secret::of_file(token_file).map_err(|problem| {
        problem.help("name the file with the token that `spsync key enrol NAME` printed at the site, with `--token-file FILE`")
    })?;
    let enrolled = enrol::with_token(&place, &token).await.map_err(for_device)?;
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

/// What the client on this machine knows before it asks; with its key, if it enrolled.
///
/// # Errors
/// `CLIENT_NO_SITE`, `CONFIG_INVALID`, `DEVICE_KEY_MISSING` where a key is configured and cannot be read.
pub fn settings_of(settings: &Settings, wait: bool) -> Result<ClientSettings, Problem> {
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
        key: key_of(settings)?,
        plain_key: settings.client.allow_plain_key,
        limits: settings.client.limits(),
        before_cloud: settings.client.before_cloud,
    })
}

/// The key of this device. An enrolled one has it in its folder; one that never enrolled needs none for what is public.
fn key_of(settings: &Settings) -> Result<Option<DeviceKey>, Problem> {
    let file = key::file(None, settings);
    if settings.client.key_file().is_none() && !file.exists() {
        return Ok(None);
    }
    Ok(Some((&key::read(&file)?).into()))
}

/// Shares until Ctrl-C or SIGTERM.
async fn share(settings: &Settings, max_rate: Option<u64>, output: &Output) -> Result<u8, Problem> {
    let client = settings_of(settings, false)?;
    if client.key.is_none() {
        let message = "this device has no key to share with; `spsync client enrol` gives it one";
        return Err(Problem::new(Code::DeviceKeyMissing, message));
    }
    let everywhere = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    let listen = SocketAddr::new(client.address.unwrap_or(everywhere), settings.client.peer_port);
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| {
        Problem::new(Code::Internal, "signals cannot be handled").because_of(Some(&error))
    })?;
    let served = Arc::new(Served::default());
    let max_rate = max_rate.or(settings.client.share_rate);
    let rests: fn() -> bool =
        if settings.client.share_on_battery { || false } else { power::runs_on_battery };
    let pace = SharePace::default();
    let settings = ShareSettings { client, listen, max_rate, pace, served: served.clone(), rests };
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    let ready = |address: SocketAddr| output.note(format!("other clients are served at {address}"));
    dp::client::share(&settings, ready, stop).await.map_err(|error| error.problem())?;
    output.note(format!("other clients were given {}", size(served.bytes_as(Source::Peer))));
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enrolment_puts_the_key_where_it_is_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.site.data_dir = folder.path().to_owned();
        settings.client.site = "https://site01.example:8531".to_owned();
        assert_eq!(place_of(&settings).unwrap().key_file, folder.path().join("client/device.key"));
        settings.client.key_file = folder.path().join("key").display().to_string();
        assert_eq!(place_of(&settings).unwrap().key_file, folder.path().join("key"));
    }

    #[test]
    fn files_or_a_word_say_where_parts_are_taken_from() {
        let read = |from: &[&str]| delta(from.iter().map(PathBuf::from).collect());
        assert_eq!(read(&["auto"]), Ok(Delta::Auto));
        assert_eq!(read(&["off"]), Ok(Delta::Off));
        assert_eq!(read(&["./auto", "b.esd"]), Ok(Delta::From(vec!["./auto".into(), "b.esd".into()])));
        assert!(read(&["auto", "b.esd"]).is_err() && read(&["off", "auto"]).is_err());
        assert!(read(&["x"; MOST_NAMED]).is_ok() && read(&["x"; MOST_NAMED + 1]).is_err());
        assert_eq!(rate("2MiB/s"), Ok(2 << 20));
        assert!(rate("").is_err() && rate("2MiB").is_err());
    }
}
