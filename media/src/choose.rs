//! Which streams of a source go into the output: ffmpeg's choice, or `-map`.

use spool_proto::call::{MediaFacts, SourceFacts, StreamFacts, VideoFacts};
use spool_proto::failure::{Class, Failure, Warning};
use spool_proto::spec::{Container, EncodeSpec, StreamKind, StreamMap, Subtitles, TextCodec};

use crate::av::input::muxer_takes;
use crate::av::names;

/// Source stream indexes, in output order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choice {
    pub video: Option<u32>,
    pub audio: Vec<u32>,
    pub subtitles: Vec<u32>,
    /// Fonts and other files, which have no packets: the assembly takes them from the source.
    pub attachments: Vec<u32>,
    /// What a user may miss.
    pub warnings: Vec<Warning>,
}

impl Choice {
    /// Of all tracks.
    pub fn streams(&self) -> Vec<usize> {
        self.video
            .iter()
            .chain(&self.audio)
            .chain(&self.subtitles)
            .filter_map(|index| usize::try_from(*index).ok())
            .collect()
    }
}

/// libav's name of a container's muxer.
pub fn muxer_name(container: Container) -> &'static str {
    match container {
        Container::Mp4 => "mp4",
        Container::Mov => "mov",
        Container::Mkv => "matroska",
        Container::Webm => "webm",
    }
}

/// What becomes of a subtitle stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subtitle {
    Copied,
    As(TextCodec),
    /// The container does not hold it, and it is not text that could become what it holds.
    Lost,
}

/// What a spec makes of subtitles of this codec (libav's name).
pub fn subtitle(spec: &EncodeSpec, codec: &str) -> Subtitle {
    let copied = muxer_takes(muxer_name(spec.container), codec) == Some(true);
    let text = names::is_text_subtitle(codec);
    match spec.subtitles {
        Subtitles::Text(wanted) if text => Subtitle::As(wanted),
        // Packets cannot be cut: what would be copied is written anew, as it was.
        Subtitles::Auto | Subtitles::Copy if copied && !spec.clips.is_empty() => match TextCodec::like(codec) {
            Some(same) if text => Subtitle::As(same),
            _ => Subtitle::Lost,
        },
        Subtitles::Auto | Subtitles::Copy if copied => Subtitle::Copied,
        Subtitles::Auto if text => Subtitle::As(TextCodec::of(spec.container)),
        _ => Subtitle::Lost,
    }
}

/// Chooses as ffmpeg does: without maps the largest video, the audio with most channels, the first subtitles; streams marked
/// as default go before others of their kind.
///
/// # Errors
/// `no_such_stream` (class spec) names the map that finds nothing; `no_video_stream` / `no_streams` (class input) when nothing
/// to encode is left; `subtitles_refused` (class spec) for `-c:s copy` of what the container does not hold.
pub fn choose(source: &SourceFacts, spec: &EncodeSpec) -> Result<Choice, Failure> {
    let mut choice = if spec.maps.is_empty() { by_score(source, spec) } else { by_maps(source, spec)? };
    choose_subtitles(source, spec, &mut choice)?;
    if spec.video.is_some() && choice.video.is_none() && spec.maps.is_empty() {
        if choice.audio.is_empty() {
            return Err(Failure::new(
                Class::Input,
                "no_video_stream",
                format!("the source has no video to encode ({})", listing(source)),
            ));
        }
        choice.warnings.push(Warning {
            code: "no_video_stream".into(),
            stream: None,
            text: "the source has no pictures; only its sound is encoded".into(),
        });
    }
    if choice.video.is_none() && choice.audio.is_empty() {
        let code = if spec.video.is_none() { "no_audio_stream" } else { "no_streams" };
        return Err(Failure::new(
            Class::Input,
            code,
            format!("nothing of the source is left to encode ({}); check -map, -vn and -an", listing(source)),
        ));
    }
    Ok(choice)
}

fn listing(source: &SourceFacts) -> String {
    let streams: Vec<String> =
        source.streams.iter().map(|s| format!("stream {}: {} {}", s.index, kind_name(s), s.codec)).collect();
    streams.join(", ")
}

fn kind_of(stream: &StreamFacts) -> StreamKind {
    match stream.media {
        MediaFacts::Video(_) => StreamKind::Video,
        MediaFacts::Audio(_) => StreamKind::Audio,
        MediaFacts::Subtitle => StreamKind::Subtitle,
        MediaFacts::Data => StreamKind::Data,
        MediaFacts::Attachment => StreamKind::Attachment,
    }
}

