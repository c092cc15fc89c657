//! The routes as OpenAPI 3.1 says them, made from the table. Pure. What a verb answers with is what `-o json` prints.

use serde_json::{Map, Value, json};

use super::BASE;
use super::routes::{ROUTES, Route};

/// The document: OpenAPI 3.1, made of the table of routes.
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "spsync", "version": env!("CARGO_PKG_VERSION"),
            "description": "The verbs of the command line over HTTP; docs/PROTOCOL.md says the rules.",
        },
        "servers": [{ "url": BASE }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "responses": { "Problem": {
                "description": "Why not, or why not all of it (RFC 9457)",
                "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
            } },
            "schemas": { "Problem": {
                "type": "object",
                "required": ["code", "message", "help", "status"],
                "properties": {
                    "code": { "type": "string", "description": "Stable; `spsync explain CODE` has a page about it" },
                    "message": { "type": "string" },
                    "causes": { "type": "array", "items": { "type": "string" } },
                    "state": { "type": "string", "description": "What was kept" },
                    "help": { "type": "string" },
                    "status": { "type": "integer" },
                    "title": { "type": "string" },
                    "detail": { "type": "string" },
                    "hresult": { "type": "string", "description": "The code of the same meaning that Windows has" },
                    "body": { "description": "What was done of it" },
                },
            } },
        },
    })
}

fn operation(route: &Route) -> Value {
    let defaults: Map<String, Value> = serde_json::from_str(route.fields).unwrap_or_default();
    let mut parameters = Vec::new();
    for word in route.path.split('/') {
        if let Some(name) = word.strip_prefix('{').and_then(|word| word.strip_suffix('}')) {
            let schema = simple(defaults.get(name).filter(|default| !default.is_array()));
            parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
        }
    }
    let in_path: Vec<Value> = parameters.iter().map(|one| one["name"].clone()).collect();
    for (name, default) in &defaults {
        if !default.is_object() && !in_path.contains(&json!(name)) {
            parameters.push(json!({ "name": name, "in": "query", "schema": simple(Some(default)) }));
        }
    }
    let mut operation = json!({
        "operationId": format!("{} {}", route.method.to_ascii_lowercase(), route.path).replace(['/', '{', '}', ' '], "_"),
        "summary": format!("The verb `{}`, for the role {}", route.verb, route.role),
        "responses": {
            "200": { "description": "Done", "content": { "application/json": {} } },
            "default": { "$ref": "#/components/responses/Problem" },
        },
    });
    if route.method != "GET" {
        let flag = json!({ "name": "dry_run", "in": "query", "schema": { "type": "boolean" } });
        let wait = json!({ "name": "wait", "in": "query", "schema": { "type": "string" } });
        let repeated = json!({ "name": "Idempotency-Key", "in": "header", "schema": { "type": "string" } });
        let tag = json!({
            "name": "If-Match", "in": "header", "required": route.conditional, "schema": { "type": "string" },
        });
        parameters.extend([flag, wait, repeated, tag]);
        operation["requestBody"] =
            json!({ "content": { "application/json": { "schema": { "type": "object" } } } });
        operation["responses"]["202"] =
            json!({ "description": "A task works on it", "content": { "application/json": {} } });
    }
    operation["parameters"] = parameters.into();
    operation
}

fn simple(default: Option<&Value>) -> Value {
    match default {
        Some(Value::Bool(_)) => json!({ "type": "boolean" }),
        Some(Value::Number(_)) => json!({ "type": "integer" }),
        Some(Value::Array(_)) => json!({ "type": "array", "items": { "type": "string" } }),
        _ => json!({ "type": "string" }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_an_operation_with_the_parameters_of_its_path() {
        let document = document();
        let mut ids = BTreeSet::new();
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method.to_ascii_lowercase()];
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{}", route.path);
            let named: Vec<_> = operation["parameters"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|one| one["in"] == "path")
                .map(|one| format!("{{{}}}", one["name"].as_str().unwrap()))
                .collect();
            let wanted: Vec<_> = route.path.split('/').filter(|word| word.starts_with('{')).collect();
            assert_eq!(named, wanted, "{}", route.path);
        }
        let listed = &document["paths"]["/updates"]["get"]["parameters"];
        let all = listed.as_array().unwrap().iter().find(|one| one["name"] == "all").unwrap();
        assert_eq!((&all["in"], &all["schema"]["type"]), (&json!("query"), &json!("boolean")));
    }
}
