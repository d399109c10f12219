//! JSON as it is given on a command line: as a text, in a file, on stdin, field by field.

use std::fs;

use serde_json::{Map, Value};

use crate::exit::Stop;

/// `{"a": 1}`, `@FILE`, `-` (stdin); `option` names it in errors.
///
/// # Errors
/// A [`Stop`] with exit 2: what cannot be read, with its line and column.
pub fn given(option: &str, text: &str) -> anyhow::Result<Value> {
    let (from, text) = match text {
        "-" => ("stdin".to_owned(), std::io::read_to_string(std::io::stdin())),
        _ => match text.strip_prefix('@') {
            Some(file) => (file.to_owned(), fs::read_to_string(file)),
            None => (option.to_owned(), Ok(text.to_owned())),
        },
    };
    let text = text.map_err(|e| Stop::usage(format!("{from}: {e}")))?;
    serde_json::from_str(&text).map_err(|e| {
        let (line, column) = (e.line(), e.column());
        let why = e.to_string();
        let why = why.split(" at line ").next().unwrap_or_default();
        let hint = if from == option { "; expected JSON, @FILE or -" } else { "" };
        Stop::usage(format!("{from}:{line}:{column}: no JSON: {why}{hint}"))
    })
}

/// Puts `recipe.crf=20` into a map. The value is JSON where it reads as such, else a text.
///
/// # Errors
/// What is wrong with it.
pub fn set(whole: &mut Value, assignment: &str) -> Result<(), String> {
    let (path, value) = assignment.split_once('=').ok_or_else(|| format!("{assignment:?}: expected KEY=VALUE"))?;
    if path.split('.').any(str::is_empty) {
        return Err(format!("{assignment:?}: expected a field, or fields with dots between, before the ="));
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    let mut at = whole;
    for key in path.split('.') {
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(fields) = at else {
            return Err(format!("{assignment:?}: {key:?} would be a field of {at}, which is no map"));
        };
        at = fields.entry(key).or_insert(Value::Null);
    }
    *at = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_set_one_by_one() {
        let mut input = json!({"films": ["a"], "recipe": {"crf": 20}});
        for assignment in ["recipe.crf=23", "recipe.tune=film", "source=s3://b/a=b.mov", "deep.er=[1, 2]", "off=null"] {
            set(&mut input, assignment).unwrap();
        }
        let wanted = json!({"films": ["a"], "recipe": {"crf": 23, "tune": "film"}, "source": "s3://b/a=b.mov", "deep": {"er": [1, 2]}, "off": null});
        assert_eq!(input, wanted);
        let mut nothing = Value::Null;
        set(&mut nothing, "a=1").unwrap();
        assert_eq!(nothing, json!({"a": 1}));
        assert!(set(&mut input, "films.x=1").unwrap_err().contains("no map"));
        assert!(set(&mut input, "films").unwrap_err().contains("KEY=VALUE"));
        assert!(set(&mut input, ".a=1").unwrap_err().contains("dots between"));
    }

    #[test]
    fn what_is_no_json_is_told_with_its_place() {
        assert_eq!(given("--input", "{\"a\": 1}").unwrap(), json!({"a": 1}));
        let said = given("--input", "{\"a\": }").unwrap_err().to_string();
        assert!(said.starts_with("--input:1:7: no JSON: expected value") && said.ends_with("@FILE or -"), "{said}");
        assert!(given("--input", "@/no/such/file").unwrap_err().to_string().starts_with("/no/such/file: "));
    }
}
