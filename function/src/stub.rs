//! What callers are given of a function: its declaration in the language that they write in. [`starlark`] for rules, [`proto`] and [`rust`] for
//! programs.

pub mod proto;
pub mod rust;
pub mod starlark;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use spool_proto::resources::Resources;
use spool_rules::value::Value;

use crate::manifest::Manifest;
use crate::own::Function;
use crate::schema::Schema;

/// A function as its callers see it.
#[derive(Debug, Clone)]
pub struct Signature {
    /// `media.encode`, `watermark-check`.
    pub name: String,
    /// What its author calls the version. Empty: it is of this release of Spool.
    pub version: String,
    /// The version that is called. Empty: whichever is current.
    pub pinned: String,
    pub does: String,
    /// Workers have it themselves.
    pub own: bool,
    /// What `inputs` are, of a function that takes them.
    pub inputs: String,
    pub input: Schema,
    /// What a caller sees of an answer. `None`: any JSON.
    pub output: Option<Schema>,
    /// Files it leaves, what it needs, how long it takes: a sentence each.
    pub notes: Vec<String>,
}

impl From<&Function> for Signature {
    fn from(function: &Function) -> Signature {
        let needs = &function.needs;
        let mut notes = Vec::new();
        match (function.artifacts.names, function.artifacts.more) {
            ([], false) => {}
            ([], true) => notes.push("Leaves files, whose names follow from what is asked for.".to_owned()),
            (names, _) => notes.push(format!("May leave: {}.", names.join(", "))),
        }
        let cores = if needs.threads { "as many cores as it has threads" } else { "one core" };
        let shape = if needs.shape.is_some() { "; by the pictures, where their size is known" } else { "" };
        notes.push(format!("Needs {cores}, {} MiB{shape}.", needs.memory_mib));
        notes.push(format!("Takes about: {}.", function.expected));
        Signature {
            name: function.name.into(),
            version: String::new(),
            pinned: String::new(),
            does: function.does.into(),
            own: true,
            inputs: function.inputs.into(),
            input: function.input.clone(),
            output: Some(function.result()),
            notes,
        }
    }
}

impl From<&Manifest> for Signature {
    fn from(manifest: &Manifest) -> Signature {
        Signature::shown(&manifest.to_json()).expect("what a manifest shows of itself can be read")
    }
}

impl Signature {
    /// Of a manifest as it shows itself ([`Manifest::to_json`]), which is what servers tell.
    ///
    /// # Errors
    /// What lacks or is no type.
    pub fn shown(manifest: &serde_json::Value) -> Result<Signature, String> {
        #[derive(Deserialize)]
        struct Shown {
            name: String,
            version: String,
            description: String,
            input: BTreeMap<String, Value>,
            output: Option<BTreeMap<String, Value>>,
            resources: Resources,
            timeout_s: f64,
            expected_s: f64,
            idempotent: bool,
        }
        let shown = Shown::deserialize(manifest).map_err(|error| error.to_string())?;
        let read = |fields| Schema::read(fields).map_err(|mismatch| mismatch.to_string());
        let mut notes = vec![format!("Needs {}.", shown.resources)];
        if shown.expected_s > 0.0 {
            notes.push(format!("Takes about {} s.", shown.expected_s));
        }
        notes.push(format!("At most {} s.", shown.timeout_s));
        if !shown.idempotent {
            notes.push("What failed is not tried again.".into());
        }
        Ok(Signature {
            input: read(&shown.input)?,
            output: shown.output.as_ref().map(read).transpose()?,
            name: shown.name,
            version: shown.version,
            pinned: String::new(),
            does: shown.description,
            own: false,
            inputs: String::new(),
            notes,
        })
    }

    /// Of one version and no other: by its hash.
    #[must_use]
    pub fn of_version(self, hash: &str) -> Signature {
        Signature { pinned: hash.into(), ..self }
    }

    /// `watermark-check 1.0.0`.
    fn title(&self) -> String {
        if self.version.is_empty() { self.name.clone() } else { format!("{} {}", self.name, self.version) }
    }

    /// As calls name it.
    fn called(&self) -> String {
        match self.pinned.as_str() {
            "" => self.name.clone(),
            hash => format!("{}@{hash}", self.name),
        }
    }
}

/// What a type's name is.
pub(crate) fn kind(schema: &Value) -> &str {
    schema.get("type").and_then(Value::as_text).unwrap_or("any")
}

/// A field's own type, and whether it may be left out.
pub(crate) fn field(schema: &Value) -> (&Value, bool) {
    match (kind(schema), schema.get("of")) {
        ("optional", Some(of)) => (of, true),
        _ => (schema, false),
    }
}

/// A type as people read it: `list of int`, `one of mp4, mov`.
pub fn in_words(schema: &Value) -> String {
    let of = || schema.get("of").map(in_words).unwrap_or_default();
    match kind(schema) {
        "optional" => of(),
        "list" => format!("list of {}", of()),
        "map" => format!("map of {}", of()),
        "choice" => match schema.get("of") {
            Some(Value::List(values)) if values.len() == 1 => words(&values[0]),
            Some(Value::List(values)) => format!("one of {}", values.iter().map(words).collect::<Vec<_>>().join(", ")),
            _ => "any".into(),
        },
        "record" => match schema.get("fields") {
            Some(Value::Map(fields)) if fields.len() <= 4 => {
                format!("{{{}}}", fields.keys().map(AsRef::as_ref).collect::<Vec<_>>().join(", "))
            }
            _ => "record".into(),
        },
        other => other.into(),
    }
}

fn words(value: &Value) -> String {
    value.as_text().map_or_else(|| value.to_string(), str::to_owned)
}

/// A name of letters, digits and `_` that is none of `taken`, which it joins.
pub(crate) fn identifier(name: &str, taken: &mut BTreeSet<String>) -> String {
    let mut made: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if made.starts_with(|c: char| c.is_ascii_digit()) || made.is_empty() {
        made.insert(0, '_');
    }
    while !taken.insert(made.clone()) {
        made.push('_');
    }
    made
}

/// `watermark-check` as a type is called: `WatermarkCheck`.
pub(crate) fn capitals(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let made: String = words.map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect();
    if made.starts_with(|c: char| c.is_ascii_digit()) || made.is_empty() { format!("N{made}") } else { made }
}
