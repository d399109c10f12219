//! What becomes of an ffmpeg command line, and why. Pure: the same line, source and mode, the same decision.
//!
//! A line is turned into the words of `spool encode` and read by it, so that what `spool encode` takes is all that is needed for
//! a value to be taken here. What stands here is which options mean the same to both, and where ffmpeg's defaults differ.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::Parser;
use serde::Serialize;
use spool_proto::call::{MediaFacts, SourceFacts};
use spool_proto::spec::{Container, EncodeSpec, StreamKind, Subtitles};

use super::line::{File, Given, Line, Terminal};
use crate::cli::{Cli, Command};
use crate::encode::options::{EncodeArgs, Places};

/// Who does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Spool, in chunks.
    Split,
    /// Spool, in one piece.
    Whole,
    /// The local ffmpeg.
    Local,
}

/// The most that Spool may do: `SPOOL_FFMPEG_MODE`.
pub type Most = Way;

/// A line that Spool runs.
#[derive(Debug)]
pub struct Job {
    pub args: Box<EncodeArgs>,
    /// What comes to the same, behind `spool`.
    pub words: Vec<OsString>,
    pub input: OsString,
    pub output: OsString,
    pub container: Container,
    pub terminal: Terminal,
}

#[derive(Debug)]
pub struct Decision {
    pub way: Way,
    /// Why it is not more, each naming its option.
    pub reasons: Vec<String>,
    /// Of every way but [`Way::Local`].
    pub job: Option<Job>,
}

/// Decides. Without `source` what depends on it is taken to be fine: ask again once it is known.
pub fn decide(args: &[OsString], source: Option<&SourceFacts>, most: Most) -> Decision {
    match job(args, source, most) {
        Ok((job, why_whole)) => {
            let way = if why_whole.is_empty() { Way::Split } else { Way::Whole };
            Decision { way, reasons: why_whole, job: Some(job) }
        }
        Err(reason) => Decision { way: Way::Local, reasons: vec![reason], job: None },
    }
}

/// The option of `spool encode` that means the same. Columns: ffmpeg's name, the stream specifiers it may carry, Spool's name.
const SAME: &[(&str, &[&str], &str)] = &[
    ("c", &["v"], "c:v"),
    ("codec", &["v"], "c:v"),
    ("vcodec", &[""], "c:v"),
    ("crf", &["", "v"], "crf"),
    ("b", &["v"], "b:v"),
    ("maxrate", &["", "v"], "maxrate"),
    ("bufsize", &["", "v"], "bufsize"),
    ("preset", &["", "v"], "preset"),
    ("tune", &["", "v"], "tune"),
    ("profile", &["v"], "profile:v"),
    ("g", &["", "v"], "g"),
    ("pix_fmt", &["", "v"], "pix_fmt"),
    ("vf", &[""], "vf"),
    ("filter", &["v"], "vf"),
    ("s", &["", "v"], "s"),
    ("r", &["", "v"], "r"),
    ("threads", &["", "v"], "threads"),
    ("deadline", &["", "v"], "deadline"),
    ("cpu-used", &["", "v"], "cpu-used"),
    ("vn", &[""], "vn"),
    ("c", &["a"], "c:a"),
    ("codec", &["a"], "c:a"),
    ("acodec", &[""], "c:a"),
    ("b", &["a"], "b:a"),
    ("ab", &[""], "b:a"),
    ("ar", &["", "a"], "ar"),
    ("ac", &["", "a"], "ac"),
    ("af", &[""], "af"),
    ("filter", &["a"], "af"),
    ("an", &[""], "an"),
    ("c", &["s"], "c:s"),
    ("codec", &["s"], "c:s"),
    ("scodec", &[""], "c:s"),
    ("sn", &[""], "sn"),
    ("map", &[""], "map"),
    ("ss", &[""], "ss"),
    ("to", &[""], "to"),
    ("t", &[""], "t"),
];

