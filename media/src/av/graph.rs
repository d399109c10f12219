//! A chain of filters, made one by one from known fields: no text of a user's is ever parsed as a graph.

use std::ffi::CString;
use std::ptr;

use ffmpeg_next::ffi;
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::Rational;

use super::codec::Received;
use super::frame::Frame;
use super::{AvError, number, rational};

/// What goes in.
#[derive(Debug, Clone, PartialEq)]
pub enum Feed {
    Video {
        width: i32,
        height: i32,
        format: i32,
        time_base: Rational,
        /// `num` 0: unknown.
        sample_aspect_ratio: Rational,
        frame_rate: Option<Rational>,
    },
    Audio {
        sample_rate: i32,
        /// libav's name: `fltp`.
        format: String,
        /// As [`Frame::channel_layout`] gives it.
        layout: String,
        time_base: Rational,
    },
}

/// One filter with its arguments in libav's `name=value:…` form, made by us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub filter: &'static str,
    pub args: String,
}

impl Step {
    pub fn new(filter: &'static str, args: impl Into<String>) -> Step {
        Step { filter, args: args.into() }
    }
}

/// A still picture that a step of the chain takes as its second input.
#[derive(Debug)]
pub struct Still {
    /// The step that takes it, from 0.
    pub step: usize,
    pub picture: Frame,
    /// What it goes through before.
    pub steps: Vec<Step>,
}

/// What comes out of the last filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sink {
    pub time_base: Rational,
    /// Pixel or sample format.
    pub format: i32,
    pub width: i32,
    pub height: i32,
    pub sample_aspect_ratio: Rational,
    pub frame_rate: Option<Rational>,
    pub sample_rate: i32,
    pub channels: i32,
    pub layout: u64,
}

/// A configured chain.
#[derive(Debug)]
pub struct Graph {
    graph: *mut ffi::AVFilterGraph,
    /// Both belong to the graph.
    pub(super) source: *mut ffi::AVFilterContext,
    pub(super) sink: *mut ffi::AVFilterContext,
}

// SAFETY: the graph and its filters are used through this one owner; libav joins its slice threads inside calls.
unsafe impl Send for Graph {}

impl Graph {
    /// Builds source → steps → sink.
    ///
    /// # Errors
    /// `filter_refused` (class spec) names the filter that does not take what it is given.
    pub fn new(feed: &Feed, steps: &[Step], threads: u16) -> Result<Graph, Failure> {
        Graph::with_still(feed, steps, None, threads)
    }

    /// The same, with a still picture into one of the steps. It is there from time zero on.
    pub fn with_still(feed: &Feed, steps: &[Step], still: Option<&Still>, threads: u16) -> Result<Graph, Failure> {
        let mut graph = Graph::empty(threads)?;
        graph.source = graph.feed("in", feed)?;
        let (before, after) = steps.split_at(still.map_or(steps.len(), |still| still.step));
        let mut last = graph.chain(graph.source, "f", before)?;
        let mut side = None;
        if let (Some(still), Some((step, after))) = (still, after.split_first()) {
            let picture = graph.feed("still", &still.feed())?;
            let end = graph.chain(picture, "s", &still.steps)?;
            let both = graph.add("over", step.filter, &step.args)?;
            link((last, 0), (both, 0), step.filter)?;
            link((end, 0), (both, 1), step.filter)?;
            last = graph.chain(both, "g", after)?;
            side = Some((picture, still));
        }
        let sink = if matches!(feed, Feed::Video { .. }) { "buffersink" } else { "abuffersink" };
        graph.sink = graph.add("out", sink, "")?;
        link((last, 0), (graph.sink, 0), sink)?;
        graph.configure().map_err(|error| {
            let chain: Vec<String> = steps.iter().map(|s| format!("{}={}", s.filter, s.args)).collect();
            error.failure(
                Class::Spec,
                "filter_refused",
                format_args!("the filters {} cannot be applied to {feed}", chain.join(",")),
            )
        })?;
        if let Some((picture, still)) = side {
            graph.give_still(picture, &still.picture).map_err(|error| {
                error.failure(Class::Internal, "filter_failed", "the filters failed on the still picture")
            })?;
        }
        Ok(graph)
    }

