//! The filter chain of a video encode: rotation, the spec's filters, the size asked for, the encoder's pixel format. Frames are
//! pushed, pictures are pulled: filters that look at neighbours give a picture later than its frame, and some give two or none.
//!
//! Where the film's frames are planned, time is [`crate::timeline`]'s, and `fps` is left out. Where only decoding tells them, the
//! chain holds libavfilter's own `fps`, and `trim` behind all ([`Filters::timed`]).

mod overlay;

use std::path::{Path, PathBuf};

use spool_proto::failure::{Class, Failure, Warning};
use spool_proto::spec::burn::quoted;
use spool_proto::spec::{EncodeSpec, Filter, Rational, Trim, VideoSpec};

use crate::av::codec::Received;
use crate::av::encoder;
use crate::av::frame::{Frame, Picture};
use crate::av::graph::{Feed, Graph, Sink, Step, Still};
use crate::av::names;
use crate::av::{AvError, Stream};
pub use overlay::still;

/// Builds the chain for what comes, and anew where size, format or rotation of the pictures change.
#[derive(Debug)]
pub struct Filters {
    video: VideoSpec,
    encoder: &'static str,
    threads: u16,
    time_base: Rational,
    frame_rate: Option<Rational>,
    /// The container's display matrix, for frames without their own.
    matrix: Option<[i32; 9]>,
    current: Option<(Picture, Graph)>,
    /// What the first chain gave: all later ones are scaled to it, as in ffmpeg.
    first: Option<Sink>,
    /// `fps` and this trim are in the chain.
    timed: Option<Trim>,
    /// The picture of the spec's overlay.
    still: Option<Frame>,
    /// Matroska with the text that is drawn.
    script: Option<PathBuf>,
}

impl Filters {
    /// # Errors
    /// `no_video` when the spec wants none (class internal).
    pub fn new(spec: &EncodeSpec, stream: &Stream, encoder: &'static str, threads: u16) -> Result<Filters, Failure> {
        let Some(video) = spec.video.clone() else {
            return Err(Failure::new(Class::Internal, "no_video", "a video encode without video settings"));
        };
        Ok(Filters {
            video,
            encoder,
            threads,
            time_base: stream.time_base,
            frame_rate: stream.frame_rate,
            matrix: stream.matrix(),
            current: None,
            first: None,
            timed: None,
            still: None,
            script: None,
        })
    }

    /// With the picture of the spec's overlay.
    pub fn over(self, still: Option<Frame>) -> Filters {
        Filters { still, ..self }
    }

    /// With the text of the spec's `subtitles`.
    pub fn drawing(self, script: Option<&Path>) -> Filters {
        Filters { script: script.map(Into::into), ..self }
    }

    /// With `fps` filters and `trim` in the chain: the frames' pts count, and pictures come out with theirs.
    pub fn timed(self, trim: Trim) -> Filters {
        Filters { timed: Some(trim), ..self }
    }

    /// Gives the chain a frame. True: the chain was built anew for it (never for the first); what the old one held is lost, as in
    /// ffmpeg, so pull all there is before.
    ///
    /// # Errors
    /// `filter_refused` (class spec), `pix_fmt_refused` (class spec), libav's own.
    pub fn push(&mut self, frame: &Frame) -> Result<bool, Failure> {
        let shape = frame.picture_shape();
        let mut rebuilt = false;
        if self.current.as_ref().is_none_or(|(current, _)| *current != shape) {
            rebuilt = self.current.is_some();
            let graph = self.build(&shape, frame.sample_aspect_ratio())?;
            self.first.get_or_insert_with(|| graph.sink());
            self.current = Some((shape, graph));
        }
        let Some((_, graph)) = &mut self.current else { return Ok(rebuilt) };
        match graph.push(Some(frame)) {
            // `trim` has let the last one through: pulling tells.
            Ok(()) | Err(AvError::END) => Ok(rebuilt),
            Err(error) => Err(failed(error)),
        }
    }

