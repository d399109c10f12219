//! Keeps the pictures of samples, as the encoder would be given them.

use std::ops::Range;

use spool_proto::call::SAMPLE_BYTES_MAX;
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::Size;

use super::refused;
use crate::Host;
use crate::av::AvError;
use crate::av::codec::Received;
use crate::av::frame::Frame;
use crate::av::graph::{Feed, Graph, Step};
use crate::av::names;
use crate::decode::no_memory;
use crate::encode::{Opening, Taker, Task};

/// A picture, and when it is shown in the encoder's timebase.
pub type Picture = (Frame, i64);

/// The pictures of all samples.
pub struct Kept {
    pub opening: Opening,
    /// None of them empty.
    pub samples: Vec<Vec<Picture>>,
}

/// As they are asked for, judged. None: the whole chunk.
#[expect(clippy::single_range_in_vec_init, reason = "one sample, which is a range")]
pub fn ranges(samples: &[(u64, u64)]) -> Result<Vec<Range<u64>>, Failure> {
    let mut before = 0;
    for (start, end) in samples {
        if *start < before || end <= start {
            return Err(refused(format!(
                "samples {samples:?}: each has frames, and begins no sooner than the one before it ends"
            )));
        }
        before = *end;
    }
    Ok(if samples.is_empty() { vec![0..u64::MAX] } else { samples.iter().map(|(start, end)| *start..*end).collect() })
}

/// Takes the pictures of a chunk and keeps those of the samples. The same picture twice costs once, and is counted twice.
pub struct Keeper {
    wanted: Vec<Range<u64>>,
    opening: Opening,
    samples: Vec<Vec<Picture>>,
    /// Pictures seen.
    seen: u64,
    bytes: u64,
}

impl Taker for Keeper {
    type Order = Vec<Range<u64>>;
    type Done = Kept;

    fn open(_task: &mut Task<'_>, wanted: &Vec<Range<u64>>, opening: &Opening) -> Result<Keeper, Failure> {
        let samples = wanted.iter().map(|_| Vec::new()).collect();
        Ok(Keeper { wanted: wanted.clone(), opening: opening.clone(), samples, seen: 0, bytes: 0 })
    }

    fn take(&mut self, frame: &mut Frame, pts: i64) -> Result<(), Failure> {
        let number = self.seen;
        self.seen += 1;
        let sample = self.wanted.iter().position(|range| range.contains(&number));
        let Some(sample) = sample.and_then(|at| self.samples.get_mut(at)) else { return Ok(()) };
        self.bytes += frame.bytes();
        if self.bytes > SAMPLE_BYTES_MAX {
            let most = SAMPLE_BYTES_MAX >> 20;
            return Err(Failure::new(
                Class::Spec,
                "sample_too_large",
                format!(
                    "the samples have more than {most} MiB of pictures of {}x{}; take fewer frames",
                    self.opening.sink.width, self.opening.sink.height
                ),
            ));
        }
        sample.push((frame.share().map_err(no_memory)?, pts));
        Ok(())
    }

    fn has_all(&self) -> bool {
        self.wanted.last().is_none_or(|last| self.seen >= last.end)
    }

    fn frames(&self) -> u64 {
        self.seen
    }

    fn progress(&self) -> (u64, u64, u64) {
        (self.seen, 0, 0)
    }

    fn finish(mut self, _expected: Option<Vec<i64>>, _host: &mut dyn Host) -> Result<Kept, Failure> {
        self.samples.retain(|sample| !sample.is_empty());
        if self.samples.is_empty() {
            let message = format!("the chunk has {} frames, and none of them is in a sample", self.seen);
            return Err(Failure::new(Class::Spec, "no_frames", message));
        }
        Ok(Kept { opening: self.opening, samples: self.samples })
    }
}

impl Kept {
    pub fn frames(&self) -> u64 {
        self.samples.iter().map(|sample| crate::wire::len(sample)).sum()
    }

    /// Frames of the constant rate that the samples last.
    pub fn ticks(&self) -> u64 {
        let ticks = |sample: &Vec<Picture>| match (sample.first(), sample.last()) {
            (Some((_, first)), Some((_, last))) => u64::try_from(last - first + 1).unwrap_or(1),
            _ => 0,
        };
        self.samples.iter().map(ticks).sum()
    }

    pub fn size(&self) -> Size {
        let side = |n: i32| u32::try_from(n).unwrap_or(0);
        Size { width: side(self.opening.sink.width), height: side(self.opening.sink.height) }
    }

    /// The same pictures in another size, as an encode with `-s` scales them.
    pub fn scaled(&self, size: Size, threads: u16) -> Result<Kept, Failure> {
        let own = self.size();
        let is_odd = size.width % 2 + size.height % 2 > 0;
        if size.width == 0 || size.height == 0 || is_odd || size.width > own.width || size.height > own.height {
            return Err(refused(format!("size {size}: sides are even, and no longer than the pictures' ({own})")));
        }
        let sink = self.opening.sink;
        let feed = Feed::Video {
            width: sink.width,
            height: sink.height,
            format: sink.format,
            time_base: sink.time_base,
            sample_aspect_ratio: sink.sample_aspect_ratio,
            frame_rate: sink.frame_rate,
        };
        let format = names::pixel_format(sink.format).unwrap_or_default();
        let steps = [
            Step::new("scale", format!("{}:{}:flags=bicubic", size.width, size.height)),
            Step::new("format", format!("pix_fmts={format}")),
        ];
        let mut graph = Graph::new(&feed, &steps, threads)?;
        let opening = self.opening.scaled(graph.sink());
        let mut samples = Vec::with_capacity(self.samples.len());
        for sample in &self.samples {
            let mut scaled = Vec::with_capacity(sample.len());
            for (frame, pts) in sample {
                let mut picture = Frame::new().map_err(no_memory)?;
                graph.push(Some(frame)).map_err(failed)?;
                if graph.pull(&mut picture).map_err(failed)? != Received::One {
                    return Err(Failure::new(Class::Internal, "filter_failed", "scaling a picture gave none"));
                }
                scaled.push((picture, *pts));
            }
            samples.push(scaled);
        }
        Ok(Kept { opening, samples })
    }
}

fn failed(error: AvError) -> Failure {
    error.failure(Class::Internal, "filter_failed", "scaling a picture failed")
}
