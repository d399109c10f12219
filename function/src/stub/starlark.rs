//! Stubs for rules: a function of the language for each of Spool's, with its arguments as named parameters. What it answers is what
//! `call(…)` answers.

use std::collections::BTreeSet;
use std::fmt::Write;

use spool_rules::value::Value;

use super::{Signature, field, identifier, in_words};
use crate::own::families;

/// The file that rules load the stubs of the workers' own functions from.
pub const OWN_FILE: &str = "@spool/functions.star";

/// The data in a stub of a user's function that tells `spool service check` of it.
pub const DECLARATION: &str = "FUNCTION";

/// Words that cannot be names.
const WORDS: [&str; 33] = [
    "and", "as", "assert", "async", "await", "break", "call", "class", "continue", "def", "del", "elif", "else",
    "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "load", "nonlocal", "not",
    "or", "pass", "raise", "return", "try", "while", "with",
];

/// What `call(…)` takes besides the function and its arguments.
pub const OPTIONS: [&str; 16] = [
    "attempts",
    "backend",
    "cpu",
    "inputs",
    "key",
    "label",
    "memory",
    "no_progress",
    "phase",
    "resources",
    "schedule_to_start",
    "source_version",
    "start_to_close",
    "total",
    "undo",
    "weight",
];

fn taken() -> BTreeSet<String> {
    WORDS.into_iter().chain(OPTIONS).chain(["args", "function", "_given"]).map(str::to_owned).collect()
}

const GIVEN: &str = "def _given(args):\n    return {name: value for name, value in args.items() if value != None}\n";

/// The text of [`OWN_FILE`].
pub fn own() -> String {
    let mut text =
        format!("\"\"\"Functions that workers have themselves. Not a file: it comes with Spool.\"\"\"\n\n{GIVEN}");
    let mut structs = String::new();
    for (family, members) in families() {
        let _ = write!(structs, "\n{family} = struct(\n");
        for function in members {
            let (_, short) = function.name.split_once('.').unwrap_or(("", function.name));
            let short = identifier(short, &mut BTreeSet::new());
            let name = format!("_{family}_{short}");
            text.push_str(&definition(&name, &Signature::from(function)));
            let _ = writeln!(structs, "    {short} = {name},");
        }
        structs.push_str(")\n");
    }
    text + &structs
}

/// The name under which a user's function is loaded: `watermark_check`.
pub fn name_of(function: &str) -> String {
    identifier(function, &mut taken())
}

/// The stub of one function, as a file of a service's folder.
pub fn of(signature: &Signature) -> String {
    let name = name_of(&signature.name);
    let mut declared =
        vec![("name", Value::text(signature.name.as_str())), ("input", signature.input.record().clone())];
    declared.extend(signature.output.as_ref().map(|output| ("output", output.record().clone())));
    format!(
        "\"\"\"{}: made by `spool function stub`, not to be changed by hand.\"\"\"\n\n{DECLARATION} = {}\n\n{GIVEN}{}",
        signature.title(),
        literal(&Value::map(declared), 0),
        definition(&name, signature)
    )
}

/// The parameter that each field of a function has in its stub.
pub fn parameters<'a>(input: impl IntoIterator<Item = &'a str>) -> Vec<(&'a str, String)> {
    let mut taken = taken();
    input.into_iter().map(|name| (name, identifier(name, &mut taken))).collect()
}

fn definition(name: &str, signature: &Signature) -> String {
    let fields = signature.input.fields();
    let mut parameters = parameters(fields.keys().map(AsRef::as_ref));
    // What must be given comes first.
    parameters.sort_by_key(|(field_name, _)| field(&fields[*field_name]).1);
    let options = identifier("options", &mut parameters.iter().map(|(_, parameter)| parameter.clone()).collect());
    let mut head: Vec<String> = if parameters.is_empty() { vec![] } else { vec!["*".into()] };
    let (mut args, mut told) = (String::new(), String::new());
    for (name, parameter) in &parameters {
        let (of, optional) = field(&fields[*name]);
        head.push(if optional { format!("{parameter} = None") } else { parameter.clone() });
        let _ = write!(args, "{}{}: {parameter}", if args.is_empty() { "" } else { ", " }, quoted(name));
        let _ =
            writeln!(told, "      {parameter}: {}{}", in_words(of), if optional { " (may be left out)" } else { "" });
    }
    head.push(format!("**{options}"));
    let mut doc = format!("{}.\n", plain(signature.does.trim_end_matches('.')));
    if !signature.inputs.is_empty() {
        let _ = write!(doc, "\n    inputs: {}.\n", plain(&signature.inputs));
    }
    if !told.is_empty() {
        let _ = write!(doc, "\n    Takes\n{}", plain(&told));
    }
    if let Some(output) = &signature.output {
        let names: Vec<&str> = output.fields().keys().map(AsRef::as_ref).filter(|name| *name != "kind").collect();
        let names = if names.is_empty() { "nothing".into() } else { names.join(", ") };
        let _ = write!(doc, "\n    Answers {}.\n", plain(&names));
    }
    let _ = write!(doc, "    {}\n    What else `call` takes goes on to it.\n", plain(&signature.notes.join(" ")));
    format!(
        "\ndef {name}({}):\n    \"\"\"{doc}    \"\"\"\n    return call({}, args = _given({{{args}}}), **{options})\n",
        head.join(", "),
        quoted(&signature.called())
    )
}

/// Nothing in it ends the text it stands in.
fn plain(text: &str) -> String {
    text.replace('\\', "/").replace("\"\"\"", "'''")
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// A value as the language writes it.
fn literal(value: &Value, depth: usize) -> String {
    let indent = "    ".repeat(depth + 1);
    let lines = |parts: Vec<String>, open: char, close: char| match parts.iter().map(String::len).sum::<usize>() {
        0 => format!("{open}{close}"),
        ..80 if !parts.iter().any(|part| part.contains('\n')) => format!("{open}{}{close}", parts.join(", ")),
        _ => format!("{open}\n{indent}{},\n{}{close}", parts.join(&format!(",\n{indent}")), "    ".repeat(depth)),
    };
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Text(text) => quoted(text),
        Value::List(values) => lines(values.iter().map(|value| literal(value, depth + 1)).collect(), '[', ']'),
        Value::Map(entries) => lines(
            entries.iter().map(|(name, value)| format!("{}: {}", quoted(name), literal(value, depth + 1))).collect(),
            '{',
            '}',
        ),
        number => number.to_string(),
    }
}
