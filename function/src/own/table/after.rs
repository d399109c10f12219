//! What comes after encoders: joining, checking, scoring, packaging, publishing.

use spool_proto::call;
use spool_proto::time::Span;

use super::super::needs::{Expected, NO_PROGRESS, Needs, PUBLISH_MEMORY, READ_TIMEOUT, Shape};
use super::super::types::{
    self, Fields, boolean, choice, edit, fields, int, kinds, list, metric, mirror, opt, picture, rational, record,
    stream, text, uri,
};
use super::super::{Artifacts, Function, spec};
use super::{DECODE, DECODING, READ, SCORE, answer, function, leaves};

pub(super) fn checks() -> Vec<Function> {
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

pub(super) fn packages() -> Vec<Function> {
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

pub(super) fn others() -> Vec<Function> {
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
