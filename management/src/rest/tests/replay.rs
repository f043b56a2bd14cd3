//! Recorded calls, sent to our router; `tests/fixtures/rest/README.md` says how they are written.

mod compare;
mod exceptions;
mod scene;

use std::collections::BTreeMap;
use std::path::Path;

use axum::body::Body;
use http::Request;
use serde::Deserialize;
use serde_json::Value;

use super::{Reply, send};
use compare::{Vars, compare};
use exceptions::{OURS, OUT_OF_SCOPE};
use scene::Scene;

/// Order matters: later files see what earlier ones made.
const FILES: [&str; 10] = [
    "instance",
    "auth",
    "http",
    "groups",
    "setup_keys",
    "peers",
    "clusters",
    "proxy_tokens",
    "services",
    "access_logs",
];

#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    method: String,
    path: String,
    request: Value,
    status: Option<u16>,
    headers: BTreeMap<String, String>,
    response: Value,
    r#as: String,
}

#[tokio::test]
async fn recorded_calls_get_the_recorded_answers() {
    let mut scene = Scene::new().await;
    let mut faults = Vec::new();
    let mut replayed = 0;
    let mut excused = std::collections::BTreeSet::new();
    for file in FILES {
        if file == "access_logs" {
            scene.logs().await;
        }
        for entry in load(file) {
            if entry.name == "groups.create" {
                scene.groups().await;
            }
            if let Some((name, _)) = OUT_OF_SCOPE.iter().find(|(name, _)| *name == entry.name) {
                excused.insert(*name);
                continue;
            }
            replayed += 1;
            if let Err(fault) = replay(&mut scene, &entry).await {
                faults.push(format!("{}: {fault}", entry.name));
            }
        }
    }

    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
    assert!(replayed > 150, "only {replayed} calls were replayed");
    for (name, reason) in OUT_OF_SCOPE {
        assert!(excused.contains(name), "no such call: {name} ({reason})");
    }
}

async fn replay(scene: &mut Scene, entry: &Entry) -> Result<(), String> {
    let request = request(&scene.vars, entry)?;
    let reply = send(&scene.world, request).await;
    let ours = OURS.iter().find(|(name, ..)| *name == entry.name);
    if let Some((_, status, _)) = ours {
        let expected = Some(*status);
        return check_status(expected, &reply);
    }
    check_status(entry.status, &reply)?;
    for name in ["content-type", "vary", "access-control-allow-origin"] {
        let expected = entry.headers.get(name).map_or("", String::as_str);
        let (seen, expected) = (reply.header(name), expected);
        if seen != expected {
            return Err(format!("{name} is {seen:?} instead of {expected:?}"));
        }
    }
    let body = if reply.header("content-type").starts_with("application/json") {
        reply.json()
    } else {
        Value::String(reply.text.clone())
    };
    if !entry.response.is_null() {
        compare(&mut scene.vars, "", &entry.response, &body)?;
    }
    if entry.name.contains(".create") {
        scene.settle().await;
    }
    Ok(())
}

fn check_status(expected: Option<u16>, reply: &Reply) -> Result<(), String> {
    let seen = reply.status.as_u16();
    match expected {
        Some(expected) if seen != expected => Err(format!("{seen} instead of {expected}: {}", reply.text)),
        None if seen != 422 => Err(format!("{seen} instead of 422: {}", reply.text)),
        Some(_) | None => Ok(()),
    }
}

fn request(vars: &Vars, entry: &Entry) -> Result<Request<Body>, String> {
    let body = match &entry.request {
        Value::Null => String::new(),
        Value::String(text) => vars.fill(text)?,
        json => vars.fill_json(json)?.to_string(),
    };
    let mut request = Request::builder()
        .method(entry.method.as_str())
        .uri(vars.fill(&entry.path)?);
    match entry.r#as.as_str() {
        "none" => {}
        "owner" => request = request.header("authorization", vars.fill("Token ${owner_pat}")?),
        "garbage" => request = request.header("authorization", "Token nbp_garbage"),
        header => request = request.header("authorization", vars.fill(header)?),
    }
    if let Some(method) = entry.headers.get("access-control-allow-methods") {
        request = request.header("access-control-request-method", method);
        let names = entry.headers.get("access-control-allow-headers");
        if let Some(names) = names {
            request = request.header("access-control-request-headers", names);
        }
    }
    if entry.headers.contains_key("access-control-allow-origin") {
        request = request.header("origin", "https://dashboard.test");
    }
    request.body(Body::from(body)).map_err(|error| error.to_string())
}

fn load(file: &str) -> Vec<Entry> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/rest/{file}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
