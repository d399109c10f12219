//! The filters that touch timestamps: `fps` (`libavfilter/vf_fps.c`), `yadif` and `bwdif` (`libavfilter/yadif_common.c`) and `trim`
//! (`libavfilter/trim.c`).

use spool_proto::spec::{Rational, Trim};

use super::{Frame, MICROSECOND, Stage, TimelineSpec, rescale};

/// The stages, any number of them, then `trim`.
#[derive(Debug)]
pub(super) struct Graph {
    stages: Vec<Filter>,
    trim: Cut,
}

#[derive(Debug)]
enum Filter {
    Fps(Fps),
    Deinterlace(Deinterlace),
}

impl Filter {
    fn push(&mut self, frame: Frame, out: &mut Vec<Frame>) {
        match self {
            Filter::Fps(fps) => fps.push(frame, out),
            Filter::Deinterlace(deinterlace) => deinterlace.push(frame, out),
        }
    }

    /// `end` in the timebase before it, the answer in the one behind.
    fn finish(&mut self, end: i64, out: &mut Vec<Frame>) -> i64 {
        match self {
            Filter::Fps(fps) => fps.finish(end, out),
            Filter::Deinterlace(deinterlace) => deinterlace.finish(end, out),
        }
    }
}

impl Graph {
    pub fn new(spec: &TimelineSpec) -> Graph {
        let mut input = spec.time_base;
        let mut stages = Vec::with_capacity(spec.stages.len());
        for stage in &spec.stages {
            let output = stage.time_base(input);
            match *stage {
                Stage::Fps(_) => stages.push(Filter::Fps(Fps { input, output, held: None, next: None })),
                Stage::Deinterlace { both } => {
                    stages.push(Filter::Deinterlace(Deinterlace { both, held: None, before: None }));
                }
                // Its film is not planned.
                Stage::Decimate { .. } => {}
            }
            input = output;
        }
        Graph { stages, trim: Cut::new(spec.trim, input) }
    }

    pub fn push(&mut self, frame: Frame, out: &mut Vec<Frame>) {
        self.pass(0, vec![frame], out);
    }

    /// `end` is when the last frame ends, in the stream's timebase; the answer, behind the filters.
    pub fn finish(&mut self, mut end: i64, out: &mut Vec<Frame>) -> i64 {
        for stage in 0..self.stages.len() {
            let mut last = Vec::new();
            end = self.stages[stage].finish(end, &mut last);
            self.pass(stage + 1, last, out);
        }
        end
    }

    pub fn is_over(&self) -> bool {
        self.trim.over
    }

    /// Sends frames through the stages from `stage` on.
    fn pass(&mut self, stage: usize, mut frames: Vec<Frame>, out: &mut Vec<Frame>) {
        for filter in &mut self.stages[stage..] {
            let mut next = Vec::new();
            for frame in frames {
                filter.push(frame, &mut next);
            }
            frames = next;
        }
        out.extend(frames.into_iter().filter(|frame| self.trim.passes(frame.pts)));
    }
}

/// One picture for each frame, or one for each of its two fields; a frame comes out when the next one is there. The clock ticks twice
/// as fast behind it.
#[derive(Debug)]
struct Deinterlace {
    both: bool,
    held: Option<Frame>,
    /// pts of the frame before the one that is held.
    before: Option<i64>,
}

impl Deinterlace {
    fn push(&mut self, frame: Frame, out: &mut Vec<Frame>) {
        if let Some(held) = self.held.replace(frame) {
            self.show(held, frame.pts, out);
            self.before = Some(held.pts);
        }
    }

    fn finish(&mut self, end: i64, out: &mut Vec<Frame>) -> i64 {
        if let Some(held) = self.held.take() {
            // As if the film went on at the pace of its last two frames.
            let next = held.pts.saturating_mul(2).saturating_sub(self.before.unwrap_or(held.pts));
            self.show(held, next, out);
        }
        end.saturating_mul(2)
    }

    fn show(&self, frame: Frame, next: i64, out: &mut Vec<Frame>) {
        let pictures = if self.both { 2 } else { 1 };
        let picture = frame.source.saturating_mul(pictures);
        out.push(Frame { source: picture, pts: frame.pts.saturating_mul(2), ..frame });
        if self.both {
            out.push(Frame { source: picture + 1, pts: frame.pts.saturating_add(next), ..frame });
        }
    }
}

/// Shows at each tick of its clock the last frame that is not later.
#[derive(Debug)]
struct Fps {
    input: Rational,
    output: Rational,
    /// The frame that is shown until another one's time has come; its pts in the output timebase.
    held: Option<Frame>,
    /// The next tick.
    next: Option<i64>,
}

impl Fps {
    fn push(&mut self, frame: Frame, out: &mut Vec<Frame>) {
        let frame = Frame { pts: rescale(frame.pts, self.input, self.output), ..frame };
        if let Some(held) = self.held {
            self.show(held, frame.pts, out);
        }
        self.held = Some(frame);
    }

    /// Shows what is held until `end` (input timebase); tells when its own output ends (output timebase).
    fn finish(&mut self, end: i64, out: &mut Vec<Frame>) -> i64 {
        if let Some(held) = self.held.take() {
            self.show(held, rescale(end, self.input, self.output), out);
        }
        self.next.unwrap_or(0)
    }

    fn show(&mut self, frame: Frame, until: i64, out: &mut Vec<Frame>) {
        let next = self.next.get_or_insert(frame.pts);
        while *next < until {
            out.push(Frame { pts: *next, ..frame });
            *next += 1;
        }
    }
}

/// `-ss` and `-t`.
#[derive(Debug)]
struct Cut {
    /// First pts that passes.
    start: Option<i64>,
    /// Kept length; counted from the first frame that passed.
    duration: Option<i64>,
    first: Option<i64>,
    over: bool,
}

impl Cut {
    fn new(trim: Trim, time_base: Rational) -> Cut {
        let ticks = |us: u64| rescale(i64::try_from(us).unwrap_or(i64::MAX), MICROSECOND, time_base);
        Cut {
            start: trim.start.map(|start| ticks(start.0)),
            // A length that rounds to no tick at all is no limit to the filter.
            duration: trim.duration.map(|duration| ticks(duration.0)).filter(|ticks| *ticks != 0),
            first: None,
            over: false,
        }
    }

    fn passes(&mut self, pts: i64) -> bool {
        if self.over || self.start.is_some_and(|start| pts < start) {
            return false;
        }
        let first = *self.first.get_or_insert(pts);
        if self.duration.is_some_and(|duration| pts.saturating_sub(first) >= duration) {
            self.over = true;
        }
        !self.over
    }
}
