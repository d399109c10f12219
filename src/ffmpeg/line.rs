//! An ffmpeg command line, read as ffmpeg reads it: an option belongs to the file named next after it, some to no file.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

/// An option and its value, if it takes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Without its dash.
    pub name: String,
    pub value: Option<String>,
}

/// A file and the options in front of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub url: OsString,
    pub options: Vec<Given>,
}

/// ffmpeg's log levels that matter here.
pub const FATAL: i32 = 8;
pub const ERROR: i32 = 16;
pub const WARNING: i32 = 24;
pub const INFO: i32 = 32;

const LEVELS: [(&str, i32); 9] = [
    ("quiet", -8),
    ("panic", 0),
    ("fatal", FATAL),
    ("error", ERROR),
    ("warning", WARNING),
    ("info", INFO),
    ("verbose", 40),
    ("debug", 48),
    ("trace", 56),
];

/// What is told on the terminal, and what may be asked there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminal {
    /// `-v`, ffmpeg's number.
    pub level: i32,
    /// `-stats`, `-nostats`.
    pub stats: Option<bool>,
    /// Between two lines.
    pub every: Duration,
    /// `-progress`.
    pub progress: Option<String>,
    /// Questions may be asked.
    pub stdin: bool,
    /// `-y`
    pub overwrite: bool,
    /// `-n`
    pub never_overwrite: bool,
}

impl Default for Terminal {
    fn default() -> Terminal {
        Terminal {
            level: INFO,
            stats: None,
            every: Duration::from_millis(500),
            progress: None,
            stdin: true,
            overwrite: false,
            never_overwrite: false,
        }
    }
}

/// A whole command line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line {
    pub terminal: Terminal,
    pub inputs: Vec<File>,
    pub outputs: Vec<File>,
}

/// Options that take no value and belong to a file.
const SWITCHES: [&str; 3] = ["an", "vn", "sn"];

impl Line {
    /// `known` says of an option that belongs to a file whether it is modelled: how many words an unknown one takes is unknown
    /// too, so reading ends there.
    ///
    /// # Errors
    /// What cannot be read, as a reason for people.
    pub fn read(args: &[OsString], known: impl Fn(&str) -> bool) -> Result<Line, String> {
        let mut line = Line::default();
        let mut options = Vec::new();
        let mut words = args.iter();
        while let Some(word) = words.next() {
            let dash = word.as_encoded_bytes().starts_with(b"-") && word.len() > 1;
            if !dash {
                line.outputs.push(File { url: word.clone(), options: std::mem::take(&mut options) });
                continue;
            }
            let name = text(word)?.trim_start_matches('-').to_owned();
            if word.as_encoded_bytes().starts_with(b"--") {
                return Err(format!("{}: two dashes are not modelled", text(word)?));
            }
            let mut value = || {
                let value = words.next().ok_or_else(|| format!("-{name} has no value"))?;
                text(value).map(str::to_owned)
            };
            if line.terminal.take(&name, &mut value)? {
                continue;
            }
            if name == "i" {
                let url = words.next().ok_or("-i names no file")?.clone();
                line.inputs.push(File { url, options: std::mem::take(&mut options) });
                continue;
            }
            if !known(&name) {
                return Err(format!("-{name} is not modelled"));
            }
            let value = if SWITCHES.contains(&&*name) { None } else { Some(value()?) };
            options.push(Given { name, value });
        }
        match options.first() {
            Some(option) => Err(format!("-{} stands behind the last file, where it belongs to none", option.name)),
            None => Ok(line),
        }
    }
}

impl Terminal {
    /// Takes an option that belongs to no file. False: it is none.
    fn take(&mut self, name: &str, value: &mut impl FnMut() -> Result<String, String>) -> Result<bool, String> {
        match name {
            "y" => self.overwrite = true,
            "n" => self.never_overwrite = true,
            "hide_banner" => {}
            "stdin" => self.stdin = true,
            "nostdin" => self.stdin = false,
            "stats" => self.stats = Some(true),
            "nostats" => self.stats = Some(false),
            "v" | "loglevel" => {
                let level = value()?;
                let named = LEVELS.iter().find(|(name, _)| *name == level).map(|(_, number)| *number);
                self.level = named
                    .or_else(|| level.parse().ok())
                    .ok_or_else(|| format!("-{name} {level}: flags of log levels are not modelled"))?;
            }
            "stats_period" => {
                let seconds = value()?;
                let read = seconds.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                self.every = read
                    .filter(|every| !every.is_zero())
                    .ok_or_else(|| format!("-stats_period {seconds}: only plain seconds are modelled"))?;
            }
            "progress" => {
                let url = value()?;
                let pipe = url.strip_prefix("pipe:").is_some_and(|fd| fd.parse::<u16>().is_ok());
                if url != "-" && !pipe && url.contains(':') {
                    return Err(format!("-progress {url}: progress goes to a file or a pipe, not over a protocol"));
                }
                self.progress = Some(url);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn text(word: &OsStr) -> Result<&str, String> {
    word.to_str().ok_or_else(|| format!("{} is not UTF-8", word.display()))
}
