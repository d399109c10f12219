//! ffmpeg's users write `-crf 21`; clap reads `--crf 21`. The command line is rewritten before it is parsed, by what the
//! command itself declares: a `-name` of several letters that is a long option of the subcommand becomes `--name`.

use std::ffi::OsString;

use clap::{Arg, Command};

/// Options of ffmpeg's that Spool does not take, and what it takes instead.
const INSTEAD: &[(&[&str], &str)] = &[
    (
        &["x264-params", "x264opts", "x265-params", "svtav1-params"],
        "encoder parameters are not passed through: they decide whether chunks join; use -preset, -tune, -profile:v, -g",
    ),
    (
        &["filter_complex", "lavfi", "filter_complex_script"],
        "one plain chain is taken: -vf scale=1280:-2,yadif; --overlay lays a picture over the film; --clip joins ranges of it",
    ),
    (&["movflags"], "mp4 and mov are always written with their index in front (faststart)"),
    (&["q:v", "qscale", "qscale:v", "qp", "q:a"], "take -crf, or -b:v and -b:a"),
    (&["pass", "passlogfile"], "two passes are not taken; use -crf, or -b:v in one pass"),
    (&["f"], "the container follows from the output's extension: .mp4, .mov, .mkv, .webm"),
    (&["vsync", "fps_mode"], "frames keep their times; -r or -vf fps= makes the rate constant"),
    (
        &["bf", "refs", "keyint_min", "sc_threshold", "level", "level:v", "force_key_frames", "x264-opts"],
        "frame structure follows from -preset, -profile:v and -g",
    ),
    (
        &["hwaccel", "hwaccel_device", "init_hw_device"],
        "sources are decoded in software; the workers are chosen by the scheduler",
    ),
    (&["loglevel", "v", "hide_banner", "nostdin", "report"], "logs are set by RUST_LOG and --log-format"),
    (&["stats", "nostats", "progress"], "progress is set by --progress auto|bar|plain|json|none"),
    (&["metadata", "map_metadata", "map_chapters"], "tags and chapters are taken over from the source"),
    (&["stream_loop", "itsoffset", "copyts", "re", "shortest", "frames:v", "vframes"], "trim with -ss, -to, -t"),
];

/// Rewrites `args` (program name first) for `command`.
///
/// # Errors
/// An option of several letters that the subcommand does not have: named, with what to take instead.
pub fn rewrite(command: &Command, args: impl IntoIterator<Item = OsString>) -> Result<Vec<OsString>, String> {
    let mut args = args.into_iter();
    let mut out: Vec<OsString> = args.next().into_iter().collect();
    let mut scope = command;
    let mut globals = Options(Vec::new());
    let mut options = Options::of(command, false);
    while let Some(arg) = args.next() {
        let Some(text) = arg.to_str() else {
            out.push(arg);
            continue;
        };
        if text == "--" {
            out.push(arg);
            out.extend(args);
            break;
        }
        if !text.starts_with('-') || text == "-" {
            if let Some(sub) = scope.find_subcommand(text) {
                globals.0.extend(Options::of(scope, true).0);
                scope = sub;
                options = Options::of(scope, false);
            }
            out.push(arg);
            // What follows belongs to another program, word for word.
            if scope.get_positionals().any(Arg::is_trailing_var_arg_set) {
                out.extend(args);
                break;
            }
            continue;
        }
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let bare = name.trim_start_matches('-');
        let found = options.find(bare).or_else(|| globals.find(bare));
        let single = !name.starts_with("--");
        let takes_value = match found {
            Some(takes_value) if single && bare.len() > 1 => {
                out.push(format!("--{bare}{}", value.map(|v| format!("={v}")).unwrap_or_default()).into());
                takes_value
            }
            Some(takes_value) => {
                out.push(arg.clone());
                takes_value
            }
            None if let Some(own) = track_option(&options, bare) => {
                // `-c:a:1 ac3`
                let value = value.map(OsString::from).or_else(|| args.next()).unwrap_or_default();
                out.push(format!("--{TRACK_OPTION}").into());
                out.push(format!("{own}={}", value.to_string_lossy()).into());
                continue;
            }
            None if single && bare.len() > 1 => return Err(unknown(scope, bare)),
            None => {
                out.push(arg.clone());
                false
            }
        };
        // The value is the next word whatever it looks like: `-map -0:s`, `-cpu-used -5`.
        if takes_value && value.is_none() {
            out.extend(args.next());
        }
    }
    Ok(out)
}

/// The option that stands for all of one audio track's: `TRACK:OPTION=VALUE`.
const TRACK_OPTION: &str = "audio-track";

