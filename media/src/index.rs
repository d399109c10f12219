//! `media.index`: where the joined film can be entered.

use spool_proto::call::{IndexArgs, Keyframe, KeyframeTable, Value};
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::Rational;

use crate::av::input::{Input, Limits, MediaKind, Read};
use crate::av::packet::Packet;
use crate::{Host, Product};

/// Lists the keyframes of the film's first video stream, in display order. A film without video has none.
///
/// # Errors
/// Class `internal`, code `validation_failed`, when the film cannot be read to its end.
pub fn run(_args: &IndexArgs, host: &mut dyn Host) -> Result<Product, Failure> {
    let mut input = Input::open(host.open(0)?, &Limits::default())?;
    let video = input.streams().iter().find(|stream| stream.kind == MediaKind::Video && !stream.is_attached_picture());
    let (video, time_base) = match video {
        Some(stream) => (Some(stream.index), stream.time_base),
        None => (None, input.streams().first().map_or(Rational::new(1, 1_000_000), |stream| stream.time_base)),
    };
    let keyframes = match video {
        Some(video) => keyframes(&mut input, video, host)?,
        None => Vec::new(),
    };
    Ok(Product { files: Vec::new(), warnings: Vec::new(), value: Value::Index(KeyframeTable { time_base, keyframes }) })
}

fn keyframes(input: &mut Input, video: usize, host: &mut dyn Host) -> Result<Vec<Keyframe>, Failure> {
    let broken = |what: String| Failure::new(Class::Internal, "validation_failed", what);
    input.select(&[video]);
    let mut packet = Packet::new().map_err(|error| error.failure(Class::Internal, "libav", "reading packets"))?;
    let mut shown = Vec::new();
    let mut keyframes = Vec::new();
    loop {
        match input.read(&mut packet)? {
            Read::Packet if packet.stream() != video => continue,
            Read::Packet => {}
            Read::End => break,
            Read::Broken(error) => {
                return Err(broken(format!("the film breaks off after frame {} ({error})", shown.len())));
            }
        }
        let pts = packet.pts().ok_or_else(|| broken(format!("video packet {} has no pts", shown.len())))?;
        if packet.is_key() {
            // The frame number follows when all frames are known.
            let bytes = crate::wire::len(packet.data());
            keyframes.push(Keyframe { frame: 0, pts, position: packet.position(), bytes });
        }
        shown.push(pts);
        host.progress(crate::wire::len(&shown), 0, 0);
    }
    shown.sort_unstable();
    keyframes.sort_unstable_by_key(|keyframe| keyframe.pts);
    for keyframe in &mut keyframes {
        let before = shown.partition_point(|pts| *pts < keyframe.pts);
        keyframe.frame = crate::wire::len(&shown[..before]);
    }
    Ok(keyframes)
}
