//! From a function's input to what its task needs.

use spool_proto::call::{UserArgs, UserOrder, backend};
use spool_proto::failure::{Class, Failure};
use spool_proto::uri::Location;

use crate::manifest::Manifest;

/// Bytes of an input, as JSON, at most: it is kept with the job.
pub const INPUT_BYTES_MAX: usize = 1 << 20;
/// Files of one call at most.
pub const INPUT_FILES_MAX: usize = 1_000;

/// What a call of this version with this input takes.
///
/// # Errors
/// Class `spec`: `function_input`, with the path of what does not conform; `bad_uri`, `unsupported_scheme`.
pub fn order(manifest: &Manifest, hash: &str, input: &serde_json::Value) -> Result<UserOrder, Failure> {
    let refused = |what: String| {
        Failure::new(Class::Spec, "function_input", format!("input of {} {}: {what}", manifest.name, manifest.version))
    };
    let input = manifest.input.conform(input).map_err(|mismatch| refused(mismatch.to_string()))?;
    let bytes = input.to_string().len();
    if bytes > INPUT_BYTES_MAX {
        return Err(refused(format!("{bytes} bytes of JSON, more than {INPUT_BYTES_MAX}; give large data as a file")));
    }
    let files = manifest.input.files(&input);
    if files.len() > INPUT_FILES_MAX {
        return Err(refused(format!("{} files, more than {INPUT_FILES_MAX}", files.len())));
    }
    for (field, uri) in &files {
        Location::parse(uri).map_err(|error| {
            let failure = Failure::from(error);
            Failure { message: format!("input of {}: {field}: {}", manifest.name, failure.message), ..failure }
        })?;
    }
    let (files, inputs) = files.into_iter().unzip();
    Ok(UserOrder {
        inputs,
        args: UserArgs { name: manifest.name.clone(), hash: hash.to_owned(), input, files },
        backend: if manifest.image.is_some() { backend::IMAGE } else { backend::PROGRAM }.into(),
        resources: manifest.resources.clone(),
        timeout: manifest.timeout,
        no_progress: manifest.no_progress,
        max_attempts: manifest.attempts,
        expected: manifest.expected,
        label: format!("{} {}", manifest.name, manifest.version),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_input_becomes_a_task_or_says_why_not() {
        let manifest = Manifest::parse(
            "name = \"check\"\nversion = \"1\"\ncommand = [\"sh\"]\nimage = \"python:3\"\n[input]\nvideo = \"uri\"\nn = \"int\"\n",
        );
        let manifest = manifest.unwrap();
        let made = order(&manifest, "abc", &json!({"video": "file:///v.mov", "n": 2})).unwrap();
        assert_eq!((made.inputs, made.args.files), (vec!["file:///v.mov".into()], vec!["video".to_owned()]));
        assert_eq!((made.backend.as_str(), made.label.as_str()), ("container", "check 1"));
        let cases = [
            (json!({"video": "file:///v", "n": 2.5}), "function_input", "n: "),
            (json!({"n": 2}), "function_input", "video: it is missing"),
            (json!({"video": "file:///v", "n": 1, "m": 2}), "function_input", "m: "),
            (json!({"video": "v.mov", "n": 2}), "bad_uri", "video: "),
            (json!({"video": "ftp://h/v.mov", "n": 2}), "unsupported_scheme", "video: "),
        ];
        for (input, code, what) in cases {
            let failure = order(&manifest, "abc", &input).unwrap_err();
            assert!(failure.code == code && failure.message.contains(what), "{failure:?}");
        }
    }
}
