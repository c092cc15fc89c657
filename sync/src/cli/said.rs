//! Answers by their shape: one sentence for what an act did or would do, and lines for what nobody has made a page of.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Output;
use super::output::safe;

/// Prints an answer for people: what an act did in a sentence, and anything else field by field.
pub(super) fn say(body: &Value, output: &Output) {
    match sentence(body) {
        Some(sentence) => output.line(sentence),
        None => lines(body).iter().for_each(|line| output.line(line)),
    }
}

/// Prints an answer whose shape says enough by itself.
pub(super) fn show_value(body: &Value, output: &Output) {
    output.one(
        body,
        |body| body["package"].as_str().map_or_else(|| id(body), str::to_owned),
        |output| say(body, output),
    );
}

/// The id of a task or thing.
fn id(body: &Value) -> String {
    body["id"]
        .as_str()
        .map_or_else(|| body["id"].as_i64().map_or_else(String::new, |id| id.to_string()), str::to_owned)
}

/// An answer as a value of ours, where it is one.
pub(super) fn read<T: DeserializeOwned>(body: &Value) -> Option<T> {
    serde_json::from_value(body.clone()).ok()
}

/// The id in an answer.
pub(super) fn id_of(body: &Value) -> String {
    body["id"].as_str().unwrap_or_default().to_owned()
}

/// The name in an answer.
pub(super) fn name_of(body: &Value) -> String {
    body["name"].as_str().unwrap_or_default().to_owned()
}

/// The sentence, if the answer is that of an act that is known.
pub fn sentence(body: &Value) -> Option<String> {
    let dry = body["dry_run"].as_bool() == Some(true);
    let did = |done: &str, would: &str| if dry { format!("would {would}") } else { done.to_owned() };
    if let (Some(id), Some(title), true) =
        (body["id"].as_i64(), body["title"].as_str(), body["phases"].is_array())
    {
        return Some(format!("task {id} works on it ({}): spsync task wait {id}", safe(title)));
    }
    if let Some(deleted) = body.get("deleted") {
        return Some(format!("{} {}", did("deleted", "delete"), label(deleted)));
    }
    if let Some(stopped) = body.get("stopped").filter(|stopped| stopped.is_object()) {
        let what = label(stopped);
        return Some(format!(
            "{} {what}: offered no more; devices that have begun go on",
            did("stopped", "stop")
        ));
    }
    if let Some(removed) = body.get("removed") {
        return Some(format!("{} {}", did("removed", "remove"), label(removed)));
    }
    if let Some(name) = body["revoked"].as_str().filter(|_| body["kind"].is_string()) {
        let kind = body["kind"].as_str().unwrap_or_default();
        return Some(format!("{} the key of {} `{}`", did("revoked", "revoke"), safe(kind), safe(name)));
    }
    if body["revoked"].as_bool() == Some(true) {
        return Some(format!("{} the token {}", did("revoked", "revoke"), label(&body["name"])));
    }
    if let Some(retired) = body.get("retired").filter(|retired| retired.is_string()) {
        return Some(format!(
            "{} {}: no new task sequence may install it",
            did("retired", "retire"),
            label(retired)
        ));
    }
    if let Some(points) = body["withdrawn_from"].as_array() {
        let what = format!("{} {}", body["package"].as_str().unwrap_or_default(), label(&body["name"]));
        return Some(match points.as_slice() {
            [] => format!("{what} is on no distribution point"),
            points => format!("{} {what} from {}", did("withdrew", "withdraw"), names(points)),
        });
    }
    if let Some(joining) = body["would_join"].as_array() {
        return Some(format!("would put {} into {}", names(joining), label(&body["group"])));
    }
    for (key, verb) in [("would_create", "create"), ("would_add", "add")] {
        if let Some(text) = body[key].as_str() {
            return Some(format!("would {verb} `{}`", safe(text)));
        }
    }
    if let (Some(devices), Some(add)) = (body["devices"].as_array(), body["add"].as_bool()) {
        let collection = label(&body["collection"]);
        let to = if add { "into" } else { "out of" };
        return Some(format!("would put {} {to} {collection}", names(devices)));
    }
    None
}

/// Everything in an answer that says something: `name: value`, what is within something below it, and of a list each thing in a
/// line of its own.
pub fn lines(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => fields.iter().flat_map(|(name, field)| named(name, field)).collect(),
        Value::Array(items) => items.iter().flat_map(item).collect(),
        other => word(other).into_iter().collect(),
    }
}

