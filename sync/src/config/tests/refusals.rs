//! What is refused, and in which words.

use super::*;

#[test]
fn mistakes_are_told_with_file_line_key_and_what_was_meant() {
    let rows: &[(&str, Code, &str)] = &[
        (
            "[sync]\nlangauges = []",
            Code::ConfigUnknownKey,
            ":3: unknown key `sync.langauges`; did you mean `sync.languages`?",
        ),
        ("\n\n[snyc]\nproducts = []", Code::ConfigUnknownKey, ":4: unknown key `snyc`; did you mean `sync`?"),
        (
            "[sync.retry]\nmaximum = 3",
            Code::ConfigUnknownKey,
            ":3: unknown key `sync.retry.maximum`; did you mean `sync.retry.max`?",
        ),
        ("[site]\nrelease = \"2303\"", Code::ConfigInvalid, "duplicate key"),
        (
            "[[source]]\nname = \"a\"\nmirorrs = []",
            Code::ConfigUnknownKey,
            ":4: unknown key `source.mirorrs`; did you mean `source.mirrors`?",
        ),
        ("zzzzzz = 1", Code::ConfigUnknownKey, ":2: unknown key `zzzzzz`"),
        (
            "[sync]\njitter = 15",
            Code::ConfigInvalid,
            ":3: `sync.jitter`: invalid type: integer `15`, expected a string",
        ),
        (
            "[sync]\njitter = \"soon\"",
            Code::ConfigInvalid,
            ":3: `sync.jitter`: expected a duration such as `90s`",
        ),
        (
            "[sync]\njitter = \"8d\"",
            Code::ConfigInvalid,
            ":3: `sync.jitter`: expected `0s` to `7d`, actual `8d`",
        ),
        (
            "[sync]\nretry = { max = 0 }",
            Code::ConfigInvalid,
            ":3: `sync.retry.max`: expected 1 to 1000, actual 0",
        ),
        (
            "[sync]\nretry = 3",
            Code::ConfigInvalid,
            ":3: `sync.retry`: expected a section `[…]`, actual integer",
        ),
        ("[sync]\nlanguages = \"en-us\"", Code::ConfigInvalid, ":3: `sync.languages`: invalid type: string"),
        ("sync = 3", Code::ConfigInvalid, ":2: `sync`: expected a section"),
        ("[db]\nreaders = -1", Code::ConfigInvalid, ":3: `db.readers`: invalid value: integer `-1`"),
        ("[download]\nmin_free = \"lots\"", Code::ConfigInvalid, ":3: `download.min_free`: expected a size"),
        (
            "[download]\nrate_limit = \"80\"",
            Code::ConfigInvalid,
            ":3: `download.rate_limit`: expected a rate",
        ),
        (
            "[download]\nproxy = \"maybe\"",
            Code::ConfigInvalid,
            ":3: `download.proxy`: expected `system`, `none`",
        ),
        ("[log]\nformat = \"xml\"", Code::ConfigInvalid, ":3: `log.format`: unknown variant `xml`"),
        ("[log]\nlevel = \"loud\"", Code::ConfigInvalid, ":3: `log.level`: expected `off`"),
        (
            "[server]\nlisten = [\"8530\"]",
            Code::ConfigInvalid,
            ":3: `server.listen`: expected an address with a port",
        ),
        (
            "[server]\npublic_url = \"site01\"",
            Code::ConfigInvalid,
            ":3: `server.public_url`: `site01` is no address",
        ),
        (
            "[client]\nsite = \"ftp://x/\"",
            Code::ConfigInvalid,
            ":3: `client.site`: `ftp://x/` does not begin with",
        ),
        (
            "[[source]]\nkind = \"esd-catalog\"",
            Code::ConfigInvalid,
            ":2: `source.name`: expected 1 to 40 letters",
        ),
        ("[[source]]\nname = \"a.b\"", Code::ConfigInvalid, ":2: `source.name`: expected 1 to 40 letters"),
        (
            "[[source]]\nname = \"a\"\n[[source]]\nname = \"a\"",
            Code::ConfigInvalid,
            ":4: `source.name`: two sources are called `a`",
        ),
        (
            "[[source]]\nname = \"a\"\nkind = \"sccm\"",
            Code::ConfigInvalid,
            ":4: `source.a.kind`: unknown variant `sccm`, expected one of `esd-catalog`, `microsoft-update`, `wsus`",
        ),
        (
            "[[source]]\nname = \"a\"\nkind = \"wsus\"",
            Code::ConfigInvalid,
            ":4: `source.a.kind` needs `source.a.url`, which is not set: expected the root of the server, as `https://host:8531`",
        ),
        (
            "[[source]]\nname = \"a\"\nkind = \"wsus\"\nurl = \"\"",
            Code::ConfigInvalid,
            ":5: `source.a.url`: expected the root of the server, as `https://host:8531`, actual nothing",
        ),
        (
            "[dp]\nname = \"lyon\"\nrole = \"standard\"",
            Code::ConfigInvalid,
            ":4: `dp.role` needs `dp.site`, which is not set: expected the address of the site",
        ),
        (
            "[tls]\ncert_file = \"site.pem\"",
            Code::ConfigInvalid,
            ":3: `tls.cert_file` needs `tls.key_file`, which is not set",
        ),
        (
            "[tls]\nkey_file = \"site.key\"",
            Code::ConfigInvalid,
            ":3: `tls.key_file` needs `tls.cert_file`, which is not set",
        ),
        (
            "[sync.retry]\nlongest = \"10ms\"",
            Code::ConfigInvalid,
            ":3: `sync.retry.longest` needs `sync.retry.first`, which is not set: expected `1ms` to `10ms`",
        ),
        (
            "[[source]]\nname = \"import\"",
            Code::ConfigInvalid,
            ":3: `source.import.name` needs `source.import.kind`, which is not set: expected `import`",
        ),
        (
            "[sync]\nzone = \"UTC\"",
            Code::ConfigUnknownKey,
            ":3: unknown key `sync.zone`; did you mean `sync.timezone`?",
        ),
        (
            "[[source]]\nname = \"a\"\nkind = \"wsus\"\nurl = \"wsus01:8531\"",
            Code::ConfigInvalid,
            ":5: `source.a.url`: `wsus01:8531`",
        ),
        (
            "[[source]]\nname = \"a\"\nkind = \"microsoft-update\"\ncatalogs = [\"x.cab\"]",
            Code::ConfigInvalid,
            ":5: `source.a.catalogs`: expected nothing for an update server",
        ),
        (
            "[[source]]\nname = \"a\"\nurl = \"https://x\"",
            Code::ConfigInvalid,
            ":4: `source.a.url`: expected nothing for an ESD catalog",
        ),
        (
            "[sync]\nparallel_requests = 99",
            Code::ConfigInvalid,
            ":3: `sync.parallel_requests`: expected 1 to 16, actual 99",
        ),
        (
            "[[source]]\nname = \"a\"\nallow_networks = [\"10/8\"]",
            Code::ConfigInvalid,
            ":4: `source.a.allow_networks`: expected a network",
        ),
        (
            "[[source]]\nname = \"a\"\nredirect_hosts = [\"*\"]",
            Code::ConfigInvalid,
            ":4: `source.a.redirect_hosts`: expected a host",
        ),
        (
            "[[source]]\nname = \"a\"\ncatalogs = [\"ftp://x/p.cab\"]",
            Code::ConfigInvalid,
            ":4: `source.a.catalogs`: `ftp://x/p.cab`",
        ),
        (
            "admin.socket = \"spsync.db\"",
            Code::ConfigInvalid,
            ":2: `admin.socket`: expected a path of its own, actual `",
        ),
        (
            "admin.socket = \"spsync.db-wal\"",
            Code::ConfigInvalid,
            "spsync.db-wal`, which is that of `db.path` or in it",
        ),
        (
            "admin.socket = \"content/blobs/admin.sock\"",
            Code::ConfigInvalid,
            "content/blobs/admin.sock`, which is that of `content.dir` or in it",
        ),
        (
            "admin.socket = \"/etc/site.key\"\ntls = { cert_file = \"/etc/site.pem\", key_file = \"/etc/site.key\" }",
            Code::ConfigInvalid,
            "`/etc/site.key`, which is that of `tls.key_file` or in it",
        ),
        ("source = 3", Code::ConfigInvalid, ":2: `source`: expected tables `[[source]]`, actual integer"),
        ("[sync]\nproducts = [\n", Code::ConfigInvalid, ":3: unclosed array"),
    ];
    for (text, code, expected) in rows {
        let problem = Folder::new(text).load().expect_err(text);
        assert_eq!(problem.code, *code, "{text}: {problem}");
        assert!(problem.message.contains(expected), "{text}\n  expected {expected}\n  actual   {problem}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let problem = Folder::new("[sync]\nzone = 1\njitter = 2\n[db]\nreaders = \"x\"\n").load().unwrap_err();
    assert!(problem.message.contains(":3: unknown key `sync.zone`"), "{problem}");
    assert_eq!(problem.causes.len(), 2, "{problem}");
    assert!(problem.causes.iter().all(|cause| cause.starts_with("also: ")), "{problem}");
}

/// A wrong guess leads away from what is wrong.
#[test]
fn what_is_like_nothing_is_taken_for_nothing() {
    for text in ["download.auto = true", "sync.xyz = 1", "server.a = 1", "site.proxy = \"none\""] {
        let problem = Folder::new(text).load().expect_err(text);
        assert_eq!(problem.code, Code::ConfigUnknownKey, "{text}");
        assert!(!problem.message.contains("did you mean"), "{text}: {problem}");
    }
}

#[test]
fn passwords_in_addresses_are_refused_and_not_repeated() {
    for text in [
        "[[source]]\nname = \"a\"\nmirrors = [\"http://user:hunter2@mirror/\"]",
        "[[source]]\nname = \"a\"\ncatalogs = [\"https://hunter2@host/products.cab\"]",
        "[download]\nproxy = \"http://user:hunter2@proxy:3128\"",
        "[server]\npublic_url = \"http://user:hunter2@site/\"",
    ] {
        let problem = Folder::new(text).load().expect_err(text);
        assert_eq!(problem.code, Code::ConfigInvalid);
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
}

#[test]
fn the_environment_is_refused_by_the_name_of_the_variable() {
    let rows: &[(&str, &str, Code, &str)] = &[
        (
            "SPSYNC_SYNC__LANGAUGES",
            "x",
            Code::ConfigUnknownKey,
            "variable SPSYNC_SYNC__LANGAUGES: unknown key `sync.langauges`; did you mean `sync.languages`?",
        ),
        ("SPSYNC_DB__READERS", "many", Code::ConfigInvalid, "`db.readers`: expected a number, actual `many`"),
        (
            "SPSYNC_DB__READERS",
            "65",
            Code::ConfigInvalid,
            "variable SPSYNC_DB__READERS: `db.readers`: expected 1 to 64",
        ),
        (
            "SPSYNC_DOWNLOAD__REQUIRE_SHA256",
            "yes",
            Code::ConfigInvalid,
            "expected `true` or `false`, actual `yes`",
        ),
        ("SPSYNC_SITE__CODE", "TOOLONG", Code::ConfigInvalid, "`site.code`: `TOOLONG` is not a site code"),
        ("SPSYNC_SITE__DATA_DIR", "data", Code::ConfigInvalid, "expected an absolute path, actual `data`"),
        ("SPSYNC_SOURCE__ESD__NAME", "x", Code::ConfigUnknownKey, "unknown key `source.esd.name`"),
        ("SPSYNC_SOURCE__CATALOGS", "x", Code::ConfigUnknownKey, "unknown key `source.catalogs`"),
    ];
    for (name, value, code, expected) in rows {
        let problem = Folder::new("").load_with(&[(name, value)]).expect_err(name);
        assert_eq!(problem.code, *code, "{problem}");
        assert!(problem.message.contains(expected), "{name}\n  expected {expected}\n  actual   {problem}");
    }
}

#[test]
fn depth_is_refused_and_not_followed() {
    for text in [format!("x = {}", "[".repeat(100_000)), "a.".repeat(100_000) + "b = 1", "[a]\n".repeat(3)] {
        assert_eq!(Folder::new(&text).load().expect_err("hostile").code.page().exit.status(), 78);
    }
}

#[test]
fn a_configuration_is_text_of_a_reasonable_size() {
    let folder = Folder::new("");
    std::fs::write(folder.path("config.toml"), vec![b'#'; layers::LARGEST_FILE as usize + 1]).unwrap();
    assert_eq!(folder.load().unwrap_err().code, Code::ConfigUnreadable);
    std::fs::write(folder.path("config.toml"), [0xff, 0xfe]).unwrap();
    assert_eq!(folder.load().unwrap_err().code, Code::ConfigUnreadable);
    std::fs::remove_file(folder.path("config.toml")).unwrap();
    std::fs::create_dir(folder.path("config.toml")).unwrap();
    assert_eq!(folder.load().unwrap_err().code, Code::ConfigUnreadable);
}