fn kind_name(stream: &StreamFacts) -> &'static str {
    match kind_of(stream) {
        StreamKind::Video => "video",
        StreamKind::Audio => "audio",
        StreamKind::Subtitle => "subtitles",
        StreamKind::Data => "data",
        StreamKind::Attachment => "attachment",
    }
}

/// ffmpeg's score of a stream among its kind; the first of the best wins (`open_output_file`). What it counts as "packets were
/// seen while probing" is told here by a known start time.
fn score(stream: &StreamFacts) -> Option<i64> {
    let size = match &stream.media {
        MediaFacts::Video(video) if video.attached_picture => return Some(1),
        MediaFacts::Video(video) if is_empty(video) => return None,
        MediaFacts::Video(video) => i64::from(video.width) * i64::from(video.height),
        MediaFacts::Audio(audio) => i64::from(audio.channels),
        _ => return None,
    };
    let seen = if stream.start_pts.is_some() { 100_000_000 } else { 0 };
    let default = if stream.disposition.iter().any(|d| d == "default") { 5_000_000 } else { 0 };
    Some(size + seen + default)
}

fn best(source: &SourceFacts, kind: StreamKind) -> Option<&StreamFacts> {
    let mut best: Option<(i64, &StreamFacts)> = None;
    for stream in source.streams.iter().filter(|s| kind_of(s) == kind) {
        let Some(score) = score(stream) else { continue };
        if best.is_none_or(|(top, _)| score > top) && score > 0 {
            best = Some((score, stream));
        }
    }
    best.map(|(_, stream)| stream)
}

/// Its packets were counted, and there is none. What is made of the film then has no such track, as in ffmpeg.
fn is_empty(video: &VideoFacts) -> bool {
    video.packets == Some(0)
}

fn is_picture(stream: &StreamFacts) -> bool {
    matches!(&stream.media, MediaFacts::Video(video) if video.attached_picture)
}

fn by_score(source: &SourceFacts, spec: &EncodeSpec) -> Choice {
    let mut choice = Choice::default();
    if spec.video.is_some() {
        choice.video = best(source, StreamKind::Video).filter(|s| !is_picture(s)).map(|s| s.index);
    }
    if spec.audio.is_some() {
        choice.audio.extend(best(source, StreamKind::Audio).map(|s| s.index));
    }
    if spec.subtitles != Subtitles::None {
        let subtitles = || source.streams.iter().filter(|s| kind_of(s) == StreamKind::Subtitle);
        // Without `-c:s` the first that can be kept is worth more than a warning about one that cannot.
        let first = match spec.subtitles {
            Subtitles::Auto => {
                subtitles().find(|s| matches!(subtitle(spec, &s.codec), Subtitle::Copied | Subtitle::As(_)))
            }
            Subtitles::Copy | Subtitles::Text(_) | Subtitles::None => None,
        };
        choice.subtitles.extend(first.or_else(|| subtitles().next()).map(|s| s.index));
    }
    choice
}

fn matches(map: &StreamMap, source: &SourceFacts) -> Vec<u32> {
    let of_kind = source.streams.iter().filter(|s| map.kind.is_none_or(|kind| kind_of(s) == kind));
    match (map.kind, map.index) {
        (_, None) => of_kind.map(|s| s.index).collect(),
        (None, Some(index)) => of_kind.filter(|s| s.index == index).map(|s| s.index).collect(),
        (Some(_), Some(index)) => {
            of_kind.skip(usize::try_from(index).unwrap_or(usize::MAX)).take(1).map(|s| s.index).collect()
        }
    }
}

fn map_text(map: &StreamMap) -> String {
    let kind = match map.kind {
        None => "",
        Some(StreamKind::Video) => ":v",
        Some(StreamKind::Audio) => ":a",
        Some(StreamKind::Subtitle) => ":s",
        Some(StreamKind::Data) => ":d",
        Some(StreamKind::Attachment) => ":t",
    };
    let index = map.index.map(|i| format!(":{i}")).unwrap_or_default();
    format!("-map {}0{kind}{index}{}", if map.negative { "-" } else { "" }, if map.optional { "?" } else { "" })
}

