//! The words that rule files are written in: what describes rules, and what describes effects. Each answers with plain data, or puts a
//! rule down.

#![allow(clippy::too_many_arguments, reason = "the words of the language take their parameters by name")]
#![allow(unused_qualifications, reason = "the macros of the language write paths in full")]

use std::cell::RefCell;

use starlark::any::ProvidesStaticType;
use starlark::environment::GlobalsBuilder;
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::dict::{AllocDict, DictRef, UnpackDictEntries};
use starlark::values::list::UnpackList;
use starlark::values::none::{NoneOr, NoneType};
use starlark::values::structs::AllocStruct;
use starlark::values::{Heap, Value};

use crate::json::json;

type Result<T> = starlark::Result<T>;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Said(String);

/// An error of the author's, with the place where the word stands.
pub(crate) fn say(message: String) -> starlark::Error {
    starlark::Error::new_other(Said(message))
}

/// What a file's top level has said so far.
#[derive(Debug, Default, ProvidesStaticType)]
pub(crate) struct Collector {
    pub(crate) service: RefCell<Option<serde_json::Value>>,
    pub(crate) rules: RefCell<Vec<Written>>,
    pub(crate) file: String,
}

/// A rule as it was written; its sections are kept in its file's module under [`section_name`].
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) rule: serde_json::Value,
    pub(crate) file: String,
    /// Number of the rule in its file.
    pub(crate) number: usize,
    pub(crate) line: usize,
}

/// What a section may know beside what it is given.
#[derive(Debug, ProvidesStaticType)]
pub(crate) struct Moment {
    pub(crate) now_us: u64,
    pub(crate) firing: String,
}

pub(crate) fn section_name(number: usize, section: &str) -> String {
    format!("__rule_{number}_{section}")
}

fn collector<'a>(eval: &Evaluator<'_, 'a, '_>, word: &str) -> Result<&'a Collector> {
    let found = eval.extra.and_then(|extra| extra.downcast_ref::<Collector>());
    found.ok_or_else(|| say(format!("{word}() belongs to the top level of a rule file, not into a section")))
}

/// Seconds, as authors count, in microseconds.
fn micros(seconds: Value<'_>, what: &str) -> Result<u64> {
    let number = json(seconds).ok().and_then(|json| json.as_f64()).filter(|seconds| *seconds >= 0.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; the cast saturates")]
    number
        .map(|seconds| (seconds * 1e6).round() as u64)
        .ok_or_else(|| say(format!("{what} is a number of seconds, 0 or more")))
}

/// One test of a field: a plain value, or what `gt` and the like have made.
fn test<'v>(heap: &'v Heap, path: &str, wanted: Value<'v>) -> Result<Value<'v>> {
    let part = |name: &str| DictRef::from_value(wanted).and_then(|dict| dict.get_str(name));
    let (op, operand) = match (part("__op"), part("__operand")) {
        (Some(op), Some(operand)) => (op, operand),
        _ => (heap.alloc("eq"), operand(heap, wanted)?),
    };
    let path: Vec<Value<'v>> = path.split('.').map(|part| heap.alloc(part)).collect();
    Ok(heap.alloc(AllocDict([("path", heap.alloc(path)), ("op", op), ("operand", operand)])))
}

/// `var(…)` as it is; all else is a constant.
fn operand<'v>(heap: &'v Heap, value: Value<'v>) -> Result<Value<'v>> {
    if let Some(var) = DictRef::from_value(value).and_then(|dict| dict.get_str("__var")) {
        return Ok(heap.alloc(AllocDict([("var", var)])));
    }
    Ok(heap.alloc(AllocDict([("const", value)])))
}

fn comparison<'v>(heap: &'v Heap, op: &str, value: Value<'v>) -> Result<Value<'v>> {
    Ok(heap.alloc(AllocDict([("__op", heap.alloc(op)), ("__operand", operand(heap, value)?)])))
}

fn pattern<'v>(
    heap: &'v Heap,
    how: &str,
    kind: &str,
    name: NoneOr<&str>,
    reads: UnpackList<&'v str>,
    tests: UnpackDictEntries<&'v str, Value<'v>>,
    r#where: NoneOr<UnpackDictEntries<&'v str, Value<'v>>>,
    at_least: Option<Value<'v>>,
) -> Result<Value<'v>> {
    let mut all = tests.entries;
    if let NoneOr::Other(more) = r#where {
        all.extend(more.entries);
    }
    let tests = all.into_iter().map(|(path, wanted)| test(heap, path, wanted)).collect::<Result<Vec<_>>>()?;
    let mut entries = vec![
        ("how", heap.alloc(how)),
        ("kind", heap.alloc(kind)),
        ("tests", heap.alloc(tests)),
        ("reads", heap.alloc(reads.items)),
    ];
    if let NoneOr::Other(name) = name {
        entries.push(("as", heap.alloc(name)));
    }
    if let Some(least) = at_least.filter(|least| !least.is_none()) {
        entries.push(("at_least", operand(heap, least)?));
    }
    Ok(heap.alloc(AllocDict(entries)))
}

