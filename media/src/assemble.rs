//! `media.assemble`: pieces in, one film out.
//!
//! Two passes over the pieces. The first checks that a video track's chunks belong together (one sample entry, times that follow
//! each other) and computes its dts; it keeps eight bytes a frame. The second writes all tracks, merged by dts, reading every piece as
//! a stream: memory does not grow with the film.

mod dts;
mod film_timeline;
pub(crate) mod setup;

use std::fs::File;
use std::io::BufWriter;
use std::ops::Range;

use spool_proto::call::{AssembleArgs, Edit, FilmManifest, MediaFacts, StreamFacts, Value};
use spool_proto::failure::{Class, Failure, Warning};
use spool_proto::package::GoesOn;
use spool_proto::spec::{Container, Rational};

use crate::av::input::{Input, InputChapter, Limits, MediaKind};
use crate::av::output::{Output, SIDE_BUFFER_SIZES, SIDE_DOLBY_VISION, StreamSetup};
use crate::av::packet::SIDE_DISPLAY_MATRIX;
use crate::choose::choose;
use crate::encode::hdr;
use crate::piece::{Kind, Packet, Parameters, PieceReader};
use crate::{Host, Product, Source, scratch_failed};
use dts::Schedule;
pub use film_timeline::FilmTimeline;

type Reader = PieceReader<Box<dyn Source>>;

/// One track before the join.
pub(crate) struct Track<'a> {
    pub facts: &'a StreamFacts,
    /// Which of the call's inputs it is made of.
    inputs: Range<usize>,
    pub parameters: Parameters,
    /// `None` for tracks whose packets keep the dts they have.
    pub schedule: Option<Schedule>,
    /// First pts in presentation order, in the track's timebase.
    pub first_pts: Option<i64>,
    pub is_empty: bool,
}

fn internal(code: &str, message: String) -> Failure {
    Failure::new(Class::Internal, code, message)
}

/// Joins the pieces. See [`spool_proto::call::Args::Assemble`] for inputs and outputs.
///
/// # Errors
/// `internal`/`parameters_differ` when a chunk would need another sample entry, `internal`/`chunks_overlap` when chunks do not
/// follow each other, `internal`/`chunk_damaged` when a piece cannot be what an encode leaves, `internal`/`artifact_malformed`
/// when one is cut short: encoding it again is what helps.
pub fn run(args: &AssembleArgs, host: &mut dyn Host) -> Result<Product, Failure> {
    let mut tracks = survey_all(args, host)?;
    let path = host.scratch().join(format!("film.{}", extension(args.spec.container)));
    let mut output = Output::create(&path, args.spec.container)?;
    // The facts of a probe keep neither the chapters' own tags nor what else a stream carries beside its packets.
    let source = Input::open(host.open(0)?, &Limits::default())?;
    let chapters = source.chapters();
    let warnings = add_side_data(&mut tracks, &source);
    describe(args, &tracks, &chapters, &mut output)?;
    attach(args, &source, &mut output)?;
    drop(source);
    output.begin()?;
    let written = write(&tracks, &mut output, host)?;
    let shift_us = shift_us(args.spec.container, &tracks);
    output.finish(&mut || written.report(host))?;

    let mut files = vec![("film".to_string(), path.clone())];
    let timeline = tracks.iter().find_map(|track| {
        let schedule = track.schedule.as_ref()?;
        Some(FilmTimeline { time_base: track.parameters.time_base, shift_us, pts: schedule.pts().to_vec() })
    });
    if let Some(timeline) = &timeline {
        let path = host.scratch().join("timeline");
        let file = File::create(&path).map_err(|error| scratch_failed(&path, &error))?;
        timeline.write(BufWriter::new(file))?;
        files.push(("timeline".to_string(), path));
    }
    let bytes = std::fs::metadata(&path).map_err(|error| scratch_failed(&path, &error))?.len();
    let film = FilmManifest {
        bytes,
        duration_us: written.end_us,
        video_frames: timeline.as_ref().map(|timeline| crate::wire::len(&timeline.pts)),
        decoded_frames: 0,
        pts_hash: timeline.as_ref().map(FilmTimeline::hash),
        buffer: None,
    };
    Ok(Product { files, warnings, value: Value::Film(film) })
}

