//! The numbers of `/metrics`, in the text form of OpenMetrics 1.0. Labels are words of ours, and names of boundary groups, of
//! which there is an end (`dp::server::tally`): nothing foreign becomes one.

use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use catalog::problem::Problem;
use dp::client::TakenFrom;
use dp::peers::Sharing;
use dp::server::tally::Tally;
use dp::server::{Outcome, Pulled, Refusal, Served, Source};

use crate::health::Found;
use crate::site::Site;

/// The media type.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is told beside what was served.
#[derive(Debug, Default)]
struct Facts {
    version: &'static str,
    started: f64,
    last_sync: Option<f64>,
    contents: u64,
    stored: u64,
    stored_bytes: u64,
    free_bytes: u64,
    database_free_bytes: Option<u64>,
    tasks: u64,
    changes_waiting: usize,
    peers: Option<Sharing>,
}

/// All numbers of a site.
pub(crate) async fn of(site: &Arc<Site>, found: Found) -> Result<String, Problem> {
    let last = site.read(|r| r.last_ok_run()).await?;
    let seconds = |time: jiff::Timestamp| time.as_millisecond() as f64 / 1_000.0;
    let facts = Facts {
        version: env!("CARGO_PKG_VERSION"),
        started: seconds(site.started),
        last_sync: last.map(|run| seconds(run.started)),
        contents: site.shelf.load().contents.len() as u64,
        stored: found.usage.blobs,
        stored_bytes: found.usage.bytes,
        free_bytes: found.usage.free,
        database_free_bytes: found.database_free,
        tasks: site.tasks.running().len() as u64,
        changes_waiting: site.store.changes_waiting(),
        peers: site.settings().dp.is_site().then(|| site.locations.sharing()),
    };
    let none = Pulled::default();
    let pulled = site.point.pulls.get().map_or(&none, |pulls| &pulls.counts);
    Ok(text(&facts, &site.served, pulled, &site.locations.taken))
}

fn text(facts: &Facts, served: &Served, pulled: &Pulled, taken: &Tally<{ TakenFrom::ALL.len() }>) -> String {
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let mut out = Exposition(String::with_capacity(4096));
    out.family("spsync_build", "info", "The program that answers.");
    out.sample("spsync_build_info", &[("version", facts.version)], 1);
    out.gauge("spsync_start_time_seconds", "When the site was opened.", facts.started);
    if let Some(last) = facts.last_sync {
        out.gauge("spsync_last_sync_start_time_seconds", "When the last run began that ended well.", last);
    }
    out.gauge("spsync_contents_offered", "Contents that the distribution point may serve.", facts.contents);
    out.gauge("spsync_contents_stored", "Files in the content library.", facts.stored);
    out.gauge("spsync_content_stored_bytes", "Their bytes.", facts.stored_bytes);
    out.gauge("spsync_content_free_bytes", "Bytes free on that file system.", facts.free_bytes);
    if let Some(free) = facts.database_free_bytes {
        out.gauge("spsync_database_free_bytes", "Bytes free on the file system of the database.", free);
    }
    out.gauge("spsync_tasks_running", "Tasks that work now.", facts.tasks);
    let help = "Changes that wait for their turn to be written to the database.";
    out.gauge("spsync_database_changes_waiting", help, facts.changes_waiting);
    if let Some(Sharing { devices, contents, announced, refused, distrusted, .. }) = &facts.peers {
        out.gauge("spsync_peers", "Devices that share what they hold.", devices);
        out.gauge("spsync_peer_contents", "Different contents that they share.", contents);
        let help = "Contents of all of them together, each as often as it is shared.";
        out.gauge("spsync_peer_announced_contents", help, announced);
        let help = "Announcements for which there was no room, since the start.";
        out.gauge("spsync_peer_announcements_refused", help, refused);
        let help = "Devices that nobody is sent to, because others found them lying.";
        out.gauge("spsync_peers_distrusted", help, distrusted.len());
    }

    out.family("spsync_requests", "counter", "Requests answered, by who served and how they ended.");
    for source in Source::ALL {
        for outcome in Outcome::ALL {
            let labels = [("source", source.name()), ("outcome", outcome.name())];
            out.sample("spsync_requests_total", &labels, served.requests_as(source, outcome));
        }
    }
    out.family("spsync_served_bytes", "counter", "Bytes of bodies sent, by who served.");
    for source in Source::ALL {
        out.sample("spsync_served_bytes_total", &[("source", source.name())], served.bytes_as(source));
    }
    out.family("spsync_group_served_bytes", "counter", "The same, by the boundary group of the client.");
    for row in served.groups.rows() {
        let group = escaped(row.group());
        for source in Source::ALL {
            let labels = [("group", group.as_str()), ("source", source.name())];
            out.sample("spsync_group_served_bytes_total", &labels, row.of(source as usize));
        }
    }
    out.family(
        "spsync_group_taken_bytes",
        "counter",
        "Bytes that clients say they took, by who gave them; saved: what they had.",
    );
    for row in taken.rows() {
        let group = escaped(row.group());
        for (kind, of) in TakenFrom::ALL.into_iter().enumerate() {
            let labels = [("group", group.as_str()), ("source", of.name())];
            out.sample("spsync_group_taken_bytes_total", &labels, row.of(kind));
        }
    }
    out.family(
        "spsync_served_from_file_bytes",
        "counter",
        "Those of them that the kernel sent from the file.",
    );
    out.sample("spsync_served_from_file_bytes_total", &[], load(&served.by_region));
    out.family("spsync_refused", "counter", "Requests and connections that were not served, by reason.");
    for refusal in Refusal::ALL {
        let labels = [("reason", refusal.name()), ("code", refusal.code().name())];
        out.sample("spsync_refused_total", &labels, served.refused(*refusal));
    }
    out.gauge("spsync_connections", "Connections of clients.", load(&served.connections));
    out.gauge("spsync_transfers", "Bodies above 64 KiB that are being sent.", load(&served.transfers));
    out.gauge("spsync_transfers_waiting", "Requests that wait for their turn.", load(&served.waiting));
    for (name, help, counter) in [
        ("spsync_pulls", "Contents that began to arrive because they were asked for.", &pulled.begun),
        ("spsync_pulls_stored", "Those of them that were verified and stored.", &pulled.stored),
        ("spsync_pulls_failed", "Those that nobody could give, or that could not be kept.", &pulled.failed),
        ("spsync_pulled_bytes", "Bytes that came so.", &pulled.bytes),
        ("spsync_pull_followers", "Requests answered while their content arrived.", &pulled.followers),
        ("spsync_evictions", "Contents that made room.", &pulled.evicted),
        ("spsync_evicted_bytes", "Bytes of those.", &pulled.evicted_bytes),
    ] {
        out.family(name, "counter", help);
        out.sample(&format!("{name}_total"), &[], load(counter));
    }
    out.gauge("spsync_pulls_running", "Contents that arrive now.", load(&pulled.running));
    out.0.push_str("# EOF\n");
    out.0
}

