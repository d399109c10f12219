//! What rules may ask about films: pure reckoning that encodes need between calls.

#![allow(unused_qualifications, reason = "the macros of the language write paths in full")]

mod titles;

use serde::de::DeserializeOwned;
use spool_proto::call::{Analysis, SourceFacts, TrackManifest, VideoPlan};
use spool_proto::rate::{self, Control};
use spool_proto::spec::title::{LadderSpec, Rung, TitleSpec};
use spool_proto::spec::{EncodeSpec, Filter, Scan, VideoCodec, VideoSpec};
use spool_proto::uri;
use spool_proto::vbv::RateBuffer;
use starlark::environment::GlobalsBuilder;
use starlark::starlark_module;
use starlark::values::list::UnpackList;
use starlark::values::none::NoneOr;
use starlark::values::{Heap, Value};

use crate::json::json;
use crate::words::{alloc, say};

type Result<T> = starlark::Result<T>;

/// A value of the language as what it is to be.
fn read<T: DeserializeOwned>(value: Value<'_>, what: &str) -> Result<T> {
    let json = json(value).map_err(|e| say(format!("{what}: {e}")))?;
    serde_json::from_value(json).map_err(|e| say(format!("{what}: {e}")))
}

fn read_all<T: DeserializeOwned>(values: &UnpackList<Value<'_>>, what: &str) -> Result<Vec<T>> {
    values.items.iter().map(|value| read(*value, what)).collect()
}

fn write<'v>(heap: &'v Heap, json: serde_json::Value) -> Result<Value<'v>> {
    let value: spool_rules::value::Value = serde_json::from_value(json).map_err(|e| say(e.to_string()))?;
    Ok(alloc(heap, &value))
}

