//! The quota tree of a real server, as its administrators and users meet it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::films;
use crate::processes::{Fleet, Guarded, eventually};

const FAST: &[&str] = &["-c:v", "libx264", "-preset", "ultrafast", "-an", "--chunk", "2s"];

const STUDIO: &str = "\
apiVersion: spool/v1
kind: PoolTree
spec:
  pools:
  - name: studio
    guarantee: {cpu: 2, memory: 4Gi}
    pools:
    - name: clips
    - name: films
      guarantee: {cpu: 1}
      borrow: {cpu: 1}
      maxQueued: 1
";

fn ok(fleet: &Fleet, args: &[&str]) -> String {
    let output = fleet.client(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(fleet: &Fleet, args: &[&str]) -> Value {
    serde_json::from_str(&ok(fleet, &[args, &["-o", "json"]].concat())).unwrap()
}

/// What stderr says of a refusal with this exit code.
fn refused(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    stderr
}

fn file(fleet: &Fleet, text: &str) -> String {
    let path = fleet.sandbox.path("pools.yaml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn apply(fleet: &Fleet, text: &str) -> String {
    ok(fleet, &["pool", "apply", "-f", &file(fleet, text)])
}

fn submit(fleet: &Fleet, out: &Path, options: &[&str]) -> Output {
    let film = films::clip(&films::PLAIN);
    fleet
        .sandbox
        .spool()
        .arg("encode")
        .arg(film)
        .arg("-o")
        .arg(out)
        .args(FAST)
        .args(options)
        .args(["--server", &fleet.url(), "--detach"])
        .output()
        .unwrap()
}

#[test]
fn a_tree_is_applied_printed_and_applied_again_also_after_a_restart() {
    let fleet = Fleet::new();
    let mut server = fleet.server();
    let said = apply(&fleet, STUDIO);
    assert!(said.contains("studio/films") && said.ends_with("the pools are at version 1\n"), "{said}");
    let printed = ok(&fleet, &["pool", "list", "-o", "yaml"]);
    assert!(printed.contains("version: 1") && printed.contains("maxQueued: 1"), "{printed}");
    assert_eq!(ok(&fleet, &["pool", "get", "-o", "yaml"]), printed);
    assert_eq!(apply(&fleet, &printed), "nothing to change; the pools are at version 1\n");
    server.kill();
    let _server = fleet.server();
    assert_eq!(ok(&fleet, &["pool", "list", "-o", "yaml"]), printed);
    let names = ok(&fleet, &["pool", "list", "-o", "name"]);
    assert_eq!(names, "/\ndefault\nstudio\nstudio/clips\nstudio/films\n");
    let tree = ok(&fleet, &["pool", "tree"]);
    assert!(tree.contains("\n    films "), "{tree}");
    let usage = json(&fleet, &["pool", "usage", "studio"]);
    assert_eq!(usage.as_array().unwrap().len(), 3, "studio and what is below it: {usage}");
    assert_eq!(usage[0]["resources"][0]["guarantee"], 2_000);
}

#[test]
fn one_pool_is_edited_alone() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    apply(&fleet, STUDIO);
    let films = ok(&fleet, &["pool", "get", "studio/films", "-o", "yaml"]);
    assert!(films.contains("kind: Pool\n") && films.contains("name: studio/films"), "{films}");
    apply(&fleet, &films.replace("maxQueued: 1", "maxQueued: 5"));
    let list = ok(&fleet, &["pool", "list", "-o", "yaml"]);
    assert!(list.contains("maxQueued: 5") && list.contains("clips") && list.contains("version: 2"), "{list}");
}

#[test]
fn a_dry_run_changes_nothing_and_foretells_the_real_one() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let path = file(&fleet, STUDIO);
    let preview = json(&fleet, &["pool", "apply", "-f", &path, "--dry-run"]);
    assert_eq!(preview["version"], 0);
    let studio = preview["quotas"].as_array().unwrap().iter().find(|q| q["pool"] == "studio" && q["resource"] == "cpu");
    assert_eq!(studio.unwrap()["guarantee_after"], 2_000, "{preview}");
    assert_eq!(ok(&fleet, &["pool", "list", "-o", "name"]), "/\ndefault\n", "nothing was changed");
    let made = json(&fleet, &["pool", "apply", "-f", &path]);
    assert_eq!(made["changes"], preview["changes"]);
    assert!(!made["changes"].as_array().unwrap().is_empty());
    let set = ok(&fleet, &["pool", "set", "studio/films", "--weight", "3", "--dry-run"]);
    assert!(set.contains("nothing is changed") && set.contains("weight"), "{set}");
    assert!(!ok(&fleet, &["pool", "list", "-o", "yaml"]).contains("weight"));
}

#[test]
fn a_tree_read_before_somebody_elses_change_is_refused() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    apply(&fleet, STUDIO);
    let read = ok(&fleet, &["pool", "list", "-o", "yaml"]);
    ok(&fleet, &["pool", "set", "studio/clips", "--weight", "2"]);
    let path = file(&fleet, &read.replace("cpu: 2", "cpu: 3"));
    let stderr = refused(&fleet.client(&["pool", "apply", "-f", &path]), 2);
    assert!(stderr.contains("version 2, not 1"), "{stderr}");
    let stderr = refused(&fleet.client(&["pool", "set", "studio", "--weight", "2", "--if-version", "1"]), 2);
    assert!(stderr.contains("version 2, not 1"), "{stderr}");
    ok(&fleet, &["pool", "set", "studio", "--weight", "2", "--if-version", "2"]);
}

