//! Declarations are held against the types that travel: examples made of the schema alone are read by serde, changed in every field, and
//! read again; both must take and refuse the same.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};
use spool_proto::call::{Args, Value as Answer};
use spool_rules::value::Value;

use super::{Function, all, get, nearest};
use crate::schema::Schema;

/// More than any choice has values.
const PICKS: usize = 12;
/// Records that are one of several kinds: what one of them needs the others have not.
const KINDS: [&str; 4] = ["streams[].media", "stream.media", "pairing", "entries[]"];
/// Always there, if only as `null`.
const NULLS: [&str; 5] = ["mean", "min", "p1", "p5", "p50"];
/// Tuples are lists of a certain length, and one letter is a text: serde is stricter.
const STRICTER: [&str; 4] = ["time_base", "tags[]", "plane", "frames"];

fn kind(schema: &Value) -> &str {
    schema.get("type").and_then(Value::as_text).unwrap()
}

/// What is of no type that a schema can say.
fn special(path: &str) -> Json {
    match path {
        "index" => json!(["file:///i", {"time_base": {"num": 1, "den": 1}, "keyframes": []}]),
        path if path.ends_with("audio.filters[]") => json!({"volume": {"db": 1.5}}),
        path if path.ends_with("filters[]") => json!({"fps": {"num": 1, "den": 1}}),
        other => panic!("no example of {other}"),
    }
}

/// A value with every field; of choices the one of the number. `paths`: where anything stands.
fn example(schema: &Value, path: &str, pick: usize, paths: &mut Vec<(String, Value)>) -> Json {
    let inner = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    if !path.is_empty() {
        paths.push((path.to_owned(), schema.clone()));
    }
    match kind(schema) {
        "optional" => {
            paths.pop();
            let value = example(schema.get("of").unwrap(), path, pick, paths);
            paths.iter_mut().find(|(at, _)| at == path).unwrap().1 = schema.clone();
            value
        }
        "record" => {
            let Some(Value::Map(fields)) = schema.get("fields") else { panic!("{schema}") };
            fields.iter().map(|(name, field)| (name.to_string(), example(field, &inner(name), pick, paths))).collect()
        }
        "list" => {
            let each = example(schema.get("of").unwrap(), &format!("{path}[]"), pick, paths);
            json!([each, each])
        }
        "choice" => {
            let Some(Value::List(values)) = schema.get("of") else { panic!("{schema}") };
            json!(values[pick % values.len()])
        }
        "int" => json!(7),
        "number" => json!(0.5),
        "bool" => json!(true),
        "uri" => json!("file:///x"),
        "text" => json!("x"),
        "any" => special(path),
        other => panic!("no example of {other}"),
    }
}

/// Puts another value at a path, in the first of each list; `None` takes the field out.
fn changed(whole: &Json, path: &str, to: Option<&Json>) -> Json {
    let mut value = whole.clone();
    let mut at = &mut value;
    let steps: Vec<&str> = path.split('.').collect();
    for (number, step) in steps.iter().enumerate() {
        let name = step.trim_end_matches("[]");
        let lists = (step.len() - name.len()) / 2;
        if number + 1 == steps.len() && lists == 0 && to.is_none() {
            at.as_object_mut().unwrap().remove(name);
            return value;
        }
        at = at.get_mut(name).unwrap();
        for _ in 0..lists {
            at = at.get_mut(0).unwrap();
        }
    }
    at.clone_from(to.expect("what is in a list is not taken out"));
    value
}

fn has(value: &Json, path: &str) -> bool {
    let pointer: String = path.replace("[]", ".0").split('.').map(|step| format!("/{step}")).collect();
    value.pointer(&pointer).is_some()
}