    /// The one picture of a side input, and its end: the filter goes on with it to the end of the film.
    fn give_still(&mut self, side: *mut ffi::AVFilterContext, picture: &Frame) -> Result<(), AvError> {
        let mut picture = picture.share()?;
        picture.set_pts(Some(0));
        // SAFETY: a source of this configured graph.
        unsafe {
            push(side, Some(&picture))?;
            push(side, None)
        }
    }

    /// A graph without filters.
    pub(super) fn empty(threads: u16) -> Result<Graph, Failure> {
        // SAFETY: a fresh graph; the option string comes from libav's allocator, which frees it with the graph.
        unsafe {
            let graph = ffi::avfilter_graph_alloc();
            if graph.is_null() {
                return Err(AvError::NO_MEMORY.failure(Class::Internal, "libav", "building filters"));
            }
            (*graph).nb_threads = i32::from(threads.max(1));
            // What the ffmpeg program sets for the scalers that libav inserts by itself.
            (*graph).scale_sws_opts = ffi::av_strdup(c"flags=bicubic".as_ptr());
            Ok(Graph { graph, source: ptr::null_mut(), sink: ptr::null_mut() })
        }
    }

    /// Adds a source of frames.
    pub(super) fn feed(&mut self, name: &str, feed: &Feed) -> Result<*mut ffi::AVFilterContext, Failure> {
        match feed {
            Feed::Video { width, height, format, time_base, sample_aspect_ratio, frame_rate } => {
                let sar = if sample_aspect_ratio.den == 0 { Rational::new(0, 1) } else { *sample_aspect_ratio };
                let mut args =
                    format!("video_size={width}x{height}:pix_fmt={format}:time_base={time_base}:pixel_aspect={sar}");
                if let Some(rate) = frame_rate {
                    args.push_str(&format!(":frame_rate={rate}"));
                }
                self.add(name, "buffer", &args)
            }
            Feed::Audio { sample_rate, format, layout, time_base } => self.add(
                name,
                "abuffer",
                &format!("time_base={time_base}:sample_rate={sample_rate}:sample_fmt={format}:channel_layout={layout}"),
            ),
        }
    }

    /// Puts the steps behind a filter, one by one. Gives the last.
    pub(super) fn chain(
        &mut self,
        mut last: *mut ffi::AVFilterContext,
        name: &str,
        steps: &[Step],
    ) -> Result<*mut ffi::AVFilterContext, Failure> {
        for (number, step) in steps.iter().enumerate() {
            let next = self.add(&format!("{name}{number}"), step.filter, &step.args)?;
            link((last, 0), (next, 0), step.filter)?;
            last = next;
        }
        Ok(last)
    }

    /// Makes ready what is linked.
    pub(super) fn configure(&mut self) -> Result<(), AvError> {
        // SAFETY: a graph of ours whose filters are all linked.
        AvError::check(unsafe { ffi::avfilter_graph_config(self.graph, ptr::null_mut()) }).map(|_| ())
    }

    pub(super) fn add(&mut self, name: &str, filter: &str, args: &str) -> Result<*mut ffi::AVFilterContext, Failure> {
        let refused = |error: AvError| {
            error.failure(Class::Spec, "filter_refused", format_args!("the filter {filter} refuses {args}"))
        };
        let c_string = |text: &str| CString::new(text).map_err(|_| refused(AvError::INVALID));
        let (name, c_filter, c_args) = (c_string(name)?, c_string(filter)?, c_string(args)?);
        let mut context = ptr::null_mut();
        // SAFETY: C strings outlive the call; the filter is null or static; the context belongs to the graph.
        unsafe {
            let known = ffi::avfilter_get_by_name(c_filter.as_ptr());
            if known.is_null() {
                return Err(Failure::new(
                    Class::Host,
                    "no_filter",
                    format!("this machine's libav has no filter {filter}"),
                ));
            }
            let answer = ffi::avfilter_graph_create_filter(
                &raw mut context,
                known,
                name.as_ptr(),
                c_args.as_ptr(),
                ptr::null_mut(),
                self.graph,
            );
            AvError::check(answer).map_err(refused)?;
        }
        Ok(context)
    }

    /// Gives a frame, or with `None` the end.
    pub fn push(&mut self, frame: Option<&Frame>) -> Result<(), AvError> {
        // SAFETY: a configured graph's own source.
        unsafe { push(self.source, frame) }
    }

