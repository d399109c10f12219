//! `spool probe` and `spool doctor`.

use serde_json::Value;

use crate::ebml;
use crate::films;
use crate::processes::Sandbox;

#[test]
fn probe_tells_what_is_in_a_film() {
    let sandbox = Sandbox::new();
    let output = sandbox.spool().arg("probe").arg(films::clip(&films::PLAIN)).arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
    let streams = facts["streams"].as_array().unwrap();
    assert_eq!(streams[0]["codec"], "h264");
    assert_eq!((streams[0]["media"]["width"].as_u64(), streams[0]["media"]["height"].as_u64()), (Some(320), Some(180)));
    assert_eq!(streams[1]["media"]["sample_rate_hz"], 48000);
}

/// No file of the corpus, however broken, may do more than fail.
#[test]
fn probe_survives_the_corpus() {
    let Some(corpus) = films::corpus() else {
        eprintln!("SKIPPED: no corpus here");
        return;
    };
    let sandbox = Sandbox::new();
    let mut probed = 0;
    for folder in ["odd", "bad"] {
        for entry in std::fs::read_dir(corpus.join(folder)).unwrap() {
            let film = entry.unwrap().path();
            let output = sandbox.spool().args(["probe", "--json", "--"]).arg(&film).output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            match output.status.code() {
                Some(0) => assert!(serde_json::from_slice::<Value>(&output.stdout).is_ok(), "{}", film.display()),
                Some(1 | 2) => assert!(!stderr.is_empty(), "{} failed without a word", film.display()),
                other => panic!("{}: {other:?} {stderr}", film.display()),
            }
            probed += 1;
        }
    }
    assert!(probed > 50);
}

#[test]
fn doctor_proves_the_encoders() {
    let sandbox = Sandbox::new();
    let output = sandbox.spool().args(["doctor", "--json"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    for backend in ["libx264", "libx265", "libsvtav1", "libvpx-vp9"] {
        assert!(report.to_string().contains(backend), "{backend} in {report}");
    }
    let verdict = |what: &str| {
        let found = report.as_array().unwrap().iter().find(|finding| finding["what"] == what);
        found.unwrap_or_else(|| panic!("{what} in {report}"))["verdict"].as_str().unwrap().to_owned()
    };
    for wall in ["files", "network", "system calls", "privileges", "limits"] {
        assert!(["ok", "warn"].contains(&verdict(&format!("sandbox: {wall}")).as_str()), "{wall} in {report}");
    }
    let output = sandbox.spool().args(["doctor", "--json", "--sandbox", "off"]).output().unwrap();
    let open = String::from_utf8(output.stdout).unwrap();
    assert!(
        open.contains("not enforced") && open.contains("--sandbox off"),
        "it tells what is, not what could be: {open}"
    );
}

/// A gigabyte of one picture in a hundred bytes: told, where it is gone again before the watch looks, else the executor goes and
/// its worker says why.
#[test]
fn a_picture_of_a_gigabyte_is_told_or_ends_the_probe_and_no_more() {
    let sandbox = Sandbox::new();
    let folder = tempfile::tempdir().unwrap();
    let film = folder.path().join("bomb.png");
    std::fs::write(&film, ebml::animated_png(16_000, 16_000)).unwrap();
    let output = sandbox.spool().arg("probe").arg(&film).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => assert!(String::from_utf8_lossy(&output.stdout).contains("apng"), "{stderr}"),
        Some(1) => assert!(stderr.contains("capacity: memory_exceeded") || stderr.contains("(input: "), "{stderr}"),
        other => panic!("{other:?} {stderr}"),
    }
}
