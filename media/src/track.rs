//! `media.audio` and `media.subtitle`: one track in one piece, as one ffmpeg process would make it.

pub(crate) mod clock;
mod copy;
mod encode;
pub(crate) mod events;
mod loudness;
mod shape;
mod splice;
mod text;

use spool_proto::call::{LoudnessFacts, TrackArgs, TrackManifest, Value};
use spool_proto::failure::{Class, Failure, Warning};
use spool_proto::spec::{Container, Rational, Trim};

use crate::av::input::{Input, Limits, MediaKind};
use crate::choose::{self, Subtitle, choose};
use crate::jumps::Shift;
use crate::piece::Summary;
use crate::{Host, Product, params, probe, process};
use clock::Clock;

/// Encodes or copies one audio track into the artifact `track`.
///
/// # Errors
/// Class `input` when the stream is missing, unreadable or holds no sound; class `spec` when the encoder refuses what was asked.
pub fn audio(args: &TrackArgs, host: &mut dyn Host) -> Result<Product, Failure> {
    let asked = args.spec.audio_of(args.track).ok_or_else(|| {
        Failure::new(Class::Spec, "no_audio", "the job leaves audio out (-an), yet an audio track was asked for")
    })?;
    match params::audio(asked) {
        None => copy::run(args, MediaKind::Audio, host),
        Some(encoder) => encode::run(args, asked, &encoder, host),
    }
}

/// Copies one subtitle track into the artifact `track`, or converts its text.
///
/// # Errors
/// As [`audio`]; class `spec`, code `subtitles_refused`, where the container does not take the codec.
pub fn subtitle(args: &TrackArgs, host: &mut dyn Host) -> Result<Product, Failure> {
    let input = Input::open(host.open(0)?, &Limits::default())?;
    let codec = usize::try_from(args.stream).ok().and_then(|index| input.streams().get(index)).map(|s| s.codec.clone());
    drop(input);
    match choose::subtitle(&args.spec, codec.as_deref().unwrap_or_default()) {
        Subtitle::As(text) => text::run(args, text, host),
        Subtitle::Copied | Subtitle::Lost => copy::run(args, MediaKind::Subtitle, host),
    }
}

/// Opens the source, leaves only the track's stream of it to be read, and starts its clock.
fn open(args: &TrackArgs, kind: MediaKind, host: &mut dyn Host) -> Result<(Input, Clock), Failure> {
    open_input(args, 0, kind, host)
}

/// The same with another of the call's inputs.
fn open_input(args: &TrackArgs, number: u32, kind: MediaKind, host: &mut dyn Host) -> Result<(Input, Clock), Failure> {
    let source = host.open(usize::try_from(number).unwrap_or(usize::MAX))?;
    let bytes = source.len();
    let mut input = Input::open(source, &Limits::default())?;
    let index = usize::try_from(args.stream).expect("usize has at least 32 bits here");
    match input.streams().get(index) {
        Some(stream) if stream.kind == kind => {}
        Some(stream) => {
            let message = format!("{} is {:?}, not {kind:?}", stream.label(), stream.kind).to_lowercase();
            return Err(Failure::new(Class::Input, "wrong_stream", message));
        }
        None => {
            let message = format!("the source has no stream {index}, only {}", input.streams().len());
            return Err(Failure::new(Class::Input, "no_such_stream", message));
        }
    }
    let mut used = choose(&probe::facts(&input, bytes), &args.spec)?.streams();
    if !used.contains(&index) {
        used.push(index);
    }
    let stream = &input.streams()[index];
    let shift = Shift::new(input.shift_of(stream, input.ts_offset_us(&used), args.jumps.clone()));
    let clock = Clock::new(stream.time_base, input.may_jump(), shift);
    input.select(&[index]);
    Ok((input, clock))
}

/// `-ss` and `-t` as ffmpeg's output options, microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub start_us: Option<i64>,
    pub duration_us: Option<i64>,
}

impl Window {
    fn new(trim: &Trim) -> Window {
        let micros = |span: spool_proto::time::Span| i64::try_from(span.0).unwrap_or(i64::MAX);
        Window { start_us: trim.start.map(micros), duration_us: trim.duration.map(micros) }
    }
}

/// What a finished piece is told with.
struct Made {
    summary: Summary,
    time_base: Rational,
    /// Samples per channel, or events.
    units: u64,
    decoded: u64,
    entry: &'static str,
    loudness: Option<LoudnessFacts>,
}

fn product(args: &TrackArgs, made: Made, path: std::path::PathBuf, mut warnings: Vec<Warning>) -> Product {
    let Made { summary, time_base, units, decoded, entry, loudness } = made;
    if summary.packets == 0 {
        let text = match args.spec.container {
            Container::Mp4 | Container::Mov => "there is nothing in it: the film has no track for it",
            Container::Mkv | Container::Webm => "there is nothing in it: its track in the film is empty",
        };
        warnings.push(Warning { code: "empty_track".into(), stream: Some(args.stream), text: text.into() });
    }
    Product {
        files: vec![("track".to_string(), path)],
        warnings,
        value: Value::Track(TrackManifest {
            codec: summary.codec,
            chunk: None,
            units,
            packets: summary.packets,
            first_pts: summary.first_pts,
            last_pts: summary.last_pts,
            time_base: (time_base.num, time_base.den),
            bytes: summary.payload_bytes,
            parameters: summary.parameters,
            entry: entry.to_string(),
            decoded,
            peak_memory_mib: process::peak_mib(),
            loudness,
            buffer: None,
        }),
    }
}