/// What is written at the top level of a rule file.
#[starlark_module]
pub(crate) fn describing(builder: &mut GlobalsBuilder) {
    /// Says which service the file describes: its name, its version as people call it, the schema of its input. `standing`: jobs of it
    /// wait when nothing is left to do.
    fn service<'v>(
        #[starlark(require = named)] name: &str,
        #[starlark(require = named)] version: &str,
        #[starlark(require = named, default = NoneOr::None)] input: NoneOr<Value<'v>>,
        #[starlark(require = named, default = "")] doc: &str,
        #[starlark(require = named, default = false)] standing: bool,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let input = match input {
            NoneOr::Other(input) => json(input).map_err(|e| say(format!("service(input): {e}")))?,
            NoneOr::None => serde_json::Value::Null,
        };
        let said = serde_json::json!({
            "service": name, "version": version, "input": input, "doc": doc, "standing": standing,
        });
        let collector = collector(eval, "service")?;
        if collector.service.replace(Some(said)).is_some() {
            return Err(say("service() was said twice".into()));
        }
        Ok(NoneType)
    }

    /// Puts a rule down. `match`: patterns. `action`: from what they found to effects. `reaction`: the same, with `results` of what the
    /// action called. `error`: the same, with `err`.
    fn rule<'v>(
        #[starlark(require = named)] name: &str,
        #[starlark(require = named)] r#match: Value<'v>,
        #[starlark(require = named)] action: Value<'v>,
        #[starlark(require = named, default = NoneOr::None)] reaction: NoneOr<Value<'v>>,
        #[starlark(require = named, default = NoneOr::None)] error: NoneOr<Value<'v>>,
        #[starlark(require = named, default = 0)] salience: i32,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let place = eval.call_stack_top_location().map(|span| span.resolve());
        let (place, line) = place.map_or_else(Default::default, |at| {
            let begin = at.span.begin;
            (format!("{}:{}:{}", at.file, begin.line + 1, begin.column + 1), begin.line + 1)
        });
        let collector = collector(eval, "rule")?;
        let file = collector.file.clone();
        let mut rules = collector.rules.borrow_mut();
        let number = rules.iter().filter(|rule| rule.file == file).count();
        let patterns = json(r#match).map_err(|e| say(format!("rule {name:?}: match: {e}")))?;
        let sections = [("action", Some(action)), ("reaction", reaction.into_option()), ("error", error.into_option())];
        let mut said = serde_json::json!({ "name": name, "salience": salience, "match": patterns, "place": place });
        for (section, function) in sections {
            let Some(function) = function else { continue };
            said[format!("has_{section}")] = true.into();
            eval.module().set(&section_name(number, section), function);
        }
        rules.push(Written { rule: said, file, number, line });
        Ok(NoneType)
    }

    /// A fact of a type whose fields are so. The rule fires once for each.
    fn fact<'v>(
        #[starlark(require = pos)] kind: &str,
        #[starlark(require = named, default = NoneOr::None)] as_: NoneOr<&str>,
        #[starlark(require = named, default = UnpackList::default())] reads: UnpackList<&'v str>,
        #[starlark(require = named, default = NoneOr::None)] r#where: NoneOr<UnpackDictEntries<&'v str, Value<'v>>>,
        #[starlark(kwargs)] fields: UnpackDictEntries<&'v str, Value<'v>>,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        pattern(heap, "fact", kind, as_, reads, fields, r#where, None)
    }

    /// There is no such fact.
    fn none<'v>(
        #[starlark(require = pos)] kind: &str,
        #[starlark(require = named, default = NoneOr::None)] r#where: NoneOr<UnpackDictEntries<&'v str, Value<'v>>>,
        #[starlark(kwargs)] fields: UnpackDictEntries<&'v str, Value<'v>>,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        pattern(heap, "none", kind, NoneOr::None, UnpackList::default(), fields, r#where, None)
    }

    /// All such facts as one list, once there are `at_least` so many (1). Fires again when one joins, leaves, or changes in what is read.
    fn collect<'v>(
        #[starlark(require = pos)] kind: &str,
        #[starlark(require = named, default = NoneOr::None)] as_: NoneOr<&str>,
        #[starlark(require = named, default = NoneOr::None)] at_least: NoneOr<Value<'v>>,
        #[starlark(require = named, default = UnpackList::default())] reads: UnpackList<&'v str>,
        #[starlark(require = named, default = NoneOr::None)] r#where: NoneOr<UnpackDictEntries<&'v str, Value<'v>>>,
        #[starlark(kwargs)] fields: UnpackDictEntries<&'v str, Value<'v>>,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        pattern(heap, "collect", kind, as_, reads, fields, r#where, at_least.into_option())
    }

    /// A field of a fact that an earlier pattern found: `var("plan.id")`.
    fn var<'v>(#[starlark(require = pos)] path: &str, heap: &'v Heap) -> starlark::Result<Value<'v>> {
        let Some((of, rest)) = path.split_once('.') else {
            return Err(say(format!("var({path:?}): write what a pattern calls its fact, a dot, and a field")));
        };
        let rest: Vec<Value<'v>> = rest.split('.').map(|part| heap.alloc(part)).collect();
        let var = heap.alloc(AllocDict([("of", heap.alloc(of)), ("path", heap.alloc(rest))]));
        Ok(heap.alloc(AllocDict([("__var", var)])))
    }

    fn eq<'v>(#[starlark(require = pos)] value: Value<'v>, heap: &'v Heap) -> starlark::Result<Value<'v>> {
        comparison(heap, "eq", value)
    }

    fn ne<'v>(#[starlark(require = pos)] value: Value<'v>, heap: &'v Heap) -> starlark::Result<Value<'v>> {
        comparison(heap, "ne", value)
    }

    fn lt<'v>(#[starlark(require = pos)] value: Value<'v>, heap: &'v Heap) -> starlark::Result<Value<'v>> {
        comparison(heap, "lt", value)
    }

    fn le<'v>(#[starlark(require = pos)] value: Value<'v>, heap: &'v Heap) -> starlark::Result<Value<'v>> {
        comparison(heap, "le", value)
    }

    fn gt<'v>(#[starlark(require = pos)] value: Value<'v>, heap: &'v Heap) -> starlark::Result<Value<'v>> {
        comparison(heap, "gt", value)
    }

    fn ge<'v>(#[starlark(require = pos)] value: Value<'v>, heap: &'v Heap) -> starlark::Result<Value<'v>> {
        comparison(heap, "ge", value)
    }

    /// The field is one of these.
    fn among<'v>(#[starlark(require = pos)] values: Value<'v>, heap: &'v Heap) -> starlark::Result<Value<'v>> {
        comparison(heap, "in", values)
    }

    /// The field is there, or, with False, is not.
    fn exists<'v>(
        #[starlark(require = pos, default = true)] there: bool,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        comparison(heap, "exists", heap.alloc(there))
    }
}