fn extension(container: Container) -> &'static str {
    match container {
        Container::Mp4 => "mp4",
        Container::Mov => "mov",
        Container::Mkv => "mkv",
        Container::Webm => "webm",
    }
}

// ---- first pass ----

fn survey_all<'a>(args: &'a AssembleArgs, host: &mut dyn Host) -> Result<Vec<Track<'a>>, Failure> {
    let told: usize = args.tracks.iter().map(|track| pieces(track.pieces)).sum();
    // Input 0 is the source.
    if host.inputs() != told + 1 {
        let message =
            format!("the tracks are made of {told} pieces, but {} came with the call", host.inputs().saturating_sub(1));
        return Err(internal("pieces_missing", message));
    }
    let mut next = 1;
    let mut tracks = Vec::new();
    for track in &args.tracks {
        let inputs = next..next + pieces(track.pieces);
        next = inputs.end;
        let facts = args.source.streams.iter().find(|facts| facts.index == track.stream).ok_or_else(|| {
            internal("no_such_stream", format!("a track is made of stream {}, which the source has not", track.stream))
        })?;
        tracks.push(survey(facts, inputs, None, host)?);
    }
    if tracks.is_empty() {
        return Err(Failure::new(Class::Spec, "no_tracks", "the film would have no track: choose at least one stream"));
    }
    if tracks.iter().all(|track| track.is_empty) {
        let message =
            "there is nothing in any of the chosen streams (or nothing between -ss and -t): the film would be empty";
        return Err(Failure::new(Class::Input, "no_packets", message));
    }
    Ok(tracks)
}

/// Looks at the pieces of one track, or at those of video behind what was cut before.
pub(crate) fn survey<'a>(
    facts: &'a StreamFacts,
    inputs: Range<usize>,
    behind: Option<&GoesOn>,
    host: &mut dyn Host,
) -> Result<Track<'a>, Failure> {
    match (&facts.media, behind) {
        (MediaFacts::Video(_), _) => survey_video(facts, inputs, behind, host),
        (_, None) => survey_other(facts, inputs, host),
        (_, Some(_)) => Err(internal("bad_call", format!("stream {} is no video, and is cut at once", facts.index))),
    }
}

fn pieces(count: u32) -> usize {
    usize::try_from(count).expect("usize has at least 32 bits here")
}

fn open(host: &mut dyn Host, input: usize) -> Result<Reader, Failure> {
    Ok(PieceReader::open(host.open(input)?)?)
}

/// What the first pass saw of one chunk.
struct ChunkTimes {
    /// In decode order.
    pts: Vec<i64>,
    first_key: bool,
    last_dts: Option<i64>,
}

fn survey_video<'a>(
    facts: &'a StreamFacts,
    inputs: Range<usize>,
    behind: Option<&GoesOn>,
    host: &mut dyn Host,
) -> Result<Track<'a>, Failure> {
    let mut parameters: Option<Parameters> = None;
    let mut coded: Vec<i64> = Vec::new();
    let mut delay = 0;
    let mut shown_until: Option<i64> = None;
    for (chunk, input) in inputs.clone().enumerate() {
        let mut reader = open(host, input)?;
        match &parameters {
            None if behind.is_some_and(|behind| behind.parameters != reader.parameters().hash()) => {
                let why = "the chunks behind those that are cut were encoded with other parameters than they; encode them again";
                return Err(internal("parameters_differ", why.into()));
            }
            None => parameters = Some(reader.parameters().clone()),
            Some(first) if first == reader.parameters() => {}
            Some(first) => return Err(parameters_differ(chunk, first, reader.parameters())),
        }
        let times = chunk_times(chunk, &mut reader)?;
        let (Some(&first), Some(&last)) = (times.pts.iter().min(), times.pts.iter().max()) else {
            return Err(internal("chunk_damaged", format!("chunk {chunk} holds no frames")));
        };
        if !times.first_key || times.pts[0] != first {
            let message = format!(
                "chunk {chunk} does not start with a keyframe that is shown first: its first packet has pts {}, its first \
                 frame {first}",
                times.pts[0]
            );
            return Err(internal("chunk_damaged", message));
        }
        if let Some(until) = shown_until
            && first <= until
        {
            let message = format!(
                "chunk {chunk} starts at pts {first}, but chunk {} is shown until {until}: they overlap or are swapped",
                chunk - 1
            );
            return Err(internal("chunks_overlap", message));
        }
        shown_until = Some(last);
        delay = delay.max(times.last_dts.and_then(|dts| dts::encoder_delay(&times.pts, dts)).unwrap_or(0));
        coded.extend(times.pts);
        host.progress(crate::wire::len(&coded), 0, 0);
    }
    let parameters =
        parameters.ok_or_else(|| internal("pieces_missing", format!("stream {} has no chunks", facts.index)))?;
    if let Kind::Video { video_delay, .. } = parameters.kind {
        delay = delay.max(usize::try_from(video_delay).unwrap_or(0));
    }
    let schedule = match behind {
        None => Schedule::new(&coded, delay).map(Some),
        Some(behind) => match usize::try_from(behind.delay).unwrap_or(usize::MAX) {
            before if delay > before => Ok(None),
            before => Schedule::behind(&behind.shown, &coded, before),
        },
    };
    let schedule = schedule
        .map_err(|repeated| internal("chunk_damaged", format!("two frames have the pts {}", repeated.pts)))?
        .ok_or_else(|| {
            let why = "its frames are reordered more than those of the chunks before, whose decode times are public";
            internal("segments_differ", format!("stream {}: {why}", facts.index))
        })?;
    tracing::debug!(stream = facts.index, frames = coded.len(), delay = schedule.delay(), "video surveyed");
    let first_pts = schedule.pts().first().copied();
    Ok(Track { facts, inputs, parameters, schedule: Some(schedule), first_pts, is_empty: false })
}

