//! What goes in and out of functions, type by type. Each record names the struct that it mirrors; a field more or less is found by the
//! first test that looks at any declaration.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use spool_proto::call::{self, ImageKind};
use spool_proto::package::PackagedTrack;
use spool_proto::quality::{Metric, MetricSummary, PlaneMean};
use spool_proto::spec::{Rational, Size};
use spool_proto::vbv::{BufferCheck, BufferUse, RateBuffer};
use spool_rules::value::Value;

use super::Artifacts;
use super::mirror::fields_of;
use crate::schema::Schema;

pub(super) type Fields = BTreeMap<Arc<str>, Value>;

/// Fields by name: `fields! { width: int(), crop: opt(crop()) }`.
macro_rules! fields {
    ($($name:ident: $kind:expr),* $(,)?) => {
        $crate::own::types::Fields::from([$((std::sync::Arc::from(stringify!($name)), $kind)),*])
    };
}
pub(super) use fields;

fn plain(kind: &str) -> Value {
    Value::map([("type", Value::text(kind))])
}

fn of(kind: &str, of: Value) -> Value {
    Value::map([("type", Value::text(kind)), ("of", of)])
}

pub(super) fn int() -> Value {
    plain("int")
}

pub(super) fn number() -> Value {
    plain("number")
}

pub(super) fn text() -> Value {
    plain("text")
}

pub(super) fn boolean() -> Value {
    plain("bool")
}

pub(super) fn any() -> Value {
    plain("any")
}

pub(super) fn uri() -> Value {
    plain("uri")
}

pub(super) fn list(each: Value) -> Value {
    of("list", each)
}

pub(super) fn map(each: Value) -> Value {
    of("map", each)
}

/// It may be left out.
pub(super) fn opt(field: Value) -> Value {
    of("optional", field)
}

pub(super) fn is_optional(field: &Value) -> bool {
    field.get("type").and_then(Value::as_text) == Some("optional")
}

pub(super) fn choice(names: impl IntoIterator<Item = impl Display>) -> Value {
    of("choice", Value::list(names.into_iter().map(|name| Value::text(name.to_string()))))
}

pub(super) fn bare(fields: Fields) -> Value {
    Value::map([("type", Value::text("record")), ("fields", Value::Map(Arc::new(fields)))])
}

/// The fields of `T`, as they are said to be.
pub(super) fn mirror<T: DeserializeOwned>(fields: Fields) -> Fields {
    debug_assert_eq!(
        fields_of::<T>().iter().copied().collect::<std::collections::BTreeSet<_>>(),
        fields.keys().map(AsRef::as_ref).collect(),
        "{} and what is declared of it",
        std::any::type_name::<T>()
    );
    fields
}

pub(super) fn record<T: DeserializeOwned>(fields: Fields) -> Value {
    bare(mirror::<T>(fields))
}

/// One of several kinds, told by the field `tag`: a record of what any of them has, where all but the tag and what all have is optional.
pub(super) fn kinds(tag: &str, kinds: &[(&str, Fields)]) -> Value {
    let mut all = Fields::from([(Arc::from(tag), choice(kinds.iter().map(|(name, _)| name)))]);
    for (_, fields) in kinds {
        for (name, kind) in fields {
            let everywhere = kinds.iter().all(|(_, fields)| fields.contains_key(name));
            all.insert(name.clone(), if everywhere || is_optional(kind) { kind.clone() } else { opt(kind.clone()) });
        }
    }
    bare(all)
}

/// What a rule sees of an answer.
pub(super) fn result(mut fields: Fields, left: Artifacts) -> Schema {
    let file = || bare(fields! { uri: text(), bytes: int(), hash: text() });
    let files = match left {
        Artifacts { more: true, .. } => of("map", file()),
        Artifacts { names, .. } => bare(names.iter().map(|name| (Arc::from(*name), opt(file()))).collect()),
    };
    fields.extend(fields! {
        artifacts: files,
        warnings: opt(list(bare(fields! { code: text(), stream: opt(int()), text: text() }))),
        read: opt(record::<call::SourceRead>(fields! { fetched_bytes: int(), source_bytes: int(), version: text() })),
        run: bare(fields! { worker: opt(text()), attempt: int(), started_us: opt(int()), finished_us: opt(int()) }),
    });
    Schema::of(fields)
}

