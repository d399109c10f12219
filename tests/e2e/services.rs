//! Services made of rules, on a real server with real workers: pushed, run, killed in between, mended, brought in step by step.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::{Value, json};
use spool_proto::wire::v1;
use spool_proto::wire::v1::job_service_client::JobServiceClient;
use spool_proto::wire::v1::look_request::At;
use spool_proto::wire::v1::route_service_request::Change;
use spool_proto::wire::v1::rule_service_client::RuleServiceClient;
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::films;
use crate::processes::{Fleet, eventually};

/// `n` calls side by side, then one with what they answered.
const MAP: &str = r#"
service(name = "map", version = "1", input = {"n": integer(min = 0), "sleep_us": optional(integer(min = 0), 0)})

def nap(us):
    return {"sleep_us": us, "through_executor": False}

rule(
    name = "split",
    match = [fact("input", as_ = "i")],
    action = lambda i: [call("bench.noop", key = "nap %d" % n, args = nap(i.sleep_us)) for n in range(i.n)],
    reaction = lambda i, results: [assert_("all", count = len(results))],
)

rule(
    name = "join",
    match = [fact("all", as_ = "a")],
    action = lambda a: [call("bench.noop", args = nap(0))],
    reaction = lambda a, results: [result({"count": a.count, "kind": results[0].kind})],
)
"#;

/// One call after the other: each is asked for when the one before has answered.
const CHAIN: &str = r#"
service(name = "chain", version = "1", input = {"n": integer()})

rule(
    name = "begin",
    match = [fact("input")],
    action = lambda: [],
    reaction = lambda results: [assert_("link", at = 0)],
)

rule(
    name = "on",
    match = [fact("input", as_ = "i"), fact("link", as_ = "l")],
    action = lambda i, l: [call("bench.noop", key = "link %d" % l.at, args = {"sleep_us": 1000, "through_executor": False})],
    reaction = lambda i, l, results: [result({"links": l.at + 1}) if l.at + 1 == i.n else assert_("link", at = l.at + 1)],
)
"#;

pub struct Services {
    pub fleet: Fleet,
    runtime: Runtime,
    rules: RuleServiceClient<Channel>,
    jobs: JobServiceClient<Channel>,
}

impl Services {
    pub fn new() -> Services {
        let fleet = Fleet::new();
        let runtime = Runtime::new().unwrap();
        let channel = {
            let _inside = runtime.enter();
            Channel::from_shared(fleet.url()).unwrap().connect_lazy()
        };
        let (rules, jobs) = (RuleServiceClient::new(channel.clone()), JobServiceClient::new(channel));
        Services { fleet, runtime, rules, jobs }
    }

    fn push(&mut self, text: &str) -> v1::PushServiceResponse {
        let files = HashMap::from([("main.star".to_owned(), text.to_owned())]);
        let request = v1::PushServiceRequest { files, dry_run: false };
        self.runtime.block_on(self.rules.push(request)).unwrap().into_inner()
    }

    /// Pushes what has to be right.
    pub fn pushed(&mut self, text: &str) -> String {
        let pushed = self.push(text);
        assert!(!pushed.hash.is_empty(), "{:?}", pushed.problems);
        pushed.hash
    }

    fn try_submit(&mut self, service: &str, version: &str, input: &Value) -> Result<String, Status> {
        let spec = v1::RulesSpec { service: service.into(), version: version.into(), input: input.to_string() };
        let spec = v1::JobSpec { service: Some(v1::job_spec::Service::Rules(spec)), ..Default::default() };
        let request = v1::SubmitRequest { request_id: String::new(), spec: Some(spec) };
        Ok(self.runtime.block_on(self.jobs.submit(request))?.into_inner().job_id)
    }

    pub fn submit(&mut self, service: &str, input: &Value) -> String {
        self.try_submit(service, "", input).unwrap()
    }

    pub fn done(&self, job: &str) -> Value {
        let view = self.fleet.finished(job);
        assert_eq!(view["state"], "done", "{view}");
        view
    }