    /// Gives the end of a film that ends at `pts` (in the feed's timebase): `fps` shows its last picture until then.
    pub fn close(&mut self, pts: i64) -> Result<(), AvError> {
        const PUSH: u32 = 4;
        // SAFETY: a configured graph's own source.
        AvError::check(unsafe { ffi::av_buffersrc_close(self.source, pts, PUSH) }).map(|_| ())
    }

    pub fn pull(&mut self, frame: &mut Frame) -> Result<Received, AvError> {
        frame.clear();
        // SAFETY: a configured graph's own sink and an empty frame.
        Received::from_answer(unsafe { ffi::av_buffersink_get_frame(self.sink, frame.as_ptr()) })
    }

    /// Makes an audio sink give frames of exactly this many samples (the last may be shorter).
    pub fn set_frame_size(&mut self, samples: u32) {
        // SAFETY: a configured graph's own sink.
        unsafe { ffi::av_buffersink_set_frame_size(self.sink, samples) }
    }

    pub fn sink(&self) -> Sink {
        // SAFETY: a configured graph's own sink; the layout is filled by libav, read, and emptied again.
        unsafe {
            let mut layout: ffi::AVChannelLayout = std::mem::zeroed();
            let is_audio = number(&raw const (*(*self.sink).inputs.read()).type_) == 1;
            let (mut mask, mut channels) = (0, 0);
            if is_audio && ffi::av_buffersink_get_ch_layout(self.sink, &raw mut layout) >= 0 {
                mask = super::parameters::layout_mask(&raw const layout);
                channels = layout.nb_channels;
                ffi::av_channel_layout_uninit(&raw mut layout);
            }
            Sink {
                time_base: rational(ffi::av_buffersink_get_time_base(self.sink)),
                format: ffi::av_buffersink_get_format(self.sink),
                width: ffi::av_buffersink_get_w(self.sink),
                height: ffi::av_buffersink_get_h(self.sink),
                sample_aspect_ratio: rational(ffi::av_buffersink_get_sample_aspect_ratio(self.sink)),
                frame_rate: super::known_rational(ffi::av_buffersink_get_frame_rate(self.sink)),
                sample_rate: ffi::av_buffersink_get_sample_rate(self.sink),
                channels,
                layout: mask,
            }
        }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: ours, freed once with all its filters.
        unsafe { ffi::avfilter_graph_free(&raw mut self.graph) }
    }
}

/// Gives a frame, or with `None` the end, to a source.
///
/// # Safety
/// `source` is a buffer source of a configured graph.
pub(super) unsafe fn push(source: *mut ffi::AVFilterContext, frame: Option<&Frame>) -> Result<(), AvError> {
    // KEEP_REF: the frame stays the caller's. PUSH: filter at once.
    const FLAGS: i32 = 8 | 4;
    let frame = frame.map_or(ptr::null_mut(), Frame::as_ptr);
    // SAFETY: the caller's source; the frame is valid or null, and with KEEP_REF only referred to.
    AvError::check(unsafe { ffi::av_buffersrc_add_frame_flags(source, frame, FLAGS) }).map(|_| ())
}

/// Links an output pad of one filter with an input pad of another.
pub(super) fn link(
    (from, output): (*mut ffi::AVFilterContext, u32),
    (to, input): (*mut ffi::AVFilterContext, u32),
    filter: &str,
) -> Result<(), Failure> {
    // SAFETY: two filters of one graph; libav checks the pads.
    AvError::check(unsafe { ffi::avfilter_link(from, output, to, input) })
        .map(|_| ())
        .map_err(|error| error.failure(Class::Internal, "libav", format_args!("linking the filter {filter}")))
}

impl Still {
    fn feed(&self) -> Feed {
        Feed::Video {
            width: self.picture.width(),
            height: self.picture.height(),
            format: self.picture.format(),
            // ffmpeg's own of a still picture.
            time_base: Rational::new(1, 25),
            sample_aspect_ratio: self.picture.sample_aspect_ratio(),
            frame_rate: Some(Rational::new(25, 1)),
        }
    }
}

impl std::fmt::Display for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Feed::Video { width, height, format, .. } => {
                let format = super::names::pixel_format(*format).unwrap_or_default();
                write!(f, "a {width}x{height} picture ({format})")
            }
            Feed::Audio { sample_rate, format, layout, .. } => {
                write!(f, "sound of {sample_rate} Hz ({format}, {layout})")
            }
        }
    }
}