pub(super) fn rational() -> Value {
    record::<Rational>(fields! { num: int(), den: int() })
}

pub(super) fn jump() -> Value {
    record::<call::Jump>(fields! { packet: int(), offset_us: int(), first: opt(boolean()) })
}

pub(super) fn edit() -> Value {
    record::<call::Edit>(fields! { source_us: int(), length_us: int(), at_us: int(), input: opt(int()) })
}

pub(super) fn cue() -> Value {
    record::<call::CueTimes>(fields! { start_us: int(), end_us: int() })
}

fn tags() -> Value {
    list(list(text()))
}

pub(super) fn source() -> Fields {
    let chapter = record::<call::Chapter>(fields! { start_us: int(), end_us: int(), title: text() });
    mirror::<call::SourceFacts>(fields! {
        format: text(),
        bytes: int(),
        start_us: opt(int()),
        duration_us: opt(int()),
        bit_rate_bps: opt(int()),
        streams: list(stream()),
        chapters: list(chapter),
        tags: tags(),
    })
}

pub(super) fn stream() -> Value {
    let crop = record::<call::CropFacts>(fields! { width: int(), height: int(), x: int(), y: int() });
    let video = mirror::<call::VideoFacts>(fields! {
        width: int(),
        height: int(),
        pix_fmt: opt(text()),
        sample_aspect_ratio: rational(),
        rotation: int(),
        frame_rate: opt(rational()),
        average_frame_rate: opt(rational()),
        field_order: opt(text()),
        color_range: opt(text()),
        color_primaries: opt(text()),
        color_transfer: opt(text()),
        color_space: opt(text()),
        attached_picture: boolean(),
        packets: opt(int()),
        tells_scenes: opt(boolean()),
        crop: opt(crop),
    });
    let audio = mirror::<call::AudioFacts>(fields! {
        sample_rate_hz: int(),
        channels: int(),
        layout: text(),
        sample_format: opt(text()),
    });
    let nothing = Fields::new;
    let media =
        [("video", video), ("audio", audio), ("subtitle", nothing()), ("data", nothing()), ("attachment", nothing())];
    record::<call::StreamFacts>(fields! {
        index: int(),
        codec: text(),
        profile: opt(text()),
        time_base: rational(),
        start_pts: opt(int()),
        duration: opt(int()),
        bit_rate_bps: opt(int()),
        language: opt(text()),
        title: opt(text()),
        disposition: list(text()),
        tags: tags(),
        jumps: opt(list(jump())),
        media: kinds("type", &media),
    })
}

pub(super) fn target() -> Value {
    record::<call::Target>(fields! { bitrate_bps: int(), peak_bps: int() })
}

pub(super) fn buffer_target() -> Value {
    record::<call::BufferTarget>(fields! { start_bits: int(), reserve_bits: opt(int()) })
}

pub(super) fn rate_buffer() -> Value {
    record::<RateBuffer>(fields! { maxrate_bps: int(), bufsize_bits: int(), frame_rate: rational() })
}

pub(super) fn buffer_use() -> Value {
    record::<BufferUse>(fields! { low_full: int(), low_net: int(), end_full: int(), net: int() })
}

pub(super) fn buffer_check() -> Value {
    record::<BufferCheck>(fields! {
        maxrate_bps: int(),
        bufsize_bits: int(),
        low_bits: int(),
        low_at_us: int(),
        late_frames: int(),
    })
}

pub(super) fn loudness() -> Value {
    record::<call::LoudnessFacts>(fields! {
        source_lufs: number(),
        source_true_peak_dbtp: number(),
        lufs: number(),
        true_peak_dbtp: number(),
        gain_db: number(),
        limited: boolean(),
    })
}

/// A track, or a chunk of one.
pub(super) fn track() -> Fields {
    mirror::<call::TrackManifest>(fields! {
        codec: opt(text()),
        chunk: opt(int()),
        units: int(),
        packets: int(),
        first_pts: opt(int()),
        last_pts: opt(int()),
        time_base: list(int()),
        bytes: int(),
        parameters: text(),
        entry: text(),
        decoded: int(),
        peak_memory_mib: int(),
        loudness: opt(loudness()),
        buffer: opt(buffer_use()),
    })
}

