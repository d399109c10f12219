//! What a film shows of its source: for who looks at that before it is planned.

use std::ops::Range;

use spool_proto::call::{Jump, SourceFacts};
use spool_proto::failure::Failure;
use spool_proto::spec::{EncodeSpec, VideoSpec, filter};

use super::frames::Known;
use super::{chain, index_of_another, jumps, output, video_facts};
use crate::packets::PacketIndex;
use crate::timeline::{Joined, TimelineSpec};

#[derive(Debug)]
pub struct Shown {
    pub(crate) known: Known,
    pub(crate) jumps: Vec<Jump>,
    /// The source's frames, each run without holes; rising, and none touches another.
    pub(crate) runs: Vec<Range<u64>>,
}

/// `None`: only decoding tells the frames, or decoding can be entered nowhere, so that the film is not cut.
///
/// # Errors
/// As [`super::plan`], of a film without frames.
pub(crate) fn shown(index: &PacketIndex, spec: &EncodeSpec, source: &SourceFacts) -> Result<Option<Shown>, Failure> {
    let (Some(asked), Some(facts)) = (&spec.video, video_facts(source, index.stream)) else {
        return Err(index_of_another(index.stream));
    };
    let jumps = jumps(source, index.stream);
    let video = VideoSpec { filters: chain::chain(asked, facts, index.stream, &mut Vec::new()), ..asked.clone() };
    if filter::reach(&video.filters).is_err() {
        return Ok(None);
    }
    let Ok(known) = Known::of(index, &jumps).and_then(Known::enterable) else { return Ok(None) };
    let film = EncodeSpec { video: Some(video), ..spec.clone() };
    let timeline = TimelineSpec::of(index, source, &film).expect("the spec has video");
    let Joined { output, runs } = output(&known, &timeline, &film)?;
    let pictures = timeline.pictures_per_frame();
    let frames = |run: &crate::timeline::Run| {
        let shown = output[run.frames.clone()].iter().map(|frame| frame.source / pictures);
        Some(shown.clone().min()?..shown.max()? + 1)
    };
    Ok(Some(Shown { runs: merged(runs.iter().filter_map(frames).collect()), known, jumps }))
}

fn merged(mut runs: Vec<Range<u64>>) -> Vec<Range<u64>> {
    runs.sort_by_key(|run| run.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(runs.len());
    for run in runs {
        match merged.last_mut().filter(|last| run.start <= last.end) {
            Some(last) => last.end = last.end.max(run.end),
            None => merged.push(run),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_touch_are_one() {
        assert_eq!(merged(vec![40..50, 0..10, 10..12, 45..47, 48..60]), [0..12, 40..60]);
    }
}
