//! What rules mean, point by point.

use spool_proto::failure::Class;
use spool_rules::explain::Verdict;
use spool_rules::history::Event;
use spool_rules::instance::{End, Request, Status};
use spool_rules::limits::Limits;
use spool_rules::value::Value;

use crate::harness::{Job, json};

/// Fan-out and fan-in, as the main job has it.
pub const ENCODE: &str = r#"
service(name = "t", version = "1", input = {"source": uri()})

rule(
    name = "probe",
    match = [fact("input", as_ = "i")],
    action = lambda i: [call("probe", args = {"source": i.source})],
    reaction = lambda i, results: [assert_("plan", state = "ready", chunks = results[0].chunks)],
)

rule(
    name = "encode",
    salience = 10,
    match = [fact("plan", as_ = "p", state = "ready"), none("encoded", plan = var("p.id"))],
    action = lambda p: [call("encode", key = str(c), args = {"chunk": c}) for c in p.chunks],
    reaction = lambda p, results: [assert_("encoded", plan = p.id, chunks = results)],
    error = lambda p, err: retry(after = 2) if err.retryable else fail(err),
)

rule(
    name = "assemble",
    match = [fact("encoded", as_ = "e")],
    action = lambda e: [call("assemble", args = {"chunks": e.chunks})],
    reaction = lambda e, results: [result({"film": results[0]})],
)
"#;

