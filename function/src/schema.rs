//! Schemas in a manifest: those of `spool_rules::schema`, where a type without more to say may be its name alone.
//!
//! ```toml
//! [input]
//! video = "uri"
//! threshold = { type = "optional", of = { type = "number", min = 0, max = 1 }, default = 0.5 }
//! ```
//!
//! Fields of type `uri` are files: the worker brings them to the function, which is told their paths.

use std::collections::BTreeMap;
use std::sync::Arc;

use spool_rules::schema::{Mismatch, check_schema, conform};
use spool_rules::value::Value;

/// Types in types, at most.
const DEPTH_MAX: usize = 16;

/// A type, and what may stand beside its name.
const TYPES: [(&str, &[&str]); 10] = [
    ("uri", &[]),
    ("text", &[]),
    ("bool", &[]),
    ("any", &[]),
    ("int", &["min", "max"]),
    ("number", &["min", "max"]),
    ("choice", &["of"]),
    ("list", &["of"]),
    ("map", &["of"]),
    ("record", &["fields"]),
];

/// Fields by name: what a function takes, or answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema(Value);

impl Schema {
    /// Of the fields as the manifest has them.
    ///
    /// # Errors
    /// The path of the first that is no type, and why.
    pub fn read(fields: &BTreeMap<String, Value>) -> Result<Schema, Mismatch> {
        let read = |(name, field): (&String, &Value)| Ok((Arc::from(name.as_str()), typed(field, name, 0, true)?));
        let fields: BTreeMap<Arc<str>, Value> = fields.iter().map(read).collect::<Result<_, Mismatch>>()?;
        // Written out, as a field that is called "type" must not be mistaken for one.
        let schema = Value::map([("type", Value::text("record")), ("fields", Value::Map(Arc::new(fields)))]);
        check_schema(&schema)?;
        defaults(&schema, "")?;
        Ok(Schema(schema))
    }

    /// Of types that are written out.
    pub(crate) fn of(fields: BTreeMap<Arc<str>, Value>) -> Schema {
        Schema(Value::map([("type", Value::text("record")), ("fields", Value::Map(Arc::new(fields)))]))
    }

    /// The record it is.
    pub fn record(&self) -> &Value {
        &self.0
    }

    /// Its fields' types, by name.
    pub fn fields(&self) -> &BTreeMap<Arc<str>, Value> {
        match self.0.get("fields") {
            Some(Value::Map(fields)) => fields,
            _ => unreachable!("a schema is made as a record"),
        }
    }

    /// Fills in defaults.
    ///
    /// # Errors
    /// The first mismatch, by its path.
    pub fn conform(&self, value: &serde_json::Value) -> Result<serde_json::Value, Mismatch> {
        let value: Value = serde_json::from_value(value.clone())
            .map_err(|error| Mismatch { path: "(whole)".into(), what: error.to_string() })?;
        let value = if value == Value::Null { Value::map::<&str>([]) } else { value };
        json(&conform(&self.0, &value)?)
    }

    /// The URIs in a value that conforms, by where they stand: `video`, `overlays[2].picture`.
    pub fn files(&self, value: &serde_json::Value) -> Vec<(String, String)> {
        let mut found = Vec::new();
        if let Ok(value) = serde_json::from_value::<Value>(value.clone()) {
            walk(&self.0, &value, "", &mut found);
        }
        found
    }

    /// A value that conforms, with other texts in the place of its URIs, by where they stand.
    pub fn with_files(&self, value: &serde_json::Value, texts: &BTreeMap<String, String>) -> serde_json::Value {
        let mut value = value.clone();
        replace(&self.0, &mut value, "", texts);
        value
    }

    /// As JSON, for people.
    pub fn to_json(&self) -> serde_json::Value {
        self.0.get("fields").and_then(|fields| json(fields).ok()).unwrap_or_default()
    }
}

fn json(value: &Value) -> Result<serde_json::Value, Mismatch> {
    serde_json::to_value(value).map_err(|error| Mismatch { path: "(whole)".into(), what: error.to_string() })
}

fn bad(path: &str, what: impl Into<String>) -> Mismatch {
    Mismatch { path: path.into(), what: what.into() }
}

