use std::time::Duration;

use catalog::problem::Code;

use super::*;

mod refusals;

/// A folder with a configuration file, and a data directory beside it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(config: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let data = folder.0.path().join("data");
        std::fs::create_dir(&data).unwrap();
        folder.write("config.toml", &format!("site.data_dir = {:?}\n{config}", data));
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn inputs(&self, environment: &[(&str, &str)]) -> Inputs {
        Inputs {
            base: Base::File { path: self.path("config.toml"), named: true },
            environment: environment.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect(),
            flags: Vec::new(),
        }
    }

    fn load(&self) -> Result<Loaded, Problem> {
        self.inputs(&[]).load()
    }

    fn load_with(&self, environment: &[(&str, &str)]) -> Result<Loaded, Problem> {
        self.inputs(environment).load()
    }
}

fn shown(loaded: &Loaded, key: &str) -> (String, String) {
    let shown =
        loaded.shown().into_iter().find(|shown| shown.key == key).unwrap_or_else(|| panic!("no key {key}"));
    (shown.value, shown.origin)
}

#[test]
fn without_a_file_the_defaults_apply() {
    let nowhere = tempfile::tempdir().unwrap().path().join("config.toml");
    // The default data directory may hold a selection on this machine.
    let data = ("SPSYNC_SITE__DATA_DIR".to_owned(), "/nowhere/at/all".to_owned());
    let inputs = |named| Inputs {
        base: Base::File { path: nowhere.clone(), named },
        environment: vec![data.clone()],
        flags: Vec::new(),
    };
    let loaded = inputs(false).load().unwrap();
    let differs: Vec<_> =
        diff(&Settings::default(), &loaded.settings).into_iter().map(|change| change.key).collect();
    assert_eq!(differs, ["site.data_dir"]);
    let problem = inputs(true).load().unwrap_err();
    assert_eq!(problem.code, Code::ConfigUnreadable);
    assert!(problem.message.contains("config.toml"), "{problem}");
}

#[test]
fn layers_stand_above_each_other_and_every_value_knows_its_place() {
    let folder = Folder::new(
        "[sync]\nlanguages = [\"de-de\"]\njitter = \"1m\"\ntimezone = \"UTC\"\nproducts = [\"A\"]\n",
    );
    folder
        .write("conf.d/20-late.toml", "sync.jitter = \"3m\"\n")
        .write("conf.d/10-early.toml", "[sync]\njitter = \"2m\"\nreleases = [\"24H2\"]\n")
        .write("conf.d/30-not.txt", "no toml at all")
        .write("data/selection.toml", "[sync]\nproducts = [\"C\"]\n");
    let mut loaded = folder
        .load_with(&[
            ("SPSYNC_SYNC__PRODUCTS", "B"),
            ("SPSYNC_SYNC__RETRY__MAX", "9"),
            ("SPSYNC_SYNC__RELEASES", " 25H2 , 24H2 ,"),
            ("SPSYNC_DOWNLOAD__REQUIRE_SHA256", "true"),
            ("SPSYNC_CONFIG", "/is/a/flag"),
            ("SPSYNC_TOKEN_FILE", "/is/a/flag"),
        ])
        .unwrap();
    let place = |name: &str, line: usize| format!("{}:{line}", folder.path(name).display());
    let owned = |value: &str, origin: String| (value.to_owned(), origin);
    assert_eq!(shown(&loaded, "sync.languages"), owned("[\"de-de\"]", place("config.toml", 3)));
    assert_eq!(shown(&loaded, "sync.jitter"), owned("\"3m\"", place("conf.d/20-late.toml", 1)));
    let variable = |name: &str| format!("environment variable {name}");
    assert_eq!(
        shown(&loaded, "sync.releases"),
        owned("[\"25H2\", \"24H2\"]", variable("SPSYNC_SYNC__RELEASES"))
    );
    assert_eq!(shown(&loaded, "sync.retry.max"), owned("9", variable("SPSYNC_SYNC__RETRY__MAX")));
    assert_eq!(shown(&loaded, "sync.retry.first"), owned("\"1s\"", "built-in default".to_owned()));
    assert_eq!(shown(&loaded, "sync.products"), owned("[\"C\"]", place("data/selection.toml", 2)));
    assert!(loaded.settings.download.require_sha256);
    loaded.set_listen(&["127.0.0.1:0".to_owned()]).unwrap();
    assert_eq!(shown(&loaded, "server.listen"), owned("[\"127.0.0.1:0\"]", "--listen".to_owned()));
    // Flags stay above what is read again.
    folder.write("conf.d/40.toml", "server.listen = [\"[::]:9000\"]\ndb.readers = 2\n");
    let again = loaded.again().unwrap();
    assert_eq!((again.settings.server.listen[0].as_str(), again.settings.db.readers), ("127.0.0.1:0", 2));
}