/// Output options that change nothing about a film that Spool writes, or are looked at apart.
const APART: [&str; 3] = ["f", "movflags", "max_muxing_queue_size"];

/// Files whose names end so are read the same by both; pictures, playlists, scripts and raw streams are left to ffmpeg.
const FILMS: [&str; 21] = [
    "mp4", "m4v", "mov", "qt", "mkv", "webm", "ts", "m2ts", "mts", "mpg", "mpeg", "vob", "m2p", "avi", "flv", "f4v",
    "mxf", "wmv", "asf", "3gp", "ogv",
];

/// `c:v:0` is Spool's `c:v` of the first video stream.
fn same(name: &str) -> Option<(&'static str, bool)> {
    let (base, specifier) = name.split_once(':').unwrap_or((name, ""));
    let (kind, first) = specifier.strip_suffix(":0").map_or((specifier, false), |kind| (kind, true));
    let found = SAME.iter().find(|(known, kinds, _)| *known == base && kinds.contains(&kind));
    found.filter(|_| !(first && kind.is_empty())).map(|(.., own)| (*own, first))
}

fn job(args: &[OsString], source: Option<&SourceFacts>, most: Most) -> Result<(Job, Vec<String>), String> {
    if most == Way::Local {
        return Err("SPOOL_FFMPEG_MODE is local".into());
    }
    let line = Line::read(args, |name| APART.contains(&name) || same(name).is_some())?;
    let [input] = &*line.inputs else {
        return Err(match line.inputs.len() {
            0 => "no input is named with -i".into(),
            number => format!("there are {number} inputs; one is modelled"),
        });
    };
    let [output] = &*line.outputs else {
        return Err(match line.outputs.len() {
            0 => "no output is named".into(),
            number => format!("there are {number} outputs; one is modelled"),
        });
    };
    let container = files(input, output)?;
    if let Some(option) = input.options.iter().find(|option| option.name != "threads") {
        return Err(format!("-{} in front of -i is not modelled", option.name));
    }
    let mut words: Vec<OsString> = vec!["encode".into(), "-i".into(), input.url.clone()];
    words.extend(["-o".into(), output.url.clone()]);
    words.extend(own_options(&output.options, container)?.into_iter().map(OsString::from));
    let (mut encode, mut spec) = read(&words, container)?;
    if defaults_to_no_subtitles(&spec) {
        words.push("--sn".into());
        (encode, spec) = read(&words, container)?;
    }
    let names_sound = output.options.iter().any(|option| same(&option.name).is_some_and(|(own, _)| own == "c:a"));
    if spec.audio.is_some() && container == Container::Mkv && !names_sound && source.is_none_or(has_sound) {
        return Err("-c:a is not given: for .mkv ffmpeg then takes Vorbis, which Spool does not write".into());
    }
    if let Some(source) = source {
        suits(source, &spec)?;
    }
    let mut whole = why_whole(&spec);
    if most == Way::Whole {
        whole.push("SPOOL_FFMPEG_MODE is whole".into());
    }
    if !whole.is_empty() && spec.video.is_some() {
        words.push("--chunk=24:00:00".into());
        (encode, _) = read(&words, container)?;
    }
    let (input, output) = (input.url.clone(), output.url.clone());
    Ok((Job { args: encode, words, input, output, container, terminal: line.terminal }, whole))
}