/// Types of a service's input.
#[starlark_module]
pub(crate) fn types(builder: &mut GlobalsBuilder) {
    /// Of a film, a folder: `file:`, `s3://`, `https://`, `spool://`, or a path.
    fn uri<'v>(heap: &'v Heap) -> starlark::Result<Value<'v>> {
        Ok(heap.alloc(AllocDict([("type", "uri")])))
    }

    fn text<'v>(heap: &'v Heap) -> starlark::Result<Value<'v>> {
        Ok(heap.alloc(AllocDict([("type", "text")])))
    }

    fn boolean<'v>(heap: &'v Heap) -> starlark::Result<Value<'v>> {
        Ok(heap.alloc(AllocDict([("type", "bool")])))
    }

    fn anything<'v>(heap: &'v Heap) -> starlark::Result<Value<'v>> {
        Ok(heap.alloc(AllocDict([("type", "any")])))
    }

    fn integer<'v>(
        #[starlark(require = named, default = NoneOr::None)] min: NoneOr<Value<'v>>,
        #[starlark(require = named, default = NoneOr::None)] max: NoneOr<Value<'v>>,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        Ok(bounded(heap, "int", min, max))
    }

    fn number<'v>(
        #[starlark(require = named, default = NoneOr::None)] min: NoneOr<Value<'v>>,
        #[starlark(require = named, default = NoneOr::None)] max: NoneOr<Value<'v>>,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        Ok(bounded(heap, "number", min, max))
    }

    fn choice<'v>(#[starlark(require = pos)] of: Value<'v>, heap: &'v Heap) -> starlark::Result<Value<'v>> {
        Ok(heap.alloc(AllocDict([("type", heap.alloc("choice")), ("of", of)])))
    }

    fn list_of<'v>(#[starlark(require = pos)] of: Value<'v>, heap: &'v Heap) -> starlark::Result<Value<'v>> {
        Ok(heap.alloc(AllocDict([("type", heap.alloc("list")), ("of", of)])))
    }

    fn map_of<'v>(#[starlark(require = pos)] of: Value<'v>, heap: &'v Heap) -> starlark::Result<Value<'v>> {
        Ok(heap.alloc(AllocDict([("type", heap.alloc("map")), ("of", of)])))
    }

    fn record<'v>(
        #[starlark(kwargs)] fields: UnpackDictEntries<&'v str, Value<'v>>,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        let fields = heap.alloc(AllocDict(fields.entries));
        Ok(heap.alloc(AllocDict([("type", heap.alloc("record")), ("fields", fields)])))
    }

    /// It may be left out; then it is `default`, or not there.
    fn optional<'v>(
        #[starlark(require = pos)] of: Value<'v>,
        #[starlark(require = pos, default = NoneOr::None)] default: NoneOr<Value<'v>>,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        let mut entries = vec![("type", heap.alloc("optional")), ("of", of)];
        entries.extend(default.into_option().map(|default| ("default", default)));
        Ok(heap.alloc(AllocDict(entries)))
    }
}

