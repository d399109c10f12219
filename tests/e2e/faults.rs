//! Processes killed in the middle of a job, disks that fill, sources that vanish.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::films;
use crate::processes::{Fleet, Guarded, Sandbox, done_chunks, eventually, executors_of, files_under, is_gone, kill_9};

/// Slow enough that a kill lands in the middle.
const SLOWLY: &[&str] = &["-c:v", "libx264", "-preset", "medium", "-crf", "24", "-c:a", "aac", "--chunk", "2s"];

/// `film` has every frame that one ffmpeg process makes of the source.
fn assert_exact(film: &Path) {
    let source = films::clip(&films::SLOW);
    let reference = film.with_extension("reference.mp4");
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-i"])
        .arg(&source)
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"])
        .arg(&reference)
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(films::frame_times(film), films::frame_times(&reference));
    assert!(films::ssim(film, &source) > 0.97, "the frames are the right ones");
    assert!(films::audio_samples(film).abs_diff(films::audio_samples(&reference)) <= 2 * 1024);
}

/// What was done before the fault was not done again.
fn assert_kept(before: &[(String, u64)], job: &Value) {
    let after = done_chunks(job);
    for done in before {
        assert!(after.contains(done), "{done:?} was encoded again: {after:?}");
    }
}

fn assert_clean(fleet: &Fleet) {
    eventually("scratch and artifacts are empty", || {
        let left = [files_under(&fleet.data().join("scratch")), files_under(&fleet.data().join("artifacts"))].concat();
        left.iter().all(|f| f.ends_with("lock")).then_some(())
    });
}

#[test]
fn a_killed_executor_costs_one_attempt_and_the_worker_lives() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let mut worker = fleet.worker("w1");
    let out = fleet.sandbox.path("out.mp4");
    let job = fleet.submit(&films::clip(&films::SLOW), &out, SLOWLY);
    fleet.midway(&job, 1);
    let victim = executors_of(worker.id())[0];
    kill_9(victim);
    let view = fleet.finished(&job);
    assert_eq!(view["state"], "done", "{view}");
    assert!(worker.0.try_wait().unwrap().is_none(), "the worker lives");
    let logs = String::from_utf8(fleet.client(&["job", "logs", &job]).stdout).unwrap();
    assert!(logs.contains("internal") && logs.contains("SIGKILL"), "the log says what died and how: {logs}");
    assert_exact(&out);
    assert_clean(&fleet);
}

/// SVT-AV1 asks for it where it is run by root, and starves the worker beside it.
#[test]
fn no_thread_of_an_executor_runs_in_real_time() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let worker = fleet.worker("w1");
    let out = fleet.sandbox.path("out.mkv");
    let job =
        fleet.submit(&films::clip(&films::SLOW), &out, &["-c:v", "libsvtav1", "-preset", "6", "-crf", "40", "-an"]);
    let policies = eventually("SVT-AV1 has its threads, seventeen at least", || {
        executors_of(worker.id()).into_iter().map(scheduling_policies).find(|policies| policies.len() > 12)
    });
    assert!(policies.iter().all(|policy| policy == "0"), "SCHED_OTHER is 0: {policies:?}");
    fleet.client(&["job", "cancel", &job]);
}

/// Of every thread of the process, as `proc(5)` numbers them.
fn scheduling_policies(pid: u32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    // The name, in brackets, is the second field, the policy the forty-first.
    stats.filter_map(|stat| Some(stat.rsplit(')').next()?.split_whitespace().nth(38)?.to_owned())).collect()
}

#[test]
fn a_killed_worker_is_replaced_and_leaves_no_executor() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let mut worker = fleet.worker("w1");
    let out = fleet.sandbox.path("out.mp4");
    let job = fleet.submit(&films::clip(&films::SLOW), &out, SLOWLY);
    let before = done_chunks(&fleet.midway(&job, 1));
    let executors = executors_of(worker.id());
    assert!(!executors.is_empty());
    worker.kill();
    eventually("its executors are gone", || executors.iter().all(|e| is_gone(*e)).then_some(()));
    let _again = fleet.worker("w1");
    let view = fleet.finished(&job);
    assert_eq!(view["state"], "done", "{view}");
    assert_kept(&before, &view);
    assert_exact(&out);
    assert_clean(&fleet);
}

