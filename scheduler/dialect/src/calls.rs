//! Calls of functions, held against what the functions declare: names, arguments, and what rules read of results. Only what the text says for
//! certain is judged; a value that is made at run time may be anything.
//!
//! [`file`] is a file with its names, [`call`] one call, [`literal`] a value as it is written, [`results`] what reactions read.

mod call;
mod file;
mod literal;
mod results;

use std::collections::BTreeMap;

use spool_function::own;
use spool_function::schema::Schema;
use spool_function::stub::starlark::{DECLARATION, OWN_FILE, name_of};
use spool_rules::value::Value;
use starlark_syntax::codemap::Span;

use crate::file::{Problem, Severity, Sources};
use file::File;

/// A function that calls are held against.
#[derive(Debug, Clone)]
struct Known {
    name: String,
    input: Schema,
    /// What a rule sees of an answer. `None`: anything.
    result: Option<Schema>,
    /// Workers have it themselves.
    own: bool,
}

/// All files of a rule set, and all functions they know.
struct Rules {
    files: BTreeMap<String, File>,
    functions: BTreeMap<String, Known>,
}

/// What is wrong with the calls of a rule set that can be read.
pub(crate) fn check(sources: &Sources) -> Vec<Problem> {
    let rules = Rules::new(sources);
    let mut problems = Vec::new();
    for file in rules.files.values() {
        let mut found = Vec::new();
        call::check(&rules, file, &mut found);
        results::check(&rules, file, &mut found);
        problems.extend(found.into_iter().map(|found| found.at(file)));
    }
    problems
}

/// Something wrong at a place of a file.
struct Found {
    span: Span,
    severity: Severity,
    code: &'static str,
    message: String,
}

impl Found {
    fn error(span: Span, code: &'static str, message: String) -> Found {
        Found { span, severity: Severity::Error, code, message }
    }

    fn at(self, file: &File) -> Problem {
        let Found { span, severity, code, message } = self;
        let (line, column) = file.place(span);
        Problem { file: file.name.clone(), line, column, severity, code: code.into(), message }
    }
}

impl Rules {
    fn new(sources: &Sources) -> Rules {
        let files = sources.0.iter().filter_map(|(name, text)| Some((name.clone(), File::parse(name, text)?)));
        let files: BTreeMap<String, File> = files.collect();
        let own = own::all().iter().map(|function| Known {
            name: function.name.into(),
            input: function.input.clone(),
            result: Some(function.result()),
            own: true,
        });
        let declared = files.values().filter_map(|file| Known::declared(file.data(DECLARATION)?));
        // Nobody declares another one in the place of Spool's own.
        let functions = declared.chain(own).map(|known| (known.name.clone(), known)).collect();
        Rules { files, functions }
    }

    /// The function whose stub a file calls so: `media.probe`, or a name that is loaded from a stub's file.
    fn stub(&self, file: &File, callee: &file::Name<'_>) -> Stub<'_> {
        let Some((from, their)) = file.loads.get(callee.first) else { return Stub::None };
        if file.rebound.contains(callee.first) {
            return Stub::None;
        }
        match (from.as_str(), callee.field) {
            (OWN_FILE, Some(field)) => {
                let mut members = self.functions.values().filter(|known| known.own);
                let short = |known: &Known| known.name.strip_prefix(their.as_str())?.strip_prefix('.').map(name_of);
                match members.find(|known| short(known).as_deref() == Some(field)) {
                    Some(known) => Stub::Of(known),
                    None => Stub::Missing(format!("{their}.{field}")),
                }
            }
            (OWN_FILE, None) => Stub::None,
            (from, None) => {
                let of = self.files.get(from).and_then(|stub| Known::declared(stub.data(DECLARATION)?));
                let known = of.filter(|known| name_of(&known.name) == *their);
                known.and_then(|known| self.functions.get(&known.name)).map_or(Stub::None, Stub::Of)
            }
            _ => Stub::None,
        }
    }

    /// What is said of a function that there is not.
    fn unknown(&self, name: &str) -> String {
        let own: Vec<&str> =
            self.functions.values().filter(|known| known.own).map(|known| known.name.as_str()).collect();
        match own::nearest(name, own.iter().copied()) {
            Some(near) => format!("there is no function {name:?}; {near:?} may be meant"),
            None => format!("there is no function {name:?}; workers have {}", own.join(", ")),
        }
    }
}

/// What a call by name is of.
enum Stub<'a> {
    None,
    Of(&'a Known),
    /// Of the workers' own functions none is called so.
    Missing(String),
}

impl Known {
    /// Of the data in a stub.
    fn declared(data: Value) -> Option<Known> {
        let schema = |part: &str| match data.get(part)?.get("fields")? {
            Value::Map(fields) => {
                Schema::read(&fields.iter().map(|(name, field)| (name.to_string(), field.clone())).collect()).ok()
            }
            _ => None,
        };
        Some(Known {
            name: data.get("name")?.as_text()?.to_owned(),
            input: schema("input")?,
            result: schema("output").map(|output| own::result(&output)),
            own: false,
        })
    }
}