#[test]
fn sources_are_put_together_by_name() {
    let folder = Folder::new(
        "[[source]]\nname = \"Lab\"\ncatalogs = [\"a.cab\", \"https://host/b.cab\"]\n[[source]]\nname = \"other\"\n",
    );
    folder.write(
        "conf.d/1.toml",
        "[[source]]\nname = \"Lab\"\nallow_networks = [\"10.0.0.0/8\", \"127.0.0.1\"]\n",
    );
    let loaded = folder.load_with(&[("SPSYNC_SOURCE__LAB__MIRRORS", "http://m1/,http://m2/")]).unwrap();
    let sources = &loaded.settings.sources;
    assert_eq!(sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>(), ["Lab", "other"]);
    let file = folder.path("data/a.cab").display().to_string();
    assert_eq!(sources[0].catalogs, [file, "https://host/b.cab".to_owned()]);
    assert_eq!(sources[0].allow_networks.len(), 2);
    assert_eq!(sources[0].mirrors, ["http://m1/", "http://m2/"]);
    assert_eq!(sources[1], Source { name: "other".to_owned(), ..Source::default() });
    // The built-in source applies while no file names one, and can be adjusted by the environment.
    let builtin = Folder::new("").load_with(&[("SPSYNC_SOURCE__ESD__CATALOGS", "/srv/p.cab")]).unwrap();
    assert_eq!(builtin.settings.sources.len(), 1);
    assert_eq!(builtin.settings.sources[0].catalogs, ["/srv/p.cab"]);
    assert_eq!(Folder::new("source = []").load().unwrap().settings.sources, []);
}

#[test]
fn relative_paths_start_at_the_data_directory() {
    let folder =
        Folder::new("tls.extra_ca_file = \"ca.pem\"\nadmin.socket = \"admin.sock\"\nclient.ca_file = \"\"\n");
    let settings = folder.load().unwrap().settings;
    let data = |name: &str| folder.path("data").join(name);
    assert_eq!(settings.db_path(), data("spsync.db"));
    assert_eq!(settings.content_dir(), data("content"));
    assert_eq!(settings.client_dir(), data("client"));
    assert_eq!(settings.tls.extra_ca_file(), Some(data("ca.pem")));
    assert_eq!(settings.admin.socket(), Some(data("admin.sock")));
    assert_eq!(settings.client.ca_file(), None);
}

#[test]
fn a_written_selection_is_read_back_above_files_and_environment() {
    let folder = Folder::new("[sync]\nlanguages = [\"fr-fr\"]\n");
    let before = folder.load().unwrap();
    let selection = Selection {
        products: vec!["Windows 11".to_owned(), "odd \"name\" \\ \u{7}".to_owned()],
        languages: vec!["*".to_owned()],
        ..before.settings.selection()
    };
    write_selection(&folder.path("data"), &selection).unwrap();
    let after = before.again().unwrap();
    assert_eq!(after.settings.selection(), selection);
    assert_eq!(
        folder.load_with(&[("SPSYNC_SYNC__LANGUAGES", "de-de")]).unwrap().settings.selection(),
        selection
    );
    // Nothing but the file itself is left in the folder.
    let left: Vec<_> =
        std::fs::read_dir(folder.path("data")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, [SELECTION_FILE]);
    let problem = write_selection(&folder.path("nowhere"), &selection).unwrap_err();
    assert_eq!(problem.code, Code::DataDirNotWritable);
}

#[test]
fn the_selection_file_holds_nothing_else() {
    let folder = Folder::new("");
    folder.write("data/selection.toml", "[sync]\nproducts = []\nschedule = \"\"\n");
    let problem = folder.load().unwrap_err();
    assert!(
        problem.message.contains("selection.toml:3: `sync.schedule`: this file holds the selection only"),
        "{problem}"
    );
    folder.write("data/selection.toml", "[sync]\nproduct = []\n");
    assert_eq!(folder.load().unwrap_err().code, Code::ConfigUnknownKey);
}

