//! `function.toml`: what an author says of a function. What it does not know it refuses, with its place.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spool_proto::resources::Resources;
use spool_proto::time::Span;
use spool_rules::value::Value;

use crate::Problem;
use crate::schema::Schema;

/// The file's name, in the function's folder.
pub const FILE: &str = "function.toml";
/// Bytes of it at most.
pub const BYTES_MAX: usize = 64 << 10;

const NAME_MAX: usize = 63;
const VERSION_MAX: usize = 64;
const WORDS_MAX: usize = 64;
const WORD_BYTES_MAX: usize = 4096;
const DESCRIPTION_MAX: usize = 4096;
const CPU_MAX: u64 = 1_024_000;
/// A PiB.
const MIB_MAX: u64 = 1 << 30;
const WEEK_S: f64 = 7.0 * 86_400.0;
const ATTEMPTS_MAX: u8 = 100;

/// What a function is given when its manifest says nothing: one core.
const CPU: u64 = 1_000;
const MEMORY_MIB: u64 = 512;
const SCRATCH_MIB: u64 = 256;
const TIMEOUT_S: f64 = 3_600.0;

/// The manifest as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    version: String,
    #[serde(default)]
    description: String,
    command: Vec<String>,
    image: Option<String>,
    timeout: Option<f64>,
    no_progress: Option<f64>,
    expected: Option<f64>,
    attempts: Option<u8>,
    idempotent: Option<bool>,
    #[serde(default)]
    input: BTreeMap<String, Value>,
    output: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    resources: Needs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Needs {
    cpu: Option<u64>,
    memory: Option<u64>,
    scratch: Option<u64>,
}

/// A manifest that was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// `watermark-check`.
    pub name: String,
    /// As the author calls it.
    pub version: String,
    pub description: String,
    /// The program and its arguments; paths are relative to the folder, which is its working directory.
    pub command: Vec<String>,
    /// An OCI image to run the command in. `None`: it runs in the worker's own walls.
    pub image: Option<String>,
    pub input: Schema,
    /// `None`: any JSON.
    pub output: Option<Schema>,
    /// Of one call: cores, memory of all its processes together, and what it may leave in its scratch.
    pub resources: Resources,
    /// Of one attempt.
    pub timeout: Span,
    /// Without a line of progress for so long it hangs. Zero: it need not say anything.
    pub no_progress: Span,
    /// How long a call takes, about. Zero: the author does not say.
    pub expected: Span,
    /// Attempts that may fail. `None`: the job's.
    pub attempts: Option<u8>,
    /// The same input may be tried again after a failure.
    pub idempotent: bool,
}

impl Manifest {
    /// # Errors
    /// The first problem, with the key it stands at.
    pub fn parse(text: &str) -> Result<Manifest, Problem> {
        if text.len() > BYTES_MAX {
            return Err(Problem::new(FILE, format!("{} bytes, more than {BYTES_MAX}", text.len())));
        }
        let document = toml::Deserializer::parse(text).map_err(|error| Problem::new(FILE, error.to_string()))?;
        let written: Written = serde_path_to_error::deserialize(document).map_err(|error| {
            let at = match error.path().to_string().as_str() {
                "." => FILE.to_owned(),
                path => format!("{FILE}: {path}"),
            };
            Problem::new(at, error.inner().message())
        })?;
        Manifest::check(written)
    }

    fn check(written: Written) -> Result<Manifest, Problem> {
        let at = |key: &str, what: String| Problem::new(format!("{FILE}: {key}"), what);
        if !is_name(&written.name) {
            let what =
                format!("{:?} is no name: small letters, digits and - between them, at most {NAME_MAX}", written.name);
            return Err(at("name", what));
        }
        if !is_version(&written.version) {
            let what = format!(
                "{:?} is no version: letters, digits, . _ + - and at most {VERSION_MAX} of them, such as 1.2.0",
                written.version
            );
            return Err(at("version", what));
        }
        if written.description.len() > DESCRIPTION_MAX {
            return Err(at("description", format!("longer than {DESCRIPTION_MAX} bytes")));
        }
        check_command(&written.command).map_err(|what| at("command", what))?;
        if let Some(image) = &written.image
            && !is_image(image)
        {
            return Err(at(
                "image",
                format!("{image:?} is no reference of an image, such as docker.io/library/python:3.12"),
            ));
        }
        let idempotent = written.idempotent.unwrap_or(true);
        let attempts = match (written.attempts, idempotent) {
            (Some(0), _) => return Err(at("attempts", "a call needs at least one".into())),
            (Some(more @ 2..), false) => {
                return Err(at("attempts", format!("{more}, of a function that is not idempotent: it is tried once")));
            }
            (Some(attempts), _) if attempts > ATTEMPTS_MAX => {
                return Err(at("attempts", format!("{attempts} is more than {ATTEMPTS_MAX}")));
            }
            (_, false) => Some(1),
            (attempts, true) => attempts,
        };
        let seconds = |key: &str, given: Option<f64>, otherwise: f64| match given.unwrap_or(otherwise) {
            s if (0.0..=WEEK_S).contains(&s) => Ok(span(s)),
            s => Err(at(key, format!("{s} is not between 0 and {WEEK_S} seconds"))),
        };
        let timeout = seconds("timeout", written.timeout, TIMEOUT_S)?;
        if timeout == Span::ZERO {
            return Err(at("timeout", "a call needs some time".into()));
        }
        let amount = |key: &str, given: Option<u64>, otherwise: u64, most: u64| match given.unwrap_or(otherwise) {
            n if (1..=most).contains(&n) => Ok(n),
            n => Err(at(&format!("resources.{key}"), format!("{n} is not between 1 and {most}"))),
        };
        let schema = |key: &str, fields: &BTreeMap<String, Value>| {
            Schema::read(fields).map_err(|error| at(&format!("{key}.{}", error.path), error.what))
        };
        Ok(Manifest {
            input: schema("input", &written.input)?,
            output: written.output.as_ref().map(|fields| schema("output", fields)).transpose()?,
            resources: Resources {
                cpu: amount("cpu", written.resources.cpu, CPU, CPU_MAX)?,
                memory: amount("memory", written.resources.memory, MEMORY_MIB, MIB_MAX)?,
                scratch: amount("scratch", written.resources.scratch, SCRATCH_MIB, MIB_MAX)?,
                ..Resources::ZERO
            },
            timeout,
            no_progress: seconds("no_progress", written.no_progress, 0.0)?,
            expected: seconds("expected", written.expected, 0.0)?,
            attempts,
            idempotent,
            name: written.name,
            version: written.version,
            description: written.description,
            command: written.command,
            image: written.image,
        })
    }