    pub fn look(&mut self, job: &str, at: At) -> Value {
        let request = v1::LookRequest { job_id: job.into(), at: Some(at) };
        let json = self.runtime.block_on(self.rules.look(request)).unwrap().into_inner().json;
        serde_json::from_str(&json).unwrap()
    }

    fn facts(&mut self, job: &str, kind: &str) -> Vec<Value> {
        let facts = self.look(job, At::Facts(v1::LookFacts { kind: kind.into() }));
        facts.as_array().unwrap().clone()
    }

    pub fn signal(&mut self, job: &str, name: &str, payload: &Value, dedupe: &str) {
        let (job_id, name, payload, dedupe) = (job.into(), name.into(), payload.to_string(), dedupe.into());
        let request = v1::SignalJobRequest { job_id, name, payload, dedupe };
        self.runtime.block_on(self.rules.signal(request)).unwrap();
    }

    pub fn cancel(&mut self, job: &str) {
        let request = v1::CancelJobRequest { job_id: job.into(), reason: "enough".into() };
        self.runtime.block_on(self.jobs.cancel(request)).unwrap();
    }

    pub fn explain(&mut self, job: &str) -> v1::Explanation {
        let request = v1::ExplainJobRequest { job_id: job.into() };
        self.runtime.block_on(self.jobs.explain(request)).unwrap().into_inner()
    }

    fn state(&mut self, service: &str) -> v1::ServiceState {
        let all = self.runtime.block_on(self.rules.list(v1::ListServicesRequest {})).unwrap().into_inner().services;
        all.into_iter().find(|state| state.service == service).unwrap()
    }

    fn route(&mut self, service: &str, change: Change) -> v1::ServiceState {
        let request = v1::RouteServiceRequest { service: service.into(), change: Some(change) };
        self.runtime.block_on(self.rules.route(request)).unwrap().into_inner()
    }
}

#[test]
fn work_fans_out_and_in_over_real_workers() {
    let mut s = Services::new();
    let (_server, _worker) = (s.fleet.server(), s.fleet.worker("w1"));
    let first = s.push(MAP);
    assert_eq!((first.service.as_str(), first.existing), ("map", false));
    assert!(s.push(MAP).existing, "the same files are the same version");
    let job = s.submit("map", &json!({"n": 40}));
    let view = s.done(&job);
    assert_eq!(view["output"], json!({"count": 40, "kind": "noop"}));
    assert_eq!((&view["service"], &view["spec"]["version"]), (&json!("map"), &json!(first.hash)));
    assert_eq!(view["spec"]["input"]["sleep_us"], 0, "what was left out is filled in: {view}");
    let phases: Vec<_> =
        view["phases"].as_array().unwrap().iter().map(|phase| (&phase["name"], &phase["tasks"])).collect();
    assert_eq!(phases, [(&json!("split"), &json!(40)), (&json!("join"), &json!(1))]);
    assert_eq!(view["tasks"][7]["label"], "nap 7");
    assert_eq!(s.facts(&job, "all"), [json!({"id": "f2", "type": "all", "count": 40})]);
    let history = s.look(&job, At::History(v1::LookHistory {}));
    assert_eq!(history["rules"], first.hash);
    assert_eq!(history["files"]["main.star"], MAP);
    let sections: Vec<_> = history["entries"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|entry| entry["sections"].as_array().cloned().unwrap_or_default())
        .map(|section| format!("{}.{}", section["rule"].as_str().unwrap(), section["section"].as_str().unwrap()))
        .collect();
    assert_eq!(sections, ["split.action", "split.reaction", "join.action", "join.reaction"]);
}

