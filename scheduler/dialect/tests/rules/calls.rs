//! Calls are held against what their functions declare, where the text says enough.

use std::collections::BTreeMap;

use spool_dialect::{Problem, Sources};
use spool_function::Manifest;
use spool_function::stub::{Signature, starlark};

const HEAD: &str = "load(\"@spool/functions.star\", \"media\", \"spool\")\nload(\"stubs/mark.star\", \"mark\")\nservice(name = \"t\", version = \"1\")\n";

const MARK: &str = "name = \"mark\"\nversion = \"1\"\ncommand = [\"sh\"]\n[input]\nvideo = \"uri\"\nfor = { type = \"optional\", of = { type = \"int\", min = 1, max = 9 } }\ncorner = { type = \"optional\", of = { type = \"choice\", of = [\"left\", \"right\"] } }\n[output]\nfound = \"bool\"\nframes = { type = \"list\", of = { type = \"record\", fields = { score = \"number\" } } }\n";

fn problems(text: &str) -> Vec<String> {
    let stub = starlark::of(&Signature::from(&Manifest::parse(MARK).expect("a manifest")));
    let files = [("main.star", format!("{HEAD}{text}\n")), ("stubs/mark.star", stub)];
    let sources = Sources(files.map(|(name, text)| (name.to_owned(), text)).into_iter().collect::<BTreeMap<_, _>>());
    let all = match spool_dialect::check(&sources) {
        Ok((_, warnings)) => warnings,
        Err(problems) => problems,
    };
    // Of short rules it says other things, too.
    let ours = all.iter().filter(|problem| {
        ["unknown_function", "bad_arguments", "unknown_field", "raised", "syntax"].contains(&problem.code.as_str())
    });
    ours.map(Problem::to_string).collect()
}

/// A rule whose action answers with one call.
fn calls(call: &str) -> String {
    format!("rule(name = \"a\", match = [fact(\"input\", as_ = \"i\")], action = lambda i: [{call}])")
}

/// … and whose reaction reads its results.
fn reads(call: &str, read: &str) -> String {
    format!(
        "rule(name = \"a\", match = [fact(\"input\", as_ = \"i\")], action = lambda i: [{call}], reaction = lambda results: [result({read})])"
    )
}

#[test]
fn a_wrong_call_is_named_with_line_and_column() {
    let cases = [
        (
            "call(\"media.porbe\")",
            "main.star:4:79: error: there is no function \"media.porbe\"; \"media.probe\" may be meant [unknown_function]",
        ),
        ("call(\"my_function\")", "there is no function \"my_function\"; workers have"),
        ("call(\"media.probe@1\")", "\"media.probe\" comes with the workers and has no versions"),
        ("media.porbe()", "there is no function \"media.porbe\"; \"media.probe\" may be meant"),
        (
            "call(\"spool.list\", args = {\"folder\": i.f, \"sufixes\": []})",
            "sufixes: there is no such field; suffixes may be meant",
        ),
        ("call(\"spool.list\", args = {\"suffixes\": []})", "folder: it is missing; it is to be uri"),
        ("call(\"spool.list\")", "folder: it is missing"),
        ("call(\"spool.list\", args = {\"folder\": 3})", "folder: 3 is not uri"),
        ("call(\"spool.list\", args = {\"folder\": i.f, \"suffixes\": [1]})", "suffixes[0]: 1 is not text"),
        ("call(\"spool.list\", args = {\"folder\": i.f, \"recursive\": \"yes\"})", "recursive: \"yes\" is not bool"),
        ("call(\"spool.list\", args = [1])", "the args of spool.list are a dict"),
        ("spool.list(folder = i.f, recursiv = True)", "spool.list takes no recursiv; recursive may be meant"),
        ("spool.list(i.f)", "spool.list takes its arguments by name"),
        ("spool.list(recursive = True)", "folder: it is missing"),
        (
            "media.probe(index_for = {\"source\": i.s, \"output\": \"\", \"overwrite\": False, \"container\": \"mpg\", \"subtitles\": \"auto\"})",
            "index_for.container: \"mpg\" is not one of mp4, mov, mkv, webm",
        ),
        ("mark(video = i.v, for_ = 12)", "for: 12 is not at most 9"),
        ("mark(video = i.v, corner = \"rigth\")", "corner: \"rigth\" is not one of left, right; right may be meant"),
        ("mark()", "video: it is missing"),
        (
            "call(\"mark\", args = {\"vidoe\": i.v, \"video\": i.v})",
            "vidoe: there is no such field; video may be meant",
        ),
        ("call(\"mark\", inputs = [i.v], args = {\"video\": i.v})", "mark has its files among its args"),
    ];
    for (call, expected) in cases {
        let said = problems(&calls(call));
        assert!(said.len() == 1 && said[0].contains(expected), "{call}\n{said:#?}");
    }
}

