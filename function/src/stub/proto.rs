//! A contract in protocol buffers: a service of one call, and messages of what goes in and out.

use std::collections::BTreeSet;
use std::fmt::Write;

use spool_rules::value::Value;

use super::{Signature, capitals, field, identifier, in_words, kind};

const ANY: &str = "google.protobuf.Value";

/// A file of its own. Fields are numbered by name, so numbers belong to this version of the function and no other.
pub fn of(signature: &Signature) -> String {
    let mut body = String::new();
    let output = match &signature.output {
        Some(output) => {
            message("Output", output.record(), 0, &mut body);
            "Output"
        }
        None => ANY,
    };
    let mut input = String::new();
    message("Input", signature.input.record(), 0, &mut input);
    let files = if signature.own {
        let inputs = if signature.inputs.is_empty() { "none" } else { &signature.inputs };
        format!("message Call {{\n  // URIs: {inputs}.\n  repeated string inputs = 1;\n  Input args = 2;\n}}\n\n")
    } else {
        String::new()
    };
    let taken = if signature.own { "Call" } else { "Input" };
    let all = format!("{files}{input}\n{body}");
    let import = if all.contains(ANY) || output == ANY { "import \"google/protobuf/struct.proto\";\n\n" } else { "" };
    let package: Vec<String> =
        signature.name.split('.').map(|part| identifier(part, &mut BTreeSet::new()).to_lowercase()).collect();
    let notes: String = signature.notes.iter().map(|note| format!("// {}\n", line(note))).collect();
    format!(
        "// {}: made by `spool function stub`, not to be changed by hand.\nsyntax = \"proto3\";\n\npackage spool.functions.{};\n\n{import}// {}.\n{notes}service {} {{\n  rpc Run({taken}) returns ({output});\n}}\n\n{}",
        signature.title(),
        package.join("."),
        line(signature.does.trim_end_matches('.')),
        capitals(&signature.name),
        all.trim_end().to_owned() + "\n"
    )
}

fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

fn message(name: &str, record: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    let _ = writeln!(text, "{indent}message {name} {{");
    let Some(Value::Map(fields)) = record.get("fields") else { return };
    let (mut names, mut types) = (BTreeSet::new(), BTreeSet::new());
    for (number, (name, schema)) in fields.iter().enumerate() {
        let (of, optional) = field(schema);
        let named = field_name(name, &mut names);
        let inner = identifier(&capitals(name), &mut types);
        let of_type = type_of(of, &inner, depth + 1, text);
        let label =
            if optional && !of_type.starts_with("repeated") && !of_type.starts_with("map<") { "optional " } else { "" };
        if kind(of) == "choice" {
            let _ = writeln!(text, "{indent}  // {}", line(&in_words(of)));
        }
        let _ = writeln!(text, "{indent}  {label}{of_type} {named} = {};", number + 1);
    }
    let _ = writeln!(text, "{indent}}}");
}

/// Names are apart in camel case, too, which JSON is written in.
fn field_name(name: &str, taken: &mut BTreeSet<String>) -> String {
    let made = identifier(name, &mut BTreeSet::new());
    let folded = |name: &str| name.replace('_', "").to_lowercase();
    let numbered = (2..).map(|number| format!("{made}_n{number}"));
    let mut all = std::iter::once(made.clone()).chain(numbered);
    all.find(|name| taken.insert(folded(name))).expect("there is always another number")
}

/// A field's type; messages that it needs are written before it.
fn type_of(schema: &Value, name: &str, depth: usize, text: &mut String) -> String {
    let of = schema.get("of").cloned().unwrap_or_default();
    match kind(schema) {
        "int" => "int64".into(),
        "number" => "double".into(),
        "bool" => "bool".into(),
        "text" | "uri" => "string".into(),
        "choice" if is_of_texts(&of) => "string".into(),
        "list" => format!("repeated {}", single(&of, name, depth, text)),
        "map" => format!("map<string, {}>", single(&of, name, depth, text)),
        "record" => {
            message(name, schema, depth, text);
            name.into()
        }
        _ => ANY.into(),
    }
}

/// What can be repeated: lists and maps need a message around them.
fn single(schema: &Value, name: &str, depth: usize, text: &mut String) -> String {
    if !matches!(kind(schema), "list" | "map") {
        return type_of(schema, name, depth, text);
    }
    let indent = "  ".repeat(depth);
    let mut inside = String::new();
    let of_type = type_of(schema, "Value", depth + 1, &mut inside);
    let _ = writeln!(text, "{indent}message {name} {{\n{inside}{indent}  {of_type} values = 1;\n{indent}}}");
    name.into()
}

pub(super) fn is_of_texts(of: &Value) -> bool {
    matches!(of, Value::List(values) if values.iter().all(|value| value.as_text().is_some()))
}