#[test]
fn what_cannot_be_taken_is_refused_with_the_place() {
    let mut s = Services::new();
    let _server = s.fleet.server();
    let pushed = s.push("service(name = \"x\", version = \"1\")\nrule(name = \"r\", match = [fact(\"input\")], action = lambda: [nothing()])\n");
    assert!(pushed.hash.is_empty());
    let problem = &pushed.problems[0];
    assert_eq!(
        (problem.file.as_str(), problem.line, problem.severity.as_str()),
        ("main.star", 2, "error"),
        "{problem:?}"
    );
    for taken in ["title", "inspect"] {
        let named = s.push(&format!("service(name = \"{taken}\", version = \"1\")\nrule(name = \"r\", match = [fact(\"input\")], action = lambda: [])\n"));
        assert!(named.problems[0].message.contains("the server has a service of this name"), "{named:?}");
    }

    let status = s.try_submit("map", "", &json!({"n": 1})).unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    s.pushed(MAP);
    let status = s.try_submit("map", "", &json!({"n": "many"})).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("n: "), "{status:?}");
    let status = s.try_submit("map", "abcdef", &json!({"n": 1})).unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("the newest are"), "{status:?}");
}

/// Killed again and again: each link is made once, and the chain ends.
#[test]
fn a_killed_server_loses_nothing_and_does_nothing_twice() {
    let mut s = Services::new();
    let mut server = s.fleet.server();
    let _worker = s.fleet.worker("w1");
    s.pushed(CHAIN);
    let job = s.submit("chain", &json!({"n": 120}));
    for round in 1..=4 {
        let links = round * 20;
        eventually("the chain has grown", || {
            (s.fleet.job(&job)["tasks"].as_array().map_or(0, Vec::len) >= links).then_some(())
        });
        server.kill();
        server = s.fleet.server();
    }
    let view = s.done(&job);
    assert_eq!(view["output"], json!({"links": 120}));
    let tasks = view["tasks"].as_array().unwrap();
    let labels: Vec<_> = tasks.iter().map(|task| task["label"].as_str().unwrap().to_owned()).collect();
    let expected: Vec<_> = (0..120).map(|n| format!("link {n}")).collect();
    assert_eq!(labels, expected);
    assert_eq!(s.facts(&job, "link").len(), 120);
    drop(server);
}

const TALK: &str = r#"
service(name = "talk", version = "1", input = {})

rule(
    name = "heard",
    match = [fact("signal", as_ = "s", name = "word")],
    action = lambda s: [assert_("word", text = s.payload.text)],
)

rule(
    name = "enough",
    match = [fact("input"), collect("word", as_ = "words", at_least = 3)],
    action = lambda words: [result({"text": " ".join([w.text for w in words])})],
)

rule(
    name = "clean up",
    match = [fact("cancel", as_ = "c")],
    action = lambda c: [call("bench.noop", key = "cleaning", args = {"sleep_us": 0, "through_executor": False})],
)
"#;

#[test]
fn signals_are_facts_and_count_once() {
    let mut s = Services::new();
    let (_server, _worker) = (s.fleet.server(), s.fleet.worker("w1"));
    s.pushed(TALK);
    let job = s.submit("talk", &json!({}));
    s.signal(&job, "word", &json!({"text": "one"}), "1");
    s.signal(&job, "word", &json!({"text": "one"}), "1");
    s.signal(&job, "word", &json!({"text": "two"}), "2");
    eventually("both are heard", || (s.facts(&job, "word").len() == 2).then_some(()));
    assert_eq!(s.explain(&job).reason, "waiting_for_signal");
    let why = s.look(&job, At::WhyNot(v1::LookWhyNot { rule: "enough".into() }));
    assert_eq!((&why["verdict"], &why["count"], &why["at_least"]), (&json!("too_few"), &json!(2), &json!(3)), "{why}");
    s.signal(&job, "word", &json!({"text": "three"}), "3");
    assert_eq!(s.done(&job)["output"], json!({"text": "one two three"}));
}