fn bounded<'v>(heap: &'v Heap, kind: &str, min: NoneOr<Value<'v>>, max: NoneOr<Value<'v>>) -> Value<'v> {
    let mut entries = vec![("type", heap.alloc(kind))];
    entries.extend(min.into_option().map(|min| ("min", min)));
    entries.extend(max.into_option().map(|max| ("max", max)));
    heap.alloc(AllocDict(entries))
}

fn effect<'v>(heap: &'v Heap, name: &str, rest: Vec<(&str, Value<'v>)>) -> Value<'v> {
    let entries = std::iter::once(("effect", heap.alloc(name))).chain(rest);
    heap.alloc(AllocDict(entries.collect::<Vec<_>>()))
}

/// What sections answer with.
#[starlark_module]
pub(crate) fn effects(builder: &mut GlobalsBuilder) {
    /// Call a function. Times in seconds. `cpu` in milli-cores, `memory` in MiB. `undo`: a call that undoes it.
    fn call<'v>(
        #[starlark(require = pos)] function: &str,
        #[starlark(require = named, default = NoneOr::None)] args: NoneOr<Value<'v>>,
        #[starlark(require = named, default = "")] key: &str,
        #[starlark(require = named, default = UnpackList::default())] inputs: UnpackList<&'v str>,
        #[starlark(require = named, default = NoneOr::None)] source_version: NoneOr<&str>,
        #[starlark(require = named, default = "")] backend: &str,
        #[starlark(require = named, default = NoneOr::None)] cpu: NoneOr<Value<'v>>,
        #[starlark(require = named, default = NoneOr::None)] memory: NoneOr<Value<'v>>,
        #[starlark(require = named, default = NoneOr::None)] resources: NoneOr<UnpackDictEntries<&'v str, Value<'v>>>,
        #[starlark(require = named, default = NoneOr::None)] weight: NoneOr<Value<'v>>,
        #[starlark(require = named, default = "")] label: &str,
        #[starlark(require = named, default = "")] phase: &str,
        #[starlark(require = named, default = 0)] attempts: i32,
        #[starlark(require = named, default = NoneOr::None)] schedule_to_start: NoneOr<Value<'v>>,
        #[starlark(require = named, default = NoneOr::None)] start_to_close: NoneOr<Value<'v>>,
        #[starlark(require = named, default = NoneOr::None)] no_progress: NoneOr<Value<'v>>,
        #[starlark(require = named, default = NoneOr::None)] total: NoneOr<Value<'v>>,
        #[starlark(require = named, default = NoneOr::None)] undo: NoneOr<Value<'v>>,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        let mut needs = match resources {
            NoneOr::Other(resources) => resources.entries,
            NoneOr::None => Vec::new(),
        };
        needs.extend(cpu.into_option().map(|cpu| ("cpu", cpu)));
        needs.extend(memory.into_option().map(|memory| ("memory", memory)));
        let mut timeouts = Vec::new();
        let times = [
            ("schedule_to_start_us", schedule_to_start),
            ("start_to_close_us", start_to_close),
            ("no_progress_us", no_progress),
            ("total_us", total),
        ];
        for (name, seconds) in times {
            if let NoneOr::Other(seconds) = seconds {
                timeouts.push((name, heap.alloc(micros(seconds, name.trim_end_matches("_us"))?)));
            }
        }
        let mut rest = vec![
            ("function", heap.alloc(function)),
            ("key", heap.alloc(key)),
            ("inputs", heap.alloc(inputs.items)),
            ("args", args.into_option().unwrap_or_else(|| heap.alloc(AllocDict::EMPTY))),
            ("backend", heap.alloc(backend)),
            ("resources", heap.alloc(AllocDict(needs))),
            ("label", heap.alloc(label)),
            ("phase", heap.alloc(phase)),
            ("attempts", heap.alloc(attempts)),
            ("timeouts", heap.alloc(AllocDict(timeouts))),
        ];
        rest.extend(source_version.into_option().map(|version| ("source_version", heap.alloc(version))));
        rest.extend(weight.into_option().map(|weight| ("weight", weight)));
        rest.extend(undo.into_option().map(|undo| ("undo", undo)));
        Ok(effect(heap, "call", rest))
    }

    /// Start a job of another service. `close`: what becomes of it if its parent ends first: terminate, cancel, abandon. `opportunistic`: seconds
    /// for which it runs only on what nobody else uses.
    fn start<'v>(
        #[starlark(require = pos)] service: &str,
        #[starlark(require = named, default = NoneOr::None)] input: NoneOr<Value<'v>>,
        #[starlark(require = named, default = "")] key: &str,
        #[starlark(require = named, default = "terminate")] close: &str,
        #[starlark(require = named, default = "")] pool: &str,
        #[starlark(require = named, default = NoneOr::None)] priority: NoneOr<i32>,
        #[starlark(require = named, default = "")] name: &str,
        #[starlark(require = named, default = NoneOr::None)] opportunistic: NoneOr<Value<'v>>,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        let mut rest = vec![
            ("service", heap.alloc(service)),
            ("key", heap.alloc(key)),
            ("input", input.into_option().unwrap_or_else(|| heap.alloc(AllocDict::EMPTY))),
            ("close", heap.alloc(close)),
            ("pool", heap.alloc(pool)),
            ("name", heap.alloc(name)),
        ];
        rest.extend(priority.into_option().map(|priority| ("priority", heap.alloc(priority))));
        if let NoneOr::Other(seconds) = opportunistic {
            rest.push(("opportunistic_us", heap.alloc(micros(seconds, "opportunistic")?)));
        }
        Ok(effect(heap, "start", rest))
    }

    /// Wait so many seconds.
    fn timer<'v>(
        #[starlark(require = named)] after: Value<'v>,
        #[starlark(require = named, default = "")] key: &str,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        let after = heap.alloc(micros(after, "after")?);
        Ok(effect(heap, "timer", vec![("after_us", after), ("key", heap.alloc(key))]))
    }

    /// Undo the calls that said how, last first.
    fn compensate<'v>(
        #[starlark(require = named, default = "")] key: &str,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        Ok(effect(heap, "compensate", vec![("key", heap.alloc(key))]))
    }

    /// A new fact.
    fn assert_<'v>(
        #[starlark(require = pos)] kind: &str,
        #[starlark(kwargs)] fields: UnpackDictEntries<&'v str, Value<'v>>,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        let fields = heap.alloc(AllocDict(fields.entries));
        Ok(effect(heap, "assert", vec![("kind", heap.alloc(kind)), ("fields", fields)]))
    }

    /// Other values for some of a fact's fields. None takes a field out.
    fn modify<'v>(
        #[starlark(require = pos)] fact: Value<'v>,
        #[starlark(kwargs)] fields: UnpackDictEntries<&'v str, Value<'v>>,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        let fields = heap.alloc(AllocDict(fields.entries));
        Ok(effect(heap, "modify", vec![("fact", handle(heap, fact)), ("fields", fields)]))
    }

    /// The fact is so no more.
    fn retract<'v>(#[starlark(require = pos)] fact: Value<'v>, heap: &'v Heap) -> starlark::Result<Value<'v>> {
        Ok(effect(heap, "retract", vec![("fact", handle(heap, fact))]))
    }

    /// Tell another job something: it finds the fact `signal`. The same `dedupe` is told once.
    fn signal<'v>(
        #[starlark(require = pos)] job: &str,
        #[starlark(require = pos)] name: &str,
        #[starlark(require = named, default = NoneOr::None)] payload: NoneOr<Value<'v>>,
        #[starlark(require = named, default = "")] dedupe: &str,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        let mut rest = vec![("job", heap.alloc(job)), ("name", heap.alloc(name)), ("dedupe", heap.alloc(dedupe))];
        rest.extend(payload.into_option().map(|payload| ("payload", payload)));
        Ok(effect(heap, "signal", rest))
    }

    /// The job is done, with this.
    fn result<'v>(
        #[starlark(require = pos, default = NoneOr::None)] value: NoneOr<Value<'v>>,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        Ok(effect(heap, "result", value.into_option().map(|value| ("value", value)).into_iter().collect()))
    }

    /// The job has failed: an `err`, or a message.
    fn fail<'v>(
        #[starlark(require = pos)] what: Value<'v>,
        #[starlark(require = named, default = NoneOr::None)] code: NoneOr<&str>,
        #[starlark(require = named, default = NoneOr::None)] class_: NoneOr<&str>,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        let field = |name: &str| what.get_attr(name, heap).ok().flatten();
        let given = |said: NoneOr<&str>, of_err: &str, otherwise: &str| match said {
            NoneOr::Other(said) => heap.alloc(said),
            NoneOr::None => field(of_err).unwrap_or_else(|| heap.alloc(otherwise)),
        };
        let (class, code) = (given(class_, "class", "spec"), given(code, "code", "failed_by_rule"));
        let message = match what.unpack_str() {
            Some(_) => what,
            None => field("message").unwrap_or_else(|| heap.alloc(what.to_str())),
        };
        let failure = heap.alloc(AllocDict([("class", class), ("code", code), ("message", message)]));
        Ok(effect(heap, "fail", vec![("failure", failure)]))
    }

    /// In an error section: what failed is tried again, after so many seconds.
    fn retry<'v>(
        #[starlark(require = named, default = NoneOr::None)] after: NoneOr<Value<'v>>,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        let after = match after {
            NoneOr::Other(after) => micros(after, "after")?,
            NoneOr::None => 0,
        };
        Ok(effect(heap, "retry", vec![("after_us", heap.alloc(after))]))
    }

    /// In an error section: take this for the result of what failed, and go on.
    fn skip<'v>(
        #[starlark(require = pos, default = NoneOr::None)] value: NoneOr<Value<'v>>,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        Ok(effect(heap, "skip", value.into_option().map(|value| ("value", value)).into_iter().collect()))
    }

    /// The time of the event that is being answered, seconds since 1970.
    fn now(eval: &mut Evaluator<'_, '_, '_>) -> starlark::Result<f64> {
        let moment = moment(eval, "now")?;
        #[expect(clippy::cast_precision_loss, reason = "2^53 µs is 285 years")]
        Ok(moment.now_us as f64 / 1e6)
    }

    /// A number from 0 up to 1: the same for the same firing and key, for ever.
    fn random(
        #[starlark(require = pos, default = "")] key: &str,
        eval: &mut Evaluator<'_, '_, '_>,
    ) -> starlark::Result<f64> {
        let moment = moment(eval, "random")?;
        let hash = blake3::hash(format!("{}/{key}", moment.firing).as_bytes());
        let bits = u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes")) >> 11;
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        Ok(bits as f64 / (1u64 << 53) as f64)
    }

    /// A field of a record or dict, or `default` where there is none.
    fn get<'v>(
        #[starlark(require = pos)] of: Value<'v>,
        #[starlark(require = pos)] key: &str,
        #[starlark(require = pos, default = NoneOr::None)] default: NoneOr<Value<'v>>,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        let found = match DictRef::from_value(of) {
            Some(dict) => dict.get_str(key),
            None => of.get_attr(key, heap)?,
        };
        Ok(found.or(default.into_option()).unwrap_or_else(Value::new_none))
    }

    /// A record's fields as a dict, to be changed and given on.
    fn fields<'v>(#[starlark(require = pos)] of: Value<'v>, heap: &'v Heap) -> starlark::Result<Value<'v>> {
        if let Some(dict) = DictRef::from_value(of) {
            return Ok(heap.alloc(AllocDict(dict.iter())));
        }
        let mut entries = Vec::new();
        for name in of.dir_attr() {
            if let Some(value) = of.get_attr(&name, heap)? {
                entries.push((heap.alloc(name), value));
            }
        }
        Ok(heap.alloc(AllocDict(entries)))
    }
}

