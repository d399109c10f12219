//! `media.probe`: what is in a source, and, for an encode, every packet of its video stream.

use std::io::BufWriter;

use spool_proto::call::{AudioFacts, Chapter, MediaFacts, ProbeArgs, SourceFacts, StreamFacts, Value, VideoFacts};
use spool_proto::failure::{Class, Failure, Warning};
use spool_proto::spec::EncodeSpec;

use crate::av::frame::{Frame, Picture};
use crate::av::input::{Input, Limits, MediaKind, Read};
use crate::av::packet::{FLAG_CORRUPT, FLAG_DISCARD, Packet, SIDE_NEW_EXTRADATA};
use crate::av::{Stream, names};
use crate::bitstream::Scanner;
use crate::choose::{Choice, choose};
use crate::decode::{Clock, Frames, no_memory};
use crate::graph::rotation_degrees;
use crate::packets::{self, PacketFlags, PacketIndex};
use crate::piece::Kind;
use crate::{Host, Product};

/// Packets and frames between two reports of progress.
const REPORT_EVERY: u64 = 256;
/// Bounds the index in memory (56 bytes a packet): 77 hours at 60 frames a second.
const PACKETS_MAX: usize = 1 << 24;

/// Runs `media.probe`.
///
/// # Errors
/// Class input: `not_media`, `no_video_stream`, `no_packets`, `too_many_packets`; class spec: `no_such_stream`.
pub fn run(args: &ProbeArgs, host: &mut dyn Host) -> Result<Product, Failure> {
    let source = host.open(0)?;
    let bytes = source.len();
    let input = Input::open(source, &Limits::default())?;
    let mut facts = facts(&input, bytes);
    let mut files = Vec::new();
    let mut warnings = Vec::new();
    if let Some(spec) = &args.index_for {
        let choice = choose(&facts, spec)?;
        if let Some(video) = choice.video {
            let index = scan(input, spec, &choice, video, host)?;
            count(&mut facts, video, index.packets.len());
            warnings.extend(index.doubts.iter().map(|doubt| Warning {
                code: "source_doubt".into(),
                stream: Some(video),
                text: format!("stream {video}: {doubt}; every frame was decoded to find their times"),
            }));
            let path = host.scratch().join("index");
            let file = std::fs::File::create(&path).map_err(|e| crate::scratch_failed(&path, &e))?;
            index.write(BufWriter::new(file))?;
            files.push(("index".to_owned(), path));
        }
    }
    Ok(Product { files, warnings, value: Value::Probe(Box::new(facts)) })
}

fn count(facts: &mut SourceFacts, video: u32, packets: usize) {
    for stream in facts.streams.iter_mut().filter(|s| s.index == video) {
        if let MediaFacts::Video(video) = &mut stream.media {
            video.packets = u64::try_from(packets).ok();
        }
    }
}

/// What libav tells of an open film.
pub fn facts(input: &Input, bytes: u64) -> SourceFacts {
    let title = |tags: &[(String, String)]| tag(tags, "title").unwrap_or_default();
    SourceFacts {
        format: input.format(),
        bytes,
        start_us: input.start_us(),
        duration_us: input.duration_us(),
        bit_rate_bps: input.bit_rate_bps(),
        streams: input.streams().iter().map(stream_facts).collect(),
        chapters: input
            .chapters()
            .into_iter()
            .map(|c| Chapter { start_us: c.start_us, end_us: c.end_us, title: title(&c.tags) })
            .collect(),
        tags: input.tags(),
    }
}

fn tag(tags: &[(String, String)], name: &str) -> Option<String> {
    tags.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
}

fn stream_facts(stream: &Stream) -> StreamFacts {
    StreamFacts {
        index: u32::try_from(stream.index).unwrap_or(u32::MAX),
        codec: stream.codec.clone(),
        profile: stream.profile.clone(),
        time_base: stream.time_base,
        start_pts: stream.start_pts,
        duration: stream.duration,
        bit_rate_bps: u64::try_from(stream.bit_rate).ok().filter(|r| *r > 0),
        language: tag(&stream.tags, "language"),
        title: tag(&stream.tags, "title"),
        disposition: names::dispositions(stream.disposition),
        tags: stream.tags.clone(),
        media: media_facts(stream),
    }
}

