//! Two pools share one machine with real encodes: the one that is guaranteed a slot gets it back from the one that borrowed it, and what
//! was stopped for it is encoded again, exactly.

use std::process::Command;

use serde_json::Value;

use crate::films;
use crate::processes::{Fleet, eventually};

/// Chunks that take much longer than the grace.
const LONG: &[&str] = &["-c:v", "libx264", "-preset", "slower", "-crf", "20", "-an", "--chunk", "8s"];
const SHORT: &[&str] = &["-c:v", "libx264", "-preset", "ultrafast", "-an"];

fn ok(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn pool(fleet: &Fleet, name: &str) -> Value {
    serde_json::from_str(&ok(&fleet.client(&["pool", "get", name, "-o", "json"]))).unwrap()
}

#[test]
fn a_guaranteed_slot_is_given_back_within_its_grace_and_the_stopped_chunk_is_exact() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let set = |pool: &str, options: &[&str]| {
        ok(&fleet.client(&[&["pool", "set", pool, "--reason", "a test"], options].concat()));
    };
    set("owner", &["--guarantee", "cpu=1", "--grace", "2s"]);
    set("borrower", &[]);
    let film = films::clip(&films::SLOW);
    let (long, short) = (fleet.sandbox.path("long.mp4"), fleet.sandbox.path("short.mp4"));
    let _worker = fleet.worker("w1");
    let borrower = fleet.submit(&film, &long, &[LONG, &["--pool", "borrower"]].concat());
    eventually("both slots encode for the borrower", || {
        let running = |task: &&Value| task["function"] == "media.encode" && task["state"] == "running";
        let view = fleet.job(&borrower);
        let count = view["tasks"].as_array().map_or(0, |tasks| tasks.iter().filter(running).count());
        (count == 2).then_some(())
    });
    let owner = fleet.submit(&films::clip(&films::PLAIN), &short, &[SHORT, &["--pool", "owner"]].concat());
    let view = fleet.finished(&owner);
    assert_eq!(view["state"], "done", "{view}");
    assert!(pool(&fleet, "borrower")["preempted"].as_u64().unwrap() >= 1, "nothing was given back");
    assert_eq!(pool(&fleet, "owner")["preempted"], 0);

    let view = fleet.finished(&borrower);
    assert_eq!(view["state"], "done", "{view}");
    let attempts = view["tasks"].as_array().unwrap().iter().map(|task| task["attempt"].as_u64().unwrap());
    assert_eq!(attempts.max(), Some(1), "to be stopped for somebody costs no attempt");
    let reference = fleet.sandbox.path("reference.mp4");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-i"])
        .arg(&film)
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-an"])
        .arg(&reference)
        .status();
    assert!(made.unwrap().success());
    assert_eq!(films::frame_times(&long), films::frame_times(&reference));
    assert!(films::ssim(&long, &film) > 0.97);
}