#[test]
fn settings_made_by_the_program_ignore_files_and_take_selections() {
    let folder = Folder::new("");
    let mut settings = Settings::default();
    settings.site.data_dir = folder.path("data");
    settings.server.listen = vec!["127.0.0.1:0".to_owned()];
    settings.server.max_connections = usize::MAX;
    let mut loaded = Loaded::from(settings);
    loaded.settings_mut().listens_on(&["127.0.0.1:4711".parse().unwrap()]);
    assert_eq!(
        shown(&loaded, "server.listen"),
        ("[\"127.0.0.1:0\"]".to_owned(), "set by the program".to_owned())
    );
    assert_eq!(shown(&loaded, "db.readers").1, "built-in default");
    let selection = Selection { languages: vec!["de-de".to_owned()], ..loaded.settings.selection() };
    write_selection(&folder.path("data"), &selection).unwrap();
    let again = loaded.again().unwrap();
    assert_eq!(again.settings.selection(), selection);
    assert_eq!(again.settings.public_url(), "http://127.0.0.1:4711");
}

#[test]
fn clients_are_told_where_the_site_is() {
    let mut settings = Settings::default();
    assert_eq!(settings.public_url(), "http://localhost:8530");
    assert!(settings.public_url_is_a_guess());
    settings.server.listen = vec!["10.1.2.3:80".to_owned()];
    assert_eq!(settings.public_url(), "http://10.1.2.3:80");
    assert!(!settings.public_url_is_a_guess());
    settings.server.listen = vec!["site01:8530".to_owned()];
    assert_eq!(settings.public_url(), "http://site01:8530");
    settings.listens_on(&["[::1]:99".parse().unwrap()]);
    assert_eq!(settings.public_url(), "http://[::1]:99");
    settings.listens_on(&["0.0.0.0:8530".parse().unwrap()]);
    assert!(settings.public_url_is_a_guess());
    settings.server.public_url = "http://site01.example:8530/".to_owned();
    assert_eq!(settings.public_url(), "http://site01.example:8530");
    assert!(!settings.public_url_is_a_guess());

    let mut settings = Settings::default();
    settings.server.listen = Vec::new();
    settings.server.listen_tls = vec!["site01.example:8531".to_owned()];
    assert_eq!(settings.public_url(), "https://site01.example:8531");
    assert!(!settings.public_url_is_a_guess());
    settings.server.listen_tls = vec!["[::]:8531".to_owned()];
    assert!(settings.public_url_is_a_guess());
}

fn findings(text: &str, environment: &[(&str, &str)]) -> Vec<Finding> {
    let mut found = Folder::new(text).load_with(environment).unwrap().check();
    // Whether the disk of the machine that tests is nearly full is not the question here.
    found.retain(|finding| !finding.text.contains("same file system as `db.path`"));
    found
}

#[test]
fn a_listener_that_collides_is_told_by_its_own_key() {
    for (text, expected) in [
        (
            "server.listen_tls = [\"[::]:8530\"]\n",
            "`server.listen_tls`: `[::]:8530` and `[::]:8530` cannot be",
        ),
        (
            "server.listen_tls = [\"[::]:8543\"]\nadmin.listen = \"127.0.0.1:8543\"\n",
            "`admin.listen`: `127.0.0.1:8543` collides with `server.listen_tls` `[::]:8543`",
        ),
    ] {
        let found = findings(text, &[]);
        let told = |one: &Finding| one.level == Level::Error && one.text.contains(expected);
        assert!(found.iter().any(told), "{text}: {found:?}");
    }
}