/// A type written out, with nothing in it that is not known. `field`: it may be optional.
fn typed(schema: &Value, path: &str, depth: usize, field: bool) -> Result<Value, Mismatch> {
    let names = || TYPES.map(|(name, _)| name).join(", ");
    if depth > DEPTH_MAX {
        return Err(bad(path, format!("types lie in types more than {DEPTH_MAX} deep")));
    }
    let parts = match schema {
        Value::Text(name) => BTreeMap::from([(Arc::from("type"), Value::Text(name.clone()))]),
        Value::Map(parts) => BTreeMap::clone(parts),
        _ => return Err(bad(path, format!("{schema} is no type; there are {}, optional", names()))),
    };
    let Some(name) = parts.get("type").and_then(Value::as_text) else {
        return Err(bad(path, format!("a type has a name: {{ type = \"…\" }}, of {}, optional", names())));
    };
    let known: &[&str] = match TYPES.iter().find(|(known, _)| *known == name) {
        Some((_, known)) => known,
        None if name == "optional" && field => &["of", "default"],
        None if name == "optional" => {
            return Err(bad(path, "only a field can be optional, not what is in a list or map"));
        }
        None => return Err(bad(path, format!("there is no type {name:?}; there are {}, optional", names()))),
    };
    if let Some(unknown) = parts.keys().find(|part| part.as_ref() != "type" && !known.contains(&part.as_ref())) {
        return Err(bad(&format!("{path}.{unknown}"), format!("the type {name} has no {unknown:?}")));
    }
    for bound in ["min", "max"] {
        if parts.get(bound).is_some_and(|bound| !matches!(bound, Value::Int(_) | Value::Float(_))) {
            return Err(bad(&format!("{path}.{bound}"), "it is to be a number"));
        }
    }
    let mut whole = parts.clone();
    match (name, parts.get("of"), parts.get("fields")) {
        ("list" | "map" | "optional", Some(of), _) => {
            whole.insert("of".into(), typed(of, &format!("{path}.of"), depth + 1, false)?);
        }
        ("record", _, Some(Value::Map(fields))) => {
            let each = fields.iter().map(|(name, schema)| {
                Ok((name.clone(), typed(schema, &format!("{path}.fields.{name}"), depth + 1, true)?))
            });
            whole.insert("fields".into(), Value::Map(Arc::new(each.collect::<Result<_, Mismatch>>()?)));
        }
        _ => {}
    }
    Ok(Value::Map(Arc::new(whole)))
}

/// A default is of the type it stands for: found out when the function is pushed, not when somebody calls it.
fn defaults(schema: &Value, path: &str) -> Result<(), Mismatch> {
    let inner = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (kind(schema), schema.get("of"), schema.get("fields")) {
        ("optional", Some(of), _) => {
            if let Some(default) = schema.get("default") {
                let wrong = |error: Mismatch| bad(&inner("default"), error.what);
                conform(of, default).map_err(wrong)?;
                let mut files = Vec::new();
                walk(of, default, "", &mut files);
                if !files.is_empty() {
                    return Err(bad(&inner("default"), "a file has no default: whoever calls the function gives it"));
                }
            }
            defaults(of, path)
        }
        ("list" | "map", Some(of), _) => defaults(of, &inner("of")),
        ("record", _, Some(Value::Map(fields))) => {
            fields.iter().try_for_each(|(name, field)| defaults(field, &inner(name)))
        }
        _ => Ok(()),
    }
}

fn kind(schema: &Value) -> &str {
    schema.get("type").and_then(Value::as_text).unwrap_or("any")
}

fn walk(schema: &Value, value: &Value, path: &str, found: &mut Vec<(String, String)>) {
    let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (kind(schema), value, schema.get("of")) {
        ("uri", Value::Text(uri), _) => found.push((path.to_owned(), uri.to_string())),
        ("optional", value, Some(of)) if *value != Value::Null => walk(of, value, path, found),
        ("list", Value::List(values), Some(of)) => {
            for (at, value) in values.iter().enumerate() {
                walk(of, value, &format!("{path}[{at}]"), found);
            }
        }
        ("map", Value::Map(entries), Some(of)) => {
            for (name, value) in entries.iter() {
                walk(of, value, &join(name), found);
            }
        }
        ("record", Value::Map(entries), _) => {
            let fields = schema.get("fields");
            for (name, value) in entries.iter() {
                if let Some(field) = fields.and_then(|fields| fields.get(name)) {
                    walk(field, value, &join(name), found);
                }
            }
        }
        _ => {}
    }
}

