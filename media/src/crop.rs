//! Black bars: found on pictures taken from all over the film, so that all chunks are cropped alike.

use spool_proto::call::CropFacts;
use spool_proto::failure::{Class, Failure};

use crate::Host;
use crate::av::Stream;
use crate::av::codec::Received;
use crate::av::frame::{Frame, Picture};
use crate::av::graph::{Feed, Graph, Step};
use crate::av::input::{Input, Limits};
use crate::decode::{Frames, no_memory};
use crate::graph::rotation;

/// Places looked at, evenly over the film.
const SPOTS: i64 = 20;
/// Frames at each.
const FRAMES: usize = 3;
/// A film whose length nobody knows is looked at from its start: so many frames, every so-manieth.
const UNKNOWN_FRAMES: usize = 600;
const UNKNOWN_EVERY: usize = 10;
/// A line as dark as this on average (of 255) is black: libavfilter's default for `cropdetect`.
const BLACK: u64 = 24;

/// Looks for black bars of a video stream, on the picture as it is shown. `None`: there are none, or the pictures are too dark to
/// tell.
///
/// # Errors
/// The source's own; what cannot be decoded is passed over.
pub fn look(stream: &Stream, duration_us: Option<i64>, host: &mut dyn Host) -> Result<Option<CropFacts>, Failure> {
    let input = Input::open(host.open(0)?, &Limits::default())?;
    let start_us = input.start_us().unwrap_or(0);
    let mut frames = Frames::new(input, stream.index, 1, None)?;
    let mut look = Look { stream, graph: None, seen: None };
    let mut frame = Frame::new().map_err(no_memory)?;
    let mut looked = 0;
    if let Some(duration_us) = duration_us.filter(|us| *us > 0) {
        for spot in 0..SPOTS {
            host.progress(spot.unsigned_abs(), 0, 0);
            let into_us = i128::from(duration_us) * i128::from(2 * spot + 1) / i128::from(2 * SPOTS);
            let at_us = start_us.saturating_add(i64::try_from(into_us).unwrap_or(i64::MAX));
            if !frames.jump(at_us) {
                continue;
            }
            for _ in 0..FRAMES {
                if frames.next(&mut frame)?.is_none() {
                    break;
                }
                looked += look.at(&frame)?;
            }
        }
    }
    if looked == 0 {
        let input = Input::open(host.open(0)?, &Limits::default())?;
        let mut frames = Frames::new(input, stream.index, 1, None)?;
        for number in 0..UNKNOWN_FRAMES {
            if frames.next(&mut frame)?.is_none() {
                break;
            }
            if number % UNKNOWN_EVERY == 0 {
                host.progress(u64::try_from(number).unwrap_or(0), 0, 0);
                look.at(&frame)?;
            }
        }
    }
    Ok(look.found(stream))
}

struct Look<'a> {
    stream: &'a Stream,
    /// To grey, turned as a player turns it.
    graph: Option<(Picture, Graph)>,
    seen: Option<Bright>,
}

/// Where pictures of one size are not black.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bright {
    width: usize,
    height: usize,
    /// Half-open; `None` while all was dark.
    columns: Option<(usize, usize)>,
    rows: Option<(usize, usize)>,
}

impl Look<'_> {
    /// Takes a frame into account; tells how many that were. Of a film that changes its size, only those of the first size count.
    fn at(&mut self, frame: &Frame) -> Result<usize, Failure> {
        if frame.is_damaged() {
            return Ok(0);
        }
        let shape = frame.picture_shape();
        if self.graph.as_ref().is_none_or(|(current, _)| *current != shape) {
            let mut steps = shape.matrix.or(self.stream.matrix()).map(|matrix| rotation(&matrix)).unwrap_or_default();
            steps.push(Step::new("format", "pix_fmts=gray"));
            let feed = Feed::Video {
                width: shape.width,
                height: shape.height,
                format: shape.format,
                time_base: self.stream.time_base,
                sample_aspect_ratio: frame.sample_aspect_ratio(),
                frame_rate: None,
            };
            self.graph = Some((shape, Graph::new(&feed, &steps, 1)?));
        }
        let Some((_, graph)) = &mut self.graph else { return Ok(0) };
        let failed =
            |error: crate::av::AvError| error.failure(Class::Internal, "filter_failed", "looking for black bars");
        graph.push(Some(frame)).map_err(failed)?;
        let mut grey = Frame::new().map_err(no_memory)?;
        if graph.pull(&mut grey).map_err(failed)? != Received::One {
            return Ok(0);
        }
        let size = |side: i32| usize::try_from(side).unwrap_or(0);
        let (width, height) = (size(grey.width()), size(grey.height()));
        let pixels = grey.pixels().map_err(failed)?;
        let seen = self.seen.get_or_insert(Bright { width, height, columns: None, rows: None });
        if (seen.width, seen.height) != (width, height) {
            return Ok(0);
        }
        seen.add(&pixels);
        Ok(1)
    }

    fn found(&self, stream: &Stream) -> Option<CropFacts> {
        // Lines of two fields alternate, and their chroma lines with them.
        let interlaced = stream.is_interlaced();
        self.seen.as_ref()?.crop(if interlaced { 4 } else { 2 })
    }
}