fn media_facts(stream: &Stream) -> MediaFacts {
    let kind = stream.parameters.as_ref().map(|p| &p.kind);
    match (stream.kind, kind) {
        (MediaKind::Video, Some(Kind::Video { width, height, format, sample_aspect_ratio, field_order, .. })) => {
            let colors = colors(stream);
            let ratio =
                if stream.sample_aspect_ratio.num != 0 { stream.sample_aspect_ratio } else { *sample_aspect_ratio };
            MediaFacts::Video(VideoFacts {
                width: u32::try_from(*width).unwrap_or(0),
                height: u32::try_from(*height).unwrap_or(0),
                pix_fmt: names::pixel_format(*format),
                sample_aspect_ratio: ratio,
                rotation: stream.matrix().map_or(0, |matrix| whole_degrees(rotation_degrees(&matrix))),
                frame_rate: stream.frame_rate,
                average_frame_rate: stream.average_frame_rate,
                field_order: names::field_order(*field_order).map(str::to_owned),
                color_range: colors[0].clone(),
                color_primaries: colors[1].clone(),
                color_transfer: colors[2].clone(),
                color_space: colors[3].clone(),
                attached_picture: stream.is_attached_picture(),
                packets: None,
            })
        }
        (MediaKind::Audio, Some(Kind::Audio { sample_rate, channels, format, layout, .. })) => {
            MediaFacts::Audio(AudioFacts {
                sample_rate_hz: u32::try_from(*sample_rate).unwrap_or(0),
                channels: u16::try_from(*channels).unwrap_or(0),
                layout: names::channel_layout(*layout, *channels),
                sample_format: names::sample_format(*format),
            })
        }
        (MediaKind::Subtitle, _) => MediaFacts::Subtitle,
        (MediaKind::Attachment, _) => MediaFacts::Attachment,
        _ => MediaFacts::Data,
    }
}

fn whole_degrees(theta: f64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "rounded, and in 0..360")]
    let degrees = theta.round() as i32;
    degrees
}

/// Range, primaries, transfer, matrix; `None` where the stream does not say.
fn colors(stream: &Stream) -> [Option<String>; 4] {
    let Some(Kind::Video { color_range, color_primaries, color_transfer, color_space, .. }) =
        stream.parameters.as_ref().map(|p| &p.kind)
    else {
        return [const { None }; 4];
    };
    [
        names::color_range(*color_range),
        names::color_primaries(*color_primaries),
        names::color_transfer(*color_transfer),
        names::color_space(*color_space),
    ]
    .map(|name| name.filter(|name| name != "unknown" && name != "unspecified"))
}

/// Reads every packet of the video stream; decodes all of it where packets alone do not tell its frames.
fn scan(
    mut input: Input,
    spec: &EncodeSpec,
    choice: &Choice,
    video: u32,
    host: &mut dyn Host,
) -> Result<PacketIndex, Failure> {
    let number = usize::try_from(video).unwrap_or(usize::MAX);
    let Some(stream) = input.streams().get(number).cloned() else {
        return Err(Failure::new(Class::Internal, "no_such_stream", format!("the source has no stream {video}")));
    };
    let ts_offset_us = input.ts_offset_us(&choice.streams());
    let may_jump = input.may_jump();
    input.select(&[number]);
    let mut index = PacketIndex {
        stream: video,
        time_base: stream.time_base,
        frame_rate: stream.frame_rate,
        ts_offset_us,
        start_pts: stream.start_pts,
        packets: Vec::new(),
        doubts: Vec::new(),
        decoded: None,
        changes: false,
    };
    let mut doubts = Doubts::default();
    read_packets(&mut input, &stream, &mut index, &mut doubts, host)?;
    if index.packets.is_empty() {
        return Err(Failure::new(
            Class::Input,
            "no_packets",
            format!("{} has no pictures in it; the file may be cut short", stream.label()),
        ));
    }
    doubts.look_at_order(&index.packets, may_jump, &stream);
    index.changes = doubts.changed;
    index.doubts = doubts.list;
    if !index.doubts.is_empty() {
        drop(input);
        decode_all(&stream, spec, may_jump, &mut index, host)?;
    }
    Ok(index)
}

fn read_packets(
    input: &mut Input,
    stream: &Stream,
    index: &mut PacketIndex,
    doubts: &mut Doubts,
    host: &mut dyn Host,
) -> Result<(), Failure> {
    let mut scanner = Scanner::new(&stream.codec, &stream.extradata, names::is_intra_only(&stream.codec));
    let mut packet = Packet::new().map_err(no_memory)?;
    let mut bytes = 0;
    loop {
        match input.read(&mut packet)? {
            Read::Packet => {}
            Read::End => return Ok(()),
            Read::Broken(error) => {
                doubts.add(format!("the file cannot be read to its end ({error})"));
                return Ok(());
            }
        }
        if packet.stream() != stream.index || packet.data().is_empty() {
            continue;
        }
        if index.packets.len() >= PACKETS_MAX {
            return Err(Failure::new(
                Class::Input,
                "too_many_packets",
                format!("{} has more than {PACKETS_MAX} packets; cut the film", stream.label()),
            ));
        }
        let seen = scanner.look(packet.data(), packet.is_key());
        let flags = packet.flags();
        if seen.changed {
            doubts.changed = true;
            doubts.add("its parameter sets change on the way".into());
        }
        if packet.side_data().iter().any(|(kind, _)| *kind == SIDE_NEW_EXTRADATA) {
            doubts.changed = true;
            doubts.add("its codec settings change on the way".into());
        }
        index.packets.push(packets::Packet {
            pts: packet.pts(),
            dts: packet.dts(),
            duration: packet.duration(),
            bytes: u32::try_from(packet.data().len()).unwrap_or(u32::MAX),
            position: packet.position(),
            flags: PacketFlags {
                key: packet.is_key(),
                closed: seen.closed,
                recovers: seen.recovers,
                discard: flags & FLAG_DISCARD != 0 || seen.hidden,
                corrupt: flags & FLAG_CORRUPT != 0,
            },
        });
        bytes += u64::try_from(packet.data().len()).unwrap_or(0);
        let count = u64::try_from(index.packets.len()).unwrap_or(0);
        if count.is_multiple_of(REPORT_EVERY) {
            host.progress(count, bytes, 0);
        }
    }
}