#[test]
fn the_check_finds_what_cannot_work_here() {
    let address = "server.public_url = \"http://site01:8530\"\n";
    let open = findings(address, &[]);
    assert!(
        open.len() == 1 && open[0].text.contains("`update_point.upstream_role`: downstream servers get"),
        "{open:?}"
    );
    let quiet = &format!("{address}update_point.upstream_role = false\n");
    assert_eq!(findings(quiet, &[]), []);
    let secure =
        "dp.role = \"pull\"\ndp.site = \"https://site01:8531\"\nclient.site = \"http://127.0.0.1:8530\"\n";
    assert_eq!(findings(&format!("{quiet}{secure}"), &[]), []);
    let rows: &[(&str, Level, &str)] = &[
        ("sync.schedule = \"every day\"", Level::Error, ":4: `sync.schedule`: `every day` is no schedule"),
        ("sync.schedule = \"0 0 30 2 *\"", Level::Error, "`sync.schedule`: `0 0 30 2 *` never comes"),
        ("sync.timezone = \"Mars/Olympus\"", Level::Error, "`sync.timezone`: `Mars/Olympus` is no time zone"),
        ("server.listen = [\"[::]:1\", \"127.0.0.1:1\"]", Level::Error, "cannot be listened on both"),
        ("admin.listen = \"127.0.0.1:8530\"", Level::Error, "`admin.listen`: `127.0.0.1:8530` collides"),
        ("admin.listen = \"0.0.0.0:8540\"", Level::Warn, "can be reached from other machines"),
        ("db.path = \"/\"", Level::Error, "`db.path`: expected a file, actual the folder `/`"),
        (
            "server.listen_tls = [\"127.0.0.1:8531\"]",
            Level::Error,
            "`server.listen_tls`: TLS_NOT_SET_UP: there is no `",
        ),
        (
            "admin.listen_tls = \"127.0.0.1:8541\"\ntls = { cert_file = \"/none.pem\", key_file = \"/none.key\" }",
            Level::Error,
            "or no key of it; mend the files of `tls.cert_file` and `tls.key_file`",
        ),
        ("tls.extra_ca_file = \"none.pem\"", Level::Error, "`tls.extra_ca_file`: `"),
        ("client.ca_file = \"/none.pem\"", Level::Error, "`client.ca_file`: `/none.pem` cannot be read"),
        ("sync.classifications = [\"Updates\"]", Level::Warn, "CLASSIFICATION_NOT_ENABLED"),
        ("sync.languages = []", Level::Warn, "`sync.languages`: empty, so nothing is listed"),
        ("sync.accept_licenses = true", Level::Warn, "`sync.accept_licenses`"),
        ("source = []", Level::Warn, "nothing to synchronise"),
        (
            "dp.role = \"pull\"\ndp.site = \"http://site01:8530\"",
            Level::Warn,
            "`dp.site`: plain HTTP: neither token nor key is sent",
        ),
        (
            "dp.role = \"pull\"\ndp.site = \"http://site01:8530\"\ndp.allow_plain_key = true",
            Level::Warn,
            "`dp.allow_plain_key`: the token and the key",
        ),
        ("client.site = \"http://site01:8530\"", Level::Warn, "`client.site`: plain HTTP: this device"),
        (
            "client.site = \"http://site01:8530\"\nclient.allow_plain_key = true",
            Level::Warn,
            "`client.allow_plain_key`: the key",
        ),
        (
            "source = [{ name = \"a\", catalogs = [\"none.cab\"] }]",
            Level::Warn,
            "`source.a.catalogs`: there is no file",
        ),
    ];
    for (text, level, expected) in rows {
        let found = findings(&format!("{quiet}{text}\n"), &[]);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].level == *level && found[0].text.contains(expected), "{text}: {found:?}");
        assert_eq!(found[0].code.is_some(), *level == Level::Error);
    }
    let found = findings("sync.schedule = \"x\"\nsync.languages = []", &[]);
    let levels: Vec<_> = found.iter().map(|finding| finding.level.to_string()).collect();
    assert_eq!(levels, ["error", "warn", "warn", "warn"], "errors first: {found:?}");
}

/// `key = other value` for every key that exists, so that a new key cannot be forgotten below.
fn everything_else() -> Settings {
    Folder::new(
        r#"
        site.code = "ABC"
        site.release = "2107"
        server = { listen = ["127.0.0.1:1"], listen_tls = ["127.0.0.1:2"], allow_plain_enrolment = true, public_url = "http://x", max_connections = 1, max_connections_per_client = 1, max_transfers = 1, max_transfers_per_client = 1, rate_limit = "1B/s", rate_limit_per_client = "1B/s", congestion_control = "x", read_timeout = "1s", shutdown_grace = "1s" }
        tls = { extra_ca_file = "/x", cert_file = "/x", key_file = "/x", from_site = true }
        admin = { socket = "", listen = "", listen_tls = "127.0.0.1:3", metrics_public = true }
        db = { path = "x", readers = 1 }
        source = [{ name = "esd", kind = "wsus", url = "https://x", content_url = "http://x", allow_networks = ["::1"], redirect_hosts = ["x.y"], mirrors = ["http://x"] }]
        sync = { schedule = "", timezone = "GMT", jitter = "1s", products = ["x"], releases = ["x"], editions = ["x"], classifications = [], languages = [], architectures = [], supersedence_months = 1, accept_licenses = true, allow_plain_http = true, parallel_requests = 1, request_timeout = "1s", retry = { max = 1, first = "2s", longest = "2s" } }
        download = { require_sha256 = true, parallel_files = 1, rate_limit = "1B/s", proxy = "none", min_free = "1B" }
        content = { dir = "x", verify = "1d" }
        dp = { name = "x", role = "pull", site = "http://x", ca_file = "/x", token_file = "/x", key_file = "x", allow_plain_key = true, retry = { max = 1, delay = "1s" }, on_demand = true, on_demand_wait = "1s", on_demand_keep = "1s", on_demand_room = "1B", drop_after = "1s", keys_good_for = "1d", cloud_hosts = ["x.y"], cloud_networks = ["::1"] }
        update_point.upstream_role = false
        client = { site = "http://x", ca_file = "/x", dir = "x", allow_networks = ["::1"], address = "::1", peer_port = 1, share_rate = "1B/s", share_on_battery = true, key_file = "/x", allow_plain_key = true, cache_size = "1B", cache_age = "1s", before_cloud = "1s" }
        limits = { deployment_default_size = 1, deployment_maximum_size = 2, deploy_to_site_systems = "block" }
        clients = { poll_interval = "10s", forget_after = "30d", status_retention = "1d" }
        log = { level = "debug", format = "json", access_log = false }
        "#,
    )
    .load()
    .unwrap()
    .settings
    .as_ref()
    .clone()
}

