//! `media.text`: text subtitles as one WebVTT file, for players that take them beside the film and for packages that cut them into
//! segments. The source is a film's stream, or a file of its own in any usual encoding.

mod burn;
mod encoding;
pub(crate) mod webvtt;

use std::io::{Cursor, Read as _};

use spool_proto::call::{TextArgs, TextManifest, TrackArgs, Value};
use spool_proto::failure::{Class, Failure, Warning};

use crate::av::AvError;
use crate::av::input::{Input, Limits, MediaKind};
use crate::av::subtitle::Encoder;
use crate::jumps::Shift;
use crate::track::clock::Clock;
use crate::track::events::{self, Opened};
use crate::{Host, Product, Source, scratch_failed};
use webvtt::Page;

/// No subtitle file comes near: a film's text is some hundred kilobytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Writes the artifact `text`, a WebVTT file.
///
/// # Errors
/// Class input: `not_text` for subtitles that are pictures and files that are none, `no_such_stream`, `wrong_stream`, `undecodable`.
pub fn run(args: &TextArgs, host: &mut dyn Host) -> Result<Product, Failure> {
    let mut warnings = Vec::new();
    let mut args = args.clone();
    if args.burn {
        // Filters see all of the source.
        args.spec.trim = spool_proto::spec::Trim::default();
    }
    let args = &args;
    let opened = match args.stream {
        Some(stream) => events::open(
            &TrackArgs {
                spec: args.spec.clone(),
                stream,
                track: 0,
                jumps: args.jumps.clone(),
                edits: Vec::new(),
                joined: Vec::new(),
            },
            MediaKind::Subtitle,
            host,
        )?,
        None => open_file(args, host, &mut warnings)?,
    };
    let stream = opened.input.streams()[opened.index].clone();
    if !crate::av::names::is_text_subtitle(&stream.codec) {
        let how = if args.burn { "only text is drawn into the film; choose another with si=N" } else { "leave it out" };
        let message = format!("{} holds pictures, not text; {how}", stream.label());
        return Err(Failure::new(Class::Input, "not_text", message));
    }
    if args.burn {
        return burn::run(opened, warnings, host);
    }
    let raw = stream.codec == "webvtt";
    let mut encoder: Option<Encoder> = None;
    let mut page = Page::default();
    let length_us = opened.window.duration_us;
    warnings.extend(events::read(opened, host, &mut |decoder, mut event, pts_us, packet| {
        let text = if event.is_empty() {
            String::new()
        } else if raw {
            // As it stands: going through libav's events would lose voices and classes.
            String::from_utf8_lossy(packet.data()).into_owned()
        } else {
            let encoder = match &mut encoder {
                Some(encoder) => encoder,
                none => none.insert(Encoder::open("webvtt", &decoder.header())?),
            };
            let shown = event.settle(pts_us);
            let bytes = encoder.encode(&event).map_err(|error: AvError| {
                error.failure(Class::Internal, "encode_failed", format_args!("writing the subtitles at {shown} µs"))
            })?;
            webvtt::escape(&String::from_utf8_lossy(&bytes))
        };
        let start_us = event.settle(pts_us);
        page.add(start_us, event.known_duration_us(), &webvtt::settings(packet), &text);
        Ok(())
    })?);
    let cues = page.finish(length_us);
    let path = host.scratch().join("text.vtt");
    std::fs::write(&path, webvtt::file(&cues)).map_err(|error| scratch_failed(&path, &error))?;
    let language = stream.tags.iter().find(|(key, _)| key.eq_ignore_ascii_case("language")).map(|(_, l)| l.clone());
    let manifest = TextManifest { cues: cues.iter().map(webvtt::Cue::times).collect(), language };
    Ok(Product { files: vec![("text".into(), path)], warnings, value: Value::Text(manifest) })
}

/// A subtitle file of its own: made UTF-8, then read by libav from memory. Its times count from the film's start.
fn open_file(args: &TextArgs, host: &mut dyn Host, warnings: &mut Vec<Warning>) -> Result<Opened, Failure> {
    let source = host.open(0)?;
    if source.len() > FILE_BYTES_MAX {
        let message = format!("the subtitle file has {} bytes; at most {FILE_BYTES_MAX} are taken", source.len());
        return Err(Failure::new(Class::Input, "not_text", message));
    }
    let mut bytes = Vec::new();
    source.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| {
        Failure::new(Class::Transient, "source_unreadable", format!("reading the subtitle file failed ({error})"))
    })?;
    let read = encoding::to_utf8(&bytes);
    if read.guessed {
        warnings.push(Warning {
            code: "text_encoding_guessed".into(),
            stream: None,
            text: format!("the subtitle file does not say how it is encoded; it is read as {}", read.encoding),
        });
    }
    let not_text = |why: &str| {
        let message = format!("the file is not a subtitle file that can be read ({why}); give .srt, .vtt or .ass");
        Failure::new(Class::Input, "not_text", message)
    };
    let mut input = Input::open_text(Box::new(Memory(Cursor::new(read.text.into_bytes()))), &Limits::default())
        .map_err(|failure| if failure.class == Class::Input { not_text(&failure.message) } else { failure })?;
    let stream = input.streams().first().ok_or_else(|| not_text("nothing is in it"))?;
    let shift = Shift::new(input.shift_of(stream, 0, Vec::new()));
    let clock = Clock::new(stream.time_base, false, shift);
    input.select(&[0]);
    Ok(Opened { input, clock, index: 0, window: events::window(&args.spec), on_damage: args.spec.on_damage })
}

/// Bytes in memory as a source.
struct Memory(Cursor<Vec<u8>>);

impl std::io::Read for Memory {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(into)
    }
}

impl std::io::Seek for Memory {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}

impl Source for Memory {
    fn len(&self) -> u64 {
        u64::try_from(self.0.get_ref().len()).unwrap_or(u64::MAX)
    }
}
