//! What the engine made of jobs' histories it makes of them still.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn recorded_histories_play_as_they_were() {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    let mut played = 0;
    for entry in std::fs::read_dir(recorded).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let history: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let rules = tempfile::tempdir().unwrap();
        for (name, text) in history["files"].as_object().unwrap() {
            std::fs::write(rules.path().join(name), text.as_str().unwrap()).unwrap();
        }
        let mut replay = Command::new(env!("CARGO_BIN_EXE_spool"));
        replay.args(["rules", "replay", "--exit-code"]).arg(&path).arg("--rules").arg(rules.path());
        let output = replay.output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains("nothing differs"), "{}: {said}", path.display());
        played += 1;
    }
    assert!(played >= 7, "{played} histories");
}
