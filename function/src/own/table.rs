//! The declarations, in the order a film meets them; [`after`] has those behind the encoders.

mod after;

use std::sync::LazyLock;

use spool_proto::call::{self, function};
use spool_proto::spec::Size;
use spool_proto::time::Span;

use super::needs::{
    AUDIO_MEMORY, CODEC_TIMEOUT, DECODE_MEMORY, ENCODE_MEMORY, Expected, NO_PROGRESS, Needs, READ_TIMEOUT,
    SUBTITLE_MEMORY, Shape, TABLES_MEMORY,
};
use super::types::{self, Fields, boolean, choice, cue, edit, fields, int, jump, list, mirror, number, opt, record};
use super::{Artifacts, Function, spec};
use crate::schema::Schema;

/// Every function that workers have themselves.
pub fn all() -> &'static [Function] {
    static ALL: LazyLock<Vec<Function>> = LazyLock::new(|| {
        [media(), tracks(), after::checks(), after::packages(), after::others()].into_iter().flatten().collect()
    });
    &ALL
}

const TABLES: Needs = Needs::new(TABLES_MEMORY, READ_TIMEOUT);
const DECODING: Needs = Needs::new(TABLES_MEMORY + DECODE_MEMORY, CODEC_TIMEOUT);
const ENCODING: Needs = Needs {
    threads: true,
    no_progress: NO_PROGRESS,
    shape: Some(Shape::Encode),
    encoder: true,
    ..Needs::new(ENCODE_MEMORY, CODEC_TIMEOUT)
};

/// Two decoders and two scores.
const SCORE: Expected = Expected::Decode(Span::from_millis(5));
const DECODE: Expected = Expected::Decode(Span::from_millis(2));
/// Of a file that is read and not decoded, from a disk of 256 MiB/s.
const READ: Expected = Expected::Gigabyte(Span::from_secs(4));
const SHORT: Expected = Expected::Call(Span::from_secs(1));

const fn leaves(names: &'static [&'static str]) -> Artifacts {
    Artifacts { names, more: false }
}

/// As JSON tells the kind of an answer.
fn answer(kind: &str, mut fields: Fields) -> Schema {
    fields.insert("kind".into(), choice([kind]));
    Schema::of(fields)
}

fn function(name: &'static str, does: &'static str, inputs: &'static str, takes: Fields, output: Schema) -> Function {
    Function {
        name,
        does,
        inputs,
        input: Schema::of(takes),
        output,
        artifacts: leaves(&[]),
        needs: TABLES,
        expected: SHORT,
        idempotent: true,
    }
}

pub(super) fn track_args() -> Fields {
    let next = record::<call::NextTrack>(fields! { stream: int(), jumps: opt(list(jump())) });
    mirror::<call::TrackArgs>(fields! {
        spec: spec::encode(),
        stream: int(),
        track: opt(int()),
        jumps: opt(list(jump())),
        edits: opt(list(edit())),
        joined: opt(list(next)),
    })
}