#[test]
fn a_field_that_no_answer_has_is_told_where_it_is_read() {
    let probe = "call(\"media.probe\", inputs = [i.s])";
    let cases = [
        (probe, "results[0].fromat", "media.probe answers nothing called \"fromat\" here; format may be meant"),
        (probe, "[r.streams[0].codek for r in results]", "\"codek\" here; codec may be meant"),
        (probe, "[n for n, r in enumerate(results) if r.lenght]", "\"lenght\" here"),
        (probe, "results[0].artifacts.table.uri", "\"table\" here; there are index"),
        (
            "mark(video = i.v)",
            "results[0].frames[0].scoer",
            "mark answers nothing called \"scoer\" here; score may be meant",
        ),
        ("media.probe(inputs = [i.s])", "results[0].run.wrker", "worker may be meant"),
    ];
    for (call, read, expected) in cases {
        let said = problems(&reads(call, read));
        assert!(said.len() == 1 && said[0].contains(expected) && said[0].contains("warning"), "{read}\n{said:#?}");
    }
    let by_definition = "def f(i):\n    return [call(\"media.probe\", inputs = [s]) for s in i.all]\n\
        def g(results):\n    first = results[0]\n    for r in results:\n        bytes = r.bytes\n    return [result(first.durations_us)]\n\
        rule(name = \"a\", match = [fact(\"input\", as_ = \"i\")], action = f, reaction = g)";
    let said = problems(by_definition);
    assert!(said.len() == 1 && said[0].contains("main.star:10:26") && said[0].contains("duration_us"), "{said:#?}");
}

#[test]
fn what_the_text_does_not_say_is_not_judged() {
    let fine = [
        calls("call(\"spool.list\", args = i.args)"),
        calls("call(\"spool.list\", args = {\"folder\": i.f} | i.more)"),
        calls("call(\"spool.list\", args = {i.name: i.value})"),
        calls("call(\"spool.list\", **i.options)"),
        calls("call(\"spool.list\", args = {\"folder\": \"file://%s\" % i.f, \"suffixes\": [s for s in i.all], \"recursive\": not i.flat})"),
        calls("call(i.function, args = {\"x\": 1})"),
        calls("call(\"pushed\", args = {\"x\": 1})"),
        calls("call(\"mark@abc123\", args = {\"video\": \"a\" if i.x else i.y})"),
        calls("media.probe(inputs = [i.s], key = \"a\", phase = \"p\", crop_bars = None)"),
        // What undoes a call is given its answer as well.
        calls("call(\"mark\", args = {\"video\": i.v}, undo = call(\"mark\", args = {}))"),
        "def f(call):\n    return call(\"media.porbe\")".to_owned(),
        "def f(media):\n    return media.porbe()".to_owned(),
        // Several functions, other results, what `skip` puts in their place, names that are set twice.
        reads("call(\"media.probe\"), mark(video = i.v)", "results[1].found"),
        reads("call(\"media.probe\"), timer(after = 1)", "results[1].found"),
        reads("i.effects[0]()", "results[1].found"),
        reads("call(\"media.probe\")", "results[0].found").replace("reaction =", "error = lambda err: [skip({\"found\": 1})], reaction ="),
        "def f(i):\n    return [call(\"media.probe\")]\ndef g(results):\n    r = results[0]\n    r = {\"a\": struct(b = 1)}[\"a\"]\n    return [result(r.b)]\n\
         rule(name = \"a\", match = [fact(\"input\", as_ = \"i\")], action = f, reaction = g)"
            .to_owned(),
        reads("call(\"media.probe\")", "[results.b for results in [struct(b = 1)]]"),
        reads("call(\"media.probe\")", "(lambda results: results.b)(struct(b = 1))"),
        reads("call(\"media.images\", args = i.args)", "results[0].artifacts.poster"),
    ];
    for text in fine {
        assert_eq!(problems(&text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn nothing_about_a_stub_is_suspicious() {
    let text = "load(\"mark.star\", \"mark\")\nservice(name = \"t\", version = \"1\")\n\
        rule(name = \"a\", match = [fact(\"input\", as_ = \"i\")], action = lambda i: [mark(video = i.video)])\n";
    let stub = starlark::of(&Signature::from(&Manifest::parse(MARK).unwrap()));
    let files = [("main.star", text.to_owned()), ("mark.star", stub)];
    let (_, problems) =
        spool_dialect::check(&Sources(files.map(|(name, text)| (name.to_owned(), text)).into_iter().collect()))
            .expect("good");
    assert_eq!(problems, []);
}

#[test]
fn a_stub_makes_the_call_it_stands_for() {
    use spool_dialect::Compiled;
    let stub = starlark::of(&Signature::from(&Manifest::parse(MARK).unwrap()).of_version("abcdef"));
    let text = "load(\"@spool/functions.star\", \"media\")\nload(\"mark.star\", \"mark\")\nservice(name = \"t\", version = \"1\")\n\
        rule(name = \"a\", match = [fact(\"input\")], action = lambda: [media.quality_report(reference = \"r\", distorted = \"d\", \
        reference_picture = {}, distorted_picture = {}, joins = [], key = \"k\"), mark(video = \"/v\", for_ = 3, memory = 7)])";
    let files = [("main.star", text.to_owned()), ("mark.star", stub)];
    let compiled =
        Compiled::new(&Sources(files.map(|(name, text)| (name.to_owned(), text)).into_iter().collect())).expect("good");
    let effects = compiled.section(0, "action", &[], 0, "f").expect("effects");
    let effects = serde_json::to_value(effects).unwrap();
    assert_eq!((&effects[0]["function"], &effects[0]["key"]), (&"media.quality-report".into(), &"k".into()));
    assert_eq!(effects[0]["args"]["reference"], "r");
    assert_eq!((&effects[1]["function"], &effects[1]["resources"]["memory"]), (&"mark@abcdef".into(), &7.into()));
    assert_eq!(effects[1]["args"], serde_json::json!({"video": "/v", "for": 3}), "what was left out is not there");
}
