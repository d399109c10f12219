//! `media.validate`: the joined film, read afresh and believed in nothing.
//!
//! Every packet is read and compared with what the encodes promised. At `--verify sample` the places where chunks meet, the start and
//! the end are decoded too; at `full` everything is.

mod buffer;
mod decode;
mod times;

use spool_proto::call::{FilmManifest, ValidateArgs, Value};
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::{Rational, Verify};

use crate::assemble::FilmTimeline;
use crate::av::input::{Input, Limits, MediaKind, Read, Stream};
use crate::av::packet::Packet;
use crate::{Host, Product};

/// One video packet of the film, in file order. Times in the stream's timebase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Coded {
    pts: i64,
    dts: Option<i64>,
    key: bool,
    bytes: u64,
}

fn invalid(message: String) -> Failure {
    Failure::new(Class::Internal, "validation_failed", message)
}

/// Checks the film. See [`spool_proto::call::Args::Validate`] for its inputs.
///
/// # Errors
/// Class `internal`, code `validation_failed`: the message names the frame, what was expected and what was found.
pub fn run(args: &ValidateArgs, host: &mut dyn Host) -> Result<Product, Failure> {
    let source = host.open(0)?;
    let bytes = source.len();
    let mut input = Input::open(source, &Limits::default())
        .map_err(|failure| invalid("the joined film cannot be opened again".into()).with_evidence(failure.message))?;
    let timeline = match host.inputs() {
        0 | 1 => None,
        _ => Some(FilmTimeline::read(host.open(1)?)?),
    };
    check_codecs(&args.codecs, &input)?;
    let duration_us = input.duration_us().unwrap_or(0);
    let video = input.streams().iter().find(|stream| is_video(stream)).cloned();
    let coded = read_packets(&mut input, video.as_ref().map(|stream| stream.index), host)?;
    if let Some(video) = &video {
        check_video(args, video, &coded, timeline.as_ref())?;
    } else if timeline.is_some() {
        return Err(invalid("the film has no video stream, though video was encoded".into()));
    }
    let decoded_frames = match (args.verify, &video) {
        (Verify::Packets, _) => 0,
        (Verify::Sample, Some(video)) => decode::sample(&mut input, video, &coded, &args.joins, host)?,
        (Verify::Sample, None) => 0,
        (Verify::Full, _) => decode::everything(&mut input, video.as_ref(), &coded, host)?,
    };
    let film = FilmManifest {
        bytes,
        duration_us,
        video_frames: video.map(|_| crate::wire::len(&coded)),
        decoded_frames,
        pts_hash: timeline.as_ref().map(FilmTimeline::hash),
        buffer: args.buffer.zip(timeline.as_ref()).map(|(buffer, timeline)| buffer::check(&buffer, &coded, timeline)),
    };
    let warnings = film.buffer.iter().filter_map(buffer::warning).collect();
    Ok(Product { files: Vec::new(), warnings, value: Value::Film(film) })
}

fn is_video(stream: &Stream) -> bool {
    stream.kind == MediaKind::Video && !stream.is_attached_picture()
}

/// Video, sound and subtitles are the tracks; timecode and chapter tracks come with them.
fn check_codecs(expected: &[String], input: &Input) -> Result<(), Failure> {
    let is_track = |kind| matches!(kind, MediaKind::Video | MediaKind::Audio | MediaKind::Subtitle);
    let found: Vec<&str> =
        input.streams().iter().filter(|stream| is_track(stream.kind)).map(|stream| stream.codec.as_str()).collect();
    if found != expected {
        return Err(invalid(format!(
            "the film should have the tracks [{}], it has [{}]",
            expected.join(", "),
            found.join(", ")
        )));
    }
    Ok(())
}

/// Reads the film to its end; answers the video packets.
fn read_packets(input: &mut Input, video: Option<usize>, host: &mut dyn Host) -> Result<Vec<Coded>, Failure> {
    let mut packet = Packet::new().map_err(|error| error.failure(Class::Internal, "libav", "reading packets"))?;
    let mut last_dts: Vec<Option<i64>> = vec![None; input.streams().len()];
    let mut coded = Vec::new();
    let mut bytes = 0;
    loop {
        match input.read(&mut packet)? {
            Read::Packet => {}
            Read::End => return Ok(coded),
            Read::Broken(error) => {
                return Err(invalid(format!("the film breaks off after {} frames ({error})", coded.len())));
            }
        }
        let stream = packet.stream();
        let (pts, dts) = (packet.pts(), packet.dts());
        if let (Some(dts), Some(last)) = (dts, last_dts.get_mut(stream)) {
            if let Some(before) = *last
                && dts < before
            {
                return Err(invalid(format!("stream {stream}: dts {dts} comes after dts {before}")));
            }
            *last = Some(dts);
        }
        if Some(stream) == video {
            let pts = pts.ok_or_else(|| invalid(format!("video packet {} has no pts", coded.len())))?;
            if dts.is_some_and(|dts| dts > pts) {
                return Err(invalid(format!("video packet {} has dts {dts:?} after its pts {pts}", coded.len())));
            }
            coded.push(Coded { pts, dts, key: packet.is_key(), bytes: crate::wire::len(packet.data()) });
        }
        bytes += crate::wire::len(packet.data());
        host.progress(crate::wire::len(&coded), bytes, 0);
    }
}

fn check_video(
    args: &ValidateArgs,
    video: &Stream,
    coded: &[Coded],
    timeline: Option<&FilmTimeline>,
) -> Result<(), Failure> {
    let found = crate::wire::len(coded);
    for (who, expected) in [
        ("the encodes made", args.frames),
        ("the join wrote", timeline.map(|timeline| crate::wire::len(&timeline.pts))),
    ] {
        if let Some(expected) = expected
            && expected != found
        {
            return Err(invalid(format!("{who} {expected} video frames, the film has {found}")));
        }
    }
    let mut shown: Vec<i64> = coded.iter().map(|packet| packet.pts).collect();
    shown.sort_unstable();
    if let Some(timeline) = timeline {
        times::compare(timeline, &shown, video.time_base)?;
    }
    for &join in &args.joins {
        let place = usize::try_from(join).ok().filter(|place| *place < coded.len());
        let Some(place) = place else {
            return Err(invalid(format!("a chunk should start at frame {join}, the film has {found}")));
        };
        let packet = coded[place];
        if packet.pts != shown[place] {
            return Err(invalid(format!(
                "frame {join} (pts {}) should start a chunk, but there the file holds the packet of pts {}",
                shown[place], packet.pts
            )));
        }
        if !packet.key {
            return Err(invalid(format!("frame {join} (pts {}) starts a chunk but is no keyframe", packet.pts)));
        }
    }
    Ok(())
}

/// `ts` in seconds, for messages.
fn seconds(ts: i64, time_base: Rational) -> String {
    let micros = crate::av::rescale(ts, time_base, crate::av::MICROSECONDS);
    let sign = if micros < 0 { "-" } else { "" };
    format!("{sign}{}.{:06} s", micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000)
}
