use std::collections::HashMap;

use serde_json::{Map, Value};

/// Lists whose order is the caller's, or that of time.
const ORDERED: [&str; 3] = ["targets", "header_auths", "data"];

/// What `${…}` stands for.
#[derive(Clone, Default)]
pub(super) struct Vars(HashMap<String, String>);

impl Vars {
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// The text with every variable put in.
    pub(super) fn fill(&self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').ok_or("open variable")?;
            let value = self
                .0
                .get(name)
                .ok_or_else(|| format!("nothing is known of ${{{name}}}"))?;
            out.push_str(before);
            out.push_str(value);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    /// The same for all texts inside; a variable that names a port becomes a number.
    pub(super) fn fill_json(&self, value: &Value) -> Result<Value, String> {
        Ok(match value {
            Value::String(text) if text.ends_with("_port}") => {
                self.fill(text)?.parse::<u16>().unwrap().into()
            }
            Value::String(text) => Value::String(self.fill(text)?),
            Value::Array(items) => items
                .iter()
                .map(|item| self.fill_json(item))
                .collect::<Result<_, _>>()?,
            Value::Object(map) => {
                let filled = map
                    .iter()
                    .map(|(key, item)| Ok((key.clone(), self.fill_json(item)?)));
                Value::Object(filled.collect::<Result<Map<_, _>, String>>()?)
            }
            other => other.clone(),
        })
    }
}

/// Compares an answer with the recorded one and learns what its variables stand for.
pub(super) fn compare(vars: &mut Vars, at: &str, expected: &Value, seen: &Value) -> Result<(), String> {
    match (expected, seen) {
        (Value::Null, Value::Array(items)) if items.is_empty() => Ok(()),
        (Value::String(pattern), seen) => compare_text(vars, at, pattern, seen),
        (Value::Object(expected), Value::Object(seen)) => {
            for (key, value) in expected {
                let at = format!("{at}.{key}");
                let Some(found) = seen.get(key) else {
                    return Err(format!("{at} is missing"));
                };
                compare(vars, &at, value, found)?;
            }
            Ok(())
        }
        (Value::Array(expected), Value::Array(seen)) => compare_lists(vars, at, expected, seen),
        (expected, seen) if expected == seen => Ok(()),
        (expected, seen) => Err(format!("{at} is {seen} instead of {expected}")),
    }
}

fn compare_lists(vars: &mut Vars, at: &str, expected: &[Value], seen: &[Value]) -> Result<(), String> {
    if expected.len() != seen.len() {
        return Err(format!(
            "{at} has {} entries instead of {}",
            seen.len(),
            expected.len()
        ));
    }
    let ordered = ORDERED.iter().any(|name| at.ends_with(name)) || !expected.iter().all(Value::is_object);
    if ordered {
        for (index, (expected, seen)) in expected.iter().zip(seen).enumerate() {
            compare(vars, &format!("{at}[{index}]"), expected, seen)?;
        }
        return Ok(());
    }
    let mut left: Vec<&Value> = seen.iter().collect();
    for wanted in expected {
        let mut reasons = Vec::new();
        let found = left.iter().position(|candidate| {
            let mut trial = vars.clone();
            match compare(&mut trial, at, wanted, candidate) {
                Ok(()) => {
                    *vars = trial;
                    true
                }
                Err(reason) => {
                    reasons.push(reason);
                    false
                }
            }
        });
        match found {
            Some(position) => drop(left.swap_remove(position)),
            None => return Err(format!("{at} has nothing like {wanted}: {}", reasons.join("; "))),
        }
    }
    Ok(())
}

fn compare_text(vars: &mut Vars, at: &str, pattern: &str, seen: &Value) -> Result<(), String> {
    let wrong = || Err(format!("{at} is {seen} instead of {pattern}"));
    let is = |fits: bool| if fits { Ok(()) } else { wrong() };
    match pattern {
        "<int>" | "<n>" | "<port>" => return is(seen.is_u64()),
        "<bool>" => return is(seen.is_boolean()),
        _ => {}
    }
    let Some(text) = seen.as_str() else { return wrong() };
    match pattern {
        "<time>" => is(text.len() >= 20 && text.ends_with('Z') && text.contains('T')),
        "<id>" => is(text.len() == 20),
        "<uuid>" => is(text.len() == 36),
        "<masked>" => is(text.len() == 9 && text.ends_with("****")),
        "<nbx>" => is(text.len() == 40 && text.starts_with("nbx_")),
        "<ip>" => is(text.parse::<std::net::Ipv4Addr>().is_ok()),
        "<ip6>" => is(text.parse::<std::net::Ipv6Addr>().is_ok()),
        "<text: not found>" => is(text.contains("not found")),
        "<str>" | "<text>" | "<hostname>" | "<user>" => Ok(()),
        "netbird-proxy-<uuid>" => is(!text.is_empty()),
        _ => {
            let name = pattern.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
            let name = name.or_else(|| pattern.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')));
            match name {
                Some(name) if !vars.0.contains_key(name) => {
                    vars.set(name, text);
                    Ok(())
                }
                Some(name) => is(vars.0[name] == text),
                None => is(pattern == text),
            }
        }
    }
}