fn replace(schema: &Value, value: &mut serde_json::Value, path: &str, texts: &BTreeMap<String, String>) {
    use serde_json::Value as Json;
    let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (kind(schema), value, schema.get("of")) {
        ("uri", Json::String(uri), _) => {
            if let Some(text) = texts.get(path) {
                uri.clone_from(text);
            }
        }
        ("optional", value, Some(of)) => replace(of, value, path, texts),
        ("list", Json::Array(values), Some(of)) => {
            for (at, value) in values.iter_mut().enumerate() {
                replace(of, value, &format!("{path}[{at}]"), texts);
            }
        }
        ("map", Json::Object(entries), Some(of)) => {
            for (name, value) in entries.iter_mut() {
                replace(of, value, &join(name), texts);
            }
        }
        ("record", Json::Object(entries), _) => {
            for (name, value) in entries.iter_mut() {
                if let Some(field) = schema.get("fields").and_then(|fields| fields.get(name)) {
                    replace(field, value, &join(name), texts);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(fields: serde_json::Value) -> Result<Schema, Mismatch> {
        Schema::read(&serde_json::from_value(fields).unwrap())
    }

    #[test]
    fn a_name_is_a_type_and_defaults_are_filled_in() {
        let schema = read(json!({
            "video": "uri",
            "type": "text",
            "threshold": {"type": "optional", "of": {"type": "number", "min": 0, "max": 1}, "default": 0.5},
        }));
        let schema = schema.unwrap();
        let whole = schema.conform(&json!({"video": "file:///a", "type": "x"})).unwrap();
        assert_eq!(whole, json!({"video": "file:///a", "type": "x", "threshold": 0.5}));
        assert_eq!(schema.conform(&json!({"video": 1, "type": "x"})).unwrap_err().path, "video");
        assert_eq!(schema.conform(&json!(null)).unwrap_err().what, "it is missing");
        assert_eq!(schema.conform(&json!([1])).unwrap_err().path, "(whole)");
    }

    #[test]
    fn what_is_no_schema_is_refused_where_it_stands() {
        let cases = [
            (json!({"a": "float"}), "a"),
            (json!({"a": {"type": "int", "mni": 1}}), "a.mni"),
            (json!({"a": {"type": "int", "min": "1"}}), "a.min"),
            (json!({"a": {"type": "list"}}), "a"),
            (json!({"a": {"type": "list", "of": {"type": "optional", "of": "int"}}}), "a.of"),
            (json!({"a": {"type": "record", "fields": {"b": "c"}}}), "a.fields.b"),
            (json!({"a": {"type": "optional", "of": "int", "default": "x"}}), "a.default"),
            (json!({"a": {"type": "optional", "of": "uri", "default": "file:///a"}}), "a.default"),
            (json!({"a": 7}), "a"),
        ];
        for (fields, path) in cases {
            assert_eq!(read(fields.clone()).unwrap_err().path, path, "{fields}");
        }
        let mut deep = json!("int");
        for _ in 0..40 {
            deep = json!({"type": "list", "of": deep});
        }
        assert!(read(json!({"a": deep})).unwrap_err().what.contains("deep"));
    }

    #[test]
    fn files_are_found_wherever_they_stand() {
        let schema = read(json!({
            "video": "uri",
            "note": "text",
            "logo": {"type": "optional", "of": "uri"},
            "tracks": {"type": "list", "of": {"type": "record", "fields": {"at": "int", "file": "uri"}}},
            "by_name": {"type": "map", "of": "uri"},
        }));
        let schema = schema.unwrap();
        let value = json!({
            "video": "file:///v", "note": "file:///no", "tracks": [{"at": 1, "file": "s3://b/k"}], "by_name": {"x": "http://h/f"},
        });
        let value = schema.conform(&value).unwrap();
        let files = schema.files(&value);
        let found: Vec<_> = files.iter().map(|(path, uri)| (path.as_str(), uri.as_str())).collect();
        let paths = files.iter().map(|(path, _)| (path.clone(), format!("/in/{path}"))).collect();
        let given = schema.with_files(&value, &paths);
        assert_eq!((&given["tracks"][0]["file"], &given["note"]), (&json!("/in/tracks[0].file"), &json!("file:///no")));
        assert_eq!((&given["by_name"]["x"], &given["video"]), (&json!("/in/by_name.x"), &json!("/in/video")));
        assert_eq!(found, [("by_name.x", "http://h/f"), ("tracks[0].file", "s3://b/k"), ("video", "file:///v")]);
    }
}