fn chunk_times(chunk: usize, reader: &mut Reader) -> Result<ChunkTimes, Failure> {
    let mut times = ChunkTimes { pts: Vec::new(), first_key: false, last_dts: None };
    for packet in reader {
        let packet = packet.map_err(|error| {
            let mut failure = Failure::from(error);
            failure.message = format!("chunk {chunk}: {}", failure.message);
            failure
        })?;
        let pts = packet.pts.ok_or_else(|| {
            internal("chunk_damaged", format!("chunk {chunk}: packet {} has no pts", times.pts.len()))
        })?;
        if times.pts.is_empty() {
            times.first_key = packet.key;
        }
        times.pts.push(pts);
        times.last_dts = packet.dts;
    }
    Ok(times)
}

fn parameters_differ(chunk: usize, first: &Parameters, other: &Parameters) -> Failure {
    let mut what = Vec::new();
    if first.codec != other.codec {
        what.push(format!("codec {} against {}", other.codec, first.codec));
    }
    if first.time_base != other.time_base {
        what.push(format!("timebase {} against {}", other.time_base, first.time_base));
    }
    if first.extradata != other.extradata {
        what.push(format!("extradata {} against {}", hex(&other.extradata), hex(&first.extradata)));
    }
    if first.kind != other.kind {
        what.push(format!("{:?} against {:?}", other.kind, first.kind));
    }
    if first.side_data != other.side_data {
        what.push("side data".into());
    }
    let message = format!(
        "chunk {chunk} was encoded with other parameters than chunk 0, so one sample entry cannot serve both; it must be \
         encoded again"
    );
    let evidence = format!("{}; profile {} level {}", what.join("; "), other.profile, other.level);
    internal("parameters_differ", message).with_evidence(evidence)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn survey_other<'a>(facts: &'a StreamFacts, inputs: Range<usize>, host: &mut dyn Host) -> Result<Track<'a>, Failure> {
    if inputs.len() != 1 {
        let message = format!("stream {} comes in {} pieces; only video is cut", facts.index, inputs.len());
        return Err(internal("pieces_missing", message));
    }
    let mut reader = open(host, inputs.start)?;
    let parameters = reader.parameters().clone();
    let first = reader.next().transpose()?;
    let (is_empty, first_pts) = (first.is_none(), first.and_then(|packet| packet.pts));
    Ok(Track { facts, inputs, parameters, schedule: None, first_pts, is_empty })
}

// ---- second pass ----

