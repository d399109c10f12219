//! Two pictures held against each other by libav's scoring filters (`psnr`, `ssim`), which note what they find on the picture.

use std::ptr;

use ffmpeg_next::ffi;
use spool_proto::failure::{Class, Failure};

use super::AvError;
use super::codec::Received;
use super::frame::Frame;
use super::graph::{Feed, Graph, Step, link, push};

/// One side of a comparison: what comes, and what is done to it before it is compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Leg {
    pub feed: Feed,
    pub steps: Vec<Step>,
}

/// A configured comparison.
#[derive(Debug)]
pub struct Pair {
    /// Its source is the distorted side's.
    graph: Graph,
    /// Belongs to the graph.
    reference: *mut ffi::AVFilterContext,
}

// SAFETY: as of the graph, whose filter the pointer is.
unsafe impl Send for Pair {}

impl Pair {
    /// Builds `distorted → steps → scorer 1 → scorer 2 → …`, each scorer with the reference at its second input.
    ///
    /// # Errors
    /// `filter_refused` (class spec) when the two sides cannot be made alike; `no_filter` (class host).
    pub fn new(reference: &Leg, distorted: &Leg, scorers: &[&str], threads: u16) -> Result<Pair, Failure> {
        let mut graph = Graph::empty(threads)?;
        let source = graph.feed("reference", &reference.feed)?;
        let last = graph.chain(source, "r", &reference.steps)?;
        let split = graph.add("split", "split", &format!("outputs={}", scorers.len().max(1)))?;
        link((last, 0), (split, 0), "split")?;
        graph.source = graph.feed("distorted", &distorted.feed)?;
        let mut last = graph.chain(graph.source, "d", &distorted.steps)?;
        for (number, scorer) in (0u32..).zip(scorers) {
            let next = graph.add(&format!("s{number}"), scorer, "")?;
            link((last, 0), (next, 0), scorer)?;
            link((split, number), (next, 1), scorer)?;
            last = next;
        }
        graph.sink = graph.add("out", "buffersink", "")?;
        link((last, 0), (graph.sink, 0), "buffersink")?;
        graph.configure().map_err(|error| {
            let (reference, distorted) = (&reference.feed, &distorted.feed);
            error.failure(
                Class::Spec,
                "filter_refused",
                format_args!("{distorted} cannot be compared with {reference} by {}", scorers.join(" and ")),
            )
        })?;
        Ok(Pair { graph, reference: source })
    }

    /// Compares two pictures; both must have the same pts, later than those before. `out` is the distorted picture with the
    /// scorers' notes ([`Frame::metadata`]).
    pub fn compare(&mut self, reference: &Frame, distorted: &Frame, out: &mut Frame) -> Result<Received, AvError> {
        debug_assert!(!ptr::eq(reference, distorted), "two frames");
        // SAFETY: a configured graph's own source.
        unsafe { push(self.reference, Some(reference))? };
        self.graph.push(Some(distorted))?;
        self.graph.pull(out)
    }
}
