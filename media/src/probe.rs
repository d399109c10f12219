//! `media.probe`: what is in a source, and, for an encode, every packet of its video stream and where its clock jumps.

pub(crate) mod scan;

mod tags;

use std::io::BufWriter;

use spool_proto::call::{AudioFacts, Chapter, MediaFacts, ProbeArgs, SourceFacts, StreamFacts, Value, VideoFacts};
use spool_proto::failure::{Failure, Warning};

use crate::av::input::{Input, Limits, MediaKind};
use crate::av::{Stream, names};
use crate::choose::choose;
use crate::crop;
use crate::graph::rotation_degrees;
use crate::piece::Kind;
use crate::plan::scenes;
use crate::{Host, Product};

use tags::Room;

/// Runs `media.probe`.
///
/// # Errors
/// Class input: `not_media`, `no_video_stream`, `no_packets`, `too_many_packets`, `too_many_jumps`, `encrypted`, `source_damaged`; class spec: `no_such_stream`.
pub fn run(args: &ProbeArgs, host: &mut dyn Host) -> Result<Product, Failure> {
    let source = host.open(0)?;
    let bytes = source.len();
    let input = Input::open(source, &Limits::default())?;
    let mut room = Room::default();
    let mut facts = facts_within(&input, bytes, &mut room);
    let mut files = Vec::new();
    let mut warnings: Vec<Warning> = room.warning().into_iter().collect();
    if args.crop_bars {
        for stream in input.streams().iter().filter(|s| s.kind == MediaKind::Video && !s.is_attached_picture()) {
            crop_bars(&mut facts, stream, host)?;
        }
    }
    if let Some(spec) = &args.index_for {
        let choice = choose(&facts, spec)?;
        let chosen = choice.video.and_then(|video| input.streams().get(usize::try_from(video).ok()?));
        if let Some(stream) = chosen.filter(|_| spec.video.as_ref().is_some_and(|video| video.crop_bars)) {
            crop_bars(&mut facts, stream, host)?;
        }
        let scanned = scan::scan(input, spec, &choice, host)?;
        for stream in &mut facts.streams {
            stream.jumps = scanned.jumps_of(stream.index);
        }
        warnings.extend(scanned.warnings);
        if let Some(empty) = scanned.empty {
            count(&mut facts, empty, 0, None);
        }
        if let Some(index) = scanned.index {
            count(&mut facts, index.stream, index.packets.len(), Some(scenes::tells(&index)));
            let path = host.scratch().join("index");
            let file = std::fs::File::create(&path).map_err(|e| crate::scratch_failed(&path, &e))?;
            index.write(BufWriter::new(file))?;
            files.push(("index".to_owned(), path));
        }
    }
    Ok(Product { files, warnings, value: Value::Probe(Box::new(facts)) })
}

fn crop_bars(facts: &mut SourceFacts, stream: &Stream, host: &mut dyn Host) -> Result<(), Failure> {
    let crop = crop::look(stream, facts.duration_us, host)?;
    let index = u32::try_from(stream.index).ok();
    for found in facts.streams.iter_mut().filter(|s| Some(s.index) == index) {
        if let MediaFacts::Video(video) = &mut found.media {
            video.crop = crop;
        }
    }
    Ok(())
}

fn count(facts: &mut SourceFacts, video: u32, packets: usize, tells_scenes: Option<bool>) {
    for stream in facts.streams.iter_mut().filter(|s| s.index == video) {
        if let MediaFacts::Video(video) = &mut stream.media {
            video.packets = u64::try_from(packets).ok();
            video.tells_scenes = tells_scenes;
        }
    }
}

/// What libav tells of an open film.
pub fn facts(input: &Input, bytes: u64) -> SourceFacts {
    facts_within(input, bytes, &mut Room::default())
}

fn facts_within(input: &Input, bytes: u64, room: &mut Room) -> SourceFacts {
    let title = |tags: &[(String, String)]| tag(tags, "title").unwrap_or_default();
    let tags = room.tags(input.tags());
    SourceFacts {
        format: input.format(),
        bytes,
        start_us: input.start_us(),
        duration_us: input.duration_us(),
        bit_rate_bps: input.bit_rate_bps(),
        streams: input.streams().iter().map(|stream| stream_facts(stream, room)).collect(),
        chapters: room.chapters(
            input
                .chapters()
                .into_iter()
                .map(|c| Chapter { start_us: c.start_us, end_us: c.end_us, title: title(&c.tags) })
                .collect(),
        ),
        tags,
    }
}

fn tag(tags: &[(String, String)], name: &str) -> Option<String> {
    tags.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
}

fn stream_facts(stream: &Stream, room: &mut Room) -> StreamFacts {
    let tags = room.tags(stream.tags.clone());
    StreamFacts {
        index: u32::try_from(stream.index).unwrap_or(u32::MAX),
        codec: stream.codec.clone(),
        profile: stream.profile.clone(),
        time_base: stream.time_base,
        start_pts: stream.start_pts,
        duration: stream.duration,
        bit_rate_bps: u64::try_from(stream.bit_rate).ok().filter(|r| *r > 0),
        language: tag(&tags, "language"),
        title: tag(&tags, "title"),
        disposition: names::dispositions(stream.disposition),
        tags,
        jumps: Vec::new(),
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
                tells_scenes: None,
                crop: None,
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
