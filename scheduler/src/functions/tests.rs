use std::collections::BTreeMap;

use serde_json::json;
use spool_function::File;

use super::*;

fn package(name: &str, version: &str, program: &str) -> Package {
    let manifest = format!(
        "name = \"{name}\"\nversion = \"{version}\"\ncommand = [\"./run\"]\nexpected = 2.5\n[input]\nvideo = \"uri\"\nn = {{ type = \"optional\", of = \"int\", default = 3 }}\n"
    );
    let file = |text: &str, executable| File { executable, bytes: text.into() };
    let files = [("function.toml", file(&manifest, false)), ("run", file(program, true))];
    Package::new(files.into_iter().map(|(path, file)| (path.to_owned(), file)).collect::<BTreeMap<_, _>>()).unwrap()
}

fn hash_of(found: Result<Arc<Entry>, Failure>) -> String {
    found.unwrap().hash.clone()
}

#[test]
fn versions_survive_and_the_last_pushed_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("functions");
    let registry = Registry::open(&root).unwrap();
    let (one, two) = (package("check", "1.0", "a"), package("check", "1.1", "b"));
    assert!(!registry.push(&one, "ada").unwrap().1);
    assert!(!registry.push(&two, "bob").unwrap().1);
    for registry in [registry.clone(), Registry::open(&root).unwrap()] {
        assert_eq!(hash_of(registry.resolve("check")), two.hash());
        assert_eq!(hash_of(registry.resolve("check@1.0")), one.hash());
        assert_eq!(hash_of(registry.resolve(&format!("check@{}", &one.hash()[..6]))), one.hash());
        assert_eq!(registry.read(two.hash()).unwrap(), two);
        assert_eq!(registry.resolve("check").unwrap().pushed.by, "bob");
    }
    assert!(registry.push(&one, "eve").unwrap().1, "it is known");
    assert_eq!(hash_of(registry.resolve("check")), one.hash(), "and taken again");
    let reopened = Registry::open(&root).unwrap();
    assert_eq!(hash_of(reopened.resolve("check")), one.hash());
    let hashes: Vec<String> = reopened.list().iter().map(|entry| entry.hash.clone()).collect();
    assert_eq!(hashes, [one.hash(), two.hash()]);
    assert!(reopened.is_current(&reopened.list()[0]) && !reopened.is_current(&reopened.list()[1]));
}

#[test]
fn what_is_not_there_is_refused_with_what_is() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    assert!(registry.resolve("check").unwrap_err().message.contains("none was pushed"));
    let one = package("check", "1.0", "a");
    registry.push(&one, "ada").unwrap();
    let cases = [
        ("chekc".to_owned(), "no_such_function", "there are check"),
        ("check@2".to_owned(), "no_such_version", "1.0 ("),
        (format!("check@{}", &one.hash()[..5]), "no_such_version", "1.0 ("),
    ];
    for (name, code, what) in cases {
        let failure = registry.resolve(&name).unwrap_err();
        assert!(failure.code == code && failure.message.contains(what), "{failure:?}");
    }
    assert_eq!(registry.read("../../etc").unwrap_err().code, "no_such_version");
}

#[test]
fn a_damaged_version_is_not_given_out_and_a_push_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    let one = package("check", "1.0", "a");
    registry.push(&one, "ada").unwrap();
    let folder = dir.path().join("check").join(one.hash());
    std::fs::write(folder.join("files/run"), b"changed").unwrap();
    assert_eq!(registry.read(one.hash()).unwrap_err().code, "function_damaged");
    std::fs::write(folder.join("pushed.json"), b"").unwrap();
    // What a crash in the middle of a push leaves.
    std::fs::create_dir_all(dir.path().join(".new/files")).unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    assert_eq!(registry.list(), []);
    registry.push(&one, "ada").unwrap();
    assert_eq!(registry.read(one.hash()).unwrap(), one);
}

#[test]
fn a_job_is_frozen_with_its_version_and_whole_input() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    let one = package("check", "1.0", "a");
    registry.push(&one, "ada").unwrap();
    let input = json!({"video": "file:///v.mov"});
    let mut spec = FunctionSpec {
        name: "check@1.0".into(),
        version: String::new(),
        input,
        output: None,
        overwrite: false,
        order: None,
    };
    registry.freeze(&mut spec).unwrap();
    assert_eq!((spec.name.as_str(), spec.version.as_str()), ("check", one.hash()));
    assert_eq!(spec.input, json!({"video": "file:///v.mov", "n": 3}));
    let task = task(&spec.order.unwrap(), "spool://j1/".into());
    assert_eq!((task.shape.function.as_str(), task.shape.backend.as_str()), ("user.check", "function"));
    assert_eq!((task.shape.resources.memory, task.weight), (512, 2_500_000));
    let call: spool_proto::call::Call = serde_json::from_slice(&task.payload).unwrap();
    assert_eq!(call.inputs, ["file:///v.mov"]);
    assert_eq!(call.args.function(), spool_proto::call::function::USER);
    spec.order = None;
    spec.input = json!({"n": "x"});
    assert_eq!(registry.freeze(&mut spec).unwrap_err().code, "function_input");
}