#[test]
fn work_fans_out_and_in() {
    let mut job = Job::new(ENCODE, r#"{"source": "a.mp4"}"#);
    assert_eq!(job.open(), ["probe"]);
    job.answer("probe", r#"{"chunks": [0, 1, 2]}"#);
    assert_eq!(job.open(), ["encode"; 3]);
    job.answer("encode", "\"c0\"");
    job.answer("encode", "\"c1\"");
    assert_eq!(job.facts("encoded").len(), 0, "the reaction waits for all");
    job.answer("encode", "\"c2\"");
    assert_eq!(job.calls[0].2, json(r#"{"chunks": ["c0", "c1", "c2"]}"#), "in the order of the calls");
    job.answer("assemble", "\"film\"");
    assert_eq!(*job.end(), End::Done(json(r#"{"film": "film"}"#)));
}

#[test]
fn results_come_in_the_order_of_the_calls_whatever_was_done_first() {
    let mut job = Job::new(ENCODE, r#"{"source": "a.mp4"}"#);
    job.answer("probe", r#"{"chunks": [0, 1, 2]}"#);
    for task in [3, 1, 2] {
        job.calls.retain(|(known, ..)| *known != task);
        job.event(Event::TaskDone { task, value: Value::Int(i64::from(task)) });
    }
    assert_eq!(job.calls[0].2, json(r#"{"chunks": [1, 2, 3]}"#));
}

#[test]
fn a_completion_counts_once() {
    let mut job = Job::new(ENCODE, r#"{"source": "a.mp4"}"#);
    job.answer("probe", r#"{"chunks": [0]}"#);
    let before = job.instance.keep();
    job.event(Event::TaskDone { task: 0, value: json(r#"{"chunks": [7, 8]}"#) });
    assert_eq!(job.instance.keep(), before, "a late answer changes nothing");
}

#[test]
fn an_error_section_has_it_tried_again_or_gives_up() {
    let mut job = Job::new(ENCODE, r#"{"source": "a.mp4"}"#);
    job.answer("probe", r#"{"chunks": [0, 1]}"#);
    job.fail("encode", Class::Transient);
    assert_eq!(job.open(), ["encode"], "it rests first");
    job.later(1);
    assert_eq!(job.open(), ["encode"]);
    let again = job.later(1);
    let effect = |request: &Request| match request {
        Request::Call { effect, .. } => effect.clone(),
        other => panic!("{other:?}"),
    };
    assert!(effect(&again[0]).ends_with("/0#1"), "{:?}", again);
    job.fail("encode", Class::Input);
    assert!(matches!(job.end(), End::Failed(failure) if failure.code == "test_failure"), "{:?}", job.end());
    assert!(job.open().is_empty(), "what was under way is called off");
}

#[test]
fn without_an_error_section_a_failed_call_fails_the_job() {
    let mut job = Job::new(ENCODE, r#"{"source": "a.mp4"}"#);
    job.fail("probe", Class::Transient);
    assert!(matches!(job.end(), End::Failed(failure) if failure.class == Class::Transient));
}

#[test]
fn a_rule_that_changes_its_own_fact_does_not_set_itself_off() {
    let text = r#"
service(name = "t", version = "1")
rule(
    name = "count",
    match = [fact("input", as_ = "i", go = True)],
    action = lambda i: [modify(i, count = get(i, "count", 0) + 1)],
)
rule(name = "end", salience = -1, match = [fact("input", as_ = "i")], action = lambda i: [result(i.count)])
"#;
    let job = Job::new(text, r#"{"go": true}"#);
    assert_eq!(*job.end(), End::Done(Value::Int(1)));
}

#[test]
fn rules_that_set_each_other_off_are_paused_and_named() {
    let text = r#"
service(name = "t", version = "1", standing = True)
rule(name = "up", match = [fact("input", as_ = "i", n = ge(0))], action = lambda i: [modify(i, n = i.n + 1)])
"#;
    let job = Job::with(text, r#"{"n": 0}"#, Limits { firings_per_event: 100, ..Limits::default() });
    assert_eq!(job.pause().code, "too_many_firings");
    assert!(job.pause().message.contains("up (100 times)"), "{}", job.pause().message);
    let text = r#"
service(name = "t", version = "1", standing = True)
rule(name = "more", match = [fact("input", as_ = "i")], action = lambda i: [assert_("a", n = n) for n in range(5000)])
"#;
    let job = Job::with(text, "{}", Limits { facts: 1000, ..Limits::default() });
    assert_eq!(job.pause().code, "too_many_facts");
    let text = r#"
service(name = "t", version = "1", standing = True)
rule(name = "a", match = [fact("input")], action = lambda: [assert_("x", n = 0)])
rule(name = "chain", match = [fact("x", as_ = "x")], action = lambda x: [retract(x), assert_("x", n = x.n + 1)])
"#;
    let job = Job::with(text, "{}", Limits { depth: 50, ..Limits::default() });
    assert_eq!(job.pause().code, "too_deep");
}

#[test]
fn salience_then_age_then_name_decide_who_fires() {
    let text = r#"
service(name = "t", version = "1")
def log(name):
    return lambda: [assert_("fired", by = name)]
rule(name = "b", match = [fact("input")], action = log("b"))
rule(name = "a", match = [fact("input")], action = log("a"))
rule(name = "late", salience = 5, match = [fact("fired", by = "a")], action = log("late"))
rule(name = "first", salience = 9, match = [fact("input")], action = log("first"))
rule(name = "end", salience = -1, match = [collect("fired", as_ = "all"), fact("input")],
     action = lambda all: [result([f.by for f in all])])
"#;
    let job = Job::new(text, "{}");
    assert_eq!(*job.end(), End::Done(json(r#"["first", "a", "late", "b"]"#)));
}

#[test]
fn a_broken_section_waits_to_be_mended_with_its_input() {
    let text = r#"
service(name = "t", version = "1")
rule(name = "divide", match = [fact("input", as_ = "i")], action = lambda i: [result(10 // i.by)])
"#;
    let mut job = Job::new(text, r#"{"by": 0}"#);
    let pause = job.pause().clone();
    assert_eq!(pause.code, "section_raised");
    assert!(pause.message.contains("main.star:3:"), "{}", pause.message);
    let input = pause.input.expect("what it was given");
    assert_eq!(input.get("given").and_then(|given| given.get("i")).and_then(|i| i.get("by")), Some(&Value::Int(0)));
    let why = job.instance.why_not("divide").expect("there is such a rule");
    assert!(matches!(why.verdict, Verdict::Waits { .. }), "{why:?}");
    job.event(Event::Resume);
    assert_eq!(job.pause().code, "section_raised", "still broken");
}

#[test]
fn a_reaction_that_broke_runs_again_with_the_results_it_had() {
    let broken = ENCODE.replace("results[0].chunks", "results[0].no_such_field");
    let mut job = Job::new(&broken, r#"{"source": "a.mp4"}"#);
    job.answer("probe", r#"{"chunks": [0]}"#);
    assert_eq!(job.pause().code, "section_raised");
    let mended = crate::harness::compile(ENCODE);
    let program = std::sync::Arc::new(spool_rules::instance::Program::new(mended.set.clone()).expect("good"));
    let migration = job.instance.migrate(program).expect("it matches");
    assert!(migration.gained.is_empty() && migration.lost.is_empty(), "{migration:?}");
    job.compiled = mended;
    let hash = job.compiled.set.hash.clone();
    job.event(Event::Migrated { rules: hash });
    assert_eq!(job.open(), ["encode"]);
}

#[test]
fn timers_and_time_outs() {
    let text = r#"
service(name = "t", version = "1")
rule(name = "wait", match = [fact("input")], action = lambda: [timer(after = 60)],
     reaction = lambda results: [assert_("woken")])
rule(name = "slow", match = [fact("woken")],
     action = lambda: [call("slow", total = 10, schedule_to_start = 5)],
     error = lambda err: retry() if err.code == "schedule_to_start_timeout" else result(err.code))
"#;
    let mut job = Job::new(text, "{}");
    assert_eq!(job.instance.next_alarm(), Some(job.now + spool_proto::time::Span::from_secs(60)));
    job.later(59);
    assert_eq!(job.facts("woken").len(), 0);
    job.later(1);
    assert_eq!(job.open(), ["slow"]);
    let requests = job.later(5);
    assert!(requests.contains(&Request::CancelTask { task: 0 }), "{requests:?}");
    assert_eq!(job.open(), ["slow"], "tried again");
    job.later(5);
    assert_eq!(*job.end(), End::Done("total_timeout".into()));
}

#[test]
fn signals_are_facts_and_the_same_one_counts_once() {
    let text = r#"
service(name = "t", version = "1")
rule(name = "approve", match = [fact("signal", as_ = "s", name = "approve")],
     action = lambda s: [assert_("approval", by = s.payload.by), retract(s)])
rule(name = "end", match = [collect("approval", as_ = "a", at_least = 2), fact("input")], action = lambda a: [result(len(a))])
"#;
    let mut job = Job::new(text, "{}");
    let signal = |who: &str, dedupe: &str| Event::Signal {
        name: "approve".into(),
        payload: json(&format!(r#"{{"by": "{who}"}}"#)),
        dedupe: dedupe.into(),
    };
    job.event(signal("ann", "1"));
    job.event(signal("ann", "1"));
    assert_eq!(job.facts("approval").len(), 1);
    job.event(signal("bob", "2"));
    assert_eq!(*job.end(), End::Done(Value::Int(2)));
}

#[test]
fn a_cancel_calls_off_what_is_pending_and_lets_rules_clean_up() {
    let cleaning = format!(
        "{ENCODE}\nrule(name = \"clean\", match = [fact(\"cancel\", as_ = \"c\")], \
         action = lambda c: [call(\"clean\", args = {{\"why\": c.reason}})])\n"
    );
    let mut job = Job::new(&cleaning, r#"{"source": "a.mp4"}"#);
    job.answer("probe", r#"{"chunks": [0, 1]}"#);
    job.event(Event::Cancel { reason: "enough".into() });
    assert_eq!(job.open(), ["clean"]);
    assert!(matches!(job.instance.status(), Status::Cancelling { .. }));
    job.answer("clean", "null");
    assert_eq!(*job.end(), End::Cancelled("enough".into()));
    let mut job = Job::new(&cleaning, r#"{"source": "a.mp4"}"#);
    job.event(Event::Cancel { reason: "enough".into() });
    job.later(61);
    assert_eq!(*job.end(), End::Cancelled("enough".into()), "cleaning up has an end");
    let mut job = Job::new(ENCODE, r#"{"source": "a.mp4"}"#);
    job.event(Event::Cancel { reason: "enough".into() });
    assert_eq!(*job.end(), End::Cancelled("enough".into()), "nothing cleans up");
}

#[test]
fn what_is_done_is_undone_last_first() {
    let text = r#"
service(name = "t", version = "1")
rule(name = "a", match = [fact("input")],
     action = lambda: [call("make", key = k, undo = call("remove", args = {"what": k})) for k in ["x", "y"]],
     reaction = lambda results: [assert_("made")])
rule(name = "b", match = [fact("made")], action = lambda: [call("check")],
     error = lambda err: [assert_("bad", why = err.message)])
rule(name = "c", match = [fact("bad", as_ = "b")], action = lambda b: [compensate()],
     reaction = lambda b, results: [fail(b.why)])
"#;
    let mut job = Job::new(text, "{}");
    job.answer("make", r#"{"at": 1}"#);
    job.answer("make", r#"{"at": 2}"#);
    job.fail("check", Class::Spec);
    assert_eq!(job.open(), ["remove"], "one after the other");
    assert_eq!(job.calls[0].2, json(r#"{"what": "y", "result": {"at": 2}}"#));
    job.answer("remove", "null");
    assert_eq!(job.calls[0].2, json(r#"{"what": "x", "result": {"at": 1}}"#));
    job.answer("remove", "null");
    assert!(matches!(job.end(), End::Failed(failure) if failure.message == "it was made to fail"), "{:?}", job.end());
}

#[test]
fn children_are_started_closed_and_heard() {
    let text = r#"
service(name = "t", version = "1")
rule(name = "kids", match = [fact("input")],
     action = lambda: [start("encode", key = k, input = {"k": k}, close = "cancel") for k in ["a", "b"]],
     reaction = lambda results: [result([r.n for r in results])],
     error = lambda err: fail(err))
"#;
    let started = |job: &Job| -> Vec<String> {
        let of = |request: &Request| match request {
            Request::Start { effect, .. } => Some(effect.clone()),
            _ => None,
        };
        job.requests.iter().filter_map(of).collect()
    };
    let mut job = Job::new(text, "{}");
    let kids = started(&job);
    assert_eq!(kids.len(), 2);
    job.event(Event::ChildDone { effect: kids[1].clone(), value: json(r#"{"n": 2}"#) });
    job.event(Event::ChildDone { effect: kids[0].clone(), value: json(r#"{"n": 1}"#) });
    assert_eq!(*job.end(), End::Done(json("[1, 2]")));
    let mut job = Job::new(text, "{}");
    let kids = started(&job);
    let failure = spool_proto::failure::Failure::new(Class::Input, "broken", "no film");
    let requests = job.event(Event::ChildFailed { effect: kids[0].clone(), failure });
    assert!(matches!(job.end(), End::Failed(failure) if failure.code == "broken"));
    assert!(matches!(&requests[..], [Request::Close { effect, .. }] if *effect == kids[1]), "{requests:?}");
}

#[test]
fn a_job_with_nothing_left_to_do_says_so() {
    let text = r#"
service(name = "t", version = "1")
rule(name = "never", match = [fact("input", go = True)], action = lambda: [result()])
"#;
    let job = Job::new(text, r#"{"go": false}"#);
    assert!(matches!(job.end(), End::Failed(failure) if failure.code == "nothing_left_to_do"));
    let why = job.instance.why_not("never").expect("there is such a rule");
    let Verdict::NoFact { number: 1, near, .. } = why.verdict else { panic!("{why:?}") };
    assert_eq!(near[0].test, "go = true");
    assert_eq!(near[0].found, Some(Value::Bool(false)));
}

#[test]
fn why_not_names_what_hinders_and_what_lacks() {
    let mut job = Job::new(ENCODE, r#"{"source": "a.mp4"}"#);
    job.answer("probe", r#"{"chunks": [0]}"#);
    let why = |rule: &str, job: &Job| job.instance.why_not(rule).expect("there is such a rule").verdict;
    assert!(matches!(why("encode", &job), Verdict::Fired { times: 1 }));
    assert!(matches!(why("assemble", &job), Verdict::NoFact { number: 1, facts: 0, .. }));
    job.answer("encode", "0");
    assert!(matches!(why("encode", &job), Verdict::Hindered { number: 2, .. }), "{:?}", why("encode", &job));
    assert_eq!(job.instance.why_not("no_such_rule"), None);
}

#[test]
fn time_and_chance_come_from_the_history() {
    let text = r#"
service(name = "t", version = "1")
rule(name = "now", match = [fact("input")], action = lambda: [result({"now": now(), "random": random("x")})])
"#;
    let (a, b) = (Job::new(text, "{}"), Job::new(text, "{}"));
    assert_eq!(a.end(), b.end());
    let End::Done(value) = a.end() else { panic!("{:?}", a.end()) };
    assert_eq!(value.get("now"), Some(&Value::Int(1)));
}

#[test]
fn a_section_counts_whole_or_not_at_all() {
    let text = |effects: &str| {
        format!(
            "service(name = \"t\", version = \"1\")\nrule(name = \"a\", match = [fact(\"input\", as_ = \"i\")], \
             action = lambda i: [assert_(\"x\"), modify(i, n = 2), call(\"f\", key = \"k\"), {effects}])\n"
        )
    };
    let broken = [
        ("call(\"g\", key = \"k\")", "bad_effects"),
        ("retry()", "bad_effects"),
        ("assert_(\"y\", id = 3)", "bad_effects"),
        ("call(\"\")", "bad_effects"),
        ("[assert_(\"y\") for _ in range(20)]", "too_many_facts"),
        ("assert_(\"y\", text = \"x\" * 5000)", "too_many_bytes"),
        ("[call(\"g\") for _ in range(20)]", "too_many_effects"),
    ];
    let limits = Limits { facts: 10, bytes: 4_000, pending_effects: 5, ..Limits::default() };
    for (effects, code) in broken {
        let mut job = Job::with(&text(effects), "{\"n\": 1}", limits);
        assert_eq!(job.pause().code, code, "{effects}: {}", job.pause().message);
        assert!(job.requests.is_empty() && job.facts("x").is_empty(), "{effects}: nothing of it is done");
        assert_eq!(job.facts("input")[0].get("n"), Some(&Value::Int(1)), "{effects}");
        let mended = crate::harness::compile(&text("None"));
        let program = std::sync::Arc::new(spool_rules::instance::Program::new(mended.set.clone()).expect("good"));
        job.instance.migrate(program).expect("it matches");
        job.compiled = mended;
        let rules = job.compiled.set.hash.clone();
        job.event(Event::Migrated { rules });
        assert_eq!((job.open(), job.facts("x").len()), (vec!["f"], 1), "{effects}: mended, it fires");
    }
}

#[test]
fn an_error_section_reads_the_class_of_what_failed() {
    let text = r#"
service(name = "t", version = "1")
rule(
    name = "a",
    match = [fact("input")],
    action = lambda: [call("f")],
    reaction = lambda results: [result(results[0])],
    error = lambda err: [skip([err.class_, err.code])] if err.class_ == "input" else [fail(err)],
)
"#;
    let mut job = Job::new(text, "{}");
    job.fail("f", Class::Input);
    assert_eq!(*job.end(), End::Done(json(r#"["input", "test_failure"]"#)));
    let mut job = Job::new(text, "{}");
    job.fail("f", Class::Host);
    assert!(matches!(job.end(), End::Failed(failure) if failure.class == Class::Host), "{:?}", job.end());
}