#[test]
fn a_worker_that_never_comes_back_is_given_up() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let mut worker = fleet.worker("w1");
    let out = fleet.sandbox.path("out.mp4");
    let job = fleet.submit(&films::clip(&films::SLOW), &out, SLOWLY);
    let before = done_chunks(&fleet.midway(&job, 1));
    worker.kill();
    let _other = fleet.worker("w2");
    let view = fleet.finished(&job);
    assert_eq!(view["state"], "done", "{view}");
    assert_kept(&before, &view);
    assert_exact(&out);
}

#[test]
fn a_killed_server_comes_back_and_the_worker_finds_it() {
    let fleet = Fleet::new();
    let mut server = fleet.server();
    let mut worker = fleet.worker("w1");
    let out = fleet.sandbox.path("out.mp4");
    let job = fleet.submit(&films::clip(&films::SLOW), &out, SLOWLY);
    let before = done_chunks(&fleet.midway(&job, 1));
    server.kill();
    let _server = fleet.server();
    let view = fleet.finished(&job);
    assert_eq!(view["state"], "done", "{view}");
    assert_kept(&before, &view);
    let attempts: Vec<_> = view["tasks"].as_array().unwrap().iter().map(|t| t["attempt"].as_u64().unwrap()).collect();
    assert!(attempts.iter().all(|a| *a == 1), "running chunks were adopted again, not restarted: {attempts:?}");
    assert!(worker.0.try_wait().unwrap().is_none());
    assert_exact(&out);
    assert_clean(&fleet);
}

