//! One pair of pictures after the other: made alike, scored, the scores read off.
//!
//! The reference stays as it is; the distorted picture is scaled (bicubic) to its size and turned into its pixel format where they
//! differ, as a player would show it in the reference's place.

use spool_proto::call::PictureFacts;
use spool_proto::failure::{Class, Failure};
use spool_proto::quality::Metric;
use spool_proto::spec::Rational;

use super::scores::{FrameScores, PLANES_MAX};
use crate::av::AvError;
use crate::av::codec::Received;
use crate::av::frame::{Frame, Picture};
use crate::av::graph::{Feed, Step};
use crate::av::names;
use crate::av::pair::{Leg, Pair};
use crate::graph::rotation;

/// libav's ssim filter gives other last digits with other numbers of threads; scores must not depend on the machine.
const THREADS: u16 = 1;

/// How a side's pictures are turned upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upright {
    /// They are.
    Already,
    /// By their own display matrix, else by this one, as the ffmpeg program does it.
    ByMatrix(Option<[i32; 9]>),
}

/// Compares pictures, and builds its filters anew where their size or format changes.
#[derive(Debug)]
pub struct Comparer {
    metrics: Vec<Metric>,
    /// Of reference and distorted.
    upright: [Upright; 2],
    current: Option<([Picture; 2], Pair)>,
    out: Frame,
    compared: i64,
    planes: String,
    first: Option<[PictureFacts; 2]>,
}

fn failed(error: AvError) -> Failure {
    error.failure(Class::Internal, "filter_failed", "comparing two pictures failed")
}

impl Comparer {
    pub fn new(metrics: Vec<Metric>, upright: [Upright; 2]) -> Result<Comparer, Failure> {
        let out = Frame::new().map_err(failed)?;
        Ok(Comparer { metrics, upright, current: None, out, compared: 0, planes: String::new(), first: None })
    }

    /// Scores a pair. The frames' own pts are lost.
    pub fn score(
        &mut self,
        reference: &mut Frame,
        distorted: &mut Frame,
        time_us: i64,
    ) -> Result<FrameScores, Failure> {
        let shapes = [reference.picture_shape(), distorted.picture_shape()];
        if self.current.as_ref().is_none_or(|(current, _)| *current != shapes) {
            let (pair, facts) = self.build(&shapes)?;
            self.first.get_or_insert(facts);
            self.current = Some((shapes, pair));
        }
        let Some((_, pair)) = &mut self.current else { return Ok(FrameScores::default()) };
        // By number, whatever their times say.
        reference.set_pts(Some(self.compared));
        distorted.set_pts(Some(self.compared));
        self.compared += 1;
        match pair.compare(reference, distorted, &mut self.out).map_err(failed)? {
            Received::One => self.read(time_us),
            Received::Again | Received::End => {
                Err(Failure::new(Class::Internal, "filter_failed", "comparing two pictures gave no scores"))
            }
        }
    }

    fn build(&self, shapes: &[Picture; 2]) -> Result<(Pair, [PictureFacts; 2]), Failure> {
        let sides = [0, 1].map(|side| turned(&shapes[side], self.upright[side]));
        let [reference, mut distorted] = sides.clone().map(|(leg, _)| leg);
        let facts = sides.map(|(_, facts)| facts);
        let [like, unlike] = &facts;
        if (unlike.width, unlike.height) != (like.width, like.height) {
            distorted.steps.push(Step::new("scale", format!("{}:{}:flags=bicubic", like.width, like.height)));
        }
        if unlike.pix_fmt != like.pix_fmt {
            distorted.steps.push(Step::new("format", format!("pix_fmts={}", like.pix_fmt)));
        }
        let scorers: Vec<&str> = self.metrics.iter().map(|metric| metric.name()).collect();
        Ok((Pair::new(&reference, &distorted, &scorers, THREADS)?, facts))
    }

    /// What the filters noted: `lavfi.psnr.psnr.y`, `lavfi.psnr.psnr_avg`, `lavfi.ssim.Y`, `lavfi.ssim.All`, …
    fn read(&mut self, time_us: i64) -> Result<FrameScores, Failure> {
        let mut scores = FrameScores { time_us, ..FrameScores::default() };
        for (key, value) in self.out.metadata() {
            let (slot, plane) = if let Some(rest) = key.strip_prefix("lavfi.psnr.psnr") {
                (&mut scores.psnr, rest.trim_start_matches(['.', '_']).to_owned())
            } else if let Some(rest) = key.strip_prefix("lavfi.ssim.") {
                (&mut scores.ssim, rest.to_owned())
            } else {
                continue;
            };
            let value: f64 = value.parse().map_err(|_| {
                Failure::new(Class::Internal, "filter_failed", format!("{key} is {value:?}, which is no number"))
            })?;
            let score = slot.get_or_insert_default();
            let mut letters = plane.chars();
            match (&*plane, letters.next(), letters.next()) {
                ("avg" | "All", ..) => score.all = value,
                (_, Some(letter), None) => {
                    let letter = letter.to_ascii_lowercase();
                    let at = self.planes.find(letter).unwrap_or_else(|| {
                        self.planes.push(letter);
                        self.planes.len() - 1
                    });
                    if let Some(place) = score.planes.get_mut(at.min(PLANES_MAX)) {
                        *place = value;
                    }
                }
                _ => {}
            }
        }
        for metric in &self.metrics {
            if scores.of(*metric).is_none() {
                let message = format!("this libav's {metric} filter does not tell its scores");
                return Err(Failure::new(Class::Host, "no_filter", message));
            }
        }
        Ok(scores)
    }

    /// Metrics, letters of the planes, and the two sides as they came first.
    pub fn finish(self) -> (Vec<Metric>, String, Option<[PictureFacts; 2]>) {
        (self.metrics, self.planes, self.first)
    }
}

/// A side turned upright, and what it is then.
fn turned(shape: &Picture, upright: Upright) -> (Leg, PictureFacts) {
    let matrix = match upright {
        Upright::Already => None,
        Upright::ByMatrix(of_stream) => shape.matrix.or(of_stream),
    };
    let steps = matrix.map(|matrix| rotation(&matrix)).unwrap_or_default();
    let feed = Feed::Video {
        width: shape.width,
        height: shape.height,
        format: shape.format,
        time_base: Rational::new(1, 1000),
        sample_aspect_ratio: Rational::new(1, 1),
        frame_rate: None,
    };
    let size = |n: i32| u32::try_from(n).unwrap_or(0);
    let (mut width, mut height) = (size(shape.width), size(shape.height));
    if steps.iter().any(|step| step.filter == "transpose") {
        (width, height) = (height, width);
    }
    let pix_fmt = names::pixel_format(shape.format).unwrap_or_default();
    (Leg { feed, steps }, PictureFacts { width, height, pix_fmt })
}
