//! `media.scenes`: where scenes change, seen in the pictures. For sources whose packets do not tell it.
//!
//! A film is looked at in parts, side by side. What is found does not depend on how many there are: whether the scene changes at a frame
//! follows from the pictures around it alone ([`detect::MARGIN`]), and each part decodes those of its neighbours too.
//!
//! Reading order: `small` (what is kept of a picture), `detect` (which changes are changes of scene, pure), `look` (the pictures of a range).

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::ops::Range;

use spool_proto::call::{PARTS_MAX, SceneChange, SceneList, ScenesArgs, ScenesManifest, Value};
use spool_proto::failure::{Class, Failure};

use crate::packets::PacketIndex;
use crate::plan::shown::shown;
use crate::{Host, Product, Source, scratch_failed};
use detect::{Detector, MARGIN};
use look::Look;

pub mod detect;
mod look;
pub mod small;

/// A list of this many bytes has some hundred thousand changes of scene.
const LIST_BYTES_MAX: u64 = 8 << 20;

/// Runs `media.scenes`.
///
/// # Errors
/// Class spec: `bad_scan` (a part that is none). Class internal: `index_of_another_stream`. Else those of reading and decoding; what cannot
/// be decoded is passed over.
pub fn run(args: &ScenesArgs, host: &mut dyn Host) -> Result<Product, Failure> {
    if args.part >= args.parts || args.parts > PARTS_MAX {
        let message =
            format!("part {} of {}: parts count from 0, and there are at most {PARTS_MAX}", args.part, args.parts);
        return Err(Failure::new(Class::Spec, "bad_scan", message));
    }
    let index = PacketIndex::read(BufReader::new(host.open(1)?))?;
    let mut scenes = Vec::new();
    let mut frames = 0;
    // A film that is not cut anyway is not looked at.
    if let Some(shown) = shown(&index, &args.spec, &args.source)? {
        let mut look = Look::new(&index, &shown, host)?;
        for (run, part) in parts(&shown.runs, args.part, args.parts) {
            frames += part.end - part.start;
            scenes.extend(scan(&mut look, &run, &part, host)?);
        }
    }
    let value = ScenesManifest {
        frames,
        scenes: crate::wire::len(&scenes),
        sure: scenes.iter().map(|scene| u64::from(scene.sure)).sum(),
    };
    let path = host.scratch().join("scenes.json");
    let written = File::create(&path).and_then(|file| {
        let mut to = BufWriter::new(file);
        serde_json::to_writer(&mut to, &SceneList { scenes })?;
        to.flush()
    });
    written.map_err(|error| scratch_failed(&path, &error))?;
    Ok(Product { files: vec![("scenes".to_owned(), path)], warnings: Vec::new(), value: Value::Scenes(value) })
}

/// Changes of scene in `part`, which is of `run`: frames that follow each other in the source and in the film.
fn scan(
    look: &mut Look<'_>,
    run: &Range<u64>,
    part: &Range<u64>,
    host: &mut dyn Host,
) -> Result<Vec<SceneChange>, Failure> {
    let first = part.start.saturating_sub(MARGIN).max(run.start);
    let last = part.end.saturating_add(MARGIN).min(run.end);
    let mut detector = Detector::default();
    look.at(first..last, host, |picture| detector.push(picture))?;
    let found = detector.finish().into_iter().map(|change| SceneChange { frame: first + change.frame, ..change });
    Ok(found.filter(|change| part.contains(&change.frame)).collect())
}

/// What of the runs is the part of a number: each with the run that it is of.
fn parts(runs: &[Range<u64>], part: u32, parts: u32) -> Vec<(Range<u64>, Range<u64>)> {
    let all: u64 = runs.iter().map(|run| run.end - run.start).sum();
    let bound = |part: u32| {
        let at = u128::from(all) * u128::from(part) / u128::from(parts.max(1));
        u64::try_from(at).expect("no more than all")
    };
    let (from, to) = (bound(part), bound(part + 1));
    let mut before = 0;
    let mut found = Vec::new();
    for run in runs {
        let length = run.end - run.start;
        let within = |at: u64| run.start + at.clamp(before, before + length) - before;
        let own = within(from)..within(to);
        before += length;
        if !own.is_empty() {
            found.push((run.clone(), own));
        }
    }
    found
}

/// Reads the artifact `scenes` of each part of a scan, in their order.
///
/// # Errors
/// Class host: `artifact_unreadable`; class internal: `bad_scan` (changes that do not rise).
pub fn read(sources: Vec<Box<dyn Source>>) -> Result<Vec<SceneChange>, Failure> {
    let mut all: Vec<SceneChange> = Vec::new();
    for source in sources {
        let mut json = Vec::new();
        let read = source.take(LIST_BYTES_MAX).read_to_end(&mut json);
        let list = read.map_err(|e| e.to_string());
        let list = list.and_then(|_| serde_json::from_slice::<SceneList>(&json).map_err(|e| e.to_string()));
        let list =
            list.map_err(|e| Failure::new(Class::Host, "artifact_unreadable", format!("a list of scenes: {e}")))?;
        all.extend(list.scenes);
    }
    if all.windows(2).any(|pair| pair[0].frame >= pair[1].frame) {
        return Err(Failure::new(Class::Internal, "bad_scan", "changes of scene do not rise"));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_runs_once_each() {
        let runs = [10..110, 200..201, 500..1_000];
        for count in [1, 2, 3, 7, 64, 1_000] {
            let mut seen = Vec::new();
            for part in 0..count {
                for (run, own) in parts(&runs, part, count) {
                    assert!(runs.contains(&run) && run.start <= own.start && own.end <= run.end);
                    seen.extend(own);
                }
            }
            let all: Vec<u64> = runs.iter().cloned().flatten().collect();
            assert_eq!(seen, all, "{count} parts");
        }
    }
}