/// More than are brought back at a time, and some of them end while others wait for it.
#[test]
fn all_that_sleep_go_on_after_a_restart() {
    let mut s = Services::new();
    let (mut server, _worker) = (s.fleet.server(), s.fleet.worker("w1"));
    s.pushed(TALK);
    let jobs: Vec<String> = (0..160).map(|_| s.submit("talk", &json!({}))).collect();
    for job in &jobs {
        for text in ["one", "two"] {
            s.signal(job, "word", &json!({"text": text}), text);
        }
    }
    server.kill();
    server = s.fleet.server();
    for pair in jobs.chunks(2) {
        s.cancel(&pair[0]);
        s.signal(&pair[1], "word", &json!({"text": "three"}), "three");
    }
    for pair in jobs.chunks(2) {
        assert_eq!(s.fleet.finished(&pair[0])["state"], "cancelled");
        assert_eq!(s.done(&pair[1])["output"], json!({"text": "one two three"}));
    }
    drop(server);
}

#[test]
fn a_cancelled_job_cleans_up_first() {
    let mut s = Services::new();
    let (_server, _worker) = (s.fleet.server(), s.fleet.worker("w1"));
    s.pushed(TALK);
    let job = s.submit("talk", &json!({}));
    s.cancel(&job);
    let view = s.fleet.finished(&job);
    assert_eq!(view["state"], "cancelled", "{view}");
    assert_eq!(view["tasks"][0]["label"], "cleaning");
    assert_eq!(view["tasks"][0]["state"], "done");
}

const FAMILY: &str = r#"
service(name = "family", version = "1", input = {"sleep_us": integer(), "close": text()})

rule(
    name = "children",
    match = [fact("input", as_ = "i")],
    action = lambda i: [
        start("map", key = "map", input = {"n": 3, "sleep_us": i.sleep_us}, close = i.close),
        start("bench", key = "bench", input = {"tasks": 2, "call_time": 0, "through_executor": False}),
    ],
    reaction = lambda i, results: [result({"map": results[0], "bench": results[1] != None})],
)
"#;

#[test]
fn a_childs_result_is_a_fact_of_its_parent() {
    let mut s = Services::new();
    let (_server, _worker) = (s.fleet.server(), s.fleet.worker("w1"));
    s.pushed(MAP);
    s.pushed(FAMILY);
    let job = s.submit("family", &json!({"sleep_us": 0, "close": "terminate"}));
    let view = s.done(&job);
    assert_eq!(view["output"]["map"], json!({"count": 3, "kind": "noop"}), "{view}");
    let tree = s.look(&job, At::Tree(v1::LookTree {}));
    let services: Vec<_> = tree["children"].as_array().unwrap().iter().map(|child| child["service"].clone()).collect();
    assert_eq!(services, [json!("map"), json!("bench")], "{tree}");
}

#[test]
fn children_end_with_their_parent_unless_it_lets_them_go() {
    let mut s = Services::new();
    let (mut server, _worker) = (s.fleet.server(), s.fleet.worker("w1"));
    s.pushed(MAP);
    s.pushed(FAMILY);
    for (close, ends) in [("terminate", "cancelled"), ("cancel", "cancelled"), ("abandon", "done")] {
        let job = s.submit("family", &json!({"sleep_us": 2_000_000, "close": close}));
        let child = eventually("the children run", || {
            let tree = s.look(&job, At::Tree(v1::LookTree {}));
            Some(tree["children"].get(1)?["job"].as_str()?.to_owned())
                .and(tree["children"][0]["job"].as_str().map(str::to_owned))
        });
        let explanation = s.explain(&job);
        assert_eq!(explanation.reason, "waiting_for_jobs", "{explanation:?}");
        assert!(explanation.text.contains(&format!("{child} (map, ")), "{explanation:?}");
        if close == "terminate" {
            // The parent is brought back with what it waits for.
            server.kill();
            server = s.fleet.server();
        }
        s.cancel(&job);
        assert_eq!(s.fleet.finished(&job)["state"], "cancelled");
        assert_eq!(s.fleet.finished(&child)["state"], ends, "{close}");
    }
    drop(server);
}

/// The first version calls what nobody pushed.
const BROKEN: &str = r#"
service(name = "mend", version = "1", input = {})
rule(
    name = "work",
    match = [fact("input")],
    action = lambda: [call("unheard-of", args = {})],
    reaction = lambda results: [result(1)],
)
"#;

