//! `spool pool` and `spool queue` without a server: what is refused before anybody is asked.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use crate::{run, spool, stderr, stdout};

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:1";

#[test]
fn help_names_every_verb_and_option() {
    let dir = tempfile::tempdir().unwrap();
    let help = |args: &[&str]| {
        let output = run(dir.path(), args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        stdout(&output)
    };
    let verbs = help(&["pool", "--help"]);
    for verb in ["apply", "list", "get", "tree", "usage", "set", "delete", "history", "hold", "resume", "drain"] {
        assert!(verbs.contains(&format!("\n  {verb} ")), "{verb} is not in the help:\n{verbs}");
    }
    let options = help(&["pool", "set", "--help"]);
    for option in [
        "--guarantee",
        "--borrow",
        "--lend",
        "--weight",
        "--preemption",
        "--grace",
        "--max-queued",
        "--warm",
        "--reason",
        "--dry-run",
        "--if-version",
    ] {
        assert!(options.contains(option), "{option} is not in the help:\n{options}");
    }
    let usage = help(&["pool", "usage", "-help"]);
    for option in ["--watch", "--no-headers", "wide", "yaml"] {
        assert!(usage.contains(option), "{option} is not in the help:\n{usage}");
    }
    let encode = help(&["encode", "--help"]);
    for option in ["--pool", "--opportunistic-until", "--not-preemptible", "--hop", "--deadline"] {
        assert!(encode.contains(option), "{option} is not in the help:\n{encode}");
    }
    assert!(help(&["job", "--help"]).contains("\n  move "));
    assert!(help(&["queue", "--help"]).contains("\n  stats "));
}

#[test]
fn what_is_typed_wrong_is_refused_with_what_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    for (line, says) in [
        ("pool set a b", "unexpected argument"),
        ("pool set studio/ --weight 2", "letters, digits"),
        ("pool set studio --guarantee cpu=lots", "500m"),
        ("pool set studio --guarantee memory=64", "256Gi"),
        ("pool set studio --guarantee cpu", "cpu=64"),
        ("pool set studio --preemption always", "never, reclaim or fair"),
        ("pool set studio --grace 10", "10s"),
        ("pool set studio --max-queued many", "none"),
        ("pool set studio --warm media.encode=a", "FUNCTION/BACKEND=MIN"),
        ("pool hold", "<POOL>"),
        ("job move j1", "--pool"),
        ("job move j1 --pool a//b", "letters, digits"),
        ("encode in.mov -o out.mp4 --hop soon:studio", "10s"),
        ("encode in.mov -o out.mp4 --hop studio", "AFTER:POOL"),
        ("encode in.mov -o out.mp4 --deadline soon", "+2h"),
        ("encode in.mov -o out.mp4 --opportunistic-until 6h", "+2h"),
    ] {
        let output = run(dir.path(), &line.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(2), "{line}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{line}: {}", stderr(&output));
    }
}

#[test]
fn a_file_is_judged_before_a_server_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("bad.yaml"),
        "apiVersion: spool/v1\nkind: PoolTree\nspec:\n  pools:\n  - name: a\n    garantee: {cpu: 1}\n",
    )
    .unwrap();
    let output = run(dir.path(), &["pool", "apply", "-f", "bad.yaml", "--server", NOBODY]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.starts_with("spool: bad.yaml:6:5: spec.pools[0].garantee: unknown field"), "{said}");

    let output = run(dir.path(), &["pool", "apply", "-f", "none.yaml", "--server", NOBODY]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("none.yaml"), "{}", stderr(&output));

    let mut child = spool(dir.path())
        .args(["pool", "apply", "-f", "-", "--server", NOBODY])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"kind: Pod\napiVersion: v1\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("-: apiVersion: \"v1\""), "{}", stderr(&output));
}

#[test]
fn nobody_there_is_exit_4() {
    let dir = tempfile::tempdir().unwrap();
    for line in ["pool list", "pool tree --watch", "pool set a --weight 2", "pool drain a", "queue list", "queue stats"]
    {
        let args: Vec<&str> = line.split(' ').chain(["--server", NOBODY]).collect();
        let output = run(dir.path(), &args);
        assert_eq!(output.status.code(), Some(4), "{line}: {}", stderr(&output));
    }
}

#[test]
fn pools_mean_nothing_without_a_server_that_others_use() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("in.mov"), b"x").unwrap();
    for option in [["--pool", "studio"], ["--hop", "10m:studio"], ["--opportunistic-until", "+2h"]] {
        let args: Vec<&str> = ["encode", "in.mov", "-o", "out.mp4"].into_iter().chain(option).collect();
        let output = run(dir.path(), &args);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(option[0]) && stderr(&output).contains("--server"), "{}", stderr(&output));
    }
}
