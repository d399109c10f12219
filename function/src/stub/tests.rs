use super::*;
use crate::own;

const MANIFEST: &str = "name = \"a-b\"\nversion = \"1\"\ncommand = [\"sh\"]\ndescription = \"Does \\\"\\\"\\\" a thing\"\nidempotent = false\n\
    [input]\ntype = \"uri\"\nself = \"text\"\n\"x-y\" = { type = \"optional\", of = \"any\" }\nx_y = { type = \"map\", of = { type = \"list\", of = \"int\" } }\n\
    kind = { type = \"choice\", of = [\"2d\", \"3-d\"] }\nn = { type = \"choice\", of = [1, 2] }\n";

fn signatures() -> Vec<Signature> {
    let user = Signature::from(&Manifest::parse(MANIFEST).unwrap());
    own::all().iter().map(Signature::from).chain([user.clone(), user.of_version("abc")]).collect()
}

#[test]
fn contracts_are_protocol_buffers() {
    for signature in signatures() {
        let folder = tempfile::tempdir().unwrap();
        let text = proto::of(&signature);
        std::fs::write(folder.path().join("f.proto"), &text).unwrap();
        let compiled =
            protox::compile(["f.proto"], [folder.path()]).unwrap_or_else(|error| panic!("{error:?}\n{text}"));
        let file = compiled.file.iter().find(|file| file.name() == "f.proto").unwrap();
        let input = file.message_type.iter().find(|message| message.name() == "Input").unwrap();
        let fields: BTreeSet<&str> = input.field.iter().map(|field| field.name()).collect();
        assert_eq!(fields.len(), signature.input.fields().len(), "{}", signature.name);
        assert_eq!(file.service[0].method[0].name(), "Run");
    }
}

#[test]
fn names_that_a_language_does_not_take_are_others() {
    let signature = Signature::from(&Manifest::parse(MANIFEST).unwrap()).of_version("abc");
    let star = starlark::of(&signature);
    assert!(star.contains("def a_b(*, kind, n, self, type, x_y_, x_y = None, **options):"), "{star}");
    assert!(star.contains("return call(\"a-b@abc\"") && star.contains("\"x-y\": x_y})"), "{star}");
    assert!(star.contains("Does ''' a thing.") && star.contains("What failed is not tried again."), "{star}");
    let rust = rust::of(&signature);
    for part in [
        "pub r#type: String",
        "#[serde(rename = \"self\")]\n    pub self_: String",
        "#[serde(rename = \"x-y\", default, skip_serializing_if = \"Option::is_none\")]\n    pub x_y: Option<serde_json::Value>",
        "#[serde(rename = \"x_y\")]\n    pub x_y_: std::collections::BTreeMap<String, Vec<i64>>",
        "#[serde(rename = \"2d\")]\n    N2d,\n    #[serde(rename = \"3-d\")]\n    N3D,",
        "pub n: serde_json::Value",
        "pub type Output = serde_json::Value;",
        "VERSION: &str = \"abc\"",
    ] {
        assert!(rust.contains(part), "{part}\n{rust}");
    }
}

#[test]
fn types_are_told_in_words() {
    let encode = own::get("media.encode").unwrap();
    let told = |name: &str| in_words(&encode.input.fields()[name]);
    assert_eq!(
        (told("chunk"), told("target"), told("spec")),
        ("int".into(), "{bitrate_bps, peak_bps}".into(), "record".into())
    );
    let images = own::get("spool.list").unwrap();
    assert_eq!(in_words(&images.input.fields()["suffixes"]), "list of text");
}