fn media() -> Vec<Function> {
    let encode = || {
        mirror::<call::EncodeArgs>(fields! {
            spec: spec::encode(),
            stream: int(),
            chunk: int(),
            before: opt(int()),
            joined: opt(boolean()),
            threads: int(),
            crf: opt(number()),
            target: opt(types::target()),
            buffer: opt(types::buffer_target()),
        })
    };
    let size = record::<Size>(fields! { width: int(), height: int() });
    let points = record::<call::TrialPoints>(fields! { crfs: list(number()), sizes: opt(list(size)) });
    let trial = mirror::<call::TrialArgs>(fields! {
        encode: types::bare(encode()),
        samples: opt(list(list(int()))),
        points: opt(points),
        // {ssim: 0.98} or {psnr: 42}.
        target: opt(types::any()),
    });
    let analysis = mirror::<call::Analysis>(fields! {
        chunk: int(),
        frames: int(),
        ticks: int(),
        texture_bits: int(),
        motion_bits: int(),
        fixed_bits: int(),
    });
    let plan = mirror::<call::PlanArgs>(fields! {
        spec: spec::encode(),
        source: types::bare(types::source()),
        joined: opt(list(types::bare(types::source()))),
        unsplit_threads: int(),
        lines: opt(list(cue())),
        scans: opt(list(int())),
    });
    let scenes = mirror::<call::ScenesArgs>(fields! {
        spec: spec::encode(),
        source: types::bare(types::source()),
        part: int(),
        parts: int(),
    });
    vec![
        Function {
            artifacts: leaves(&["index"]),
            expected: READ,
            ..function(
                function::PROBE,
                "Says what is in a source; with index_for reads it whole and leaves the packet index",
                "source",
                mirror::<call::ProbeArgs>(fields! { index_for: opt(spec::encode()), crop_bars: opt(boolean()) }),
                answer("probe", types::source()),
            )
        },
        Function {
            artifacts: leaves(&["scenes"]),
            needs: Needs { shape: Some(Shape::Decode(1)), no_progress: NO_PROGRESS, ..DECODING },
            expected: DECODE,
            ..function(
                function::SCENES,
                "Looks for changes of scene in one of several parts of the pictures; leaves them as a list",
                "source, packet index",
                scenes,
                answer("scenes", types::scenes()),
            )
        },
        Function {
            artifacts: Artifacts { names: &["plan"], more: true },
            ..function(
                function::PLAN,
                "Cuts a film into chunks and chooses its tracks; leaves the plan of each source (plan, plan-1, …)",
                "every source, then the packet index of each; the scenes of scans, as many of each source as scans says",
                plan,
                answer("plan", types::plan()),
            )
        },
        Function {
            artifacts: leaves(&["stats", "tree"]),
            needs: ENCODING,
            expected: Expected::Encode,
            ..function(
                function::ANALYSE,
                "The first of two passes over a chunk; leaves the encoder's statistics",
                "source, plan; the overlay and the text to be drawn, where there are such",
                encode(),
                answer("analysis", analysis),
            )
        },
        Function {
            needs: Needs { memory_mib: ENCODE_MEMORY + (call::SAMPLE_BYTES_MAX >> 20), ..ENCODING },
            expected: Expected::Encode,
            ..function(
                function::TRIAL,
                "Encodes samples of a chunk at several qualities and sizes, or until one meets a target, and scores them",
                "source, plan; the overlay and the text to be drawn, where there are such",
                trial,
                answer("trial", types::trial()),
            )
        },
        Function {
            artifacts: leaves(&["chunk"]),
            needs: ENCODING,
            expected: Expected::Encode,
            ..function(
                function::ENCODE,
                "Encodes a chunk",
                "source, plan; with target the artifacts of the chunk's media.analyse; the overlay and the text to be drawn, where there are such",
                encode(),
                answer("track", types::track()),
            )
        },
    ]
}

fn tracks() -> Vec<Function> {
    let text = mirror::<call::TextArgs>(fields! {
        spec: spec::encode(),
        stream: opt(int()),
        jumps: opt(list(jump())),
        burn: opt(boolean()),
    });
    let cues = mirror::<call::TextManifest>(fields! { cues: list(cue()), language: opt(types::text()) });
    vec![
        Function {
            artifacts: leaves(&["track"]),
            needs: Needs { no_progress: NO_PROGRESS, ..Needs::new(AUDIO_MEMORY, CODEC_TIMEOUT) },
            expected: Expected::Hour(Span::from_secs(50)),
            ..function(
                function::AUDIO,
                "Encodes a sound track in one piece",
                "every source",
                track_args(),
                answer("track", types::track()),
            )
        },
        Function {
            artifacts: leaves(&["track"]),
            needs: Needs::new(SUBTITLE_MEMORY, READ_TIMEOUT),
            expected: READ,
            ..function(
                function::SUBTITLE,
                "Copies or converts a subtitle track in one piece",
                "source",
                track_args(),
                answer("track", types::track()),
            )
        },
        Function {
            artifacts: leaves(&["text", "script"]),
            needs: Needs::new(SUBTITLE_MEMORY, READ_TIMEOUT),
            expected: READ,
            ..function(
                function::TEXT,
                "Makes WebVTT of a subtitle track or file; with burn the script that is drawn into the pictures",
                "source, or a subtitle file",
                text,
                answer("text", cues),
            )
        },
        Function {
            artifacts: Artifacts { names: &[], more: true },
            needs: Needs { shape: Some(Shape::Decode(1)), ..DECODING },
            expected: DECODE,
            ..function(
                function::IMAGES,
                "Takes a poster, thumbnails and sprite sheets; leaves each under its file's name",
                "source",
                mirror::<call::ImagesArgs>(fields! { spec: spec::images(), stream: opt(int()) }),
                answer("images", types::images()),
            )
        },
    ]
}

/// Functions by the words in front of their dots: `media`, `spool`, `bench`.
pub fn families() -> Vec<(&'static str, Vec<&'static Function>)> {
    let mut families: Vec<(&str, Vec<&Function>)> = Vec::new();
    for function in all() {
        let (family, _) = function.name.split_once('.').unwrap_or((function.name, ""));
        match families.iter_mut().find(|(known, _)| *known == family) {
            Some((_, members)) => members.push(function),
            None => families.push((family, vec![function])),
        }
    }
    families
}