impl Bright {
    /// A picture in grey, without padding.
    fn add(&mut self, pixels: &[u8]) {
        if self.width == 0 || self.height == 0 {
            return;
        }
        let mut columns = vec![0u64; self.width];
        let mut rows = Vec::with_capacity(self.height);
        for row in pixels.chunks_exact(self.width) {
            let mut sum = 0;
            for (column, pixel) in columns.iter_mut().zip(row) {
                *column += u64::from(*pixel);
                sum += u64::from(*pixel);
            }
            rows.push(sum);
        }
        let wider = |seen: Option<(usize, usize)>, sums: &[u64], length: usize| {
            let black = BLACK * u64::try_from(length).unwrap_or(u64::MAX);
            let is_bright = |sum: &u64| *sum > black;
            let (Some(first), Some(last)) = (sums.iter().position(is_bright), sums.iter().rposition(is_bright)) else {
                return seen;
            };
            let (from, to) = seen.unwrap_or((first, last + 1));
            Some((from.min(first), to.max(last + 1)))
        };
        self.columns = wider(self.columns, &columns, self.height);
        self.rows = wider(self.rows, &rows, self.width);
    }

    /// What is left without the bars, whole pairs of columns and `lines` lines, never less than there is. `None`: no bars; or bars
    /// of half the picture and more, which are rather night.
    fn crop(&self, lines: usize) -> Option<CropFacts> {
        let outward = |(from, to): (usize, usize), step: usize, side: usize| {
            let from = from / step * step;
            let to = to.next_multiple_of(step).min(side);
            // An odd side keeps its odd end only whole.
            (from, if to == side { side - (side - from) % 2 } else { to })
        };
        let (left, right) = outward(self.columns?, 2, self.width);
        let (top, bottom) = outward(self.rows?, lines, self.height);
        let (width, height) = (right - left, bottom - top);
        let is_whole = width + 1 >= self.width && height + 1 >= self.height;
        if is_whole || 2 * width <= self.width || 2 * height <= self.height {
            return None;
        }
        let pixels = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Some(CropFacts { width: pixels(width), height: pixels(height), x: pixels(left), y: pixels(top) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns and rows of a grey picture that are bright, half-open.
    type Lit = ((usize, usize), (usize, usize));

    fn seen(pictures: &[Lit]) -> Bright {
        let (width, height) = (64, 48);
        let mut bright = Bright { width, height, columns: None, rows: None };
        for (columns, rows) in pictures {
            let is_lit = |x: usize, y: usize| (columns.0..columns.1).contains(&x) && (rows.0..rows.1).contains(&y);
            let pixels = (0..width * height).map(|at| if is_lit(at % width, at / width) { 160 } else { 16 });
            bright.add(&pixels.collect::<Vec<u8>>());
        }
        bright
    }

    #[test]
    fn bars_are_what_is_black_everywhere() {
        let crop = |pictures: &[_], lines| seen(pictures).crop(lines).map(|c| (c.width, c.height, c.x, c.y));
        assert_eq!(crop(&[((0, 64), (6, 42))], 2), Some((64, 36, 0, 6)));
        // A picture that is brighter at the edge, and one that is dark all over, in between.
        assert_eq!(crop(&[((0, 64), (10, 38)), ((0, 0), (0, 0)), ((8, 64), (5, 30))], 2), Some((64, 34, 0, 4)));
        // Whole groups of lines, never fewer.
        assert_eq!(crop(&[((0, 64), (6, 42))], 4), Some((64, 40, 0, 4)));
        assert_eq!(crop(&[((5, 59), (0, 48))], 2), Some((56, 48, 4, 0)));
    }

    #[test]
    fn a_dark_film_and_a_full_picture_are_not_cropped() {
        for pictures in [&[][..], &[((0, 0), (0, 0))], &[((0, 64), (0, 48))], &[((0, 64), (20, 28))]] {
            assert_eq!(seen(pictures).crop(2), None, "{pictures:?}");
        }
    }
}