/// `read`: what serde makes of a value, as JSON again.
fn hold(name: &str, schema: &Schema, read: impl Fn(&Json) -> Result<Json, String>) {
    let mut known = BTreeSet::new();
    let mut declared = BTreeSet::new();
    for pick in 0..PICKS {
        let mut paths = Vec::new();
        let whole = example(schema.record(), "", pick, &mut paths);
        let back = read(&whole).unwrap_or_else(|e| panic!("{name}: {e}\n{whole:#}"));
        schema.conform(&back).unwrap_or_else(|e| panic!("{name}: {e}\n{back:#}"));
        let end = |path: &str, ends: &[&str]| ends.iter().any(|end| path == *end || path.ends_with(&format!(".{end}")));
        for (path, field) in paths {
            declared.insert(path.clone());
            if !has(&back, &path) || !known.insert(path.clone()) {
                continue;
            }
            let both = |value: &Json| (read(value).is_ok(), schema.conform(value).is_ok());
            if !path.ends_with("[]") {
                let (serde, ours) = both(&changed(&whole, &path, None));
                let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
                let stricter = end(parent, &KINDS) || end(&path, &NULLS);
                assert!(serde == ours || (ours && stricter), "{name}: {path} left out: {serde} {ours}");
            }
            let of = if kind(&field) == "optional" { field.get("of").unwrap() } else { &field };
            for probe in [json!(true), json!(7), json!(1.5), json!("zz"), json!([]), json!({})] {
                // Structs are read from lists, too, which nobody writes.
                if kind(of) == "any" || (kind(of) == "record" && probe == json!([])) {
                    continue;
                }
                let (serde, ours) = both(&changed(&whole, &path, Some(&probe)));
                assert!(serde == ours || (ours && end(&path, &STRICTER)), "{name}: {path} = {probe}: {serde} {ours}");
            }
        }
    }
    let unknown: Vec<_> = declared.difference(&known).collect();
    assert!(unknown.is_empty(), "{name}: serde knows no {unknown:?}");
}

#[test]
fn what_functions_take_is_what_serde_reads() {
    for function in all() {
        hold(function.name, &function.input, |value| {
            let mut value = value.clone();
            value["function"] = json!(function.name);
            let args: Args = serde_json::from_value(value).map_err(|e| e.to_string())?;
            assert_eq!(args.function(), function.name);
            let mut back = serde_json::to_value(args).unwrap();
            back.as_object_mut().unwrap().remove("function");
            Ok(back)
        });
    }
}

#[test]
fn what_functions_answer_is_what_serde_reads() {
    for function in all() {
        hold(function.name, &function.output, |value| {
            let answer: Answer = serde_json::from_value(value.clone()).map_err(|e| e.to_string())?;
            Ok(serde_json::to_value(answer).unwrap())
        });
    }
}

#[test]
fn every_function_of_the_workers_is_declared_once() {
    // The refusal of a name that is none names all there are.
    let refused = serde_json::from_str::<Args>(r#"{"function": "none"}"#).expect_err("there is none").to_string();
    let (_, known) = refused.split_once("expected one of ").expect("a list");
    let mut known: Vec<&str> = known.split('`').skip(1).step_by(2).filter(|name| *name != "user.function").collect();
    let mut declared: Vec<&str> = all().iter().map(|function| function.name).collect();
    known.sort_unstable();
    declared.sort_unstable();
    assert_eq!(declared, known);
}

#[test]
fn needs_follow_the_pictures() {
    use spool_proto::spec::VideoCodec;
    let memory = |name: &str, codec, width, height| {
        let shape = get(name).unwrap().needs.shape.unwrap();
        shape.memory_mib(codec, width, height, 1)
    };
    let small = memory("media.encode", VideoCodec::Libx264, 1280, 720);
    assert!(small < memory("media.encode", VideoCodec::Libx264, 3840, 2160));
    assert!(small < memory("media.encode", VideoCodec::Libsvtav1, 1280, 720));
    assert!(
        memory("media.validate", VideoCodec::Libx264, 1280, 720)
            < memory("media.quality", VideoCodec::Libx264, 1280, 720)
    );
    let frame = |name: &str, codec| get(name).unwrap().expected.frame(codec, 1920, 1080);
    assert!(frame("media.encode", VideoCodec::Libx264) < frame("media.encode", VideoCodec::LibvpxVp9));
    assert_eq!(frame("spool.list", VideoCodec::Libx264), None);
}

#[test]
fn the_nearest_name_is_the_one_that_was_meant() {
    let names = || all().iter().map(|function: &Function| function.name);
    for (name, meant) in [
        ("media.porbe", Some("media.probe")),
        ("media.enc0de", Some("media.encode")),
        ("media.quality_report", Some("media.quality-report")),
        ("spool.lst", Some("spool.list")),
        ("nothing.like-it", None),
    ] {
        assert_eq!(nearest(name, names()), meant);
    }
}