    /// The next picture. `Again`: not before another frame is pushed. `End`: no more come, after [`Filters::finish`] or where `trim`
    /// ends the film.
    pub fn pull(&mut self, picture: &mut Frame) -> Result<Received, Failure> {
        match &mut self.current {
            Some((_, graph)) => graph.pull(picture).map_err(failed),
            None => Ok(Received::Again),
        }
    }

    /// The last frame was pushed. `end`: when it ends, where the chain is timed (in the stream's timebase).
    pub fn finish(&mut self, end: Option<i64>) -> Result<(), Failure> {
        let Some((_, graph)) = &mut self.current else { return Ok(()) };
        let ended = match end {
            Some(pts) => graph.close(pts),
            None => graph.push(None),
        };
        match ended {
            Ok(()) | Err(AvError::END) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Whether a picture's time is `pts` of the stream; true where one of them is not known.
    pub fn is_at(&self, picture: &Frame, pts: Option<i64>) -> bool {
        match (picture.pts(), pts, self.first) {
            (Some(found), Some(expected), Some(sink)) => {
                let ticks = |value: i64, own: Rational, other: Rational| {
                    i128::from(value) * i128::from(own.num) * i128::from(other.den)
                };
                ticks(found, sink.time_base, self.time_base) == ticks(expected, self.time_base, sink.time_base)
            }
            _ => true,
        }
    }

    /// What comes out; `None` before the first picture.
    pub fn sink(&self) -> Option<Sink> {
        self.first
    }

    fn build(&self, shape: &Picture, ratio: Rational) -> Result<Graph, Failure> {
        let feed = Feed::Video {
            width: shape.width,
            height: shape.height,
            format: shape.format,
            time_base: self.time_base,
            sample_aspect_ratio: ratio,
            frame_rate: self.frame_rate,
        };
        let mut steps = match shape.matrix.or(self.matrix) {
            Some(matrix) => rotation(&matrix),
            None => Vec::new(),
        };
        for filter in &self.video.filters {
            match filter {
                // Time is the timeline's.
                Filter::Fps(_) if self.timed.is_none() => {}
                filter => steps.push(step(filter, self.script.as_deref())?),
            }
        }
        let mut still = None;
        if let Some(overlay) = &self.video.overlay {
            let Some(picture) = &self.still else {
                return Err(Failure::new(Class::Internal, "no_overlay", "a chain with an overlay without its picture"));
            };
            still = Some(Still {
                step: steps.len(),
                picture: picture.share().map_err(failed)?,
                steps: overlay::picture_steps(overlay),
            });
            steps.push(overlay::step(overlay));
        }
        if let Some((width, height)) = self.size() {
            steps.push(Step::new("scale", format!("{width}:{height}:flags=bicubic")));
        }
        if let Some(formats) = self.formats()? {
            steps.push(Step::new("format", format!("pix_fmts={formats}")));
        }
        if let Some(trim) = self.timed {
            // Those of the names that end in `i` are durations, whatever the timebase.
            let ends = [("starti", trim.start), ("durationi", trim.duration)];
            let ends: Vec<String> =
                ends.iter().filter_map(|(name, at)| Some(format!("{name}={}us", (*at)?.0))).collect();
            if !ends.is_empty() {
                steps.push(Step::new("trim", ends.join(":")));
            }
        }
        // zscale gives slightly other pictures with each number of threads: with one they are the same on every machine.
        let threads = if steps.iter().any(|step| step.filter == "zscale") { 1 } else { self.threads };
        Graph::with_still(&feed, &steps, still.as_ref(), threads)
    }

    fn size(&self) -> Option<(i64, i64)> {
        match (self.video.size, self.first) {
            (Some(size), _) => Some((size.width.into(), size.height.into())),
            (None, Some(first)) => Some((first.width.into(), first.height.into())),
            (None, None) => None,
        }
    }

    /// Pixel formats the last filter may choose from; `None`: any.
    fn formats(&self) -> Result<Option<String>, Failure> {
        let taken = encoder::abilities(self.encoder)?.pixel_formats;
        if let Some(name) = &self.video.pix_fmt {
            let known = names::pixel_format_number(name);
            if !known.is_some_and(|format| taken.is_empty() || taken.contains(&format)) {
                return Err(Failure::new(
                    Class::Spec,
                    "pix_fmt_refused",
                    format!("{} does not take -pix_fmt {name}; it takes {}", self.encoder, list(&taken, ", ")),
                ));
            }
            return Ok(Some(name.clone()));
        }
        if let Some(first) = self.first {
            return Ok(names::pixel_format(first.format));
        }
        Ok((!taken.is_empty()).then(|| list(&taken, "|")))
    }
}

fn list(formats: &[i32], between: &str) -> String {
    let names: Vec<String> = formats.iter().filter_map(|f| names::pixel_format(*f)).collect();
    names.join(between)
}

/// Transparency that an encoder cannot keep is told, not lost in silence.
pub fn alpha_warning(stream: u32, from: &Frame, to: &Sink, encoder: &str) -> Option<Warning> {
    let alpha = |format| names::pixel_shape(format).is_some_and(|shape| shape.alpha);
    (alpha(from.format()) && !alpha(to.format)).then(|| Warning {
        code: "alpha_dropped".into(),
        stream: Some(stream),
        text: format!("it has transparency, which {encoder} does not keep: the pictures are opaque"),
    })
}

/// What ffmpeg's autorotation inserts for a display matrix (`configure_input_video_filter`).
pub(crate) fn rotation(matrix: &[i32; 9]) -> Vec<Step> {
    let theta = rotation_degrees(matrix);
    let near = |angle: f64| (theta - angle).abs() < 1.0;
    if near(90.0) {
        vec![Step::new("transpose", if matrix[3] > 0 { "cclock_flip" } else { "clock" })]
    } else if near(180.0) {
        let mut steps = Vec::new();
        if matrix[0] < 0 {
            steps.push(Step::new("hflip", ""));
        }
        if matrix[4] < 0 {
            steps.push(Step::new("vflip", ""));
        }
        steps
    } else if near(270.0) {
        vec![Step::new("transpose", if matrix[3] < 0 { "clock_flip" } else { "cclock" })]
    } else if theta.abs() > 1.0 {
        vec![Step::new("rotate", format!("{theta:.6}*PI/180"))]
    } else if matrix[4] < 0 {
        vec![Step::new("vflip", "")]
    } else {
        Vec::new()
    }
}

/// Clockwise degrees in 0..360 that the picture must be turned (`av_display_rotation_get` and `get_rotation`).
pub fn rotation_degrees(matrix: &[i32; 9]) -> f64 {
    let fixed = |i: usize| f64::from(matrix[i]) / 65_536.0;
    let scale = [fixed(0).hypot(fixed(3)), fixed(1).hypot(fixed(4))];
    if scale[0] == 0.0 || scale[1] == 0.0 {
        return 0.0;
    }
    let counter_clockwise = -(fixed(1) / scale[1]).atan2(fixed(0) / scale[0]).to_degrees();
    let theta = -counter_clockwise.round();
    theta - 360.0 * (theta / 360.0 + 0.9 / 360.0).floor()
}

fn failed(error: AvError) -> Failure {
    error.failure(Class::Internal, "filter_failed", "the filters failed on a picture")
}

fn step(filter: &Filter, script: Option<&Path>) -> Result<Step, Failure> {
    Ok(match filter {
        Filter::Subtitles(burn) => {
            let Some(script) = script.and_then(Path::to_str) else {
                return Err(Failure::new(Class::Internal, "no_script", "a chain that draws text, without the text"));
            };
            let mut args = format!("filename={}", quoted(script));
            if let Some(style) = &burn.style {
                args.push_str(&format!(":force_style={}", quoted(style)));
            }
            Step::new("subtitles", args)
        }
        Filter::Fps(rate) => Step::new("fps", format!("fps={rate}")),
        Filter::Named(named) => {
            let refused = |why| Failure::new(Class::Spec, "filter_refused", format!("{named} in -vf: {why}"));
            let (name, args) = named.step().map_err(refused)?;
            Step::new(name, args)
        }
        Filter::Scale { width, height, algorithm } => {
            let flags = word("scale", algorithm.as_deref().unwrap_or("bicubic"))?;
            Step::new("scale", format!("{width}:{height}:flags={flags}"))
        }
        Filter::Crop { width, height, x, y } => {
            let mut args = format!("w={width}:h={height}");
            // libav's own default is the centre.
            for (name, value) in [("x", x), ("y", y)] {
                if let Some(value) = value {
                    args.push_str(&format!(":{name}={value}"));
                }
            }
            Step::new("crop", args)
        }
        Filter::Pad { width, height, x, y, color } => {
            let place = |at: &Option<u32>, centre: &str| at.map_or_else(|| centre.to_owned(), |at| at.to_string());
            let (x, y) = (place(x, "(ow-iw)/2"), place(y, "(oh-ih)/2"));
            Step::new("pad", format!("w={width}:h={height}:x={x}:y={y}:color={}", word("pad", color)?))
        }
        Filter::Format(formats) => {
            for name in formats {
                if names::pixel_format_number(name).is_none() {
                    return Err(Failure::new(
                        Class::Spec,
                        "filter_refused",
                        format!("format in -vf: libav knows no pixel format {name:?}"),
                    ));
                }
            }
            Step::new("format", format!("pix_fmts={}", formats.join("|")))
        }
    })
}

/// A value that is one word of libav's: nothing in it can end the argument.
fn word<'a>(filter: &str, value: &'a str) -> Result<&'a str, Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_#@.+".contains(c);
    if value.is_empty() || !value.chars().all(plain) {
        return Err(Failure::new(
            Class::Spec,
            "filter_refused",
            format!("{filter} in -vf does not take {value:?}; give a plain name"),
        ));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_is_that_of_ffmpeg() {
        let one = 65_536;
        // (matrix, degrees, filters)
        for (matrix, degrees, filters) in [
            ([one, 0, 0, 0, one, 0, 0, 0, 1 << 30], 0.0, vec![]),
            ([0, one, 0, -one, 0, 0, 0, 0, 1 << 30], 90.0, vec!["transpose=clock"]),
            ([-one, 0, 0, 0, -one, 0, 0, 0, 1 << 30], 180.0, vec!["hflip=", "vflip="]),
            ([0, -one, 0, one, 0, 0, 0, 0, 1 << 30], 270.0, vec!["transpose=cclock"]),
            ([one, 0, 0, 0, -one, 0, 0, 0, 1 << 30], 0.0, vec!["vflip="]),
            ([0; 9], 0.0, vec![]),
        ] {
            assert!((rotation_degrees(&matrix) - degrees).abs() < 0.5, "{matrix:?}: {}", rotation_degrees(&matrix));
            let steps: Vec<String> = rotation(&matrix).iter().map(|s| format!("{}={}", s.filter, s.args)).collect();
            assert_eq!(steps, filters, "{matrix:?}");
        }
    }

    #[test]
    fn a_colour_cannot_smuggle_in_a_filter() {
        let pad = |color: &str| {
            step(&Filter::Pad { width: 2, height: 2, x: None, y: Some(0), color: color.into() }, None).map(|s| s.args)
        };
        assert_eq!(pad("black@0.5").unwrap(), "w=2:h=2:x=(ow-iw)/2:y=0:color=black@0.5");
        for bad in ["red,movie=/etc/passwd", "red:x=1", "", "a b", "[in]"] {
            assert_eq!(pad(bad).unwrap_err().code, "filter_refused", "{bad}");
        }
    }
}