fn by_maps(source: &SourceFacts, spec: &EncodeSpec) -> Result<Choice, Failure> {
    let mut mapped: Vec<u32> = Vec::new();
    for map in &spec.maps {
        let found = matches(map, source);
        if found.is_empty() && !map.optional {
            return Err(Failure::new(
                Class::Spec,
                "no_such_stream",
                format!("{} finds nothing in the source ({})", map_text(map), listing(source)),
            ));
        }
        if map.negative {
            mapped.retain(|index| !found.contains(index));
        } else {
            // One sound may become several tracks, each encoded in its own way.
            let again =
                |index: &u32| source.streams.iter().any(|s| s.index == *index && kind_of(s) == StreamKind::Audio);
            mapped.extend(found.into_iter().filter(|i| again(i) || !mapped.contains(i)).collect::<Vec<_>>());
        }
    }
    let mut choice = Choice::default();
    for index in mapped {
        let Some(stream) = source.streams.iter().find(|s| s.index == index) else { continue };
        match kind_of(stream) {
            StreamKind::Video if spec.video.is_none() => {}
            StreamKind::Video if is_picture(stream) => {
                choice.warnings.push(dropped(stream, "it is a cover picture, which is not encoded"));
            }
            StreamKind::Video if matches!(&stream.media, MediaFacts::Video(video) if is_empty(video)) => {
                choice.warnings.push(dropped(stream, "there is no picture in it"));
            }
            StreamKind::Video if choice.video.is_some() => {
                choice.warnings.push(dropped(stream, "one video stream is encoded, the first that is mapped"));
            }
            StreamKind::Video => choice.video = Some(index),
            StreamKind::Audio if spec.audio.is_none() => {}
            StreamKind::Audio => choice.audio.push(index),
            StreamKind::Subtitle if spec.subtitles == Subtitles::None => {}
            StreamKind::Subtitle => choice.subtitles.push(index),
            StreamKind::Data => choice.warnings.push(dropped(stream, "data streams are not kept")),
            StreamKind::Attachment if !stream.tags.iter().any(|(key, _)| key.eq_ignore_ascii_case("filename")) => {
                choice.warnings.push(dropped(stream, "it has no file name"));
            }
            StreamKind::Attachment if spec.container == Container::Mkv => choice.attachments.push(index),
            StreamKind::Attachment => {
                let why = format!("{} does not hold attachments; .mkv does", muxer_name(spec.container));
                choice.warnings.push(dropped(stream, &why));
            }
        }
    }
    Ok(choice)
}

fn dropped(stream: &StreamFacts, why: &str) -> Warning {
    Warning {
        code: "stream_dropped".into(),
        stream: Some(stream.index),
        text: format!("{} {} is left out: {why}", kind_name(stream), stream.codec),
    }
}

/// Keeps what the container holds as it is.
fn choose_subtitles(source: &SourceFacts, spec: &EncodeSpec, choice: &mut Choice) -> Result<(), Failure> {
    let muxer = muxer_name(spec.container);
    let mut kept = Vec::new();
    for index in std::mem::take(&mut choice.subtitles) {
        let Some(stream) = source.streams.iter().find(|s| s.index == index) else { continue };
        let refused = |why: String| Err(Failure::new(Class::Spec, "subtitles_refused", why));
        match (subtitle(spec, &stream.codec), spec.subtitles) {
            (Subtitle::Copied | Subtitle::As(_), _) => kept.push(index),
            (Subtitle::Lost, Subtitles::Copy) if !spec.clips.is_empty() => {
                return refused(format!(
                    "-c:s copy with --clip: the subtitles of stream {index} ({}) cannot be cut; leave them out with -sn",
                    stream.codec
                ));
            }
            (Subtitle::Lost, _) if !spec.clips.is_empty() => {
                choice.warnings.push(dropped(stream, "subtitles that are pictures cannot be cut into clips"));
            }
            (Subtitle::Lost, Subtitles::Copy) => {
                return refused(format!(
                    "{muxer} does not hold the subtitles of stream {index} ({}); write .mkv, or leave them out with -sn",
                    stream.codec
                ));
            }
            (Subtitle::Lost, Subtitles::Text(wanted)) => {
                return refused(format!(
                    "-c:s {wanted}: the subtitles of stream {index} ({}) are pictures, not text; write .mkv with -c:s copy, or \
                     leave them out with -sn",
                    stream.codec
                ));
            }
            (Subtitle::Lost, _) => {
                choice.warnings.push(dropped(stream, &format!("{muxer} does not hold such subtitles; .mkv does")));
            }
        }
    }
    choice.subtitles = kept;
    Ok(())
}