/// Both must be plain files of kinds that are read and written alike. The output's container.
fn files(input: &File, output: &File) -> Result<Container, String> {
    for (file, what) in [(input, "input"), (output, "output")] {
        let shown = file.url.display();
        let bytes = file.url.as_encoded_bytes();
        let name = bytes.split(|b| *b == b'/').next().unwrap_or_default();
        if bytes == b"-" || name.starts_with(b"pipe:") {
            return Err(format!("the {what} {shown} is a pipe; files are modelled"));
        }
        if name.contains(&b':') {
            return Err(format!("the {what} {shown} is named with a protocol or device; plain files are modelled"));
        }
        if bytes.starts_with(b"/dev/") {
            return Err(format!("the {what} {shown} is a device; files are modelled"));
        }
    }
    let extension = Path::new(&input.url).extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
    if !FILMS.contains(&&*extension) {
        return Err(format!("the input {} does not end as films do, in {}", input.url.display(), FILMS.join(", ")));
    }
    let url = output.url.to_str().ok_or("the output's name is not UTF-8")?;
    let container = Container::of_path(url)
        .map_err(|_| format!("the output {url} does not end in .mp4, .mov, .mkv or .webm, which Spool writes"))?;
    for option in &output.options {
        let value = option.value.as_deref().unwrap_or_default();
        match &*option.name {
            "f" if value != if container == Container::Mkv { "matroska" } else { container.name() } => {
                return Err(format!("-f {value}: Spool writes what the output's name says, .{container}"));
            }
            // Spool writes the index in front in any case.
            "movflags" if value.trim_start_matches('+') != "faststart" => {
                return Err(format!("-movflags {value}: only +faststart is modelled"));
            }
            _ => {}
        }
    }
    Ok(container)
}

/// The output's options as `spool encode` takes them.
fn own_options(options: &[Given], container: Container) -> Result<Vec<String>, String> {
    let mut words: Vec<String> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    let maps = options.iter().any(|option| option.name == "map");
    for Given { name, value } in options {
        let Some((own, first)) = same(name) else { continue };
        if first && maps {
            return Err(format!("-{name} with -map: options for one stream among several are not modelled"));
        }
        if own != "map" && seen.contains(&own) {
            return Err(format!("-{name} is given twice"));
        }
        seen.push(own);
        let dash = if own.len() > 1 { "--" } else { "-" };
        if let Some(value) = value.as_deref().filter(|value| own == "c:s" && *value != "copy") {
            return Err(format!("-{name} {value}: subtitles are copied or left out, not converted"));
        }
        match value.as_deref() {
            // As many as ffmpeg likes: Spool's own choice.
            Some("0") if own == "threads" => {}
            Some(value) => words.push(format!("{dash}{own}={value}")),
            None => words.push(format!("{dash}{own}")),
        }
    }
    let copies = |own: &str| {
        options.iter().any(|o| o.value.as_deref() == Some("copy") && same(&o.name).is_some_and(|(o, _)| o == own))
    };
    let trims = ["ss", "to", "t"].into_iter().find(|option| seen.contains(option));
    for own in ["c:a", "c:s"] {
        if let (true, Some(option)) = (copies(own), trims) {
            return Err(format!(
                "-{own} copy together with -{option}: where ffmpeg cuts copied packets is not modelled"
            ));
        }
    }
    for (one, other) in [("t", "to"), ("vn", "map"), ("an", "map"), ("sn", "map"), ("sn", "c:s")] {
        if seen.contains(&one) && seen.contains(&other) {
            return Err(format!("-{one} together with -{other} is not modelled"));
        }
    }
    if container == Container::Webm && seen.contains(&"c:s") {
        return Err("-c:s into .webm is not modelled".into());
    }
    Ok(words)
}

/// Lets `spool encode` read its words.
fn read(words: &[OsString], container: Container) -> Result<(Box<EncodeArgs>, EncodeSpec), String> {
    let line = std::iter::once(OsString::from("spool")).chain(words.iter().cloned());
    let cli = Cli::try_parse_from(line).map_err(|error| {
        let text = error.to_string();
        let text = text.lines().next().unwrap_or_default();
        // clap shows its own dashes; the user wrote one.
        text.trim_start_matches("error: ").replace("'--", "'-")
    })?;
    let Command::Encode(args) = cli.command else { return Err("this is no encode".into()) };
    let places = Places {
        source: "file:///in".into(),
        output: format!("file:///out.{container}"),
        index: None,
        quality_report: None,
    };
    let spec = args.spec(places).map_err(|error| error.to_string())?;
    spec.check().map_err(|failure| failure.message)?;
    Ok((args, spec))
}

