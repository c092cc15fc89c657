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
use jiff::Timestamp;
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
    info!("stopping");
    daemon.stop().await;
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
        if let Some(socket) = settings.admin.socket() {
            let listener = wire::listen(&socket)?;
            info!("commands are answered at {}", socket.display());
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
        Ok(Self { site, addresses, health, stop, parts })
    }

    /// Reads the configuration again. Mistakes change nothing.
    pub fn reload(&self) {
        let loaded = match self.site.again() {
            Ok(loaded) => loaded,
            Err(problem) => return error!("the configuration is not reloaded: {problem}"),
        };
        if let Some(finding) = loaded.check().into_iter().find(|finding| finding.level == Level::Error) {
            return error!("the configuration is not reloaded: {}", finding.text);
        }
        let mut loaded = loaded;
        let now = self.site.settings();
        for change in config::diff(&now, &loaded.settings).iter().filter(|change| !change.reload) {
            warn!("`{}` changed, which needs a restart", change.key);
        }
        loaded.settings_mut().keep_what_needs_a_restart(&now);
        self.site.reload(loaded);
        if let Err(problem) = tls::refresh(&self.site) {
            error!("the certificate is not reloaded: {problem}");
        }
        info!("the configuration is reloaded");
    }

    /// Ends all parts, gracefully, and closes the site.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        self.site.points.stop();
        let grace = self.site.settings().server.shutdown_grace;
        let all = async {
            for part in self.parts {
                let _ = part.await;
            }
        };
        if tokio::time::timeout(grace, all).await.is_err() {
            warn!(
                "transfers that were still running after {}s are cut; clients resume them",
                grace.as_secs()
            );
        }
        if let Some(socket) = self.site.settings().admin.socket() {
            let _ = std::fs::remove_file(socket);
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
    use crate::site::small_in;

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
