//! A server, its worker and the commands people use on them.

use std::process::Command;

use serde_json::Value;

use crate::films;
use crate::processes::{Fleet, eventually, files_under};

const FAST: &[&str] = &["-c:v", "libx264", "-preset", "ultrafast", "-an", "--chunk", "2s"];
const SLOW: &[&str] = &["-c:v", "libx264", "-preset", "medium", "-an", "--chunk", "2s"];

fn text(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_detached_job_is_listed_watched_and_done() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let film = films::clip(&films::PLAIN);
    let out = fleet.sandbox.path("out.mp4");
    let job = fleet.submit(&film, &out, FAST);
    // Its rules are asked first.
    let explained = || text(&fleet.client(&["job", "explain", &job]));
    eventually("it says that there is no worker", || explained().contains("worker").then_some(()));
    let _worker = fleet.worker("w1");
    let watched = fleet.client(&["job", "watch", &job]);
    assert_eq!(watched.status.code(), Some(0), "{}", String::from_utf8_lossy(&watched.stderr));
    assert!(out.is_file());
    assert!(text(&fleet.client(&["job", "list"])).contains(&job));
    assert!(text(&fleet.client(&["worker", "list"])).contains("w1"));
    assert!(text(&fleet.client(&["job", "logs", &job])).contains("chunk"));
    let view = fleet.job(&job);
    let phases: Vec<_> = view["phases"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(phases, ["probing", "planning", "encoding", "assembling", "validating", "packaging"]);
}

#[test]
fn the_same_request_id_is_the_same_job_also_after_a_restart() {
    let fleet = Fleet::new();
    let mut server = fleet.server();
    let film = films::clip(&films::PLAIN);
    let out = fleet.sandbox.path("out.mp4");
    let options = [FAST, &["--request-id", "once"]].concat();
    let job = fleet.submit(&film, &out, &options);
    assert_eq!(fleet.submit(&film, &out, &options), job);
    server.kill();
    let _server = fleet.server();
    assert_eq!(fleet.submit(&film, &out, &options), job);
    let _worker = fleet.worker("w1");
    assert_eq!(fleet.finished(&job)["state"], "done");
    let again = [&options[..], &["-y"]].concat();
    assert_eq!(fleet.submit(&film, &out, &again), job, "a finished job is still known");
}

#[test]
fn a_cancelled_job_stops_leaves_nothing_and_can_be_retried() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let _worker = fleet.worker("w1");
    let film = films::clip(&films::SLOW);
    let out = fleet.sandbox.path("out.mp4");
    let job = fleet.submit(&film, &out, SLOW);
    fleet.midway(&job, 1);
    text(&fleet.client(&["job", "cancel", &job]));
    let view = fleet.finished(&job);
    assert_eq!(view["state"], "cancelled");
    assert!(!out.exists());
    eventually("the calls are gone", || {
        files_under(&fleet.data().join("scratch")).iter().all(|f| f.ends_with("lock")).then_some(())
    });
    text(&fleet.client(&["job", "retry", &job]));
    assert_eq!(fleet.finished(&job)["state"], "done");
    assert!(out.is_file());
}

#[test]
fn a_higher_priority_goes_first() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let film = films::clip(&films::PLAIN);
    let low = fleet.submit(&film, &fleet.sandbox.path("low.mp4"), &[FAST, &["--priority", "10"]].concat());
    let high = fleet.submit(&film, &fleet.sandbox.path("high.mp4"), &[FAST, &["--priority", "90"]].concat());
    let raised = fleet.submit(&film, &fleet.sandbox.path("raised.mp4"), &[FAST, &["--priority", "1"]].concat());
    text(&fleet.client(&["job", "set-priority", &raised, "95"]));
    let _worker = fleet.worker_of("w1", 1);
    // All three wait with their first task, and there is one slot.
    let first = |job: &str| fleet.finished(job)["tasks"][0]["started"].as_u64().unwrap();
    let (low, high, raised) = (first(&low), first(&high), first(&raised));
    assert!(raised < high && high < low, "{raised} {high} {low}");
}

#[test]
fn sigterm_drains_a_worker() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let mut first = fleet.worker("w1");
    let film = films::clip(&films::SLOW);
    let out = fleet.sandbox.path("out.mp4");
    let job = fleet.submit(&film, &out, SLOW);
    fleet.midway(&job, 1);
    assert!(Command::new("kill").args(["-TERM", &first.id().to_string()]).status().unwrap().success());
    assert!(first.wait().success(), "a drained worker leaves with 0");
    let view = fleet.job(&job);
    let failed: Vec<&Value> = view["tasks"].as_array().unwrap().iter().filter(|t| !t["failure"].is_null()).collect();
    assert!(failed.is_empty(), "what ran was finished, not killed: {failed:?}");
    let _second = fleet.worker("w2");
    assert_eq!(fleet.finished(&job)["state"], "done");
}

#[test]
fn a_cordoned_worker_gets_nothing_until_it_is_uncordoned() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let _worker = fleet.worker("w1");
    eventually("the worker is there", || text(&fleet.client(&["worker", "list"])).contains("w1").then_some(()));
    text(&fleet.client(&["worker", "cordon", "w1"]));
    let job = fleet.submit(&films::clip(&films::PLAIN), &fleet.sandbox.path("out.mp4"), FAST);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(fleet.job(&job)["state"], "queued");
    assert!(text(&fleet.client(&["job", "explain", &job])).contains("cordon"));
    text(&fleet.client(&["worker", "uncordon", "w1"]));
    assert_eq!(fleet.finished(&job)["state"], "done");
}

#[test]
fn an_unreachable_server_is_exit_4() {
    let fleet = Fleet::new();
    let output = fleet.client(&["job", "list"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&fleet.url()));
}

#[test]
fn an_unknown_job_is_named() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let output = fleet.client(&["job", "get", "j999"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("j999"));
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let fleet = Fleet::new();
    let server = fleet.server();
    let output =
        fleet.sandbox.spool().args(["server", "--listen", "127.0.0.1:0", "--data"]).arg(fleet.data()).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains(&server.id().to_string()), "names who holds it");
}

#[test]
fn up_is_ready_for_clients_and_ends_on_sigterm() {
    let fleet = Fleet::new();
    let mut up = crate::processes::Guarded::spawn(
        fleet
            .sandbox
            .spool()
            .args(["up", "--listen", &format!("127.0.0.1:{}", fleet.port), "--data"])
            .arg(fleet.data())
            .stdout(std::process::Stdio::null()),
    );
    eventually("the server answers", || fleet.client(&["job", "list"]).status.success().then_some(()));
    let job = fleet.submit(&films::clip(&films::PLAIN), &fleet.sandbox.path("out.mp4"), FAST);
    assert_eq!(fleet.finished(&job)["state"], "done");
    assert!(Command::new("kill").args(["-TERM", &up.id().to_string()]).status().unwrap().success());
    assert!(up.wait().success());
}
