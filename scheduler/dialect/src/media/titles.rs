//! A title's tracks as rules see them.

use serde_json::{Result, Value, json};
use spool_proto::call::SourceFacts;
use spool_proto::spec::Rational;
use spool_proto::spec::title::TitleSpec;
use spool_proto::spec::title::renditions::{TextSource, TextTrack, Track, Tracks};

pub(super) fn tracks(title: &TitleSpec, facts: &SourceFacts) -> Result<Value> {
    let tracks = match title.tracks(facts) {
        Ok(tracks) => tracks,
        Err(failure) => {
            let failure = json!({"class_": failure.class, "code": failure.code, "message": failure.message});
            return Ok(json!({"failure": failure}));
        }
    };
    Ok(json!({
        "video": all(&tracks.video, track)?,
        "audio": all(&tracks.audio, track)?,
        "text": all(&tracks.text, text)?,
        "pictures": tracks.pictures,
        "segment": segment(title, &tracks)?,
    }))
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