fn describe(
    args: &AssembleArgs,
    tracks: &[Track<'_>],
    chapters: &[InputChapter],
    output: &mut Output,
) -> Result<(), Failure> {
    let facts: Vec<&StreamFacts> = tracks.iter().map(|track| track.facts).collect();
    let dispositions = setup::dispositions(&facts);
    for (place, (track, disposition)) in tracks.iter().zip(dispositions).enumerate() {
        let same = |other: &&Track<'_>| {
            std::mem::discriminant(&other.facts.media) == std::mem::discriminant(&track.facts.media)
        };
        let number = u32::try_from(tracks[..place].iter().filter(same).count()).unwrap_or(u32::MAX);
        let encoder = setup::encoder_name(&args.spec, track.facts, number);
        output.add_stream(&StreamSetup {
            parameters: &track.parameters,
            copied: encoder.is_none(),
            tags: &setup::stream_tags(track.facts, encoder),
            disposition,
        })?;
    }
    output.set_tags(&setup::film_tags(&args.spec, &args.source))?;
    // Chapters are the first source's.
    let edits: Vec<Edit> = args.edits.iter().filter(|edit| edit.input == 0).copied().collect();
    for chapter in setup::chapters(&args.spec, &edits, args.source.start_us, chapters) {
        output.add_chapter(&chapter)?;
    }
    Ok(())
}

/// Fonts and the like, behind the tracks.
fn attach(args: &AssembleArgs, source: &Input, output: &mut Output) -> Result<(), Failure> {
    for index in choose(&args.source, &args.spec)?.attachments {
        let stream = source.streams().iter().find(|stream| u32::try_from(stream.index) == Ok(index));
        if let Some(stream) = stream.filter(|stream| stream.kind == MediaKind::Attachment) {
            output.attach(stream)?;
        }
    }
    Ok(())
}

/// Gives video tracks what the source's stream says about all its pictures (ICC profile, stereo and spherical layout, …), as ffmpeg
/// does. Not what no longer holds: buffer sizes of the old encode, a rotation that was applied, Dolby Vision's enhancement.
fn add_side_data(tracks: &mut [Track<'_>], source: &Input) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for track in tracks.iter_mut().filter(|track| track.schedule.is_some()) {
        let stream = source.streams().iter().find(|stream| u32::try_from(stream.index) == Ok(track.facts.index));
        let transfer = match track.parameters.kind {
            Kind::Video { color_transfer, .. } => color_transfer,
            _ => 0,
        };
        let is_sdr = hdr::is_brought_down(stream.and_then(|stream| stream.parameters.as_ref()), transfer);
        for (kind, bytes) in stream.map(|stream| stream.side_data.as_slice()).unwrap_or_default() {
            let known = track.parameters.side_data.iter().any(|(known, _)| known == kind);
            match *kind {
                SIDE_DOLBY_VISION => warnings.push(Warning {
                    code: "dolby_vision_dropped".into(),
                    stream: Some(track.facts.index),
                    text: "the source carries Dolby Vision, which does not survive re-encoding: the film keeps the base layer".into(),
                }),
                SIDE_BUFFER_SIZES | SIDE_DISPLAY_MATRIX => {}
                kind if known || (is_sdr && hdr::is_hdr(kind)) => {}
                _ => track.parameters.side_data.push((*kind, bytes.clone())),
            }
        }
    }
    warnings
}

/// One track while it is written.
pub(crate) struct Cursor<'a> {
    track: &'a Track<'a>,
    pieces: Range<usize>,
    reader: Option<Reader>,
    /// Packets taken so far, and how many of them before the piece that the last is of.
    taken: usize,
    before: usize,
    pub next: Option<Packet>,
}

