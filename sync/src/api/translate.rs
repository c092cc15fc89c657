//! A route with what was sent becomes a request of [`crate::admin`]. Pure; of verbs only the form is known here ([`shaped`]).

use std::path::{Path, PathBuf};
use std::time::Duration;

use catalog::id::FileName;
use catalog::problem::{Code, Problem};
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::routes::Found;
use crate::admin::{Envelope, Request};
use crate::config::parse_duration;

/// So long is waited where `wait` has no time.
const USUAL_WAIT: Duration = Duration::from_secs(60);
/// Nobody is kept waiting longer.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// What is asked for, and how.
#[derive(Debug)]
pub struct Asked {
    /// For `admin::answer`.
    pub envelope: Envelope,
    /// How long a task is waited for; not at all if not given.
    pub wait: Option<Duration>,
    /// What it names in the folder `exchange`.
    pub files: Vec<PathBuf>,
}

fn misunderstood(why: impl Into<String>) -> Problem {
    Problem::new(Code::Usage, "the request was not understood")
        .because(why)
        .help("`GET /api/v1/openapi.json` lists the routes")
}

/// Reads a body: nothing, or a JSON object.
///
/// # Errors
/// `USAGE`.
pub fn body(bytes: &[u8]) -> Result<Map<String, Value>, Problem> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(misunderstood("the body is no JSON object")),
        // Where it is wrong, not what stands there: it may be a secret.
        Err(error) => Err(misunderstood(format!(
            "the body is no JSON: line {}, column {}",
            error.line(),
            error.column()
        ))),
    }
}

/// Puts a request together: defaults, then the query, then the body, then the path.
///
/// # Errors
/// `USAGE` for what is unknown, lacks, or has another form; `NAME_NOT_ALLOWED` for a file that is no plain name; `NOT_PERMITTED`
/// for what is said on the site's machine only.
pub fn translate(
    found: &Found,
    query: &str,
    body: Map<String, Value>,
    exchange: &Path,
) -> Result<Asked, Problem> {
    let route = found.route;
    let defaults: Map<String, Value> =
        serde_json::from_str(route.fields).map_err(|error| Problem::of(Code::Internal, &error))?;
    let mut fields = defaults.clone();
    let (mut dry_run, mut wait) = (false, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "dry_run" => dry_run = yes(&value).ok_or_else(|| misunderstood("`dry_run` is true or false"))?,
            "wait" => wait = Some(waiting(&value)?),
            name => match defaults.get(name) {
                Some(default) => put(&mut fields, default, name, &value)?,
                None => return Err(misunderstood(format!("no `{}` may stand in the query", cut(name)))),
            },
        }
    }
    let mut given = body;
    if let Some(flag) = given.remove("dry_run") {
        dry_run |= flag.as_bool().ok_or_else(|| misunderstood("`dry_run` is true or false"))?;
    }
    let stated: Vec<String> = given.keys().cloned().collect();
    fields.extend(given);
    for (name, value) in &found.parameters {
        if stated.iter().any(|stated| stated == name) {
            return Err(misunderstood(format!("`{name}` stands in the path and in the body")));
        }
        fields.remove(*name);
        put(&mut fields, defaults.get(*name).unwrap_or(&Value::Null), name, value)?;
    }
    if let Some(name) =
        route.local.iter().find(|name| fields.get(**name).is_some_and(|value| !value.is_null()))
    {
        let message =
            format!("`{name}` makes the site call an address, which only who is on its machine may say");
        return Err(Problem::new(Code::NotPermitted, message));
    }
    let mut files = Vec::new();
    for file in route.files {
        if let Some(Value::String(name)) = fields.get(*file) {
            let path = within(exchange, name)?;
            fields.insert((*file).to_owned(), Value::String(path.to_string_lossy().into_owned()));
            files.push(path);
        }
    }
    let value = shaped(route.verb, fields);
    let request: Request =
        serde_json::from_value(value.clone()).map_err(|error| misunderstood(error.to_string()))?;
    let understood = serde_json::to_value(&request).map_err(|error| Problem::of(Code::Internal, &error))?;
    match unknown(&value, &understood) {
        Some(field) => Err(misunderstood(format!("there is no field `{}`", cut(&field)))),
        None => Ok(Asked { envelope: Envelope { request, dry_run, no_wait: false }, wait, files }),
    }
}