/// A step of dts that a format with jumps does not make without one. Seconds; ffmpeg's `dts_delta_threshold`.
const JUMP_SECONDS: i64 = 10;

/// Why the packet list is not the frame list; each reason once.
#[derive(Debug, Default)]
struct Doubts {
    list: Vec<String>,
    changed: bool,
}

impl Doubts {
    fn add(&mut self, doubt: String) {
        if !self.list.contains(&doubt) {
            self.list.push(doubt);
        }
    }

    fn look_at_order(&mut self, packets: &[packets::Packet], may_jump: bool, stream: &Stream) {
        if packets.iter().any(|p| p.flags.corrupt) {
            self.add("packets are damaged".into());
        }
        // Edit lists are libav's: packets to be thrown away need no time of their own.
        let shown = || packets.iter().filter(|p| !p.flags.discard);
        if shown().any(|p| p.pts.is_none()) {
            self.add("packets carry no presentation time (old AVI, or field pictures)".into());
        }
        let mut times: Vec<i64> = shown().filter_map(|p| p.pts).collect();
        times.sort_unstable();
        if times.windows(2).any(|pair| pair[0] == pair[1]) {
            self.add("presentation times repeat".into());
        }
        let first = packets.first().copied().unwrap_or_default();
        let clean = first.flags.closed || first.flags.recovers;
        let codec = stream.codec.as_str();
        // The bitstream of the first two tells what a container's flag only claims.
        let doubtful = if matches!(codec, "h264" | "hevc") { !clean } else { !clean && !first.flags.key };
        if doubtful && !matches!(codec, "h263" | "flv1" | "mpeg4") {
            self.add("it does not begin with a clean keyframe".into());
        } else if shown().any(|p| p.pts < first.pts) {
            self.add("pictures before its first keyframe cannot be decoded".into());
        }
        let second = i64::from(stream.time_base.den) / i64::from(stream.time_base.num.max(1));
        let jumps = |pair: [i64; 2]| pair[1] < pair[0] || pair[1] - pair[0] > JUMP_SECONDS * second;
        let dts: Vec<i64> = packets.iter().filter_map(|p| p.dts).collect();
        if may_jump && dts.windows(2).any(|pair| jumps([pair[0], pair[1]])) {
            self.add("its timestamps jump".into());
        }
    }
}

/// Decodes the stream from start to end, and keeps every frame's time as the ffmpeg program would see it.
fn decode_all(
    stream: &Stream,
    spec: &EncodeSpec,
    may_jump: bool,
    index: &mut PacketIndex,
    host: &mut dyn Host,
) -> Result<(), Failure> {
    let input = Input::open(host.open(0)?, &Limits::default())?;
    let clock = Clock::new(stream, may_jump, index.ts_offset_us);
    // The bits decoded do not depend on the threads; a probe has the machine's other cores to itself.
    let threads = std::thread::available_parallelism().map_or(1, |n| u16::try_from(n.get().min(16)).unwrap_or(1));
    let mut frames = Frames::new(input, stream.index, threads, Some(clock))?;
    let mut frame = Frame::new().map_err(no_memory)?;
    let mut decoded: Vec<(i64, i64)> = Vec::new();
    let mut shape: Option<Picture> = None;
    while let Some(found) = frames.next(&mut frame)? {
        let picture = frame.picture_shape();
        if shape.as_ref().is_some_and(|shape| *shape != picture) {
            index.changes = true;
            let change = "picture size or format changes on the way".to_owned();
            if !index.doubts.contains(&change) {
                index.doubts.push(change);
            }
        }
        shape = Some(picture);
        // ffmpeg's filters drop a frame whose time nobody knows.
        if let Some(pts) = found.pts {
            decoded.push((pts, found.duration));
        }
        let count = u64::try_from(decoded.len()).unwrap_or(0);
        if count.is_multiple_of(REPORT_EVERY) {
            host.progress(count, 0, 0);
        }
        if decoded.len() >= PACKETS_MAX {
            break;
        }
    }
    if decoded.is_empty() {
        return Err(Failure::new(
            Class::Input,
            "undecodable",
            format!("no picture of {} can be decoded for {}", stream.label(), spec.output),
        ));
    }
    index.decoded = Some(decoded);
    Ok(())
}
