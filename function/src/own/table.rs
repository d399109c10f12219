//! The declarations, in the order a film meets them.

use std::sync::LazyLock;

use spool_proto::call::{self, function};
use spool_proto::time::Span;

use super::needs::{
    AUDIO_MEMORY, CODEC_TIMEOUT, DECODE_MEMORY, ENCODE_MEMORY, Expected, NO_PROGRESS, Needs, PUBLISH_MEMORY,
    READ_TIMEOUT, SUBTITLE_MEMORY, Shape, TABLES_MEMORY,
};
use super::types::{
    self, Fields, boolean, choice, cue, edit, fields, int, jump, kinds, list, metric, mirror, opt, picture, rational,
    record, stream, text, uri,
};
use super::{Artifacts, Function, spec};
use crate::schema::Schema;

/// Every function that workers have themselves.
pub fn all() -> &'static [Function] {
    static ALL: LazyLock<Vec<Function>> = LazyLock::new(|| {
        [media(), tracks(), checks(), packages(), others()].into_iter().flatten().collect()
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
/// Of a file that is read and not decoded, from a disk.
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
            target: opt(types::target()),
            buffer: opt(types::buffer_target()),
        })
    };
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
            artifacts: Artifacts { names: &["plan"], more: true },
            ..function(
                function::PLAN,
                "Cuts a film into chunks and chooses its tracks; leaves the plan of each source (plan, plan-1, …)",
                "every source, then the packet index of each",
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
            expected: Expected::Hour(Span::from_secs(40)),
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

fn checks() -> Vec<Function> {
    let track = record::<call::AssembleTrack>(fields! { stream: int(), pieces: int() });
    let assemble = mirror::<call::AssembleArgs>(fields! {
        spec: spec::encode(),
        source: types::bare(types::source()),
        tracks: list(track),
        edits: opt(list(edit())),
    });
    let validate = mirror::<call::ValidateArgs>(fields! {
        container: spec::container(),
        verify: spec::verify(),
        frames: opt(int()),
        joins: list(int()),
        codecs: list(text()),
        buffer: opt(types::rate_buffer()),
    });
    let number = fields! {
        reference: opt(int()),
        distorted: opt(int()),
        frames: opt(list(int())),
        shortest: boolean(),
    };
    let chunk = fields! { spec: spec::encode(), chunk: int() };
    let quality = mirror::<call::QualityArgs>(fields! {
        metrics: list(metric()),
        pairing: kinds("pair", &[("number", number), ("chunk", chunk)]),
        threads: int(),
    });
    let report = mirror::<call::QualityReportArgs>(fields! {
        reference: text(),
        distorted: text(),
        reference_picture: picture(),
        distorted_picture: picture(),
        joins: list(int()),
    });
    vec![
        Function {
            artifacts: leaves(&["film", "timeline"]),
            expected: READ,
            ..function(
                function::ASSEMBLE,
                "Joins chunks and tracks into the film, without encoding again",
                "source, then every track's files in output order, a video track's chunks in film order",
                assemble,
                answer("film", types::film()),
            )
        },
        Function {
            needs: Needs { shape: Some(Shape::Decode(1)), ..DECODING },
            expected: DECODE,
            ..function(
                function::VALIDATE,
                "Checks the joined film: every packet, and as many pictures as verify says",
                "joined film; with pictures the artifact timeline of its assembly",
                validate,
                answer("film", types::film()),
            )
        },
        Function {
            artifacts: leaves(&["table"]),
            expected: READ,
            ..function(
                function::INDEX,
                "Lists the film's keyframes; leaves the table of all frames",
                "joined film",
                mirror::<call::IndexArgs>(fields! { joins: opt(list(int())) }),
                answer("index", types::keyframes()),
            )
        },
        Function {
            artifacts: leaves(&["scores"]),
            needs: Needs { no_progress: NO_PROGRESS, shape: Some(Shape::Decode(2)), ..DECODING },
            expected: SCORE,
            ..function(
                function::QUALITY,
                "Scores pictures against others, frame by frame",
                "pair number: reference, distorted; pair chunk: source, plan, coded chunk, then as its media.encode",
                quality,
                answer("quality", types::quality()),
            )
        },
        Function {
            artifacts: leaves(&["report", "chart", "table"]),
            ..function(
                function::QUALITY_REPORT,
                "Puts the scores of all chunks together: a report, a chart, a table of frames",
                "the artifact table of media.index, then the artifacts scores of every chunk in film order",
                report,
                answer("quality", types::quality()),
            )
        },
    ]
}

fn packages() -> Vec<Function> {
    let segment = mirror::<call::SegmentArgs>(fields! {
        spec: spec::encode(),
        stream: stream(),
        segment: rational(),
        segments: opt(int()),
    });
    let manifest = mirror::<call::ManifestArgs>(fields! {
        packages: list(choice(["hls", "dash"])),
        tracks: list(types::packaged()),
        text: opt(list(types::packaged())),
        pictures: opt(list(int())),
    });
    vec![
        Function {
            artifacts: leaves(&["track", "segments", "timeline"]),
            expected: READ,
            ..function(
                function::SEGMENT,
                "Makes a track of a package: header and segments one behind the other, and the table of them",
                "one track's pieces in film order",
                segment,
                answer("segments", types::segments()),
            )
        },
        Function {
            artifacts: Artifacts { names: &[], more: true },
            ..function(
                function::MANIFEST,
                "Writes the playlists of a package; leaves each under its path in the package",
                "the tables of all tracks",
                manifest,
                answer("manifest", Fields::new()),
            )
        },
    ]
}

fn others() -> Vec<Function> {
    let published = || answer("published", fields! { uri: text(), bytes: int() });
    let publish = mirror::<call::PublishArgs>(fields! {
        output: uri(),
        overwrite: boolean(),
        hash: text(),
        // From servers that kept no artifact of it: where it goes, and the table.
        index: opt(types::any()),
        beside: opt(list(uri())),
    });
    let entry = kinds(
        "kind",
        &[
            ("track", fields! { folder: text(), track: int(), table: int(), hash: text() }),
            ("file", fields! { path: text(), input: int(), hash: text() }),
        ],
    );
    let folder = mirror::<call::PublishPackageArgs>(fields! {
        output: uri(),
        overwrite: boolean(),
        entries: list(entry),
    });
    let wanted = mirror::<call::ListArgs>(fields! {
        folder: uri(),
        suffixes: opt(list(text())),
        recursive: opt(boolean()),
    });
    let file = record::<call::ListedFile>(fields! { uri: text(), bytes: int(), modified_us: int() });
    let publishing = Needs::new(PUBLISH_MEMORY, READ_TIMEOUT);
    vec![
        Function {
            needs: publishing,
            expected: READ,
            ..function(
                function::PUBLISH,
                "Moves the checked film to where it was asked for",
                "joined film, then a file for each of beside",
                publish,
                published(),
            )
        },
        Function {
            needs: publishing,
            expected: READ,
            ..function(
                function::PUBLISH_PACKAGE,
                "Cuts tracks into files and puts them, with the playlists, into a folder",
                "as the entries say",
                folder,
                published(),
            )
        },
        Function {
            needs: Needs::new(0, READ_TIMEOUT),
            ..function(
                function::LIST,
                "Lists the files of a folder or of a prefix, at most 5,000",
                "",
                wanted,
                answer("listed", fields! { files: list(file) }),
            )
        },
        Function {
            needs: Needs::new(0, Span::ZERO),
            expected: Expected::Said,
            ..function(
                function::NOOP,
                "Does nothing, for so long: it measures dispatch",
                "",
                fields! { sleep_us: int(), through_executor: boolean() },
                answer("noop", Fields::new()),
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
