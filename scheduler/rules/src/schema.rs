//! Schemas: what a service's input and a function's arguments are to be, as data, and values held against them.
//!
//! ```text
//! {"type": "uri" | "text" | "bool" | "any"}      {"type": "int" | "number", "min": …, "max": …}
//! {"type": "choice", "of": […]}                   {"type": "list" | "map", "of": schema}
//! {"type": "record", "fields": {name: schema}}    {"type": "optional", "of": schema, "default": …}   (of a record's field)
//! ```

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::value::Value;

/// What is wrong, and where: `renditions[2].height`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {what}")]
pub struct Mismatch {
    pub path: String,
    pub what: String,
}

fn bad(path: &str, what: impl Into<String>) -> Mismatch {
    Mismatch { path: if path.is_empty() { "(whole)".into() } else { path.into() }, what: what.into() }
}

/// Whether the schema itself is one. A service's input may be a plain map of fields: a record without its wrapping.
///
/// # Errors
/// Where it is not.
pub fn check_schema(schema: &Value) -> Result<(), Mismatch> {
    match schema {
        Value::Null => Ok(()),
        Value::Map(fields) if !is_typed(schema) => fields.iter().try_for_each(|(name, field)| check(field, name)),
        other => check(other, ""),
    }
}

fn is_typed(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_text).is_some()
}

fn check(schema: &Value, path: &str) -> Result<(), Mismatch> {
    let part = |name: &str| schema.get(name).ok_or_else(|| bad(path, format!("the type lacks {name:?}")));
    match schema.get("type").and_then(Value::as_text) {
        Some("uri" | "text" | "bool" | "any" | "int" | "number") => Ok(()),
        Some("choice") => match part("of")? {
            Value::List(values) if !values.is_empty() => Ok(()),
            _ => Err(bad(path, "choice() takes a list of values")),
        },
        Some("list" | "map" | "optional") => check(part("of")?, path),
        Some("record") => match part("fields")? {
            Value::Map(fields) => fields.iter().try_for_each(|(name, field)| check(field, &join(path, name))),
            _ => Err(bad(path, "record() takes fields")),
        },
        _ => Err(bad(path, format!("{schema} is no type; write text(), uri(), integer(), record(…) or the like"))),
    }
}

/// Holds a value against a schema and fills in defaults, and theirs. Fields that the schema does not know are refused.
///
/// # Errors
/// The first mismatch.
pub fn conform(schema: &Value, value: &Value) -> Result<Value, Mismatch> {
    match schema {
        Value::Null => Ok(value.clone()),
        Value::Map(fields) if !is_typed(schema) => record(fields, value, ""),
        other => one(other, value, ""),
    }
}

fn one(schema: &Value, value: &Value, path: &str) -> Result<Value, Mismatch> {
    let kind = schema.get("type").and_then(Value::as_text).unwrap_or("any");
    let wrong = || bad(path, format!("this is a {}, and is to be {}", value.kind(), article(kind)));
    match kind {
        "uri" | "text" => match value {
            Value::Text(text) if kind == "uri" && text.is_empty() => Err(bad(path, "a URI is not empty")),
            // A whole path is as good as a URI, and functions take URIs.
            Value::Text(text) if kind == "uri" && text.starts_with('/') => {
                Ok(Value::text(spool_proto::uri::from_path(std::path::Path::new(text.as_ref()))))
            }
            Value::Text(_) => Ok(value.clone()),
            _ => Err(wrong()),
        },
        "bool" => {
            if matches!(value, Value::Bool(_)) {
                Ok(value.clone())
            } else {
                Err(wrong())
            }
        }
        "int" | "number" => {
            let fits = matches!(value, Value::Int(_)) || (kind == "number" && matches!(value, Value::Float(_)));
            if !fits {
                return Err(wrong());
            }
            for (bound, outside, word) in [("min", Ordering::Less, "at least"), ("max", Ordering::Greater, "at most")] {
                if let Some(limit) = schema.get(bound)
                    && value.compare(limit) == Some(outside)
                {
                    return Err(bad(path, format!("{value} is not {word} {limit}")));
                }
            }
            Ok(value.clone())
        }
        "choice" => match schema.get("of") {
            Some(Value::List(values)) if values.contains(value) => Ok(value.clone()),
            Some(of) => Err(bad(path, format!("{value} is none of {of}"))),
            None => Ok(value.clone()),
        },
        "list" => match (value, schema.get("of")) {
            (Value::List(values), Some(of)) => {
                let each = values.iter().enumerate().map(|(at, value)| one(of, value, &format!("{path}[{at}]")));
                Ok(Value::List(each.collect::<Result<Vec<_>, _>>()?.into()))
            }
            _ => Err(wrong()),
        },
        "map" => match (value, schema.get("of")) {
            (Value::Map(entries), Some(of)) => {
                let each = entries.iter().map(|(key, value)| Ok((key.clone(), one(of, value, &join(path, key))?)));
                Ok(Value::Map(Arc::new(each.collect::<Result<BTreeMap<_, _>, Mismatch>>()?)))
            }
            _ => Err(wrong()),
        },
        "record" => match schema.get("fields") {
            Some(Value::Map(fields)) => record(fields, value, path),
            _ => Ok(value.clone()),
        },
        "optional" => schema.get("of").map_or_else(|| Ok(value.clone()), |of| one(of, value, path)),
        _ => Ok(value.clone()),
    }
}

fn record(fields: &BTreeMap<Arc<str>, Value>, value: &Value, path: &str) -> Result<Value, Mismatch> {
    let Value::Map(given) = value else {
        return Err(bad(path, format!("this is a {}, and is to be a record", value.kind())));
    };
    if let Some(unknown) = given.keys().find(|name| !fields.contains_key(*name)) {
        let known: Vec<_> = fields.keys().map(AsRef::as_ref).collect();
        return Err(bad(&join(path, unknown), format!("there is no such field; there are {}", known.join(", "))));
    }
    let mut whole = BTreeMap::new();
    for (name, schema) in fields {
        let path = join(path, name);
        let optional = schema.get("type").and_then(Value::as_text) == Some("optional");
        match given.get(name).filter(|value| !(optional && **value == Value::Null)) {
            Some(value) => drop(whole.insert(name.clone(), one(schema, value, &path)?)),
            None if optional => {
                if let Some(default) = schema.get("default") {
                    // A record that is left out has the defaults of its fields.
                    whole.insert(name.clone(), one(schema, default, &path).unwrap_or_else(|_| default.clone()));
                }
            }
            None => return Err(bad(&path, "it is missing")),
        }
    }
    Ok(Value::Map(Arc::new(whole)))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}

fn article(kind: &str) -> String {
    match kind {
        "int" => "an integer".into(),
        "uri" => "a URI".into(),
        other => format!("a {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_path_becomes_a_uri_once() {
        let schema = Value::map([("film", Value::map([("type", Value::text("uri"))]))]);
        let film = |text: &str| Value::map([("film", Value::text(text))]);
        let whole = conform(&schema, &film("/films/a b.mov")).expect("a path");
        assert_eq!(whole, film("file:///films/a%20b.mov"));
        assert_eq!(conform(&schema, &whole), Ok(whole.clone()));
        assert_eq!(conform(&schema, &film("s3://films/a.mov")), Ok(film("s3://films/a.mov")));
    }
}