/// The value of a label as OpenMetrics writes it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Text that grows. Writing to a string cannot fail.
struct Exposition(String);

impl Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# TYPE {name} {kind}\n# HELP {name} {help}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{text}\"", if index == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_text_is_open_metrics() {
        let served = Served::default();
        let facts = Facts {
            version: "1.2.3",
            started: 1.5,
            last_sync: Some(2.0),
            database_free_bytes: Some(7),
            peers: Some(Sharing { devices: 41, contents: 97, announced: 120, ..Sharing::default() }),
            ..Facts::default()
        };
        served.groups.row(Some("a \"b\" \\c"));
        let taken = Tally::default();
        taken.row(Some("LYON")).add(2, 7);
        taken.row(Some("LYON")).add(3, 9);
        let text = text(&facts, &served, &Pulled::default(), &taken);
        let odd = r#"spsync_group_served_bytes_total{group="a \"b\" \\c",source="peer"} 0"#;
        assert!(text.contains(odd), "{text}");
        assert!(
            text.contains("spsync_group_taken_bytes_total{group=\"LYON\",source=\"cloud\"} 7\n"),
            "{text}"
        );
        assert!(
            text.contains("spsync_group_taken_bytes_total{group=\"LYON\",source=\"saved\"} 9\n"),
            "{text}"
        );
        for gauge in [
            "spsync_database_free_bytes 7",
            "spsync_peers 41",
            "spsync_peer_contents 97",
            "spsync_peer_announced_contents 120",
            "spsync_peers_distrusted 0",
        ] {
            assert!(text.contains(&format!("\n{gauge}\n")), "{text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
        assert!(text.contains("\nspsync_build_info{version=\"1.2.3\"} 1\n"), "{text}");
        assert!(text.contains("\nspsync_start_time_seconds 1.5\n"), "{text}");
        assert!(
            text.contains("spsync_refused_total{reason=\"forbidden\",code=\"SERVE_FORBIDDEN\"} 0\n"),
            "{text}"
        );
        let (mut families, mut samples) = (HashSet::new(), HashSet::new());
        let mut family = (String::new(), String::new());
        for line in text.lines().filter(|line| *line != "# EOF") {
            match line.strip_prefix("# TYPE ").map(|rest| rest.split_once(' ').unwrap()) {
                Some((name, kind)) => {
                    assert!(families.insert(name.to_owned()), "{name} twice");
                    family = (name.to_owned(), kind.to_owned());
                }
                None if line.starts_with("# HELP ") => {
                    assert!(line.starts_with(&format!("# HELP {} ", family.0)), "{line}");
                }
                None => {
                    let (name, value) = line.rsplit_once(' ').unwrap();
                    value.parse::<f64>().unwrap();
                    assert!(samples.insert(name.to_owned()), "{name} twice");
                    let suffix = match &*family.1 {
                        "counter" => "_total",
                        "info" => "_info",
                        _ => "",
                    };
                    let bare = name.split('{').next().unwrap();
                    assert_eq!(bare, format!("{}{suffix}", family.0), "a sample of its family");
                    assert!(bare.starts_with("spsync_"));
                }
            }
        }
        assert!(samples.len() > 40);
    }
}
