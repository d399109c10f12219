//! A function's input, from options: JSON, fields one by one, and files by their paths.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;
use serde_json::Value;
use spool_function::schema::Schema;
use spool_proto::uri;

use crate::exit::Stop;

#[derive(Debug, Args)]
pub struct InputArgs {
    /// Its input, as JSON; @FILE reads a file, @- stdin
    #[arg(long, value_name = "JSON|@FILE")]
    input: Option<String>,
    /// One field: video=film.mov, threshold=0.5, list=[1,2], a.b=text; JSON where it is, else text
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    set: Vec<String>,
}

impl InputArgs {
    /// The whole of it. Where `schema` has files, paths are made URIs.
    ///
    /// # Errors
    /// Exit 2: what is no JSON, no field, or no file that can be read.
    pub fn value(&self, schema: &Schema) -> anyhow::Result<Value> {
        let text = match self.input.as_deref() {
            None => None,
            Some("@-") => Some(std::io::read_to_string(std::io::stdin())?),
            Some(given) => Some(match given.strip_prefix('@') {
                Some(file) => {
                    std::fs::read_to_string(file).map_err(|e| Stop::usage(format!("--input {given}: {e}")))?
                }
                None => given.to_owned(),
            }),
        };
        let mut value = match text {
            None => Value::Object(serde_json::Map::new()),
            Some(text) => serde_json::from_str(&text).map_err(|e| Stop::usage(format!("--input: no JSON: {e}")))?,
        };
        for set in &self.set {
            let (path, given) = set
                .split_once('=')
                .ok_or_else(|| Stop::usage(format!("--set {set}: expected FIELD=VALUE, such as threshold=0.5")))?;
            put(&mut value, path, given).map_err(|why| Stop::usage(format!("--set {set}: {why}")))?;
        }
        let mut uris = BTreeMap::new();
        for (field, given) in schema.files(&value) {
            if !given.contains("://") {
                let path = std::path::absolute(Path::new(&given))?;
                uris.insert(field, uri::from_path(&path));
            }
        }
        Ok(schema.with_files(&value, &uris))
    }
}

fn put(value: &mut Value, path: &str, given: &str) -> Result<(), String> {
    let mut at = value;
    let mut names = path.split('.').peekable();
    while let Some(name) = names.next() {
        if name.is_empty() {
            return Err("a field has a name".into());
        }
        let Value::Object(fields) = at else { return Err(format!("{name}: what is above it is no record")) };
        if names.peek().is_none() {
            let parsed = serde_json::from_str(given).unwrap_or_else(|_| Value::String(given.to_owned()));
            fields.insert(name.to_owned(), parsed);
            return Ok(());
        }
        at = fields.entry(name).or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Schema {
        let fields = json!({"video": "uri", "n": "number", "a": {"type": "record", "fields": {"b": "text"}}});
        Schema::read(&serde_json::from_value(fields).unwrap()).unwrap()
    }

    #[test]
    fn fields_are_json_or_text_and_paths_become_uris() {
        let set = ["video=/films/a b.mov", "n=0.5", "a.b=x=y"].map(String::from).to_vec();
        let args = InputArgs { input: Some("{\"n\": 1}".into()), set };
        let expected = json!({"video": "file:///films/a%20b.mov", "n": 0.5, "a": {"b": "x=y"}});
        assert_eq!(args.value(&schema()).unwrap(), expected);
        let remote = InputArgs { input: None, set: vec!["video=s3://b/k".into()] };
        assert_eq!(remote.value(&schema()).unwrap(), json!({"video": "s3://b/k"}));
    }

    #[test]
    fn what_cannot_be_read_says_which_option_it_was() {
        for (input, set, what) in [
            (Some("{"), None, "--input"),
            (Some("@/no/such/file"), None, "/no/such/file"),
            (None, Some("n"), "FIELD=VALUE"),
            (Some("{\"n\": 1}"), Some("n.x=2"), "no record"),
        ] {
            let args = InputArgs { input: input.map(Into::into), set: set.map(Into::into).into_iter().collect() };
            assert!(args.value(&schema()).unwrap_err().to_string().contains(what));
        }
    }
}
