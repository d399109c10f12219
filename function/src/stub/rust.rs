//! A module for programs in Rust: types of what goes in and out, and a client over the server's own API. It needs the crates `serde` (with
//! `derive`), `serde_json`, `spool-proto`, `thiserror` and `tonic`.

use std::collections::BTreeSet;
use std::fmt::Write;

use spool_rules::value::Value;

use super::proto::is_of_texts;
use super::{Signature, capitals, field, identifier, in_words, kind};

const CLIENT: &str = include_str!("rust/client.rs.txt");
const FUNCTION: &str = include_str!("rust/function.rs.txt");
const OWN: &str = include_str!("rust/own.rs.txt");

/// Words that a field must be written with `r#` for, and those that even that does not help.
const WORDS: [&str; 39] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn", "else", "enum",
    "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod", "move",
    "mut", "override", "priv", "pub", "ref", "return", "static", "struct", "trait", "true", "type",
];
const MORE_WORDS: [&str; 10] =
    ["try", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield", "union"];
const NEVER: [&str; 4] = ["self", "Self", "super", "crate"];

/// A file of its own.
pub fn of(signature: &Signature) -> String {
    let mut types = Types { text: String::new(), taken: ["Error", "Output", "Input"].map(str::to_owned).into() };
    let takes = format!("What {} takes.", signature.name);
    types.record("Input", signature.input.record(), &takes, true);
    match &signature.output {
        Some(output) => types.record("Output", output.record(), &format!("What {} answers.", signature.name), false),
        None => types.text.push_str("/// Any JSON.\npub type Output = serde_json::Value;\n\n"),
    }
    let notes: String = signature.notes.iter().map(|note| format!("//! {}\n", line(note))).collect();
    let head = format!(
        "//! {}: {}.\n//!\n{notes}//!\n//! Made by `spool function stub`, not to be changed by hand.\n\nuse spool_proto::wire::v1;\n\n",
        signature.title(),
        line(signature.does.trim_end_matches('.'))
    );
    let client = if signature.own { OWN } else { FUNCTION };
    let inputs = if signature.inputs.is_empty() { "none".to_owned() } else { line(&signature.inputs) };
    let client = client
        .replace("$FUNCTION", &signature.name)
        .replace("$VERSION", &signature.pinned)
        .replace("$SERVICE", &signature.name.replace(['.', '_'], "-"))
        .replace("$INPUTS", &inputs);
    head + &types.text + &client + CLIENT
}

fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

struct Types {
    text: String,
    taken: BTreeSet<String>,
}

impl Types {
    /// A struct; those that it needs are written behind it. `made`: by callers.
    fn record(&mut self, name: &str, record: &Value, doc: &str, made: bool) {
        let Some(Value::Map(fields)) = record.get("fields") else { return };
        let mut text = format!(
            "/// {doc}\n#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]\npub struct {name} {{\n"
        );
        let (mut needed, mut set) = (Vec::new(), Vec::new());
        let (mut names, mut later) =
            (BTreeSet::new(), Types { text: String::new(), taken: std::mem::take(&mut self.taken) });
        for (field_name, schema) in fields.iter() {
            let (of, optional) = field(schema);
            let (member, renamed) = member(field_name, &mut names);
            let of_type = later.type_of(of, &format!("{name}{}", capitals(field_name)), made);
            let _ = writeln!(text, "    /// {}", line(&in_words(of)));
            let rename = renamed.then(|| format!("rename = {:?}", field_name.as_ref()));
            let absent = optional.then(|| "default, skip_serializing_if = \"Option::is_none\"".to_owned());
            let attributes: Vec<String> = rename.into_iter().chain(absent).collect();
            if !attributes.is_empty() {
                let _ = writeln!(text, "    #[serde({})]", attributes.join(", "));
            }
            let of_type = if optional { format!("Option<{of_type}>") } else { of_type };
            let _ = writeln!(text, "    pub {member}: {of_type},");
            if optional {
                set.push(format!("{member}: None"));
            } else {
                needed.push(format!("{member}: {of_type}"));
                set.push(member);
            }
        }
        text.push_str("}\n\n");
        if made && !fields.is_empty() {
            let many = match needed.len() {
                ..=7 => "",
                _ => "    #[expect(clippy::too_many_arguments, reason = \"as many as it needs\")]\n",
            };
            let _ = write!(
                text,
                "impl {name} {{\n    /// Without what may be left out.\n{many}    pub fn new({}) -> {name} {{\n        {name} {{ {} }}\n    }}\n}}\n\n",
                needed.join(", "),
                set.join(", ")
            );
        }
        self.text.push_str(&text);
        self.text.push_str(&later.text);
        self.taken = later.taken;
    }

    fn type_of(&mut self, schema: &Value, name: &str, made: bool) -> String {
        let of = || schema.get("of").cloned().unwrap_or_default();
        match kind(schema) {
            "int" => "i64".into(),
            "number" => "f64".into(),
            "bool" => "bool".into(),
            "text" | "uri" => "String".into(),
            "list" => format!("Vec<{}>", self.type_of(&of(), name, made)),
            "map" => format!("std::collections::BTreeMap<String, {}>", self.type_of(&of(), name, made)),
            "choice" if is_of_texts(&of()) => {
                let name = identifier(name, &mut self.taken);
                self.choice(&name, &of());
                name
            }
            "record" => {
                let name = identifier(name, &mut self.taken);
                self.record(&name, schema, &format!("Part of [`{}`].", if made { "Input" } else { "Output" }), made);
                name
            }
            _ => "serde_json::Value".into(),
        }
    }

    fn choice(&mut self, name: &str, of: &Value) {
        let Value::List(values) = of else { return };
        let mut taken = BTreeSet::new();
        let _ = write!(
            self.text,
            "/// One of these.\n#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]\npub enum {name} {{\n"
        );
        for value in values.iter().filter_map(Value::as_text) {
            let variant = identifier(&capitals(value), &mut taken);
            let _ = writeln!(self.text, "    #[serde(rename = {value:?})]\n    {variant},");
        }
        self.text.push_str("}\n\n");
    }
}

/// A field's name, and whether JSON has another.
fn member(name: &str, taken: &mut BTreeSet<String>) -> (String, bool) {
    let made = identifier(name, taken);
    if NEVER.contains(&made.as_str()) || made == "_" {
        let other = identifier(&format!("{made}_"), taken);
        return (other, true);
    }
    let renamed = made != name;
    let word = WORDS.contains(&made.as_str()) || MORE_WORDS.contains(&made.as_str());
    (if word { format!("r#{made}") } else { made }, renamed)
}