#[test]
fn set_makes_and_changes_pools_and_history_says_who_and_why() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let set = |args: &[&str]| ok(&fleet, &[&["pool", "set"], args].concat());
    let made =
        set(&["rush", "--guarantee", "cpu=2,encode_sessions=8", "--borrow", "cpu=500m", "--reason", "launch week"]);
    assert!(made.contains("created") && made.contains("500m"), "{made}");
    let changed = set(&["rush", "--borrow", "cpu=none", "--weight", "2", "--preemption", "fair", "--grace", "30s"]);
    assert!(changed.contains("borrow.cpu") && !changed.contains("guarantee"), "{changed}");
    set(&["rush", "--warm", "media.encode/cpu/libx264=1:2:5m", "--max-queued", "7"]);
    let rush = &json(&fleet, &["pool", "get", "rush"])["spec"];
    assert_eq!((&rush["guarantee"]["cpu"], &rush["borrow"]), (&2_000.into(), &serde_json::json!({})), "{rush}");
    assert_eq!((&rush["preemption"], &rush["grace"]), (&"fair".into(), &30_000_000.into()));
    assert_eq!(rush["warm"]["media.encode/cpu/libx264"]["max"], 2);
    let history = json(&fleet, &["pool", "history", "rush"]);
    let versions: Vec<u64> = history.as_array().unwrap().iter().map(|c| c["version"].as_u64().unwrap()).collect();
    assert_eq!(versions, [3, 2, 1], "newest first");
    assert_eq!(history[2]["reason"], "launch week");
    assert!(history[2]["by"].as_str().unwrap().contains('@'), "{history}");
    assert_eq!(json(&fleet, &["pool", "history", "default"]), serde_json::json!([]));
    ok(&fleet, &["pool", "delete", "rush"]);
    assert!(ok(&fleet, &["pool", "history", "rush"]).contains("deleted"), "a pool that is gone has a history");
}

#[test]
fn changes_made_at_the_same_time_all_arrive() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let names = ["a", "b", "c", "d"];
    let set = |name: &str| {
        let args = ["pool", "set", name, "--weight", "2", "--server", &fleet.url()];
        fleet.sandbox.spool().args(args).stdout(Stdio::null()).spawn().unwrap()
    };
    for mut child in names.map(set) {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(ok(&fleet, &["pool", "list", "-o", "name"]), "/\na\nb\nc\nd\ndefault\n");
}

#[test]
fn a_watched_tree_is_drawn_again_until_nobody_looks() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let mut watch = fleet.sandbox.spool();
    watch.args(["pool", "tree", "--watch", "--no-headers", "--server", &fleet.url()]).stdout(Stdio::piped());
    let mut watch = Guarded::spawn(&mut watch);
    let mut lines = BufReader::new(watch.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("/  "));
    ok(&fleet, &["pool", "set", "rush", "--guarantee", "cpu=1"]);
    assert!(lines.any(|line| line.starts_with("  rush")), "the change is seen");
    drop(lines);
    assert!(watch.wait().success(), "it ends when its reader goes");
}

#[test]
fn a_tree_that_breaks_a_rule_is_refused_by_pool_resource_and_rule() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    apply(&fleet, STUDIO);
    let refusals: [(&[&str], &[&str]); 5] = [
        (&["pool", "set", "studio/clips", "--guarantee", "cpu=2"], &["pool studio, cpu", "children"]),
        (&["pool", "set", "studio/films", "--lend", "cpu=2"], &["pool studio/films, cpu", "lends"]),
        (&["pool", "set", "nobody/films", "--weight", "2"], &["there is no pool nobody"]),
        (&["pool", "delete", "studio"], &["studio/clips", "first"]),
        (&["pool", "delete", "default"], &["pool default", "must be there"]),
    ];
    for (args, says) in refusals {
        let stderr = refused(&fleet.client(args), 2);
        for text in says {
            assert!(stderr.contains(text), "{args:?} should say {text:?}: {stderr}");
        }
    }
    assert!(ok(&fleet, &["pool", "list", "-o", "yaml"]).contains("version: 1"));
}