/// Of `c:a:1`: `1:c:a`, where the command has such options.
fn track_option(options: &Options, bare: &str) -> Option<String> {
    let (option, track) = bare.trim_start_matches('-').rsplit_once(':')?;
    let numbered = !track.is_empty() && track.bytes().all(|byte| byte.is_ascii_digit());
    (numbered && option.ends_with(":a") && options.find(TRACK_OPTION).is_some()).then(|| format!("{track}:{option}"))
}

/// Names of options and whether they take a value.
struct Options(Vec<(String, bool)>);

impl Options {
    fn of(command: &Command, global: bool) -> Options {
        let mut names = vec![("help".to_owned(), false), ("h".to_owned(), false)];
        for arg in command.get_arguments().filter(|arg| !arg.is_positional() && (!global || arg.is_global_set())) {
            let takes_value = arg.get_action().takes_values();
            let longs = arg.get_long_and_visible_aliases().unwrap_or_default();
            let hidden = arg.get_all_aliases().unwrap_or_default();
            names.extend(longs.into_iter().chain(hidden).map(|name| (name.to_owned(), takes_value)));
            names.extend(arg.get_short().map(|short| (short.to_string(), takes_value)));
        }
        Options(names)
    }

    fn find(&self, name: &str) -> Option<bool> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, takes_value)| *takes_value)
    }
}

fn unknown(scope: &Command, name: &str) -> String {
    let advice = INSTEAD.iter().find(|(names, _)| names.contains(&name)).map(|(_, advice)| *advice);
    let help = format!("see spool {} --help", scope.get_name());
    match advice {
        Some(advice) if scope.get_name() == "encode" => format!("-{name} is not taken: {advice}"),
        _ => format!("there is no option -{name}; {help}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::Cli;

    fn rewritten(line: &str) -> Result<String, String> {
        let words = line.split(' ').map(OsString::from);
        let out = rewrite(&Cli::command(), words)?;
        Ok(out.into_iter().map(|word| word.into_string().expect("made of text")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn single_dashes_of_the_commands_own_options_become_double() {
        for (line, expected) in [
            (
                "spool encode in.mov -o out.mp4 -c:v libx264 -crf 21 -y",
                "spool encode in.mov -o out.mp4 --c:v libx264 --crf 21 -y",
            ),
            ("spool encode in.mov -crf=21", "spool encode in.mov --crf=21"),
            ("spool encode -vcodec libx265 in.mov", "spool encode --vcodec libx265 in.mov"),
            ("spool encode in.mov --crf 21 -an", "spool encode in.mov --crf 21 --an"),
            // The word behind an option is its value, whatever it looks like.
            ("spool encode in.mov -map -0:s -cpu-used -5", "spool encode in.mov --map -0:s --cpu-used -5"),
            ("spool encode in.mov -name -an", "spool encode in.mov --name -an"),
            ("spool encode -crf 21 -- -odd.mov", "spool encode --crf 21 -- -odd.mov"),
            (
                "spool encode in.mov -c:a:1 ac3 --b:a:0=96k -an",
                "spool encode in.mov --audio-track 1:c:a=ac3 --audio-track 0:b:a=96k --an",
            ),
            ("spool encode -help", "spool encode --help"),
            (
                "spool ffmpeg -y -i in.mov -crf 21 -x265-params a=b",
                "spool ffmpeg -y -i in.mov -crf 21 -x265-params a=b",
            ),
            ("spool job list -o json", "spool job list -o json"),
            ("spool job list -log-format json", "spool job list --log-format json"),
        ] {
            assert_eq!(rewritten(line).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn names_of_films_may_begin_with_a_dash() {
        let words = "spool encode -i -in.mov -o -out.mp4".split(' ').map(OsString::from);
        let rewritten = rewrite(&Cli::command(), words).expect("both are values");
        assert!(Cli::try_parse_from(rewritten).is_ok());
    }

    #[test]
    fn options_of_ffmpeg_that_are_not_taken_are_named() {
        for (line, says) in [
            ("spool encode in.mov -x264-params keyint=1", "-preset"),
            ("spool encode in.mov -filter_complex [0]scale", "-vf"),
            ("spool encode in.mov -movflags +faststart", "faststart"),
            ("spool encode in.mov -q:v 2", "-crf"),
            ("spool encode in.mov -c:v:0 libx264", "there is no option -c:v:0"),
            ("spool job list -c:a:0 aac", "there is no option -c:a:0"),
            ("spool encode in.mov -crv 21", "there is no option -crv; see spool encode --help"),
            // Options of one command are not known to another.
            ("spool job list -crf 21", "there is no option -crf"),
        ] {
            let refusal = rewritten(line).expect_err(line);
            assert!(refusal.contains(says), "{line}: {refusal}");
        }
    }
}