/// ffmpeg's mp4 and mov have no subtitle codec of their own, so that subtitles go there only when asked for.
fn defaults_to_no_subtitles(spec: &EncodeSpec) -> bool {
    spec.subtitles == Subtitles::Auto
        && spec.maps.is_empty()
        && matches!(spec.container, Container::Mp4 | Container::Mov)
}

/// What one encoder must see from end to end.
fn why_whole(spec: &EncodeSpec) -> Vec<String> {
    let Some(video) = &spec.video else {
        return vec!["-vn: sound is always encoded in one piece".into()];
    };
    let mut reasons = Vec::new();
    if video.bitrate_bps.is_some() {
        reasons.push("-b:v: the encoder spreads the bit rate over the whole film".into());
    }
    if video.bufsize_bits.is_some() {
        reasons.push("-maxrate and -bufsize: the buffer must hold over the whole film".into());
    }
    reasons
}

fn has_sound(source: &SourceFacts) -> bool {
    source.streams.iter().any(|stream| matches!(stream.media, MediaFacts::Audio(_)))
}

/// Whether both make the same of this source.
fn suits(source: &SourceFacts, spec: &EncodeSpec) -> Result<(), String> {
    let count = |is: fn(&MediaFacts) -> bool| source.streams.iter().filter(|stream| is(&stream.media)).count();
    let mapped = |kind: StreamKind| {
        let takes = |map: &&spool_proto::spec::StreamMap| !map.negative && map.kind.is_none_or(|own| own == kind);
        spec.maps.iter().filter(takes).collect::<Vec<_>>()
    };
    let subtitles = count(|media| matches!(media, MediaFacts::Subtitle));
    let videos = count(|media| matches!(media, MediaFacts::Video(_)));
    if spec.video.is_some() && count(|media| matches!(media, MediaFacts::Video(video) if !video.attached_picture)) == 0
    {
        return Err("the source has no video".into());
    }
    if videos > 1 && mapped(StreamKind::Video).iter().any(|map| map.index.is_none()) {
        return Err(format!("-map takes several of the source's {videos} video streams; one is modelled"));
    }
    if mapped(StreamKind::Video).len() > 1 && mapped(StreamKind::Video).iter().any(|map| map.kind.is_none()) {
        return Err("several -map that may take video are not modelled".into());
    }
    if count(|media| matches!(media, MediaFacts::Data)) > 0 && !mapped(StreamKind::Data).is_empty() {
        return Err("-map takes the source's data streams, which Spool leaves out".into());
    }
    match (spec.subtitles, spec.maps.is_empty()) {
        _ if subtitles == 0 => {}
        (Subtitles::Auto, true) if matches!(spec.container, Container::Mkv | Container::Webm) => {
            return Err(format!(
                "the source has subtitles, which ffmpeg converts for .{}; -sn or -c:s copy would do",
                spec.container
            ));
        }
        (Subtitles::Auto, false) if !mapped(StreamKind::Subtitle).is_empty() => {
            return Err("-map takes subtitles, which ffmpeg converts; -c:s copy would do".into());
        }
        (Subtitles::Copy, true) if subtitles > 1 => {
            return Err(format!("-c:s copy takes one of the source's {subtitles} subtitles; -map would say which"));
        }
        _ => {}
    }
    let alpha = source.streams.iter().find_map(|stream| match &stream.media {
        MediaFacts::Video(video) => video.pix_fmt.as_deref().filter(|format| has_alpha(format)),
        _ => None,
    });
    match alpha {
        Some(format) => Err(format!("the source is transparent ({format})")),
        None => Ok(()),
    }
}

fn has_alpha(format: &str) -> bool {
    ["yuva", "rgba", "argb", "bgra", "abgr", "gbrap", "ya8", "ya16"].iter().any(|alpha| format.starts_with(alpha))
}