#[starlark_module]
pub(crate) fn films(builder: &mut GlobalsBuilder) {
    /// What the encoders of a film's chunks are to be asked for so that the film meets its rate and keeps within its buffer.
    ///
    /// `video`: of the spec. `plan`: `video` of what media.plan answered. `analyses`: what media.analyse answered of each chunk, where there are two
    /// passes. `rounds`: what media.encode answered so far: of all chunks, then, a list a round, of those that were made again.
    ///
    /// Answers with `asks` (of each chunk: `target`, `buffer`), `again` (numbers of chunks to be made again; none when the film is
    /// right), `buffer` (that the film is to be read through) and `average` (its rate, where one was asked for).
    fn film_rate<'v>(
        #[starlark(require = pos)] video: Value<'v>,
        #[starlark(require = pos)] plan: Value<'v>,
        #[starlark(require = named, default = UnpackList::default())] analyses: UnpackList<Value<'v>>,
        #[starlark(require = named, default = UnpackList::default())] rounds: UnpackList<UnpackList<Value<'v>>>,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        let video: VideoSpec = read(video, "film_rate: video")?;
        let plan: VideoPlan = read(plan, "film_rate: plan")?;
        let analyses: Vec<Analysis> = read_all(&analyses, "film_rate: analyses")?;
        let mut rounds = rounds.items.iter();
        let mut pieces: Vec<TrackManifest> = match rounds.next() {
            Some(first) => read_all(first, "film_rate: rounds")?,
            None => Vec::new(),
        };
        let of_chunks = |what: &str, count: usize| match plan.chunks.len() {
            chunks if count == 0 || count == chunks => Ok(()),
            chunks => Err(say(format!("film_rate: {chunks} chunks are planned, and {what} are of {count}"))),
        };
        of_chunks("analyses", analyses.len())?;
        of_chunks("pieces", pieces.len())?;
        let mut control = Control::new(&video, &plan, &analyses);
        let after = |control: &mut Control, pieces: &[TrackManifest]| {
            if pieces.is_empty() {
                return Vec::new();
            }
            control.after(&video, &plan, &pieces.iter().collect::<Vec<_>>())
        };
        let mut again = after(&mut control, &pieces);
        for round in rounds {
            let made: Vec<TrackManifest> = read_all(round, "film_rate: rounds")?;
            if made.len() != again.len() {
                let (asked, made) = (again.len(), made.len());
                return Err(say(format!("film_rate: {asked} chunks were to be made again, and {made} were")));
            }
            for (chunk, piece) in again.iter().zip(made) {
                pieces[*chunk] = piece;
            }
            again = after(&mut control, &pieces);
        }
        let asks = control.asks.iter().enumerate();
        let asks: Vec<_> = asks
            .map(|(chunk, ask)| serde_json::json!({"target": control.target(chunk), "buffer": ask.buffer}))
            .collect();
        let average = rate::average(&video, &plan, &pieces.iter().collect::<Vec<_>>());
        let buffer = RateBuffer::of(&video, plan.frame_rate);
        write(heap, serde_json::json!({"asks": asks, "again": again, "average": average, "buffer": buffer}))
    }

    /// How much longer a picture takes in an encoder than in libx264, roughly.
    fn encoder_effort(#[starlark(require = pos)] codec: Value<'_>) -> starlark::Result<u64> {
        Ok(read::<VideoCodec>(codec, "encoder_effort")?.effort())
    }

    /// The codec that an encoder makes: `hevc` of `libx265`.
    fn encoder_makes(#[starlark(require = pos)] codec: Value<'_>) -> starlark::Result<String> {
        Ok(read::<VideoCodec>(codec, "encoder_makes")?.made().to_owned())
    }

    /// A spec of several inputs as one of them sees it, by its number from 0.
    fn input_spec<'v>(
        #[starlark(require = pos)] spec: Value<'v>,
        #[starlark(require = pos)] number: u32,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        // Most films have one: theirs is the spec as it is.
        if spec.get_attr("joined", heap)?.is_none_or(|joined| !joined.to_bool()) {
            return Ok(spec);
        }
        let spec: EncodeSpec = read(spec, "input_spec: spec")?;
        write(heap, serde_json::to_value(spec.of_input(number)).map_err(|e| say(e.to_string()))?)
    }

    /// In how many `parts` a source's pictures are scanned for changes of scene, by `media.scenes`, and how much `memory` (MiB) each takes; by what the
    /// probe that left its index found. `spec`: of that source alone. None: it is cut by its index.
    fn scan_of<'v>(
        #[starlark(require = pos)] spec: Value<'v>,
        #[starlark(require = pos)] facts: Value<'v>,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        let spec: EncodeSpec = read(spec, "scan_of: spec")?;
        let facts: SourceFacts = read(facts, "scan_of: facts")?;
        let Some(scan) = Scan::of(&spec, &facts) else { return Ok(Value::new_none()) };
        write(heap, serde_json::json!({"parts": scan.parts, "memory": scan.memory_mib}))
    }

    /// The text that is to be drawn into the pictures: `file`, or `stream` among the source's subtitles (both may be None), and how
    /// it was written (`text`). None: there is none.
    fn burn_in<'v>(#[starlark(require = pos)] video: Value<'v>, heap: &'v Heap) -> starlark::Result<Value<'v>> {
        let video: VideoSpec = read(video, "burn_in: video")?;
        let Some(burn) = video.burn_in() else { return Ok(Value::new_none()) };
        let text = Filter::Subtitles(burn.clone()).to_string();
        write(heap, serde_json::json!({"file": burn.file, "stream": burn.stream, "text": text}))
    }

    /// The encode that chooses a title's pictures, for the probe that reads their packets.
    fn title_source<'v>(#[starlark(require = pos)] title: Value<'v>, heap: &'v Heap) -> starlark::Result<Value<'v>> {
        let title: TitleSpec = read(title, "title_source: title")?;
        write(heap, serde_json::to_value(title.probed()).map_err(|e| say(e.to_string()))?)
    }

    /// What is to be made of a title's source, by what its probe found.
    ///
    /// Answers with `video` and `audio` (of each track: `name`, `stream`, `spec`: how it is encoded), `text` (`name`, `stream` or `file`, `language`,
    /// `spec`), `pictures` (subtitles that are pictures: no text can be made of them), and `segment` (`seconds` as a fraction; `frames` at the
    /// `rate` of the first rendition, where there are pictures); or with `failure` (`class_`, `code`, `message`): why that cannot be.
    fn title_tracks<'v>(
        #[starlark(require = pos)] title: Value<'v>,
        #[starlark(require = pos)] facts: Value<'v>,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        let title: TitleSpec = read(title, "title_tracks: title")?;
        let facts: SourceFacts = read(facts, "title_tracks: facts")?;
        write(heap, titles::tracks(&title, &facts).map_err(|e| say(e.to_string()))?)
    }

    /// The renditions of a ladder (`codecs`, `max_height`, `min_height`, `preset`) for a source, by what its probe found, as a title's `video`
    /// takes them: the rungs that suit films in general or, with `rungs` (of each `codec`, `height`, `crf`, `ceiling_bps`), these.
    ///
    /// Answers with `renditions`; or with `failure`, as `title_tracks` does.
    fn ladder_rungs<'v>(
        #[starlark(require = pos)] ladder: Value<'v>,
        #[starlark(require = pos)] facts: Value<'v>,
        #[starlark(require = named, default = NoneOr::None)] rungs: NoneOr<UnpackList<Value<'v>>>,
        heap: &'v Heap,
    ) -> starlark::Result<Value<'v>> {
        let ladder: LadderSpec = read(ladder, "ladder_rungs: ladder")?;
        let facts: SourceFacts = read(facts, "ladder_rungs: facts")?;
        let own: Option<Vec<Rung>> =
            rungs.into_option().map(|rungs| read_all(&rungs, "ladder_rungs: rungs")).transpose()?;
        write(heap, titles::rungs(&ladder, &facts, own.as_deref()).map_err(|e| say(e.to_string()))?)
    }

    /// How many pictures of a plan (`video` of what media.plan answered) are kept in so many MiB at most, by what the source's probe found.
    fn pictures_in(
        #[starlark(require = pos)] mib: u64,
        #[starlark(require = pos)] plan: Value<'_>,
        #[starlark(require = pos)] facts: Value<'_>,
    ) -> starlark::Result<u64> {
        let plan: VideoPlan = read(plan, "pictures_in: plan")?;
        let facts: SourceFacts = read(facts, "pictures_in: facts")?;
        Ok((mib << 20) / titles::picture_bytes(&plan, &facts).max(1))
    }

    /// The path of a `file://` URI. None: it is of another kind.
    fn path_of<'v>(#[starlark(require = pos)] uri: &str, heap: &'v Heap) -> starlark::Result<Value<'v>> {
        let path = uri::to_path(uri).ok().and_then(|path| path.to_str().map(str::to_owned));
        Ok(path.map_or_else(Value::new_none, |path| heap.alloc(path)))
    }
}