fn moment<'a>(eval: &Evaluator<'_, 'a, '_>, word: &str) -> Result<&'a Moment> {
    let found = eval.extra.and_then(|extra| extra.downcast_ref::<Moment>());
    found.ok_or_else(|| say(format!("{word}() can be asked in a section, not while the file is read")))
}

/// What the match found names itself by its handle alone.
fn handle<'v>(heap: &'v Heap, fact: Value<'v>) -> Value<'v> {
    fact.get_attr("id", heap).ok().flatten().unwrap_or(fact)
}

/// As sections see values: maps are records, so that `p.source.height` reads as it should.
pub(crate) fn alloc<'v>(heap: &'v Heap, value: &spool_rules::value::Value) -> Value<'v> {
    use spool_rules::value::Value as Fact;
    match value {
        Fact::Null => Value::new_none(),
        Fact::Bool(value) => heap.alloc(*value),
        Fact::Int(value) => heap.alloc(*value),
        Fact::Float(value) => heap.alloc(value.get()),
        Fact::Text(text) => heap.alloc(text.as_ref()),
        Fact::List(values) => heap.alloc(values.iter().map(|value| alloc(heap, value)).collect::<Vec<_>>()),
        Fact::Map(entries) => {
            heap.alloc(AllocStruct(entries.iter().map(|(name, value)| (name.as_ref(), alloc(heap, value)))))
        }
    }
}