#[test]
fn a_held_pool_starts_nothing_until_it_is_resumed() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    apply(&fleet, STUDIO);
    let held = ok(&fleet, &["pool", "hold", "studio", "--reason", "the array is being rebuilt"]);
    assert_eq!(held, "studio held\n");
    let _worker = fleet.worker("w1");
    eventually("the worker is there", || ok(&fleet, &["worker", "list"]).contains("w1").then_some(()));
    let job = fleet.submit(
        &films::clip(&films::PLAIN),
        &fleet.sandbox.path("out.mp4"),
        &[FAST, &["--pool", "studio/films"]].concat(),
    );
    let waits = eventually("its task is queued", || {
        let lines = json(&fleet, &["queue", "list", "--pool", "studio"]);
        (!lines.as_array().unwrap().is_empty()).then_some(lines)
    });
    assert_eq!((&waits[0]["pool"], &waits[0]["reason"]), (&"studio/films".into(), &"held".into()), "{waits}");
    assert!(ok(&fleet, &["job", "explain", &job]).contains("the array is being rebuilt"));
    assert_eq!(json(&fleet, &["queue", "stats"])["queued_tasks"], 1);
    assert_eq!(ok(&fleet, &["queue", "list", "--pool", "default", "--no-headers"]), "");
    assert_eq!(ok(&fleet, &["pool", "resume", "studio"]), "studio open\n");
    let view = fleet.finished(&job);
    assert_eq!((&view["state"], &view["pool"]), (&"done".into(), &"studio/films".into()));
    assert!(json(&fleet, &["queue", "stats"])["leases_total"].as_u64().unwrap() > 0);
}

#[test]
fn a_draining_pool_refuses_with_exit_3_and_says_why() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    apply(&fleet, STUDIO);
    ok(&fleet, &["pool", "drain", "studio/films", "--reason", "moving out"]);
    let out = fleet.sandbox.path("out.mp4");
    let stderr = refused(&submit(&fleet, &out, &["--pool", "studio/films"]), 3);
    assert!(stderr.contains("studio/films") && stderr.contains("moving out"), "{stderr}");
    assert!(ok(&fleet, &["pool", "list", "-o", "wide"]).contains("moving out"));
}

#[test]
fn a_full_queue_refuses_with_exit_3_and_says_when_to_come_back() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    apply(&fleet, STUDIO);
    let submit = |name: &str, options: &[&str]| submit(&fleet, &fleet.sandbox.path(name), options);
    assert!(submit("one.mp4", &["--pool", "studio/films", "--request-id", "one"]).status.success());
    let stderr = refused(&submit("two.mp4", &["--pool", "studio/films"]), 3);
    assert!(stderr.contains("max_queued is 1") && stderr.contains("try again in"), "{stderr}");
    let again = submit("one.mp4", &["--pool", "studio/films", "--request-id", "one"]);
    assert!(again.status.success(), "what was accepted stays so: {}", String::from_utf8_lossy(&again.stderr));
    assert!(submit("three.mp4", &["--pool", "studio/clips"]).status.success(), "other pools have room");
}

#[test]
fn a_job_goes_only_where_jobs_go() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    apply(&fleet, STUDIO);
    let out = fleet.sandbox.path("out.mp4");
    let stderr = refused(&submit(&fleet, &out, &["--pool", "studio"]), 2);
    assert!(stderr.contains("divided into others"), "{stderr}");
    let stderr = refused(&submit(&fleet, &out, &["--pool", "nowhere"]), 2);
    assert!(stderr.contains("no pool nowhere"), "{stderr}");
    let stderr = refused(&submit(&fleet, &out, &["--hop", "1h:studio/clips", "--hop", "10m:studio/films"]), 2);
    assert!(stderr.contains("studio/films") && stderr.contains("in the order of their times"), "{stderr}");
}

#[test]
fn a_pool_in_use_is_deleted_once_its_jobs_were_moved() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    apply(&fleet, STUDIO);
    let options = [FAST, &["--pool", "studio/clips"]].concat();
    let job = fleet.submit(&films::clip(&films::PLAIN), &fleet.sandbox.path("out.mp4"), &options);
    let stderr = refused(&fleet.client(&["pool", "delete", "studio/clips"]), 2);
    assert!(stderr.contains("studio/clips has 1 open job") && stderr.contains("job move"), "{stderr}");
    let stderr = refused(&fleet.client(&["job", "move", &job, "--pool", "studio"]), 2);
    assert!(stderr.contains("divided into others"), "{stderr}");
    assert_eq!(ok(&fleet, &["job", "move", &job, "--pool", "default"]), format!("{job} queued pool default\n"));
    ok(&fleet, &["pool", "delete", "studio/clips", "--reason", "nobody uses it"]);
    assert_eq!(ok(&fleet, &["pool", "list", "-o", "name"]), "/\ndefault\nstudio\nstudio/films\n");
    let _worker = fleet.worker("w1");
    let view = fleet.finished(&job);
    assert_eq!((&view["state"], &view["pool"]), (&"done".into(), &"default".into()));
}