/// A text in the form that the default has.
fn put(fields: &mut Map<String, Value>, default: &Value, name: &str, text: &str) -> Result<(), Problem> {
    let wrong = |form: &str| misunderstood(format!("`{name}` is {form}"));
    let value = match default {
        Value::Bool(_) => Value::Bool(yes(text).ok_or_else(|| wrong("true or false"))?),
        Value::Number(_) => text.parse::<i64>().map_err(|_| wrong("a number"))?.into(),
        Value::Array(_) => {
            let list = fields.entry(name.to_owned()).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.push(text.into());
            }
            return Ok(());
        }
        Value::Object(_) => return Err(wrong("an object, which stands in the body")),
        Value::Null | Value::String(_) => text.into(),
    };
    fields.insert(name.to_owned(), value);
    Ok(())
}

fn yes(text: &str) -> Option<bool> {
    match text {
        "" | "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

fn waiting(text: &str) -> Result<Duration, Problem> {
    let wait = match (text, text.parse()) {
        ("", _) => USUAL_WAIT,
        (_, Ok(seconds)) => Duration::from_secs(seconds),
        _ => parse_duration(text).map_err(misunderstood)?,
    };
    Ok(wait.min(LONGEST_WAIT))
}

/// A plain name in the folder; the folder itself for none.
fn within(exchange: &Path, name: &str) -> Result<PathBuf, Problem> {
    Ok(match name {
        "" => exchange.to_owned(),
        name => {
            let name: FileName = name.parse().map_err(|_| {
                let message =
                    format!("`{}` is no plain name of a file in `{}`", cut(name), exchange.display());
                Problem::new(Code::NameNotAllowed, message)
            })?;
            exchange.join(name.as_str())
        }
    })
}

/// The form that the verb has on the admin socket.
fn shaped(verb: &str, mut fields: Map<String, Value>) -> Value {
    let mut whole = Map::new();
    match verb.split_once(':') {
        None => {
            fields.insert("verb".to_owned(), verb.into());
            return Value::Object(fields);
        }
        Some((verb @ ("points" | "tls" | "tokens"), act)) => {
            fields.insert("do".to_owned(), act.into());
            whole.insert("verb".to_owned(), verb.into());
            whole.insert("act".to_owned(), Value::Object(fields));
        }
        Some((verb, action)) => {
            fields.insert("verb".to_owned(), verb.into());
            fields.insert("action".to_owned(), action.into());
            whole = fields;
        }
    }
    Value::Object(whole)
}

/// A field that was given and is not there any more once it was understood: a misspelt one, which must not be passed over.
fn unknown(given: &Value, understood: &Value) -> Option<String> {
    match (given, understood) {
        (Value::Object(given), Value::Object(understood)) => given.iter().find_map(|(name, value)| {
            let nothing = value.is_null() || *value == Value::Bool(false) || value.as_str() == Some("");
            match understood.get(name) {
                Some(understood) => unknown(value, understood),
                None if nothing => None,
                None => Some(name.clone()),
            }
        }),
        (Value::Array(given), Value::Array(understood)) => {
            given.iter().zip(understood).find_map(|(given, understood)| unknown(given, understood))
        }
        _ => None,
    }
}

fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::api::routes::{Looked, ROUTES, find};

    fn asked(method: &Method, path: &str, query: &str, body: Value) -> Result<Asked, Problem> {
        let Looked::Found(found) = find(method, path) else { panic!("{method} {path} is no route") };
        let Value::Object(body) = body else { panic!("an object") };
        translate(&found, query, body, Path::new("/x/exchange"))
    }

    /// What a route must be told, where a text will not do.
    fn example(field: &str) -> Value {
        match field {
            "accept" | "on" | "enabled" => json!(true),
            "access" => json!("public"),
            "what" => json!("retry"),
            "purpose" => json!("required"),
            "device" => {
                json!({ "os_type": "client", "version": "6.1", "edition": "x", "architecture": "x64", "language": "x" })
            }
            "place" => json!("end"),
            "updates" | "phases" | "values" => json!([]),
            "revision" | "minutes" => json!(1),
            "archive" => json!(""),
            _ => json!("x"),
        }
    }

    #[test]
    fn every_route_makes_its_request() {
        for route in ROUTES {
            let path: Vec<_> = route
                .path
                .split('/')
                .map(|word| match word {
                    "{kind}" => "device",
                    "{run}" | "{task}" | "{phase}" => "7",
                    word if word.starts_with('{') => "x",
                    word => word,
                })
                .collect();
            let (path, mut body) = (path.join("/"), Map::new());
            let method = route.method.parse().unwrap();
            let made = loop {
                match asked(&method, &path, "", Value::Object(body.clone())) {
                    Ok(made) => break made,
                    Err(problem) => {
                        let lacking =
                            problem.causes.first().and_then(|why| why.strip_prefix("missing field `"));
                        let Some(field) = lacking.and_then(|rest| rest.split('`').next()) else {
                            panic!("{method} {path}: {problem}")
                        };
                        assert!(method != Method::GET, "{path}: a question has all in its path: {field}");
                        assert!(body.insert(field.to_owned(), example(field)).is_none(), "{path}: {problem}");
                    }
                }
            };
            let verb = route.verb.split(':').next().unwrap();
            assert_eq!(serde_json::to_value(&made.envelope.request).unwrap()["verb"], verb, "{path}");
        }
    }

    #[test]
    fn query_body_and_path_become_one_request() {
        let text = |method, path, query, body| {
            asked(&method, path, query, body)
                .map(|asked| serde_json::to_value(&asked.envelope).unwrap())
                .map_err(|problem| (problem.code, problem.causes.join("; ")))
        };
        let listed = text(Method::GET, "/updates", "products=Windows+11&products=b&all", json!({})).unwrap();
        assert_eq!(listed["request"]["products"], json!(["Windows 11", "b"]));
        assert_eq!((&listed["request"]["all"], &listed["dry_run"]), (&json!(true), &json!(false)));
        let made = text(Method::POST, "/packages", "dry_run=true", json!({ "name": "p" })).unwrap();
        assert_eq!((&made["request"]["name"], &made["dry_run"]), (&json!("p"), &json!(true)));
        let decided = text(Method::PUT, "/updates/7c3e/license", "", json!({ "accept": true })).unwrap();
        assert_eq!(decided["request"]["updates"], json!(["7c3e"]));
        let plain =
            asked(&Method::POST, "/packages/p/download", "", json!({ "from": "x", "mirror": null })).unwrap();
        assert_eq!(plain.files, [Path::new("/x/exchange/x")]);
        let file = text(Method::POST, "/updates/import", "", json!({ "file": "wsus.cab" })).unwrap();
        assert_eq!(file["request"]["file"], "/x/exchange/wsus.cab");
        for (method, path, query, body, code) in [
            (Method::POST, "/packages", "", json!({ "name": "p", "descripton": "d" }), Code::Usage),
            (Method::POST, "/packages", "", json!({ "name": 7 }), Code::Usage),
            (Method::POST, "/packages", "", json!({}), Code::Usage),
            (Method::POST, "/packages", "name=p", json!({}), Code::Usage),
            (Method::POST, "/packages", "dry_run=perhaps", json!({ "name": "p" }), Code::Usage),
            (Method::PATCH, "/packages/p", "", json!({ "package": "q", "access": "public" }), Code::Usage),
            (Method::POST, "/sync/runs", "wait=soon", json!({}), Code::Usage),
            (Method::GET, "/tasks/seven", "", json!({}), Code::Usage),
            (Method::GET, "/tasks", "limit=-1", json!({}), Code::Usage),
            (Method::POST, "/sync/plan", "", json!({ "change": { "product": ["x"] } }), Code::Usage),
            (Method::POST, "/updates/import", "", json!({ "file": "../wsus.cab" }), Code::NameNotAllowed),
            (Method::POST, "/updates/import", "", json!({ "file": "/etc/passwd" }), Code::NameNotAllowed),
            (
                Method::POST,
                "/packages/p/download",
                "",
                json!({ "mirror": "http://10.0.0.1/" }),
                Code::NotPermitted,
            ),
            (Method::POST, "/packages/p/download", "mirror=http://10.0.0.1/", json!({}), Code::NotPermitted),
        ] {
            let refused = text(method.clone(), path, query, body).unwrap_err();
            assert_eq!(refused.0, code, "{method} {path}?{query}: {refused:?}");
        }
    }

    #[test]
    fn waiting_has_an_end_and_a_body_that_is_none_shows_nothing_of_itself() {
        for (query, expected) in [
            ("", None),
            ("wait", Some(60)),
            ("wait=5", Some(5)),
            ("wait=2m", Some(120)),
            ("wait=9h", Some(600)),
        ] {
            let asked = asked(&Method::POST, "/sync/runs", query, json!({})).unwrap();
            assert_eq!(asked.wait.map(|wait| wait.as_secs()), expected, "{query}");
        }
        assert_eq!(body(b" \n").unwrap(), Map::new());
        for wrong in [&b"[]"[..], b"7", b"{\"product_key\":\"ABCDE-", b"\xff"] {
            let problem = body(wrong).unwrap_err();
            assert!(problem.code == Code::Usage && !problem.to_string().contains("ABCDE"), "{problem}");
        }
    }
}
