//! A title's tracks as rules see them.

use serde_json::{Result, Value, json};
use spool_proto::call::{MediaFacts, SourceFacts, VideoPlan};
use spool_proto::failure::Failure;
use spool_proto::spec::Rational;
use spool_proto::spec::title::renditions::{TextSource, TextTrack, Track, Tracks};
use spool_proto::spec::title::{LadderSpec, Rung, TitleSpec};

pub(super) fn tracks(title: &TitleSpec, facts: &SourceFacts) -> Result<Value> {
    let tracks = match title.tracks(facts) {
        Ok(tracks) => tracks,
        Err(failure) => return Ok(refused(&failure)),
    };
    Ok(json!({
        "video": all(&tracks.video, track)?,
        "audio": all(&tracks.audio, track)?,
        "text": all(&tracks.text, text)?,
        "pictures": tracks.pictures,
        "segment": segment(title, &tracks)?,
    }))
}

pub(super) fn rungs(ladder: &LadderSpec, facts: &SourceFacts, own: Option<&[Rung]>) -> Result<Value> {
    match ladder.renditions(facts, own) {
        Ok(renditions) => Ok(json!({"renditions": serde_json::to_value(renditions)?})),
        Err(failure) => Ok(refused(&failure)),
    }
}

/// Of one of a plan's pictures at most: three bytes a pixel hold 4:2:0 of sixteen bits.
pub(super) fn picture_bytes(plan: &VideoPlan, facts: &SourceFacts) -> u64 {
    let stream = facts.streams.iter().find(|stream| stream.index == plan.stream);
    let format = stream.and_then(|stream| match &stream.media {
        MediaFacts::Video(video) => video.pix_fmt.as_deref(),
        _ => None,
    });
    let is_rich = ["422", "440", "444", "gbr", "rgb"].iter().any(|name| format.is_some_and(|f| f.contains(name)));
    u64::from(plan.width) * u64::from(plan.height) * if is_rich { 6 } else { 3 }
}

fn refused(failure: &Failure) -> Value {
    json!({"failure": {"class_": failure.class, "code": failure.code, "message": failure.message}})
}

fn all<T>(tracks: &[T], one: impl Fn(&T) -> Result<Value>) -> Result<Vec<Value>> {
    tracks.iter().map(one).collect()
}

fn track(track: &Track) -> Result<Value> {
    Ok(json!({"name": track.name, "stream": track.stream, "spec": serde_json::to_value(&track.spec)?}))
}

fn text(track: &TextTrack) -> Result<Value> {
    let (stream, file) = match &track.from {
        TextSource::Stream(stream) => (Some(stream), None),
        TextSource::File(file) => (None, Some(file)),
    };
    let spec = serde_json::to_value(&track.spec)?;
    Ok(json!({"name": track.name, "stream": stream, "file": file, "language": track.language, "spec": spec}))
}

/// Of the first rendition; its frames decide how long a segment is.
fn segment(title: &TitleSpec, tracks: &Tracks) -> Result<Value> {
    let rate = tracks.video.first().and_then(|track| track.spec.video.as_ref()?.frame_rate);
    let Some(rate) = rate else {
        let us = i32::try_from(title.segment.0).unwrap_or(i32::MAX);
        return Ok(json!({"seconds": serde_json::to_value(Rational::new(us, 1_000_000))?}));
    };
    let frames = title.grid(rate).segment_frames;
    let num = i32::try_from(frames).ok().and_then(|frames| frames.checked_mul(rate.den)).unwrap_or(i32::MAX);
    Ok(json!({"seconds": serde_json::to_value(Rational::new(num, rate.num))?, "frames": frames, "rate": rate}))
}
