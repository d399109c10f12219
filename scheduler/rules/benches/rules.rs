//! What rules cost, the language left out: an event in a job of many facts, one new fact in a large catalogue, firings a second, and what a
//! job that sleeps weighs.
//!
//! `cargo bench -p spool-rules --bench rules -- [--json]`

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use spool_proto::time::Timestamp;
use spool_rules::effect::Effect;
use spool_rules::history::{Event, SectionFailure};
use spool_rules::instance::{Ask, Instance, Program, Sections, Status};
use spool_rules::limits::Limits;
use spool_rules::ruleset::RuleSet;
use spool_rules::value::Value;

/// Events measured of each kind.
const EVENTS: u64 = 2_000;

/// Sections in Rust: what a rule asserts for what it found.
struct Fixed(fn(&Ask<'_>) -> Vec<Effect>);

impl Sections for Fixed {
    fn run(&mut self, ask: &Ask<'_>) -> Result<Vec<Effect>, SectionFailure> {
        Ok((self.0)(ask))
    }
}

fn program(rules: serde_json::Value) -> Arc<Program> {
    let set = serde_json::json!({
        "service": "bench", "version": "1", "hash": "0", "standing": true, "rules": rules,
    });
    let set: RuleSet = serde_json::from_value(set).expect("a rule set");
    Arc::new(Program::new(set).expect("it can be matched"))
}

fn roomy() -> Limits {
    Limits {
        facts: 10_000_000,
        bytes: 16 << 30,
        firings_per_event: 10_000_000,
        looks_per_event: u64::MAX,
        ..Limits::default()
    }
}

fn fact(kind: &str, fields: &[(&str, Value)]) -> Effect {
    let fields = fields.iter().map(|(name, value)| (Arc::from(*name), value.clone()));
    Effect::Assert { kind: kind.into(), fields: fields.collect::<BTreeMap<_, _>>() }
}

fn signal(n: u64) -> Event {
    let payload = Value::Int(i64::try_from(n).expect("small"));
    Event::Signal { name: "go".into(), payload, dedupe: String::new() }
}

fn number(ask: &Ask<'_>) -> i64 {
    match ask.bindings.first().and_then(|(_, value)| value.get("payload")) {
        Some(Value::Int(n)) => *n,
        other => panic!("{other:?}"),
    }
}

/// Median of what one event takes, µs.
fn median(mut one: impl FnMut(u64)) -> f64 {
    let mut times: Vec<f64> = (0..EVENTS)
        .map(|n| {
            let begun = Instant::now();
            one(n);
            begun.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// A job with so many chunks, each a fact: what one more costs, with a rule that ties it to its plan.
fn chunks(count: u64) -> f64 {
    let rules = serde_json::json!([
        {"name": "take", "match": [{"how": "fact", "kind": "signal", "as": "s"}], "has_action": true},
        {"name": "pair", "match": [
            {"how": "fact", "kind": "chunk", "as": "c"},
            {"how": "fact", "kind": "encoded", "as": "e", "tests": [{"path": ["chunk"], "op": "eq", "operand": {"var": {"of": "c", "path": ["number"]}}}]},
        ], "has_action": true},
    ]);
    let mut instance = Instance::new(program(rules), roomy());
    let mut sections = Fixed(|ask| match ask.rules.rules[ask.rule].name.as_ref() {
        "take" => {
            let n = number(ask);
            // A negative number: all chunks at once.
            if n < 0 {
                return (0..-n)
                    .map(|n| fact("chunk", &[("number", Value::Int(n)), ("state", Value::text("ready"))]))
                    .collect();
            }
            vec![fact("encoded", &[("chunk", Value::Int(n))])]
        }
        _ => Vec::new(),
    });
    let all = Event::Signal {
        name: "go".into(),
        payload: Value::Int(-i64::try_from(count).expect("small")),
        dedupe: String::new(),
    };
    instance.step(Timestamp(0), all, &mut sections);
    median(|n| {
        black_box(instance.step(Timestamp(n), signal(n), &mut sections));
    })
}

/// A catalogue of so many titles, and a recipe that none of them lacks yet; then a new title comes.
fn catalogue(titles: u64) -> (f64, f64) {
    let rules = serde_json::json!([
        {"name": "take", "match": [{"how": "fact", "kind": "signal", "as": "s"}], "has_action": true},
        {"name": "stale", "match": [
            {"how": "fact", "kind": "title", "as": "t"},
            {"how": "fact", "kind": "outdated", "as": "o", "tests": [{"path": ["version"], "op": "eq", "operand": {"var": {"of": "t", "path": ["version"]}}}]},
        ], "has_action": true},
    ]);
    let mut instance = Instance::new(program(rules), roomy());
    let mut sections = Fixed(|ask| match ask.rules.rules[ask.rule].name.as_ref() {
        "take" => {
            let n = number(ask);
            let title =
                |n: i64| fact("title", &[("name", Value::text(format!("title-{n}"))), ("version", Value::Int(7))]);
            if n < 0 { (0..-n).map(title).collect() } else { vec![title(n)] }
        }
        _ => Vec::new(),
    });
    let all = Event::Signal {
        name: "go".into(),
        payload: Value::Int(-i64::try_from(titles).expect("small")),
        dedupe: String::new(),
    };
    let begun = Instant::now();
    instance.step(Timestamp(0), all, &mut sections);
    let filled = begun.elapsed().as_secs_f64();
    let one = median(|n| {
        black_box(instance.step(Timestamp(n), signal(n), &mut sections));
    });
    (one, filled)
}

/// Rules that set each other off, a fact a firing.
fn firings(count: i64) -> f64 {
    let rules = serde_json::json!([
        {"name": "begin", "match": [{"how": "fact", "kind": "signal", "as": "s"}], "has_action": true},
        {"name": "on", "match": [{"how": "fact", "kind": "link", "as": "l"}], "has_action": true},
    ]);
    let mut instance = Instance::new(program(rules), Limits { depth: u32::MAX, ..roomy() });
    let mut sections = Fixed(|ask| {
        let at = match ask.bindings.first().and_then(|(_, value)| value.get("left")) {
            Some(Value::Int(left)) => *left,
            _ => number(ask),
        };
        if at == 0 { Vec::new() } else { vec![fact("link", &[("left", Value::Int(at - 1))])] }
    });
    let begun = Instant::now();
    let event = Event::Signal { name: "go".into(), payload: Value::Int(count), dedupe: String::new() };
    let step = instance.step(Timestamp(0), event, &mut sections);
    assert!(step.entry.sections.len() > usize::try_from(count).expect("small"), "{:?}", instance.status());
    f64::from(i32::try_from(count).expect("small")) / begun.elapsed().as_secs_f64()
}

/// Bytes of a job that sleeps, as it is kept: its input, a fact, a timer.
fn sleeping() -> usize {
    let rules = serde_json::json!([
        {"name": "sleep", "match": [{"how": "fact", "kind": "input", "as": "i"}], "has_action": true, "has_reaction": true},
    ]);
    let mut instance = Instance::new(program(rules), Limits::default());
    let mut sections = Fixed(|_| {
        let timer =
            spool_rules::effect::Timer { key: "nap".into(), after_us: spool_proto::time::Span::from_secs(86_400) };
        vec![Effect::Timer(timer), fact("title", &[("name", Value::text("a title")), ("version", Value::Int(3))])]
    });
    let input = Value::map([("source", Value::text("file:///films/a-film.mov"))]);
    instance.step(Timestamp(0), Event::Started { input }, &mut sections);
    assert!(matches!(instance.status(), Status::Running));
    serde_json::to_vec(&instance.keep()).expect("plain data").len()
}

fn main() {
    let json = std::env::args().any(|arg| arg == "--json");
    let mut rows: Vec<(String, f64, &str)> = Vec::new();
    for count in [100, 10_000, 100_000] {
        rows.push((format!("one event, {count} chunk facts"), chunks(count), "µs"));
    }
    for titles in [1_000, 100_000, 1_000_000] {
        let (one, filled) = catalogue(titles);
        rows.push((format!("one new fact, catalogue of {titles}"), one, "µs"));
        rows.push((format!("filling it, {titles}"), filled * 1e6 / titles as f64, "µs each"));
    }
    rows.push(("firings".into(), firings(200_000), "a second"));
    rows.push(("a sleeping job, kept".into(), sleeping() as f64, "bytes"));
    if json {
        let all =
            rows.iter().map(|(name, value, unit)| serde_json::json!({"name": name, "value": value, "unit": unit}));
        return println!("{}", serde_json::Value::Array(all.collect()));
    }
    for (name, value, unit) in rows {
        println!("{name:<40} {value:>14.1} {unit}");
    }
}
