//! The table of routes: each names a verb of [`crate::admin::Request`], and what it has where nothing is said. Pure.
//!
//! A parameter in braces is the field of that name; so are the fields of the query and of the body. What is in `fields` may
//! stand in the query, in the form that its default has. A test holds the table against every verb that there is.

use http::Method;
use schema::tokens::Role;

/// A route.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: &'static str,
    /// Below `/api/v1`.
    pub path: &'static str,
    /// `verb`, or `verb:action` of those that have actions of their own.
    pub verb: &'static str,
    /// Defaults of fields, a JSON object.
    pub fields: &'static str,
    /// Fields that name a file or folder: in the folder `exchange`, by plain names.
    pub files: &'static [&'static str],
    /// Fields that only who is on the site's machine may say: what a token's holder chooses is not called by the site.
    pub local: &'static [&'static str],
    /// What its asker must be at least.
    pub role: Role,
    /// The change needs `If-Match`.
    pub conditional: bool,
    /// Fields of its answer that are nobody's setting: they move by themselves, and `If-Match` does not look at them.
    pub moving: &'static [&'static str],
    /// A `GET` that writes something down, as that terms were read: it goes on when its asker has gone.
    pub records: bool,
}

impl Route {
    const fn new(method: &'static str, path: &'static str, verb: &'static str, role: Role) -> Self {
        Self {
            method,
            path,
            verb,
            fields: "{}",
            files: &[],
            local: &[],
            role,
            conditional: false,
            moving: &[],
            records: false,
        }
    }

    const fn with(self, fields: &'static str) -> Self {
        Self { fields, ..self }
    }

    const fn files(self, files: &'static [&'static str]) -> Self {
        Self { files, ..self }
    }

    const fn local(self, local: &'static [&'static str]) -> Self {
        Self { local, ..self }
    }

    const fn of(self, role: Role) -> Self {
        Self { role, ..self }
    }

    const fn conditional(self) -> Self {
        Self { conditional: true, ..self }
    }

    const fn recording(self) -> Self {
        Self { records: true, ..self }
    }

    /// Whether nothing comes of it but an answer, which is of use to nobody else.
    pub fn ends_with_asker(&self) -> bool {
        self.method == "GET" && !self.records
    }

    const fn moving(self, moving: &'static [&'static str]) -> Self {
        Self { moving, ..self }
    }
}

const fn get(path: &'static str, verb: &'static str) -> Route {
    Route::new("GET", path, verb, Role::Viewer)
}

const fn post(path: &'static str, verb: &'static str) -> Route {
    Route::new("POST", path, verb, Role::Admin)
}

const fn put(path: &'static str, verb: &'static str) -> Route {
    Route::new("PUT", path, verb, Role::Admin)
}

const fn patch(path: &'static str, verb: &'static str) -> Route {
    Route::new("PATCH", path, verb, Role::Admin)
}

const fn delete(path: &'static str, verb: &'static str) -> Route {
    Route::new("DELETE", path, verb, Role::Admin)
}

const FILTER: &str = r#"{"products":[],"releases":[],"languages":[],"architectures":[],"editions":[],"base":null,"words":[],"all":false}"#;

/// What a point says of itself, how it is, and what is on it.
const OF_A_POINT: &[&str] = &[
    "last_seen",
    "free",
    "program",
    "on_demand",
    "address",
    "packages",
    "contents",
    "bytes",
    "condition",
    "silent_seconds",
    "failed",
    "under_way",
    "served",
    "content",
];
/// How far a package is: what it holds has a version.
const OF_A_PACKAGE: &[&str] = &["files", "bytes", "stored", "points", "validated"];
/// How far devices and content are, what the time has made of it, and what there is to say of what it refers to.
const OF_A_DEPLOYMENT: &[&str] = &[
    "devices",
    "buckets",
    "progress",
    "software",
    "state",
    "content",
    "problem",
    "would_be_refused",
    "passed_over",
    "notes",
];
/// The same of phases.
const OF_PHASES: &[&str] = &["phases.tally", "problem"];
/// What is found in a task sequence: what a synchronisation brings makes other findings.
const OF_A_SEQUENCE: &[&str] = &["deployable", "findings"];
/// What a device says of itself and does.
const OF_A_DEVICE: &[&str] =
    &["facts", "facts_at", "address", "policy_at", "heard", "silent_days", "replayed", "refused", "runs"];