pub(super) fn film() -> Fields {
    mirror::<call::FilmManifest>(fields! {
        bytes: int(),
        duration_us: int(),
        video_frames: opt(int()),
        decoded_frames: int(),
        pts_hash: opt(text()),
        buffer: opt(buffer_check()),
    })
}

pub(super) fn scenes() -> Fields {
    mirror::<call::ScenesManifest>(fields! { frames: int(), scenes: int(), sure: int() })
}

pub(super) fn plan() -> Fields {
    let chunk = record::<call::ChunkSummary>(fields! {
        start: int(),
        end: int(),
        cut: text(),
        input: opt(int()),
        weight: int(),
        threads: int(),
        memory_mib: int(),
    });
    let video = record::<call::VideoPlan>(fields! {
        stream: int(),
        chunks: list(chunk),
        frames: opt(int()),
        frame_rate: rational(),
        unsplit_reason: opt(text()),
        width: int(),
        height: int(),
    });
    let track = || bare(super::table::track_args());
    mirror::<call::PlanSummary>(fields! {
        video: opt(video),
        audio: list(track()),
        subtitles: list(track()),
        edits: opt(list(edit())),
    })
}

pub(super) fn images() -> Fields {
    let kinds = [ImageKind::Poster, ImageKind::Thumbnail, ImageKind::Sprite, ImageKind::Track];
    let names = kinds.map(|kind| serde_json::to_value(kind).ok().and_then(|name| name.as_str().map(str::to_owned)));
    let file = record::<call::ImageFile>(fields! {
        name: text(),
        kind: choice(names.into_iter().flatten()),
        time_us: opt(int()),
        width: int(),
        height: int(),
    });
    mirror::<call::ImagesManifest>(fields! { files: list(file) })
}

pub(super) fn keyframes() -> Fields {
    let keyframe = record::<call::Keyframe>(fields! { frame: int(), pts: int(), position: opt(int()), bytes: int() });
    let frame = record::<call::FrameEntry>(fields! {
        pts: int(),
        bytes: int(),
        key: opt(boolean()),
        position: opt(int()),
        psnr: opt(number()),
        ssim: opt(number()),
    });
    mirror::<call::KeyframeTable>(fields! {
        time_base: rational(),
        keyframes: list(keyframe),
        chunks: opt(list(int())),
        frames: opt(list(frame)),
    })
}

pub(super) fn segments() -> Fields {
    mirror::<call::SegmentSummary>(fields! {
        codec: text(),
        segments: int(),
        bytes: int(),
        duration_us: int(),
        average_bps: int(),
        peak_bps: int(),
        frames: opt(int()),
        next_piece: opt(int()),
    })
}

pub(super) fn packaged() -> Value {
    record::<PackagedTrack>(fields! {
        folder: text(),
        name: text(),
        language: opt(text()),
        default: opt(boolean()),
        forced: opt(boolean()),
        ceiling_bps: opt(int()),
    })
}

pub(super) fn metric() -> Value {
    choice(Metric::ALL)
}

pub(super) fn picture() -> Value {
    record::<call::PictureFacts>(fields! { width: int(), height: int(), pix_fmt: text() })
}

/// `null` where nothing differs.
fn decibels() -> Value {
    opt(number())
}

pub(super) fn trial() -> Fields {
    let point = record::<call::TrialPoint>(fields! {
        size: record::<Size>(fields! { width: int(), height: int() }),
        crf: number(),
        bytes: int(),
        bits_per_second: int(),
        encode_time: int(),
        scores: list(scores()),
    });
    let found = record::<call::TrialFound>(fields! { crf: number(), score: decibels() });
    mirror::<call::TrialManifest>(fields! {
        frames: int(),
        reference: picture(),
        points: list(point),
        found: opt(found),
    })
}

fn scores() -> Value {
    let plane = record::<PlaneMean>(fields! { plane: text(), mean: decibels() });
    record::<MetricSummary>(fields! {
        metric: metric(),
        mean: decibels(),
        min: decibels(),
        min_frame: int(),
        min_time_us: int(),
        p1: decibels(),
        p5: decibels(),
        p50: decibels(),
        planes: opt(list(plane)),
    })
}

pub(super) fn quality() -> Fields {
    mirror::<call::QualityManifest>(fields! {
        first_frame: int(),
        frames: int(),
        first_time_us: int(),
        reference: picture(),
        distorted: picture(),
        scores: list(scores()),
    })
}
