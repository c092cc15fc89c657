//! The daemon around one [`Site`]: scheduler, distribution point, update point, admin socket, admin API and health endpoint.
//!
//! It stops gracefully: nothing new is accepted, running transfers get `[server] shutdown_grace`, tasks are marked
//! interrupted and go on at the next start. SIGHUP reloads; a configuration with mistakes changes nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use catalog::problem::{Code, Problem};
use dp::server::{ContentServer, Locator, ServerLimits, Source};
use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::admin::{Caller, wire};
use crate::api::{self, Api};
use crate::clock;
use crate::config::{self, Level, Loaded, Settings};
use crate::deploying;
use crate::device_plane::{self, DeviceService};
use crate::locations::taken::TakenService;
use crate::point::elsewhere::Elsewhere;
use crate::points::{self, PointService};
use crate::schedule::Schedule;
use crate::site::{self, Site};
use crate::update_point::UpdatePoint;
use crate::{forgetting, mending, packages, point, run, tls};

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting: the site's own problems, `LISTEN_FAILED`.
pub async fn run(loaded: Loaded) -> Result<(), Problem> {
    let daemon = Daemon::start(loaded).await?;
    let mut terminate = handler(SignalKind::terminate())?;
    let mut interrupt = handler(SignalKind::interrupt())?;
    let mut hangup = handler(SignalKind::hangup())?;
    // Without systemd there is nobody to tell, and nothing to do about it.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let mut watchdog = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                // Without its time a reload counts as failed (sd_notify(3), MONOTONIC_USEC).
                let now = sd_notify::NotifyState::monotonic_usec_now().ok();
                let states: Vec<_> = [Some(sd_notify::NotifyState::Reloading), now].into_iter().flatten().collect();
                let _ = sd_notify::notify(&states);
                daemon.reload();
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            }
            _ = watchdog.tick() => {
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
            }
        }
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    info!("stopping; a second signal cuts what is still running");
    let again = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    daemon.stop_before(again).await;
    Ok(())
}

