//! What the services that come with Spool cost, however large what they look after is.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use spool_dialect::{Compiled, Sources};
use spool_rules::instance::Program;
use spool_rules::limits::Limits;
use spool_rules::rehearsal::{Script, rehearse};

/// A service of `services/`, as a job with limits of its own would run it.
fn play(service: &str, script: &str, limits: Limits) -> spool_rules::rehearsal::Told {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../services").join(service).join("main.star");
    let compiled = Compiled::new(&Sources::of(std::fs::read_to_string(file).expect("it reads"))).expect("it reads");
    let program = Arc::new(Program::new(compiled.set.clone()).expect("it reads"));
    let script: Script = serde_json::from_str(script).expect("it reads");
    rehearse(&program, &mut &compiled, &script, limits)
}

fn catalogue(titles: usize, looks_per_event: u64) -> spool_rules::rehearsal::Told {
    let mut signals = String::new();
    for n in 0..titles {
        let spec = r#"{"container":"mp4","video":{"codec":"libx264","crf":23}}"#;
        let title = format!(
            r#"{{"id":"t{n}","source":"/m/{n}.mov","output":"/f/{n}.mp4","version":{},"score":40,"spec":{spec}}}"#,
            n % 3
        );
        write!(signals, r#"{{"name":"title","payload":{title}}},"#).expect("it reads");
    }
    for _ in 0..150 {
        signals += r#"{"name":"title","payload":null},"#;
    }
    let script = format!(
        r#"{{
        "name": "a catalogue", "input": {{"budget": 2}},
        "signals": [{signals} {{"after": 1, "name": "recipe", "payload": {{"version": 2, "video": {{"crf": 20}}}}}}],
        "services": {{"video-encode": {{"answer": {{"uri": "file:///f/new.mp4", "hash": "a"}}, "takes": 1}}}},
        "functions": {{
            "media.quality": {{"answer": {{"scores": [{{"metric": "psnr", "mean": 41}}]}}}},
            "spool.publish": {{"answer": {{"uri": "file:///f/0.mp4", "bytes": 1}}}}
        }},
        "expect": {{
            "running": true,
            "calls": {{"media.quality": {stale}, "spool.publish": {stale}}},
            "facts": {{"title": {titles}, "slot": 2, "candidate": 0, "signal": 0, "refused": 100}}
        }}
    }}"#,
        stale = titles - titles / 3,
    );
    play("reencode", &script, Limits { looks_per_event, ..Limits::default() })
}

/// Combinations of facts that one event may look at here: fewer than there are titles.
const LOOKS: u64 = 100;

#[test]
fn a_catalogue_of_thousands_costs_an_event_no_more_than_a_small_one() {
    for titles in [9, 2001] {
        let told = catalogue(titles, LOOKS);
        assert!(told.wrong.is_empty(), "{titles} titles: {:?}", told.wrong);
    }
    let told = catalogue(9, 2);
    assert!(
        told.wrong.iter().any(|wrong| wrong.contains("match_too_large")),
        "what is looked at is counted: {:?}",
        told.wrong
    );
}