#[test]
fn a_reload_keeps_what_needs_a_restart_and_only_that() {
    let running = Settings::default();
    let mut new = everything_else();
    let changes = diff(&running, &new);
    // A source is known by its name, and an update server has no catalogs, so these two cannot change.
    let unchanged: Vec<_> = layers::flat(&running)
        .into_keys()
        .filter(|key| changes.iter().all(|change| change.key != *key))
        .collect();
    assert_eq!(unchanged, ["source.esd.catalogs", "source.esd.name"]);
    new.keep_what_needs_a_restart(&running);
    let applied: Vec<_> = diff(&running, &new).into_iter().map(|change| change.key).collect();
    let promised: Vec<_> =
        changes.into_iter().filter(|change| change.reload).map(|change| change.key).collect();
    assert_eq!(applied, promised);
    assert!(
        promised.contains(&"sync.languages".to_owned()) && !promised.contains(&"server.listen".to_owned())
    );
}

#[test]
fn what_is_shown_reads_back_as_the_same_settings() {
    let folder = Folder::new("");
    for settings in [Settings::default(), everything_else()] {
        let mut text = String::new();
        for shown in Loaded::from(settings.clone()).shown() {
            match shown.key.strip_prefix("source.esd.") {
                Some(_) => {}
                None => text.push_str(&format!("{} = {}\n", shown.key, shown.value)),
            }
        }
        text.push_str("[[source]]\n");
        for shown in Loaded::from(settings.clone()).shown() {
            if let Some(short) = shown.key.strip_prefix("source.esd.") {
                text.push_str(&format!("{short} = {}\n", shown.value));
            }
        }
        folder.write("config.toml", &text);
        assert_eq!(diff(&settings, &folder.load().unwrap().settings), []);
    }
}

#[test]
fn the_example_names_every_key_with_its_default() {
    let folder = Folder::new("");
    folder.write("config.toml", example());
    let loaded = folder.load().unwrap_or_else(|problem| panic!("{problem}"));
    assert_eq!(diff(&Settings::default(), &loaded.settings), []);
    for key in layers::known_keys() {
        let key = key.replace("source.", "source.esd.");
        assert!(
            matches!(loaded.origin(&key), Origin::File { .. }),
            "`{key}` is missing in config.example.toml"
        );
    }
    // Its marks tell the truth: a section marked (R) has a key that a reload applies, the others have none.
    let mut section = "";
    let mut marked = BTreeMap::new();
    for line in example().lines() {
        if let Some(rest) = line.strip_prefix('[') {
            section = rest.trim_start_matches('[').split(']').next().unwrap();
            marked.insert(section, line.contains("(R)"));
        }
    }
    assert!(!section.is_empty());
    for (section, marked) in marked {
        let reload = layers::known_keys()
            .any(|key| key.starts_with(&format!("{section}.")) && applied_by_reload(&key));
        assert_eq!(reload, marked, "[{section}]");
    }
}

#[test]
fn defaults_are_those_of_the_design() {
    let s = Settings::default();
    assert_eq!(s.site.code.as_str(), "XYZ");
    assert_eq!(s.site.data_dir, Path::new("/var/lib/spsync"));
    assert_eq!((s.server.max_connections, s.server.max_connections_per_client), (4096, 64));
    assert_eq!(s.server.shutdown_grace, Duration::from_secs(120));
    assert_eq!((s.sync.retry.max, s.sync.retry.longest), (6, Duration::from_secs(300)));
    assert_eq!(s.download.min_free, 1 << 30);
    assert!(s.selection().has_upgrades());
    assert_eq!(rules::broken(&s), []);
}