fn handler(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Problem> {
    signal(kind)
        .map_err(|error| Problem::new(Code::Internal, "signals cannot be handled").because_of(Some(&error)))
}

/// A daemon that runs in this process.
pub struct Daemon {
    /// The site it works on.
    pub site: Arc<Site>,
    /// Where clients are answered.
    pub addresses: Vec<SocketAddr>,
    /// Where health is answered.
    pub health: Option<SocketAddr>,
    socket: Option<wire::Made>,
    stop: watch::Sender<bool>,
    parts: Vec<tokio::task::JoinHandle<()>>,
}

impl Daemon {
    /// Opens the site and every listener; it serves when this returns.
    ///
    /// # Errors
    /// The site's own problems, `LISTEN_FAILED`.
    pub async fn start(mut loaded: Loaded) -> Result<Self, Problem> {
        // First: that another daemon works on this site says more than that its ports are taken.
        let lock = Site::locked(&loaded).await?;
        let mut listeners = Vec::new();
        for address in &loaded.settings.server.listen {
            listeners.push(listen(address).await?);
        }
        let mut tls_listeners = Vec::new();
        for address in &loaded.settings.server.listen_tls {
            tls_listeners.push(listen(address).await?);
        }
        let addresses: Vec<_> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        loaded.settings_mut().listens_on(&addresses);
        let site = Site::open_locked(loaded, lock).await?;
        site::announce(&site);
        site.refresh_keys().await?;
        let settings = site.settings();
        let (stop, stopped) = watch::channel(false);
        let mut parts = Vec::new();
        let locator: Arc<dyn Locator> = match settings.dp.is_site() {
            true => site.locations.clone(),
            false => Arc::new(Elsewhere::new(&site)),
        };
        let server = ContentServer::new(site.library.clone(), site.shelf.clone(), limits(&settings));
        let mut server = server
            .counting(Source::Point, site.served.clone())
            .with_gate(site.keys.clone())
            .with_locator(locator)
            .with_grouping(site.locations.clone())
            .with_doubts(site.doubts.clone());
        if !settings.public_url_is_a_guess() {
            server = server.known_as(&settings.public_url());
        }
        if settings.dp.is_site() {
            let update_point = Arc::new(UpdatePoint::open(&site).await?);
            let points = Arc::new(PointService::new(site.clone()));
            let peers = Arc::new(site.locations.service(site.keys.clone()));
            let devices = Arc::new(DeviceService::new(site.clone()));
            let taken = Arc::new(TakenService::new(site.clone()));
            server = server
                .with_service(update_point)
                .with_service(points)
                .with_service(peers)
                .with_service(taken)
                .with_service(devices);
            points::begin(&site).await?;
            device_plane::begin(&site).await?;
            parts.push(tokio::spawn(points::keep_time(site.clone(), wait(stopped.clone()))));
            parts.push(tokio::spawn(schedule(site.clone(), wait(stopped.clone()))));
            parts.push(tokio::spawn(deploying::keep_time(site.clone(), wait(stopped.clone()))));
            parts.push(tokio::spawn(forgetting::keep(site.clone(), wait(stopped.clone()))));
            parts.push(tokio::spawn(packages::maps::keep(site.clone(), wait(stopped.clone()))));
        } else {
            if let Some(pulls) = point::demand::open(&site)? {
                server = server.with_pulls(pulls);
            }
            parts.push(point::start(&site, wait(stopped.clone())).await?);
        }
        parts.push(tokio::spawn(mending::keep(site.clone(), wait(stopped.clone()))));
        parts.push(tokio::spawn(mending::verify(site.clone(), wait(stopped.clone()))));
        parts.push(tokio::spawn(mending::later::keep(site.clone(), wait(stopped.clone()))));
        let congestion_control = Some(settings.server.congestion_control.clone());
        let server = server.with_congestion_control(congestion_control.filter(|name| !name.is_empty()));
        let server = Arc::new(server);
        let _ = site.serving_since.set(clock::now()); // only ever set here
        for listener in listeners {
            info!(
                "clients are answered at http://{}",
                listener.local_addr().map_or_else(|_| "?".to_owned(), |a| a.to_string())
            );
            parts.push(tokio::spawn(server.clone().serve(listener, wait(stopped.clone()))));
        }
        let admin_tls = settings.admin.listen_tls();
        if !tls_listeners.is_empty() || admin_tls.is_some() {
            match tls::identity_at_start(&settings, clock::now()) {
                Ok(config) => drop(site.identity.set(Arc::new(ArcSwap::from_pointee(config)))), // the first
                Err(problem) if settings.certificate_from_site() => {
                    info!("{problem}: the site is asked for it")
                }
                Err(problem) => return Err(problem),
            }
            parts.push(tokio::spawn(tls::keep_fresh(site.clone(), wait(stopped.clone()))));
            for listener in tls_listeners {
                let (server, site, stopped) = (server.clone(), site.clone(), stopped.clone());
                parts.push(tokio::spawn(async move {
                    let shown = tls::awaited(&site, &listener, wait(stopped.clone())).await;
                    let Some(identity) = shown else { return };
                    info!(
                        "clients are answered at https://{}",
                        listener.local_addr().map_or_else(|_| "?".to_owned(), |a| a.to_string())
                    );
                    server.serve_tls(listener, identity, wait(stopped)).await;
                }));
            }
        }
        let mut socket = None;
        if let Some(path) = settings.admin.socket() {
            let (listener, made) = wire::listen(&path)?;
            socket = Some(made);
            info!("commands are answered at {}", path.display());
            parts.push(tokio::spawn(wire::serve(site.clone(), listener, wait(stopped.clone()))));
        }
        let api = Api::new(site.clone())?;
        if let Some(address) = admin_tls {
            let listener = listen(&address).await?;
            let (api, site, stopped) = (api.clone(), site.clone(), stopped.clone());
            parts.push(tokio::spawn(async move {
                // Never without one: that would be plain HTTP.
                let shown = tls::awaited(&site, &listener, wait(stopped.clone())).await;
                let Some(identity) = shown else { return };
                info!("administrators are answered at https://{address}{}", api::BASE);
                api::serve(api, listener, Some(identity), wait(stopped)).await;
            }));
        }
        let mut health = None;
        if !settings.admin.listen.is_empty() {
            let listener = listen(&settings.admin.listen).await?;
            health = listener.local_addr().ok();
            let address = health.map_or_else(|| settings.admin.listen.clone(), |address| address.to_string());
            info!("administrators are answered at http://{address}{}, and health", api::BASE);
            parts.push(tokio::spawn(api::serve(api, listener, None, wait(stopped.clone()))));
        }
        Ok(Self { site, addresses, health, socket, stop, parts })
    }

    /// Reads the configuration again. Mistakes change nothing, and are shown until there are none.
    pub fn reload(&self) {
        let reloaded = self.try_reload();
        match &reloaded {
            Ok(()) => info!("the configuration is reloaded"),
            Err(problem) => error!("the configuration is not reloaded: {problem}"),
        }
        self.site.not_reloaded.store(reloaded.err().map(Arc::new));
    }

    fn try_reload(&self) -> Result<(), Problem> {
        let mut loaded = self.site.again()?;
        if let Some(finding) = loaded.check().into_iter().find(|finding| finding.level == Level::Error) {
            return Err(Problem::new(finding.code.unwrap_or(Code::ConfigInvalid), finding.text));
        }
        let now = self.site.settings();
        for change in config::diff(&now, &loaded.settings).iter().filter(|change| !change.reload) {
            warn!("`{}` changed, which needs a restart", change.key);
        }
        loaded.settings_mut().keep_what_needs_a_restart(&now);
        self.site.reload(loaded);
        tls::refresh(&self.site)
    }

    /// Ends all parts, gracefully, and closes the site.
    pub async fn stop(self) {
        self.stop_before(std::future::pending()).await;
    }

    /// The same; what still runs when `hurry` ends is cut at once.
    async fn stop_before(self, hurry: impl Future<Output = ()>) {
        let _ = self.stop.send(true);
        self.site.points.stop();
        let grace = self.site.settings().server.shutdown_grace;
        let all = async {
            for part in self.parts {
                let _ = part.await;
            }
        };
        tokio::select! {
            () = all => {}
            () = tokio::time::sleep(grace) => {
                warn!("transfers that were still running after {}s are cut; clients resume them", grace.as_secs());
            }
            () = hurry => warn!("transfers that were still running are cut; clients resume them"),
        }
        if let Some(socket) = &self.socket {
            socket.remove();
        }
        self.site.close().await;
    }
}

async fn wait(mut stopped: watch::Receiver<bool>) {
    // A dropped sender means that the daemon is gone: stop as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn listen(address: &str) -> Result<TcpListener, Problem> {
    TcpListener::bind(address).await.map_err(|error| {
        Problem::new(Code::ListenFailed, format!("`{address}` cannot be listened on"))
            .because_of(Some(&error))
    })
}

fn limits(settings: &Settings) -> ServerLimits {
    ServerLimits {
        max_connections: settings.server.max_connections,
        max_connections_per_client: settings.server.max_connections_per_client,
        // No network has the last quarter.
        max_connections_per_network: settings.server.max_connections.div_ceil(4).saturating_mul(3),
        max_transfers: settings.server.max_transfers,
        max_transfers_per_client: settings.server.max_transfers_per_client,
        rate_limit: settings.server.rate_limit,
        rate_limit_per_client: settings.server.rate_limit_per_client,
        read_timeout: settings.server.read_timeout,
        shutdown_grace: settings.server.shutdown_grace,
        ..ServerLimits::default()
    }
}

/// A clock that was put right by no more than this makes no run come twice.
const SLIP: SignedDuration = SignedDuration::from_mins(1);

/// After which moment the next run is looked for: `after`, when the last one began, unless the clock was ahead by then. Pure.
fn looks_after(after: Timestamp, now: Timestamp) -> Timestamp {
    if after.duration_since(now) > SLIP { now } else { after }
}

/// Since when a scheduled run has been missing: two in a row have come since `last_ok`, and neither ended well. Pure.
pub(crate) fn overdue(settings: &Settings, last_ok: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let missed = next_run(settings, last_ok)?;
    let again = next_run(settings, missed)?;
    // The second may take its time.
    (again.checked_add(settings.sync.jitter).ok()? < now).then_some(missed)
}

/// When the next scheduled run is due.
pub fn next_run(settings: &Settings, after: Timestamp) -> Option<Timestamp> {
    let schedule = Schedule::parse(&settings.sync.schedule, &settings.sync.timezone).ok()?;
    // The site's code spreads many sites over the jitter, and each keeps its own minute.
    let seed = settings.site.code.as_str().bytes().fold(0, |seed, byte| seed * 256 + u64::from(byte));
    schedule.next(after, settings.sync.jitter, seed)
}

async fn schedule(site: Arc<Site>, stopped: impl Future<Output = ()>) {
    tokio::pin!(stopped);
    let mut after = clock::now();
    loop {
        after = looks_after(after, clock::now());
        let due = next_run(&site.settings(), after);
        let pause = due
            .map(|due| due.duration_since(clock::now()))
            .and_then(|pause| Duration::try_from(pause).ok())
            // A reload may bring another schedule: look again every minute.
            .map_or(Duration::from_secs(60), |pause| pause.min(Duration::from_secs(60)));
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(pause) => {}
        }
        let now = clock::now();
        if due.is_some_and(|due| due <= now) {
            after = now;
            let caller = Caller { who: "schedule".to_owned(), dry_run: false };
            if let Err(problem) = run::start(&site, false, &caller).await {
                error!("the scheduled synchronisation did not start: {problem}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::{small, small_in};

    #[test]
    fn a_clock_that_was_ahead_holds_up_no_run() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-03-01T12:00:00Z");
        for (after, expected) in [
            ("2026-03-01T11:00:00Z", "2026-03-01T11:00:00Z"),
            ("2026-03-01T12:00:00Z", "2026-03-01T12:00:00Z"),
            // Put right by a second: the run of noon does not come again.
            ("2026-03-01T12:00:01Z", "2026-03-01T12:00:01Z"),
            ("2026-03-01T12:02:00Z", "2026-03-01T12:00:00Z"),
            ("2031-03-01T12:00:00Z", "2026-03-01T12:00:00Z"),
        ] {
            assert_eq!(looks_after(at(after), now), at(expected), "{after}");
        }
        // What the loop waits for is what is shown.
        let mut settings = Settings::default();
        settings.sync.schedule = "0 22 * * *".to_owned();
        let due = next_run(&settings, looks_after(at("2031-03-01T12:00:00Z"), now));
        assert_eq!(due, next_run(&settings, now));
        assert!(due.unwrap() < at("2026-03-02T12:00:00Z"));
    }

    #[test]
    fn two_runs_that_did_not_end_well_are_too_many() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let mut settings = Settings::default();
        settings.sync.schedule = "0 22 * * *".to_owned();
        settings.sync.timezone = "UTC".to_owned();
        settings.sync.jitter = Duration::from_secs(600);
        let missed = next_run(&settings, at("2026-03-01T22:30:00Z")).unwrap();
        let overdue_at = |now: &str| overdue(&settings, at("2026-03-01T22:30:00Z"), at(now));
        assert_eq!(overdue_at("2026-03-01T23:00:00Z"), None);
        assert_eq!(overdue_at("2026-03-02T23:00:00Z"), None, "one may fail");
        assert_eq!(overdue_at("2026-03-03T21:59:00Z"), None);
        assert_eq!(overdue_at("2026-03-03T22:21:00Z"), Some(missed));
        assert_eq!(overdue_at("2026-01-01T00:00:00Z"), None, "the clock went back");
        settings.sync.schedule = String::new();
        assert_eq!(overdue(&settings, at("2020-01-01T00:00:00Z"), at("2026-03-03T22:21:00Z")), None);
    }

    /// The next start would fail, in the night when nobody looks.
    #[tokio::test]
    async fn a_configuration_that_was_not_reloaded_is_told_until_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.toml");
        let text = format!(
            "site.data_dir = {:?}\nserver.listen = []\nadmin.listen = \"\"\nadmin.socket = \"\"\n",
            folder.path().join("site")
        );
        std::fs::write(&config, &text).unwrap();
        let daemon = Daemon::start(config::load(Some(&config)).unwrap()).await.unwrap();
        let told = async || {
            let warnings = crate::status::of(&daemon.site).await.unwrap().warnings;
            warnings.into_iter().find(|text| text.contains("configuration on disk"))
        };
        assert_eq!(told().await, None);
        std::fs::write(&config, format!("{text}sync.languges = []\n")).unwrap();
        daemon.reload();
        let warning = told().await.unwrap();
        assert!(warning.contains("CONFIG_UNKNOWN_KEY") && warning.contains("sync.languages"), "{warning}");
        std::fs::write(&config, format!("{text}sync.schedule = \"never\"\n")).unwrap();
        daemon.reload();
        assert!(told().await.unwrap().contains("CONFIG_INVALID"));
        std::fs::write(&config, &text).unwrap();
        daemon.reload();
        assert_eq!(told().await, None);
        daemon.stop().await;
    }

    /// Whoever stops it twice means now, whatever `[server] shutdown_grace` is.
    #[tokio::test]
    async fn a_second_signal_ends_the_grace() {
        let (_folder, site) = small(|settings| {
            settings.server.shutdown_grace = Duration::from_secs(3_600);
            settings.admin.socket.clear();
        })
        .await;
        let (stop, _) = watch::channel(false);
        let parts = vec![tokio::spawn(std::future::pending())];
        let (addresses, health, socket) = (Vec::new(), None, None);
        let daemon = Daemon { site, addresses, health, socket, stop, parts };
        let hurry = tokio::time::sleep(Duration::from_millis(50));
        tokio::time::timeout(Duration::from_secs(30), daemon.stop_before(hurry)).await.expect("it stops");
    }

    /// Its name was given to another file, and the site goes: so goes nothing else.
    #[tokio::test]
    async fn a_daemon_takes_away_only_the_socket_that_it_made() {
        let (folder, first) = small(|_| {}).await;
        first.close().await;
        let path = folder.path().join("admin.sock");
        let mut settings = Settings::default();
        settings.site.data_dir = folder.path().join("site");
        settings.server.listen.clear();
        settings.admin.listen.clear();
        settings.admin.socket = path.display().to_string();
        std::fs::write(&path, "theirs").unwrap();
        let refused = Daemon::start(Loaded::from(settings.clone())).await.map(drop).unwrap_err();
        assert_eq!(refused.code, Code::ListenFailed, "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
        std::fs::remove_file(&path).unwrap();
    }

    /// Its ports are those of the first, and to free them is no help.
    #[tokio::test]
    async fn a_second_daemon_is_told_of_the_first_and_not_of_its_ports() {
        let folder = tempfile::tempdir().unwrap();
        let first = small_in(folder.path(), |_| {}).await;
        let port = listen("127.0.0.1:0").await.unwrap();
        let mut settings = Settings::default();
        settings.site.data_dir = folder.path().join("site");
        settings.server.listen = vec![port.local_addr().unwrap().to_string()];
        let refused = Daemon::start(Loaded::from(settings.clone())).await.map(drop).unwrap_err();
        assert_eq!(refused.code, Code::SiteLocked, "{refused}");
        first.close().await;
        let refused = Daemon::start(Loaded::from(settings.clone())).await.map(drop).unwrap_err();
        assert_eq!(refused.code, Code::ListenFailed, "{refused}");
        drop(port);
        settings.server.listen.clear();
        settings.admin.listen.clear();
        Daemon::start(Loaded::from(settings)).await.expect("nothing is locked any more").stop().await;
    }
}