fn named(name: &str, field: &Value) -> Vec<String> {
    let name = safe(name);
    if let Some(word) = word(field) {
        return vec![format!("{name}: {word}")];
    }
    let within = lines(field);
    if within.is_empty() {
        return within;
    }
    std::iter::once(format!("{name}:")).chain(within.iter().map(|line| format!("  {line}"))).collect()
}

fn item(item: &Value) -> Vec<String> {
    let Value::Object(fields) = item else { return lines(item) };
    let words = fields.iter().filter_map(|(name, field)| Some(format!("{} {}", safe(name), word(field)?)));
    let line = words.collect::<Vec<_>>().join(" · ");
    let rest = fields.iter().filter(|(_, field)| word(field).is_none());
    let rest = rest.flat_map(|(name, field)| named(name, field)).map(|line| format!("  {line}"));
    Some(line).filter(|line| !line.is_empty()).into_iter().chain(rest).collect()
}

/// What is said in one word; none where there is more to it, or nothing.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Bool(false) | Value::Array(_) | Value::Object(_) => None,
        Value::String(text) => Some(safe(text)).filter(|text| !text.is_empty()),
        other => Some(other.to_string()),
    }
}

fn names(all: &[Value]) -> String {
    all.iter().map(|one| safe(one.as_str().unwrap_or_default())).collect::<Vec<_>>().join(", ")
}

/// `XYZ20001 `Upgrade``: the id where there is one, and the name.
fn label(thing: &Value) -> String {
    if let Some(text) = thing.as_str() {
        return format!("`{}`", safe(text));
    }
    if thing["package"].is_object() {
        return label(&thing["package"]);
    }
    let name = thing["name"].as_str().map(|name| format!("`{}`", safe(name)));
    let parts = [thing["id"].as_str().map(safe), name];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_act_is_one_sentence() {
        let deployment = json!({ "id": "XYZ20001", "name": "Upgrade", "state": "offered" });
        for (body, expected) in [
            (json!({ "deleted": deployment, "dry_run": false }), "deleted XYZ20001 `Upgrade`"),
            (json!({ "deleted": "north", "dry_run": true }), "would delete `north`"),
            (
                json!({ "deleted": { "package": { "id": "XYZ00001", "name": "p" }, "files": [] } }),
                "deleted XYZ00001 `p`",
            ),
            (
                json!({ "stopped": deployment, "dry_run": false }),
                "stopped XYZ20001 `Upgrade`: offered no more; devices that have begun go on",
            ),
            (
                json!({ "revoked": "PC1", "kind": "device", "dry_run": false }),
                "revoked the key of device `PC1`",
            ),
            (
                json!({ "package": "XYZ00001", "name": "p", "withdrawn_from": ["lyon", "rome"] }),
                "withdrew XYZ00001 `p` from lyon, rome",
            ),
            (
                json!({ "package": "XYZ00001", "name": "p", "withdrawn_from": [] }),
                "XYZ00001 `p` is on no distribution point",
            ),
            (json!({ "would_create": "ring-1", "dry_run": true }), "would create `ring-1`"),
            (
                json!({ "collection": { "name": "ring-1" }, "devices": ["PC1"], "add": true, "dry_run": true }),
                "would put PC1 into `ring-1`",
            ),
            (
                json!({ "id": 12, "kind": "now", "title": "synchronise", "phases": [] }),
                "task 12 works on it (synchronise): spsync task wait 12",
            ),
        ] {
            assert_eq!(sentence(&body).as_deref(), Some(expected), "{body}");
        }
        for page in [deployment, json!({ "name": "ring-1", "devices": [] }), json!({}), json!([])] {
            assert_eq!(sentence(&page), None, "{page}");
        }
    }

    #[test]
    fn whatever_else_is_answered_is_said_line_by_line() {
        let body = json!({
            "name": "p\u{1b}", "note": "", "dry_run": false, "points": [], "problem": null, "bytes": 5,
            "files": ["a.esd", "b.esd"],
            "served": { "lyon": { "peer": 7 }, "rome": {} },
            "changes": [{ "key": "a", "new": 1, "old": null, "why": ["x"] }, { "key": "b" }],
        });
        let expected = [
            "bytes: 5",
            "changes:",
            "  key a · new 1",
            "    why:",
            "      x",
            "  key b",
            "files:",
            "  a.esd",
            "  b.esd",
            "name: p\u{fffd}",
            "served:",
            "  lyon:",
            "    peer: 7",
        ];
        assert_eq!(lines(&body), expected);
        assert_eq!(lines(&json!(["x", 2, ["y"]])), ["x", "2", "y"]);
        assert!(lines(&json!({})).is_empty());
    }
}
