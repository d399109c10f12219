//! Jobs of rules that only wait, more than the server keeps the states of, started by one job: none is lost, none is started twice, and
//! each is there for whoever asks for it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use spool_proto::wire::v1;
use spool_proto::wire::v1::look_request::At;

use crate::processes::eventually;
use crate::services::Services;

const NAP: &str = r#"
service(name = "nap", version = "1", input = {})

rule(
    name = "wake",
    match = [fact("input"), fact("signal", as_ = "s", name = "wake")],
    action = lambda s: [result(s.payload)],
)
"#;

const DORMITORY: &str = r#"
service(name = "dormitory", version = "1", input = {"n": integer()})

rule(
    name = "sleep",
    match = [fact("input", as_ = "i")],
    action = lambda i: [start("nap", key = "nap %d" % n, input = {}) for n in range(i.n)],
    reaction = lambda results: [result(len(results))],
)
"#;

/// More than are started in a turn, and than have their states in memory.
const BEDS: usize = 600;

fn sleepers(s: &mut Services, job: &str) -> Vec<(String, String)> {
    let tree = s.look(job, At::Tree(v1::LookTree {}));
    let text = |child: &Value, field: &str| child[field].as_str().unwrap().to_owned();
    tree["children"].as_array().unwrap().iter().map(|child| (text(child, "name"), text(child, "job"))).collect()
}

#[test]
fn each_is_started_once_and_woken_by_whoever_names_it_before_and_after_a_kill() {
    let mut s = Services::new();
    let (mut server, _worker) = (s.fleet.server(), s.fleet.worker("w1"));
    s.pushed(NAP);
    s.pushed(DORMITORY);
    let job = s.submit("dormitory", &json!({"n": BEDS}));
    eventually("some are started", || (!sleepers(&mut s, &job).is_empty()).then_some(()));
    server.kill();
    server = s.fleet.server();
    let all = eventually("all are started", || Some(sleepers(&mut s, &job)).filter(|all| all.len() >= BEDS));
    let names: BTreeSet<String> = all.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!((all.len(), names), (BEDS, (0..BEDS).map(|n| format!("nap {n}")).collect()));
    let bed = |n: usize| all[n].1.clone();
    eventually("the last sleeps", || (s.explain(&bed(BEDS - 1)).reason == "waiting_for_signal").then_some(()));

    for round in [0, 1] {
        let at = round * 10;
        assert_eq!(s.fleet.job(&bed(at))["state"], "running");
        assert_eq!(s.explain(&bed(at)).reason, "waiting_for_signal");
        assert_eq!(s.look(&bed(at), At::Facts(v1::LookFacts { kind: "input".into() })).as_array().unwrap().len(), 1);
        for n in [at + 1, at + BEDS / 2] {
            s.signal(&bed(n), "wake", &json!({"bed": n}), "");
            assert_eq!(s.done(&bed(n))["output"], json!({"bed": n}));
        }
        assert!(s.fleet.client(&["job", "set-priority", &bed(at + 2), "70"]).status.success());
        assert_eq!(s.fleet.job(&bed(at + 2))["priority"], 70);
        if round == 0 {
            server.kill();
            server = s.fleet.server();
        }
    }
    let listed = s.fleet.client(&["job", "list", "--parts", "--limit", "1000", "-o", "json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let of_state = |state: &str| listed.as_array().unwrap().iter().filter(|job| job["state"] == state).count();
    assert_eq!((of_state("running"), of_state("done")), (BEDS + 1 - 4, 4));
    s.cancel(&job);
    assert_eq!(s.fleet.finished(&job)["state"], "cancelled");
    for n in [0, 2, BEDS - 1] {
        assert_eq!(s.fleet.finished(&bed(n))["state"], "cancelled");
    }
    drop(server);
}