    /// For people and programs: everything, with what was not written filled in.
    pub fn to_json(&self) -> serde_json::Value {
        #[derive(Serialize)]
        struct Shown<'a> {
            name: &'a str,
            version: &'a str,
            description: &'a str,
            command: &'a [String],
            image: Option<&'a str>,
            input: serde_json::Value,
            output: Option<serde_json::Value>,
            resources: &'a Resources,
            timeout_s: f64,
            no_progress_s: f64,
            expected_s: f64,
            attempts: Option<u8>,
            idempotent: bool,
        }
        let shown = Shown {
            name: &self.name,
            version: &self.version,
            description: &self.description,
            command: &self.command,
            image: self.image.as_deref(),
            input: self.input.to_json(),
            output: self.output.as_ref().map(Schema::to_json),
            resources: &self.resources,
            timeout_s: self.timeout.as_secs_f64(),
            no_progress_s: self.no_progress.as_secs_f64(),
            expected_s: self.expected.as_secs_f64(),
            attempts: self.attempts,
            idempotent: self.idempotent,
        };
        serde_json::to_value(shown).unwrap_or_default()
    }
}

fn span(seconds: f64) -> Span {
    std::time::Duration::from_secs_f64(seconds).into()
}

/// Whether a function may be called so.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=NAME_MAX).contains(&name.len()) && name.chars().all(plain) && !name.starts_with('-') && !name.ends_with('-')
}

/// Whether an author may call a version so.
pub fn is_version(version: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-');
    (1..=VERSION_MAX).contains(&version.len()) && version.chars().all(plain)
}

fn is_image(image: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':' | '@');
    (1..=255).contains(&image.len())
        && image.starts_with(|c: char| c.is_ascii_alphanumeric())
        && image.chars().all(plain)
}

fn check_command(command: &[String]) -> Result<(), String> {
    let Some(program) = command.first().filter(|program| !program.is_empty()) else {
        return Err("it names no program; write [\"python3\", \"main.py\"]".into());
    };
    if command.len() > WORDS_MAX {
        return Err(format!("{} words, more than {WORDS_MAX}", command.len()));
    }
    if let Some(bad) = command.iter().find(|word| word.len() > WORD_BYTES_MAX || word.contains('\0')) {
        return Err(format!("{:.40?}… is longer than {WORD_BYTES_MAX} bytes, or holds a NUL", bad));
    }
    if program.split('/').any(|part| part == "..") {
        return Err(format!("{program:?} leads out of the function's folder"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "name = \"check\"\nversion = \"1\"\ncommand = [\"./check\"]\n";

    #[test]
    fn what_is_not_said_is_filled_in() {
        let manifest = Manifest::parse(LEAST).unwrap();
        assert_eq!((manifest.resources.cpu, manifest.resources.memory, manifest.resources.scratch), (1000, 512, 256));
        assert_eq!((manifest.timeout, manifest.no_progress), (Span::from_secs(3600), Span::ZERO));
        assert!(manifest.idempotent && manifest.attempts.is_none() && manifest.output.is_none());
        let once = Manifest::parse(&format!("{LEAST}idempotent = false\n")).unwrap();
        assert_eq!(once.attempts, Some(1));
        assert_eq!(manifest.to_json()["timeout_s"], 3600.0);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let cases = [
            ("tiemout = 3\n", "function.toml: tiemout"),
            ("timeout = \"3\"\n", "function.toml: timeout"),
            ("timeout = 0\n", "function.toml: timeout"),
            ("attempts = 0\n", "function.toml: attempts"),
            ("attempts = 3\nidempotent = false\n", "function.toml: attempts"),
            ("image = \"--privileged\"\n", "function.toml: image"),
            ("[resources]\nmemroy = 5\n", "function.toml: resources.memroy"),
            ("[resources]\nmemory = 0\n", "function.toml: resources.memory"),
            ("[input]\na = \"flaot\"\n", "function.toml: input.a"),
            ("[output]\na = { type = \"int\", mx = 1 }\n", "function.toml: output.a.mx"),
            ("[[[\n", "function.toml"),
        ];
        for (more, at) in cases {
            let problem = Manifest::parse(&format!("{LEAST}{more}")).unwrap_err();
            assert_eq!(problem.at, at, "{problem}");
        }
        for (from, to, at) in [
            ("\"check\"", "\"Check\"", "function.toml: name"),
            ("\"1\"", "\"1/2\"", "function.toml: version"),
            ("[\"./check\"]", "[]", "function.toml: command"),
            ("[\"./check\"]", "[\"../check\"]", "function.toml: command"),
            ("name = \"check\"\n", "", "function.toml"),
        ] {
            let problem = Manifest::parse(&LEAST.replace(from, to)).unwrap_err();
            assert_eq!(problem.at, at, "{problem}");
        }
    }
}
