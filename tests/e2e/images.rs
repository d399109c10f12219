//! `spool images`.

use serde_json::Value;

use crate::films;
use crate::processes::{Sandbox, files_under};

#[test]
fn images_of_a_film_are_put_where_they_were_asked_for() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("pictures");
    let run = |more: &[&str]| {
        let mut spool = sandbox.spool();
        spool.arg("images").arg(films::clip(&films::PLAIN)).arg("-o").arg(&folder);
        spool.args(["--poster", "--thumbnails", "5s", "--sprite", "2x2", "--sprite-every", "3", "--width", "96"]);
        spool.args(more).output().unwrap()
    };
    let output = run(&["--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut names: Vec<String> =
        listed["files"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap().to_owned()).collect();
    let expected = ["poster.jpg", "sprite-001.jpg", "sprite.vtt", "thumb-0001.jpg", "thumb-0002.jpg", "thumb-0003.jpg"];
    let found = |folder| {
        let names =
            files_under(folder).into_iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    names.sort();
    assert_eq!(names, expected);
    assert_eq!(found(&folder), expected, "and nothing else is left there");
    assert_eq!(listed["files"][0]["kind"], "poster");
    assert_eq!((listed["files"][0]["width"].as_u64(), listed["files"][0]["height"].as_u64()), (Some(320), Some(180)));

    let again = run(&[]);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("poster.jpg exists; -y replaces it"));
    assert!(run(&["-y"]).status.success());
    assert_eq!(found(&folder), expected);
}

#[test]
fn images_names_what_is_wrong() {
    let sandbox = Sandbox::new();
    let film = films::clip(&films::PLAIN);
    for (more, code, says) in [
        (&[][..], 2, "--poster, --thumbnails 10s or --sprite 5x5"),
        (&["--sprite", "5"][..], 2, "COLUMNSxROWS"),
        (&["--sprite", "100x100"], 2, "wider than"),
        (&["--poster", "--at", "60"], 1, "no picture at 60.000 s"),
    ] {
        let output = sandbox.spool().arg("images").arg(&film).arg("-o").arg(sandbox.path("x")).args(more).output();
        let output = output.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {stderr}");
        assert!(stderr.contains(says), "{more:?}: {stderr}");
    }
}