#[test]
fn broken_rules_pause_a_job_and_mended_ones_go_on() {
    let mut s = Services::new();
    let (mut server, _worker) = (s.fleet.server(), s.fleet.worker("w1"));
    let broken = s.pushed(BROKEN);
    let job = s.submit("mend", &json!({}));
    let explanation = eventually("it is paused", || {
        let explanation = s.explain(&job);
        (explanation.reason == "paused").then_some(explanation)
    });
    assert!(explanation.text.contains("unheard-of") && explanation.text.contains("media.probe"), "{explanation:?}");
    server.kill();
    server = s.fleet.server();
    assert_eq!(s.explain(&job).reason, "paused", "also after a restart");
    let mended = s.pushed(
        &BROKEN
            .replace("unheard-of", "bench.noop")
            .replace("args = {}", "args = {\"sleep_us\": 0, \"through_executor\": False}"),
    );
    let migrate = |dry_run| v1::MigrateJobRequest { job_id: job.clone(), version: mended.clone(), dry_run };
    let shown = s.runtime.block_on(s.rules.migrate(migrate(true))).unwrap().into_inner();
    let changes: Value = serde_json::from_str(&shown.changes).unwrap();
    assert_eq!(changes["gained"][0][0], "work", "{changes}");
    assert_eq!(s.explain(&job).reason, "paused", "a dry run changes nothing");
    s.runtime.block_on(s.rules.migrate(migrate(false))).unwrap();
    assert_eq!(s.done(&job)["output"], 1);
    assert_ne!(broken, mended);
    drop(server);
}

#[test]
fn a_failed_job_goes_on_where_it_failed() {
    let mut s = Services::new();
    let (_server, _worker) = (s.fleet.server(), s.fleet.worker("w1"));
    s.pushed(
        r#"
service(name = "look", version = "1", input = {"source": uri()})
rule(
    name = "nap",
    match = [fact("input", as_ = "i")],
    action = lambda i: [call("bench.noop", args = {"sleep_us": 0, "through_executor": False})],
    reaction = lambda i, results: [assert_("rested")],
)
rule(
    name = "probe",
    match = [fact("input", as_ = "i"), fact("rested")],
    action = lambda i: [call("media.probe", inputs = [i.source], attempts = 1)],
    reaction = lambda i, results: [result({"format": results[0].format, "streams": len(results[0].streams)})],
)
"#,
    );
    let film = s.fleet.sandbox.path("later.mp4");
    let job = s.submit("look", &json!({"source": format!("file://{}", film.display())}));
    let view = s.fleet.finished(&job);
    assert_eq!(view["state"], "failed", "{view}");
    std::fs::copy(films::clip(&films::PLAIN), &film).unwrap();
    s.runtime.block_on(s.jobs.retry(v1::RetryJobRequest { job_id: job.clone() })).unwrap();
    let view = s.done(&job);
    assert!(view["output"]["format"].as_str().unwrap().contains("mp4"), "{view}");
    let naps = view["tasks"].as_array().unwrap().iter().filter(|task| task["function"] == "bench.noop").count();
    assert_eq!(naps, 1, "what was done is not done again");
    let history = s.look(&job, At::History(v1::LookHistory {}));
    let events: Vec<_> =
        history["entries"].as_array().unwrap().iter().map(|entry| entry["event"]["event"].clone()).collect();
    assert_eq!(events, ["started", "task_done", "task_failed", "retried", "task_done"].map(Value::from), "{history}");
}

