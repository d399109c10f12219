//! The still picture over the film: decoded once a chunk, blended by libavfilter's `overlay`.

use spool_proto::failure::{Class, Failure};
use spool_proto::spec::Overlay;

use crate::Source;
use crate::av::frame::Frame;
use crate::av::graph::Step;
use crate::av::input::{Input, Limits, MediaKind};
use crate::decode::{Frames, no_memory};

/// Pixels of the largest picture that is taken. The plan reckons with it.
const PIXELS_MAX: i64 = 4096 * 4096;

/// Decodes the picture.
///
/// # Errors
/// `overlay_undecodable` (class input): not a still picture that libav can read.
pub fn still(overlay: &Overlay, source: Box<dyn Source>) -> Result<Frame, Failure> {
    let refused = |why: &str| {
        let message = format!(
            "--overlay {}: {why}; give a PNG, JPEG, WebP, BMP or TIFF picture of at most 4096x4096",
            overlay.image.strip_prefix("file://").unwrap_or(&overlay.image)
        );
        Failure::new(Class::Input, "overlay_undecodable", message)
    };
    let input =
        Input::open_still(source, &Limits { pixels: PIXELS_MAX, ..Limits::default() }).map_err(
            |failure| match failure.class {
                Class::Input => refused("it is not a picture that can be read").with_evidence(failure.message),
                _ => failure,
            },
        )?;
    let video = input.streams().iter().find(|stream| stream.kind == MediaKind::Video).map(|stream| stream.index);
    let stream = video.ok_or_else(|| refused("there is no picture in it"))?;
    let mut frames = Frames::new(input, stream, 1, None)?;
    let mut picture = Frame::new().map_err(no_memory)?;
    match frames.next(&mut picture)? {
        Some(_) => Ok(picture),
        None => Err(refused("its picture cannot be decoded")),
    }
}

/// What the picture goes through before it is laid over the film.
pub(super) fn picture_steps(overlay: &Overlay) -> Vec<Step> {
    if overlay.opacity_percent >= 100 {
        return Vec::new();
    }
    let opacity = f64::from(overlay.opacity_percent) / 100.0;
    vec![Step::new("format", "pix_fmts=rgba"), Step::new("colorchannelmixer", format!("aa={opacity}"))]
}

/// The film's own format is kept: without `format=auto` ffmpeg makes 8-bit 4:2:0 of everything.
pub(super) fn step(overlay: &Overlay) -> Step {
    let (x, y) = overlay.at.expressions();
    let mut args = format!("x={x}:y={y}:format=auto");
    let seconds = |us: u64| format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    let from = seconds(overlay.from.map_or(0, |from| from.0));
    match (overlay.from, overlay.to) {
        (_, Some(to)) => args.push_str(&format!(":enable=gte(t,{from})*lt(t,{})", seconds(to.0))),
        (Some(_), None) => args.push_str(&format!(":enable=gte(t,{from})")),
        (None, None) => {}
    }
    Step::new("overlay", args)
}