fn embedded(sandbox: &Sandbox, out: &Path) -> Command {
    let mut command = sandbox.spool();
    command
        .arg("encode")
        .arg(films::clip(&films::SLOW))
        .arg("-o")
        .arg(out)
        .args(SLOWLY)
        .args(["--slots", "2", "--json", "--progress", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs an embedded encode until two chunks are done.
fn embedded_midway(sandbox: &Sandbox, out: &Path) -> Guarded {
    let mut run = Guarded::spawn(&mut embedded(sandbox, out));
    let stderr = BufReader::new(run.0.stderr.take().unwrap());
    for line in stderr.lines() {
        let Ok(progress) = serde_json::from_str::<Value>(&line.unwrap()) else { continue };
        if progress["chunks_done"].as_u64().unwrap_or(0) >= 2 {
            return run;
        }
    }
    panic!("the run ended before two chunks were done");
}

/// The same command again, to its end.
fn resumed(sandbox: &Sandbox, out: &Path) -> Value {
    let output = embedded(sandbox, out).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_killed_encode_resumes_with_the_same_command() {
    let sandbox = Sandbox::new();
    let out = sandbox.path("out.mp4");
    let mut run = embedded_midway(&sandbox, &out);
    let executors = executors_of(run.id());
    run.kill();
    let killed = spool_now();
    eventually("its executors are gone", || executors.iter().all(|e| is_gone(*e)).then_some(()));
    let job = resumed(&sandbox, &out);
    let kept = done_chunks(&job).iter().filter(|(_, finished)| *finished < killed).count();
    assert!(kept >= 2, "{kept} chunks were kept");
    assert_exact(&out);
    sandbox.assert_nothing_left();
}

#[test]
fn ctrl_c_stops_cleanly_and_the_same_command_resumes() {
    let sandbox = Sandbox::new();
    let out = sandbox.path("out.mp4");
    let mut run = embedded_midway(&sandbox, &out);
    let status = Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap();
    assert!(status.success());
    assert_eq!(run.wait().code(), Some(130));
    let stopped = spool_now();
    let job = resumed(&sandbox, &out);
    let kept = done_chunks(&job).iter().filter(|(_, finished)| *finished < stopped).count();
    assert!(kept >= 2, "{kept} chunks were kept");
    assert_exact(&out);
    sandbox.assert_nothing_left();
}

fn spool_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

#[test]
fn a_source_that_vanishes_fails_the_job_with_its_class_and_the_server_lives() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let _worker = fleet.worker("w1");
    let source = fleet.sandbox.path("vanishing.mp4");
    std::fs::copy(films::clip(&films::SLOW), &source).unwrap();
    let job = fleet.submit(&source, &fleet.sandbox.path("out.mp4"), SLOWLY);
    fleet.midway(&job, 1);
    std::fs::remove_file(&source).unwrap();
    let view = fleet.finished(&job);
    assert_eq!(view["state"], "failed");
    assert_eq!(view["failure"]["class"], "input", "{view}");
    assert!(view["failure"]["message"].as_str().unwrap().contains("vanishing.mp4"));
    assert!(!fleet.sandbox.path("out.mp4").exists());
    assert!(fleet.client(&["job", "list"]).status.success(), "the server lives");
}

/// A run whose data are on a disk of so many KiB, in a mount namespace of its own: its exit code, and what it said. `None`: there are no
/// namespaces here.
fn encode_on_a_disk_of(kib: u32) -> Option<(String, String)> {
    let sandbox = Sandbox::new();
    let film = films::clip(&films::SLOW);
    let disk = sandbox.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let script = r#"mount -t tmpfs -o size="$8"k tmpfs "$1" || exit 99
        timeout 120 "$2" encode "$3" -o "$4" -c:v libx264 -crf 1 -preset ultrafast -an --chunk 2s --data "$1" --json > "$5" 2> "$6"
        echo $? > "$7""#;
    let status = Command::new("unshare")
        .args(["-rm", "sh", "-c", script, "sh"])
        .arg(&disk)
        .arg(env!("CARGO_BIN_EXE_spool"))
        .arg(&film)
        .arg(sandbox.path("out.mp4"))
        .args([sandbox.path("json"), sandbox.path("err"), sandbox.path("code")])
        .arg(kib.to_string())
        .env("XDG_DATA_HOME", sandbox.data_home())
        .status();
    match status {
        Ok(status) if status.code() != Some(99) && status.success() => {}
        other => {
            eprintln!("SKIPPED: no mount namespaces here ({other:?})");
            return None;
        }
    }
    let read = |name: &str| std::fs::read_to_string(sandbox.path(name)).unwrap_or_default();
    assert!(!sandbox.path("out.mp4").exists());
    Some((read("code").trim().to_owned(), read("err")))
}

#[test]
fn a_full_disk_fails_the_job_and_the_server_lives() {
    let Some((code, err)) = encode_on_a_disk_of(6 << 10) else { return };
    assert_eq!(code, "1", "{err}");
    // A chunk is told so, or, where finished ones have taken all there is to the last page, the journal.
    let told = [("the disk is full", "disk_full"), ("no room left", "store_full")];
    assert!(told.iter().any(|(text, code)| err.contains(text) && err.contains(code)), "{err}");
}

/// No room to write down that there is no room. Which size that takes follows from the tables, so several are tried.
#[test]
fn a_run_that_cannot_be_written_down_ends_and_says_so() {
    let runs: Vec<_> = std::thread::scope(|scope| {
        let started: Vec<_> =
            (160..=400).step_by(20).map(|kib| scope.spawn(move || encode_on_a_disk_of(kib))).collect();
        started.into_iter().filter_map(|run| run.join().unwrap()).collect()
    });
    for (code, err) in &runs {
        // 3: there was room to start, and none for the job itself.
        assert!(code == "1" || (code == "3" && err.contains("store_full")), "{code}: {err}");
    }
    let stuck = |err: &String| err.contains("(host: store_full)") && err.contains("the same command goes on");
    assert!(runs.is_empty() || runs.iter().any(|(_, err)| stuck(err)), "{runs:#?}");
}