#[test]
fn who_watches_a_job_hears_of_its_parts() {
    let mut s = Services::new();
    let _server = s.fleet.server();
    s.push(
        r#"
service(name = "sleeper", version = "1")
rule(name = "sleep", match = [fact("input")], action = lambda: [timer(after = 3600)], reaction = lambda: [result(1)])
"#,
    );
    s.push(r#"
service(name = "waiter", version = "1")
rule(name = "wait", match = [fact("input")], action = lambda: [start("sleeper", key = "a")], reaction = lambda results: [result(1)])
"#);
    let whole = s.submit("waiter", &json!({}));
    eventually("the part has begun", || s.fleet.client(&["job", "get", "j2"]).status.success().then_some(()));
    s.runtime.block_on(async {
        let request = v1::WatchJobRequest { job_id: whole.clone(), brief: true };
        let mut watch = s.jobs.watch(request).await.unwrap().into_inner();
        // What is now, and what may just have happened.
        while tokio::time::timeout(Duration::from_secs(1), watch.message()).await.is_ok() {}
        s.jobs.set_priority(v1::SetPriorityRequest { job_id: "j2".into(), priority: 60 }).await.unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(30), watch.message()).await;
        assert!(heard.expect("the whole's watcher hears of its part").unwrap().is_some());
    });
}

/// Name, what it does, and what it may be paused for.
const HOSTILE: [(&str, &str, &str); 4] = [
    ("loop", "action = lambda: [assert_(\"x\", n = spin())]", "section_too_slow"),
    ("bomb", "action = lambda: [assert_(\"x\", n = grow())]", "section_too_large"),
    ("flood", "action = lambda: [assert_(\"x\", n = n) for n in range(1000000)]", "too_many_facts section_too_slow"),
    ("itself", "action = lambda: [assert_(\"input\", n = 1)]", "too_deep"),
];

/// Each of the hostile is paused and explained; what others do goes on as if they were not there.
#[test]
fn hostile_rules_hurt_nobody_else() {
    let mut s = Services::new();
    let (_server, _worker) = (s.fleet.server(), s.fleet.worker("w1"));
    s.pushed(MAP);
    let mut jobs = BTreeMap::new();
    for (name, action, codes) in HOSTILE {
        s.pushed(&format!(
            r#"
service(name = "{name}", version = "1", input = {{}})
def spin():
    n = 0
    for a in range(1000000):
        for b in range(1000000):
            n = n + 1
    return n
def grow():
    all = "x" * 1000000
    for a in range(40):
        all = all + all
    return len(all)
rule(name = "r", match = [fact("input")], {action})
"#
        ));
        jobs.insert(codes, s.submit(name, &json!({})));
    }
    // They are at it.
    std::thread::sleep(Duration::from_millis(300));
    for _ in 0..5 {
        let job = s.submit("map", &json!({"n": 10}));
        s.done(&job);
    }
    for (codes, job) in jobs {
        let explanation = eventually("it is paused", || {
            let explanation = s.explain(&job);
            (explanation.reason == "paused").then_some(explanation)
        });
        assert!(codes.split(' ').any(|code| explanation.text.contains(code)), "{codes}: {explanation:?}");
        s.cancel(&job);
        assert_eq!(s.fleet.finished(&job)["state"], "cancelled");
    }
}

#[test]
fn a_canary_is_promoted_or_rolled_back_by_itself() {
    let mut s = Services::new();
    let (_server, _worker) = (s.fleet.server(), s.fleet.worker("w1"));
    let first = s.pushed(MAP);
    let bad = s.pushed(&MAP.replace("result({", "fail(\"broken\") if True else result({"));
    let good = s.pushed(&MAP.replace("version = \"1\"", "version = \"2\""));
    for (canary, stable) in [(&bad, &first), (&good, &good)] {
        let state = s.route("map", Change::Canary(v1::Canary { version: canary[..8].into(), percent: 50 }));
        assert_eq!((&state.stable, &state.canary), (&first, canary));
        let mut taken = 0;
        for _ in 0..60 {
            let job = s.submit("map", &json!({"n": 1}));
            taken += u32::from(s.fleet.finished(&job)["spec"]["version"] == **canary);
            if s.state("map").canary.is_empty() {
                break;
            }
        }
        let state = s.state("map");
        assert_eq!((&state.stable, state.canary.as_str()), (stable, ""), "{taken} {state:?}");
        assert!(state.verdict.contains(if canary == stable { "promoted" } else { "rolled back" }), "{state:?}");
    }
    let state = s.route("map", Change::Rollback(true));
    assert_eq!(state.stable, first);
}