/// All of them.
pub const ROUTES: &[Route] = &[
    get("/status", "status"),
    get("/sync/runs", "sync-history").with(r#"{"limit":20}"#),
    post("/sync/runs", "now").with(r#"{"full":false}"#).of(Role::Operator),
    get("/sync/runs/{run}", "sync-show").with(r#"{"run":0}"#),
    post("/sync/test", "sync-test").with(r#"{"source":null}"#).of(Role::Operator),
    post("/sync/plan", "sync-plan").with(r#"{"change":{}}"#).of(Role::Viewer),
    get("/sync/settings", "sync-select").with(r#"{"change":{}}"#).moving(&["known"]),
    patch("/sync/settings", "sync-select").with(r#"{"change":{}}"#),
    get("/sync/categories", "categories"),
    get("/updates", "updates-list").with(FILTER),
    post("/updates/decline", "updates-mark").with(r#"{"mark":"decline"}"#),
    post("/updates/restore", "updates-mark").with(r#"{"mark":"restore"}"#),
    post("/updates/hold", "updates-mark").with(r#"{"mark":"hold"}"#),
    post("/updates/import", "updates-import").files(&["file"]),
    post("/updates/export", "updates-export").files(&["file"]),
    get("/updates/supersedence", "supersedence-plan"),
    post("/updates/gc", "updates-gc").with(r#"{"confirmed":false}"#),
    get("/updates/{update}", "updates-show"),
    get("/updates/{update}/license", "license-review")
        .with(r#"{"language":null}"#)
        .of(Role::Operator)
        .recording(),
    post("/updates/{update}/license", "license-review").with(r#"{"language":null}"#),
    put("/updates/{updates}/license", "license-decide").with(r#"{"updates":[]}"#),
    get("/licenses", "license-list").with(r#"{"pending":false}"#),
    get("/packages", "package-list").moving(OF_A_PACKAGE),
    post("/packages", "package-create").with(r#"{"description":"","source":null}"#).files(&["source"]),
    get("/packages/{package}", "package-show").moving(OF_A_PACKAGE),
    patch("/packages/{package}", "package-set"),
    delete("/packages/{package}", "package-delete"),
    post("/packages/{package}/members", "package-add").with(r#"{"updates":[],"filter":{}}"#),
    delete("/packages/{package}/members", "package-drop").with(r#"{"updates":[]}"#),
    post("/packages/{package}/download", "package-download")
        .with(r#"{"from":null,"mirror":null}"#)
        .files(&["from"])
        .local(&["mirror"])
        .of(Role::Operator),
    post("/packages/{package}/distribute", "package-distribute").with(r#"{"to":[]}"#).of(Role::Operator),
    post("/packages/{package}/withdraw", "package-withdraw").with(r#"{"from":[]}"#).of(Role::Operator),
    post("/packages/{package}/validate", "package-validate").with(r#"{"repair":false}"#).of(Role::Operator),
    post("/packages/{package}/points", "points:package").with(r#"{"on":[]}"#).of(Role::Operator),
    get("/dps", "points:list").moving(OF_A_POINT),
    post("/dps", "points:add").with(r#"{"pull_from":[]}"#),
    get("/dps/{dp}", "points:show").moving(OF_A_POINT),
    patch("/dps/{dp}", "points:set").with(r#"{"changes":[]}"#),
    delete("/dps/{dp}", "points:remove"),
    post("/dps/{dp}/maintenance", "points:maintenance").with(r#"{"on":true}"#),
    post("/dps/{name}/enrol", "points:enrol").with(r#"{"kind":"point"}"#),
    get("/coverage", "points:coverage").with(r#"{"groups":false,"all":false}"#),
    get("/dp-groups", "points:group-list"),
    post("/dp-groups", "points:group-create"),
    get("/dp-groups/{group}", "points:group-show"),
    delete("/dp-groups/{group}", "points:group-delete"),
    post("/dp-groups/{group}/points", "points:group-join").with(r#"{"points":[]}"#),
    delete("/dp-groups/{group}/points", "points:group-leave").with(r#"{"points":[]}"#),
    get("/keys", "points:keys"),
    delete("/keys/{kind}/{name}", "points:revoke"),
    get("/tls", "tls:show"),
    post("/tls/init", "tls:init").with(r#"{"names":[]}"#),
    post("/tls/renew", "tls:renew").with(r#"{"names":[]}"#),
    get("/content", "content-list"),
    get("/content/status", "points:status").with(r#"{"package":null}"#),
    get("/content/{content}", "content-show"),
    post("/content/locate", "content-locate")
        .with(r#"{"elapsed_seconds":0,"engine":false}"#)
        .of(Role::Viewer),
    get("/boundaries", "boundary-list"),
    post("/boundaries", "boundary-add").with(r#"{"name":"","groups":[]}"#),
    delete("/boundaries", "boundary-remove").with(r#"{"values":[]}"#),
    get("/boundaries/of/{client}", "boundary-which"),
    get("/boundary-groups", "boundary-group-list"),
    post("/boundary-groups", "boundary-group-create").with(r#"{"change":{}}"#),
    get("/boundary-groups/{group}", "boundary-group-show"),
    patch("/boundary-groups/{group}", "boundary-group-set").with(r#"{"options":[]}"#),
    delete("/boundary-groups/{group}", "boundary-group-delete"),
    put("/boundary-groups/{group}/relations/{other}", "boundary-group-relate").with(r#"{"minutes":null}"#),
    post("/boundary-groups/{group}/members", "boundary-group-members").with(r#"{"change":{},"inside":true}"#),
    delete("/boundary-groups/{group}/members", "boundary-group-members")
        .with(r#"{"change":{},"inside":false}"#),
    get("/images", "software:image-list"),
    post("/images", "software:image-add").with(r#"{"version":"","boot":false}"#).files(&["path"]),
    get("/images/{image}", "software:image-show"),
    delete("/images/{image}", "software:image-delete"),
    post("/images/{name}/distribute", "software:distribute")
        .with(r#"{"kind":"image","to":[]}"#)
        .of(Role::Operator),
    post("/images/{name}/withdraw", "software:withdraw")
        .with(r#"{"kind":"image","from":[]}"#)
        .of(Role::Operator),
    get("/apps", "software:app-list"),
    post("/apps", "software:app-add").with(r#"{"folder":""}"#).files(&["folder"]),
    get("/apps/{app}", "software:app-show"),
    post("/apps/{app}/retire", "software:app-retire"),
    post("/apps/{name}/distribute", "software:distribute")
        .with(r#"{"kind":"app","to":[]}"#)
        .of(Role::Operator),
    post("/apps/{name}/withdraw", "software:withdraw").with(r#"{"kind":"app","from":[]}"#).of(Role::Operator),
    get("/collections", "software:collection-list"),
    post("/collections", "software:collection-create"),
    get("/collections/{name}", "software:collection-show"),
    post("/collections/{name}/members", "software:collection-change").with(r#"{"devices":[],"add":true}"#),
    delete("/collections/{name}/members", "software:collection-change").with(r#"{"devices":[],"add":false}"#),
    post("/collections/{collection}/windows", "software:window-add"),
    delete("/collections/{collection}/windows/{name}", "software:window-remove"),
    get("/windows", "software:window-list").with(r#"{"collection":null}"#),
    get("/client-settings", "software:settings-list"),
    get("/client-settings/{name}", "software:settings-show"),
    patch("/client-settings/{name}", "software:settings-set").with(r#"{"changes":[]}"#),
    get("/task-sequences", "ts:list").moving(OF_A_SEQUENCE),
    post("/task-sequences", "ts:create"),
    get("/task-sequences/choices", "ts:choices").with(r#"{"filter":{}}"#),
    post("/task-sequences/export", "ts:export-archive")
        .with(r#"{"sequences":[],"dependencies":true}"#)
        .of(Role::Viewer),
    post("/task-sequences/import", "ts:import-archive")
        .with(r#"{"duplicates":"ignore","confirm_high_risk":false}"#),
    get("/task-sequences/{sequence}", "ts:show").moving(OF_A_SEQUENCE),
    put("/task-sequences/{sequence}", "ts:replace").with(r#"{"confirm_high_risk":false}"#).conditional(),
    patch("/task-sequences/{sequence}", "ts:enable"),
    delete("/task-sequences/{sequence}", "ts:delete"),
    post("/task-sequences/{sequence}/lint", "ts:lint").with(r#"{"strict":false}"#).of(Role::Viewer),
    get("/task-sequences/{sequence}/references", "ts:refs")
        .with(r#"{"pre_download":false,"run_from_dp":false}"#),
    post("/task-sequences/{sequence}/plan", "ts:plan").of(Role::Viewer),
    post("/task-sequences/{sequence}/copy", "ts:copy").with(r#"{"name":null}"#),
    post("/task-sequences/{sequence}/steps", "ts:step-add")
        .with(r#"{"place":"end","changes":[],"value":null,"confirm_high_risk":false}"#),
    patch("/task-sequences/{sequence}/steps/{step}", "ts:step-set").with(r#"{"confirm_high_risk":false}"#),
    delete("/task-sequences/{sequence}/steps/{step}", "ts:step-remove"),
    put("/task-sequences/{sequence}/steps/{step}/place", "ts:step-move")
        .with(r#"{"confirm_high_risk":false}"#),
    get("/task-sequences/{one}/differences/{other}", "ts:diff"),
    patch("/task-sequences/{sequence}/settings", "ts:set").with(r#"{"changes":[]}"#),
    post("/task-sequences/{sequence}/distribute", "software:distribute-all")
        .with(r#"{"to":[]}"#)
        .of(Role::Operator),
    post("/task-sequences/{sequence}/media", "ts:media")
        .with(r#"{"dp":null,"usb":false,"label":null}"#)
        .files(&["folder"]),
    post("/prestage", "ts:prestage").with(r#"{"dp":null}"#).files(&["file"]),
    post("/prestage/import", "ts:prestage-import").files(&["file"]),
    get("/deployments", "deploy:list").moving(OF_A_DEPLOYMENT),
    post("/deployments", "deploy:create")
        .with(r#"{"options":{},"package":{},"strict":false,"confirm_high_risk":false}"#),
    post("/deployments/check", "deploy:check")
        .with(r#"{"to":[],"cloud":false,"internet":false,"strict":false}"#)
        .of(Role::Viewer),
    get("/deployments/{deployment}", "deploy:show").moving(OF_A_DEPLOYMENT),
    patch("/deployments/{deployment}", "deploy:change"),
    delete("/deployments/{deployment}", "deploy:delete"),
    get("/deployments/{deployment}/status", "deploy:status"),
    post("/deployments/{deployment}/stop", "deploy:stop"),
    get("/update-deployments", "deploy:updates-list"),
    post("/update-deployments", "deploy:create-updates"),
    get("/phased-deployments", "deploy:phased-list").moving(OF_PHASES),
    post("/phased-deployments", "deploy:phased-create").with(r#"{"options":{},"confirm_high_risk":false}"#),
    get("/phased-deployments/{name}", "deploy:phased-show").moving(OF_PHASES),
    delete("/phased-deployments/{name}", "deploy:phased-delete"),
    post("/phased-deployments/{name}/advance", "deploy:phased-advance"),
    post("/phased-deployments/{name}/suspend", "deploy:phased-suspend").with(r#"{"suspend":true}"#),
    post("/phased-deployments/{name}/resume", "deploy:phased-suspend").with(r#"{"suspend":false}"#),
    patch("/phased-deployments/{name}/phases/{phase}", "deploy:phased-change").with(r#"{"phase":0}"#),
    get("/clients", "deploy:client-list").with(r#"{"silent":0}"#),
    get("/clients/{device}", "deploy:client-show").moving(OF_A_DEVICE),
    delete("/clients/{device}", "deploy:client-remove"),
    get("/clients/{device}/history", "deploy:client-history").with(r#"{"limit":100}"#),
    get("/clients/{device}/settings", "software:settings-effective"),
    post("/clients/{name}/enrol", "points:enrol").with(r#"{"kind":"device"}"#),
    get("/tasks", "task-list").with(r#"{"limit":50}"#),
    get("/tasks/{task}", "task-show").with(r#"{"task":0}"#).moving(&["phases"]),
    delete("/tasks/{task}", "task-cancel").with(r#"{"task":0}"#).of(Role::Operator),
    get("/tasks/{task}/result", "task-wait").with(r#"{"task":0}"#),
    get("/tokens", "tokens:list").of(Role::Admin),
    post("/tokens", "tokens:create").with(r#"{"role":"viewer","ttl_seconds":7776000}"#),
    delete("/tokens/{name}", "tokens:revoke"),
    get("/audit", "audit").with(r#"{"limit":100}"#),
    get("/state", "state-dump"),
    get("/config", "config-show"),
];

/// A route, and the parameters of its path.
#[derive(Debug)]
pub struct Found {
    /// The route.
    pub route: &'static Route,
    /// Name and value, decoded.
    pub parameters: Vec<(&'static str, String)>,
}

/// What a path has for a method.
#[derive(Debug)]
pub enum Looked {
    /// This.
    Found(Found),
    /// Something, for these other methods.
    Other(Vec<&'static str>),
    /// Nothing.
    Nothing,
}

/// Looks a route up. Words win over parameters.
pub fn find(method: &Method, path: &str) -> Looked {
    let Some(parts) = parts(path) else { return Looked::Nothing };
    let fitting = ROUTES.iter().filter_map(|route| Some((route, matched(route, &parts)?)));
    let fewest = |(_, parameters): &(&Route, Vec<_>)| parameters.len();
    let mut all: Vec<_> = fitting.collect();
    all.sort_by_key(fewest);
    match all.iter().position(|(route, _)| route.method == method.as_str()) {
        Some(at) => {
            let (route, parameters) = all.swap_remove(at);
            Looked::Found(Found { route, parameters })
        }
        None if all.is_empty() => Looked::Nothing,
        None => {
            let mut methods: Vec<_> = all.iter().map(|(route, _)| route.method).collect();
            methods.sort_unstable();
            methods.dedup();
            Looked::Other(methods)
        }
    }
}

/// The parts of a path, split first and decoded after: `%2F` is a character of a name.
fn parts(path: &str) -> Option<Vec<String>> {
    path.strip_prefix('/')?.split('/').map(|part| decoded(part).filter(|part| !part.is_empty())).collect()
}

fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

fn matched(route: &'static Route, parts: &[String]) -> Option<Vec<(&'static str, String)>> {
    let words: Vec<&'static str> = route.path[1..].split('/').collect();
    if words.len() != parts.len() {
        return None;
    }
    let mut parameters = Vec::new();
    for (word, part) in words.into_iter().zip(parts) {
        match word.strip_prefix('{').and_then(|word| word.strip_suffix('}')) {
            Some(name) => parameters.push((name, part.clone())),
            None if word == part => {}
            None => return None,
        }
    }
    Some(parameters)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;
    use crate::admin::{PointVerb, Request};
    use crate::authoring::TsRequest;
    use crate::deploying::DeployRequest;
    use crate::software::SoftwareRequest;
    use crate::tls::TlsVerb;
    use crate::tokens::TokenVerb;

    /// Verbs that have no route, and why.
    const WITHOUT: &[(&str, &str)] = &[
        (
            "ts:export",
            "writes a file of the site's machine; over HTTP the archive travels itself (`ts:export-archive`)",
        ),
        (
            "ts:import",
            "reads a file of the site's machine; over HTTP the archive travels itself (`ts:import-archive`)",
        ),
        (
            "ts:migrate",
            "makes the site call an address and show it a token: only who is on its machine may say which",
        ),
    ];

    /// The words that an enum knows, from its own complaint about one that it does not.
    fn words<T: DeserializeOwned>(tag: &str) -> Vec<String> {
        let Err(error) = serde_json::from_value::<T>(json!({ tag: "?" })) else { panic!("? is a verb") };
        let text = error.to_string();
        let (_, list) = text.split_once("expected ").expect("it names what it knows");
        list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn every_verb_has_a_route_or_a_reason() {
        let mut verbs: BTreeSet<String> = words::<Request>("verb").into_iter().collect();
        for (verb, actions) in [
            ("ts", words::<TsRequest>("action")),
            ("deploy", words::<DeployRequest>("action")),
            ("software", words::<SoftwareRequest>("action")),
            ("points", words::<PointVerb>("do")),
            ("tls", words::<TlsVerb>("do")),
            ("tokens", words::<TokenVerb>("do")),
        ] {
            assert!(verbs.remove(verb) && actions.len() > 2, "{verb}: {actions:?}");
            verbs.extend(actions.into_iter().map(|action| format!("{verb}:{action}")));
        }
        assert!(verbs.len() > 120, "{verbs:?}");
        let known: BTreeSet<String> = ROUTES
            .iter()
            .map(|route| route.verb)
            .chain(WITHOUT.iter().map(|(verb, _)| *verb))
            .map(str::to_owned)
            .collect();
        assert_eq!(verbs.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new(), "without a route");
        assert_eq!(known.difference(&verbs).collect::<Vec<_>>(), Vec::<&String>::new(), "no such verb");
        for (verb, why) in WITHOUT {
            assert!(why.len() > 20 && ROUTES.iter().all(|route| route.verb != *verb), "{verb}");
        }
    }

    #[test]
    fn no_two_routes_are_the_same_and_all_are_well_formed() {
        let mut seen = BTreeSet::new();
        for route in ROUTES {
            let shape: Vec<_> =
                route.path.split('/').map(|word| if word.starts_with('{') { "{}" } else { word }).collect();
            assert!(seen.insert((route.method, shape.join("/"))), "{} {} twice", route.method, route.path);
            let fields: Value = serde_json::from_str(route.fields).unwrap();
            assert!(fields.is_object() && route.path.starts_with('/'), "{}", route.path);
            // Who may only ask changes nothing.
            const QUESTIONS: [&str; 6] =
                ["sync-plan", "content-locate", "ts:export-archive", "ts:lint", "ts:plan", "deploy:check"];
            assert!(
                route.method == "GET" || route.role > Role::Viewer || QUESTIONS.contains(&route.verb),
                "{}",
                route.path
            );
        }
    }

    #[test]
    fn the_documented_table_is_this_one() {
        let text = include_str!("../../../docs/PROTOCOL.md");
        for route in ROUTES {
            let start = format!("| `{}` | ", route.path);
            let row = text.lines().find(|line| line.starts_with(&start)).unwrap_or_default();
            let who = match route.role {
                Role::Viewer => 'V',
                Role::Operator => 'O',
                Role::Admin => 'A',
            };
            let cell = format!("{} `{}` {who}", route.method, route.verb);
            assert!(row.contains(&cell), "{}: docs/PROTOCOL.md lacks {cell}", route.path);
        }
    }

    #[test]
    fn routes_are_found_by_words_first_and_by_whole_parts() {
        let found = |method: Method, path: &str| match find(&method, path) {
            Looked::Found(found) => {
                let values: Vec<_> = found.parameters.iter().map(|(_, value)| value.as_str()).collect();
                format!("{} {}", found.route.verb, values.join(","))
            }
            Looked::Other(methods) => methods.join(","),
            Looked::Nothing => "-".to_owned(),
        };
        for (method, path, expected) in [
            (Method::GET, "/updates/supersedence", "supersedence-plan "),
            (Method::GET, "/updates/7c3e91aa", "updates-show 7c3e91aa"),
            (Method::GET, "/packages/a%2Fb%20c", "package-show a/b c"),
            (Method::GET, "/packages/%C3%A9", "package-show é"),
            (Method::GET, "/packages/..", "package-show .."),
            (Method::PUT, "/packages/p", "DELETE,GET,PATCH"),
            (Method::DELETE, "/keys/device/desk-7", "points:revoke device,desk-7"),
            (Method::HEAD, "/status", "GET"),
            (Method::GET, "/packages/", "-"),
            (Method::GET, "/packages/%", "-"),
            (Method::GET, "/packages/%+1", "-"),
            (Method::GET, "/packages/%ff", "-"),
            (Method::GET, "//status", "-"),
            (Method::GET, "status", "-"),
            (Method::GET, "", "-"),
        ] {
            assert_eq!(found(method.clone(), path), expected, "{method} {path}");
        }
    }
}