/// Where the next packet stands: its piece, counted from the track's first here; its place in that; how many are before the piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub piece: usize,
    pub packet: usize,
    pub before: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(track: &'a Track<'a>, host: &mut dyn Host) -> Result<Cursor<'a>, Failure> {
        let mut cursor = Cursor { track, pieces: track.inputs.clone(), reader: None, taken: 0, before: 0, next: None };
        cursor.advance(host)?;
        Ok(cursor)
    }

    /// Reads the next packet, over the ends of pieces.
    pub fn advance(&mut self, host: &mut dyn Host) -> Result<(), Failure> {
        loop {
            if let Some(reader) = &mut self.reader
                && let Some(packet) = reader.next()
            {
                let mut packet = packet?;
                if let Some(schedule) = &self.track.schedule {
                    if self.taken >= schedule.pts().len() {
                        return Err(internal("chunk_damaged", "a chunk changed while the film was joined".into()));
                    }
                    packet.dts = Some(schedule.dts(self.taken));
                    // ffmpeg's encoders tell no durations; the muxer takes one frame of the nominal rate.
                    packet.duration = 0;
                }
                self.taken += 1;
                self.next = Some(packet);
                return Ok(());
            }
            match self.pieces.next() {
                Some(input) => {
                    self.reader = Some(open(host, input)?);
                    self.before = self.taken;
                }
                None => {
                    self.next = None;
                    return Ok(());
                }
            }
        }
    }

    /// Behind the last packet it is the piece that would follow.
    pub fn place(&self) -> Place {
        let piece = self.pieces.start - self.track.inputs.start;
        match self.next {
            Some(_) => Place { piece: piece - 1, packet: self.taken - 1 - self.before, before: self.before },
            None => Place { piece, packet: 0, before: self.taken },
        }
    }

    /// Whether its next packet comes before that of `other`. Packets without times go at once.
    fn before(&self, other: &Cursor<'_>) -> bool {
        let time = |cursor: &Cursor<'_>| cursor.next.as_ref().and_then(|packet| packet.dts.or(packet.pts));
        match (time(self), time(other)) {
            (None, _) => true,
            (_, None) => false,
            (Some(ours), Some(theirs)) => {
                scaled(ours, self.track.parameters.time_base, other.track.parameters.time_base)
                    < scaled(theirs, other.track.parameters.time_base, self.track.parameters.time_base)
            }
        }
    }
}

/// `ts · own`, brought to the denominator both share, so that two of them compare exactly.
fn scaled(ts: i64, own: Rational, other: Rational) -> i128 {
    i128::from(ts) * i128::from(own.num) * i128::from(other.den)
}

/// How much is written.
#[derive(Debug, Default)]
struct Written {
    frames: u64,
    bytes: u64,
    /// Where the last packet ends.
    end_us: i64,
}

impl Written {
    fn report(&self, host: &mut dyn Host) {
        host.progress(self.frames, self.bytes, u64::try_from(self.end_us).unwrap_or(0));
    }
}

/// Writes all packets.
fn write(tracks: &[Track<'_>], output: &mut Output, host: &mut dyn Host) -> Result<Written, Failure> {
    let mut cursors = tracks.iter().map(|track| Cursor::new(track, host)).collect::<Result<Vec<_>, _>>()?;
    let mut written = Written::default();
    loop {
        let mut first: Option<usize> = None;
        for (index, cursor) in cursors.iter().enumerate() {
            if cursor.next.is_some() && first.is_none_or(|first| cursor.before(&cursors[first])) {
                first = Some(index);
            }
        }
        let Some(index) = first else { return Ok(written) };
        let cursor = &mut cursors[index];
        let Some(packet) = cursor.next.take() else { return Ok(written) };
        output.write(index, &packet, cursor.track.parameters.time_base)?;
        written.bytes += crate::wire::len(&packet.data);
        written.frames += u64::from(cursor.track.schedule.is_some());
        written.end_us = written.end_us.max(end_of(&packet, &cursor.track.parameters));
        written.report(host);
        cursor.advance(host)?;
    }
}

fn end_of(packet: &Packet, parameters: &Parameters) -> i64 {
    let duration = match parameters.kind {
        Kind::Video { frame_rate, .. } if frame_rate.num > 0 => {
            micros(1, Rational::new(frame_rate.den, frame_rate.num))
        }
        _ => micros(packet.duration, parameters.time_base),
    };
    packet.pts.map_or(0, |pts| micros(pts, parameters.time_base).saturating_add(duration))
}

fn micros(ts: i64, time_base: Rational) -> i64 {
    let exact = i128::from(ts) * i128::from(time_base.num) * 1_000_000 / i128::from(time_base.den.max(1));
    i64::try_from(exact).unwrap_or(if exact < 0 { i64::MIN } else { i64::MAX })
}

/// How far the container moves all tracks, because one starts before zero and it has no negative times.
fn shift_us(container: Container, tracks: &[Track<'_>]) -> i64 {
    if matches!(container, Container::Mp4 | Container::Mov) {
        return 0;
    }
    let first = |track: &Track<'_>| track.first_pts.map(|pts| micros(pts, track.parameters.time_base));
    tracks.iter().filter_map(first).min().unwrap_or(0).min(0).saturating_neg()
}
