//! The sound of clips: cut to the sample, laid end to end.
//!
//! Every edge is reckoned from the film's start, so that no rounding adds up, and where the source has no sound there is silence: a
//! clip's sound begins with its first frame and is as long as its pictures. Sound that is cut in the middle of a wave clicks, so that it
//! is faded out and in for a few milliseconds on both sides of a join; not where the source simply goes on.
//!
//! The source is read from its start to its end as often as the clips go back in it.

use std::collections::VecDeque;

use spool_proto::call::Edit;
use spool_proto::spec::Rational;

use crate::av::{MICROSECONDS, rescale};

/// Fades last the two hundredth part of a second.
const FADES_A_SECOND: i64 = 200;
/// Times of frames that are further off than this are believed: sound is missing there, or there twice.
const JUMPS_A_SECOND: i64 = 200;
/// Samples given at once.
const PIECE: usize = 8192;

/// What of the source's samples goes where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    /// Which source.
    input: u32,
    from: i64,
    length: i64,
    at: i64,
    /// The source does not simply go on there.
    fades: [bool; 2],
}

impl Cut {
    fn end(self) -> i64 {
        self.from + self.length
    }

    /// Of the sample at `offset`.
    fn gain(self, offset: i64, fade: i64) -> f64 {
        let fade = fade.min(self.length / 2);
        let [fades_in, fades_out] = self.fades;
        let of = |distance: i64, fades: bool| match fades && distance < fade {
            true => half_wave(distance, fade),
            false => 1.0,
        };
        of(offset, fades_in) * of(self.length - 1 - offset, fades_out)
    }
}

/// From 0 to 1 over `length` samples, without a corner at either end.
#[expect(clippy::cast_precision_loss, reason = "a few hundred samples")]
fn half_wave(distance: i64, length: i64) -> f64 {
    0.5 - 0.5 * (std::f64::consts::PI * (distance as f64 + 0.5) / length as f64).cos()
}

/// A run of samples within one cut.
#[derive(Debug)]
struct Piece {
    cut: usize,
    offset: i64,
    /// Per channel.
    samples: usize,
    /// `None`: silence.
    values: Option<Vec<f64>>,
}

/// Takes a track's samples, interleaved, pass by pass; gives those of its clips.
#[derive(Debug)]
pub struct Splice {
    cuts: Vec<Cut>,
    channels: usize,
    rate: i64,
    /// The cut that is being filled, and how much of it is there.
    current: usize,
    filled: i64,
    /// Where the source is, once it has begun.
    position: Option<i64>,
    /// The next cut lies before what was read, or is of another source: that is wanted from its start.
    turning: bool,
    pending: VecDeque<Piece>,
}

impl Splice {
    /// `rate`: of the samples.
    pub fn new(edits: &[Edit], rate: i32, channels: i32) -> Splice {
        let sample = Rational::new(1, rate.max(1));
        let samples = |us: i64| rescale(us, MICROSECONDS, sample);
        let mut cuts: Vec<Cut> = Vec::with_capacity(edits.len());
        for edit in edits {
            let at = samples(edit.at_us);
            let input = edit.input;
            let mut cut = Cut {
                input,
                from: samples(edit.source_us),
                length: samples(edit.end_us()) - at,
                at,
                fades: [false; 2],
            };
            if let Some(before) = cuts.last_mut() {
                if cut.input == before.input && (cut.from - before.end()).abs() <= 1 {
                    cut.from = before.end();
                } else {
                    (before.fades[1], cut.fades[0]) = (true, true);
                }
            }
            cuts.push(cut);
        }
        let channels = usize::try_from(channels).unwrap_or(1).max(1);
        Splice {
            cuts,
            channels,
            rate: i64::from(rate.max(1)),
            current: 0,
            filled: 0,
            position: None,
            turning: false,
            pending: VecDeque::new(),
        }
    }

    /// Samples of the source; `pts` counts samples on the film's clock.
    pub fn feed(&mut self, pts: i64, values: &[f64]) {
        let length = i64::try_from(values.len() / self.channels).unwrap_or(0);
        let near = |position: i64| (pts - position).abs() <= self.rate / JUMPS_A_SECOND;
        let start = match self.position {
            Some(position) if near(position) => position,
            Some(position) if position > pts => {
                let late = (position - pts).min(length);
                let skipped = usize::try_from(late).unwrap_or(0) * self.channels;
                self.cover(position, length - late, Some(&values[skipped..]));
                self.position = Some(position + length - late);
                return;
            }
            Some(position) => {
                self.cover(position, pts - position, None);
                pts
            }
            None => pts,
        };
        self.cover(start, length, Some(values));
        self.position = Some(start + length);
    }

    /// The source's next sample, once it has begun.
    pub fn position(&self) -> Option<i64> {
        self.position
    }

    /// The source is read to its end: what cuts still want of it is silence.
    pub fn end(&mut self) {
        while let Some(cut) = self.wanted() {
            self.fill(cut.length - self.filled, None);
        }
    }

    /// Nothing more is wanted before the source begins anew.
    pub fn is_full(&self) -> bool {
        self.wanted().is_none()
    }

    /// The source begins anew. False: it need not, all is there.
    pub fn again(&mut self) -> bool {
        self.position = None;
        std::mem::take(&mut self.turning)
    }

    /// The source that is wanted.
    pub fn input(&self) -> u32 {
        self.cuts.get(self.current).map_or(0, |cut| cut.input)
    }

    /// All of the film was given.
    pub fn is_over(&self) -> bool {
        self.current == self.cuts.len() && self.pending.is_empty()
    }

    /// The next samples of the film, and where they lie in it.
    pub fn next(&mut self) -> Option<(i64, Vec<f64>)> {
        let piece = self.pending.front_mut()?;
        let taken = piece.samples.min(PIECE);
        let cut = self.cuts[piece.cut];
        let offset = piece.offset;
        let mut values = match &mut piece.values {
            None => vec![0.0; taken * self.channels],
            Some(values) if taken == piece.samples => std::mem::take(values),
            Some(values) => values.drain(..taken * self.channels).collect(),
        };
        piece.samples -= taken;
        piece.offset += i64::try_from(taken).unwrap_or(0);
        if piece.samples == 0 {
            self.pending.pop_front();
        }
        for (offset, sample) in (offset..).zip(values.chunks_exact_mut(self.channels)) {
            let gain = cut.gain(offset, self.rate / FADES_A_SECOND);
            if gain < 1.0 {
                sample.iter_mut().for_each(|value| *value *= gain);
            }
        }
        Some((cut.at + offset, values))
    }

    fn wanted(&self) -> Option<Cut> {
        self.cuts.get(self.current).filter(|_| !self.turning).copied()
    }

    /// Takes what cuts want of a stretch of the source.
    fn cover(&mut self, start: i64, length: i64, values: Option<&[f64]>) {
        let end = start + length;
        while let Some(cut) = self.wanted() {
            let next = cut.from + self.filled;
            if next < start {
                self.fill(start.min(cut.end()) - next, None);
            } else if next < end {
                let count = end.min(cut.end()) - next;
                let [skip, take] = [next - start, count].map(|n| usize::try_from(n).unwrap_or(0) * self.channels);
                self.fill(count, values.map(|values| values[skip..skip + take].to_vec()));
            } else {
                break;
            }
        }
    }

    /// More of the current cut.
    fn fill(&mut self, count: i64, values: Option<Vec<f64>>) {
        let cut = self.cuts[self.current];
        let samples = usize::try_from(count).unwrap_or(0);
        if samples > 0 {
            self.pending.push_back(Piece { cut: self.current, offset: self.filled, samples, values });
        }
        self.filled += count;
        if self.filled >= cut.length {
            (self.current, self.filled) = (self.current + 1, 0);
            self.turning =
                self.cuts.get(self.current).is_some_and(|next| next.input != cut.input || next.from < cut.end());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: i32 = 1000;

    /// (source, length) in milliseconds, which are samples here.
    fn edits(clips: &[(i64, i64)]) -> Vec<Edit> {
        let mut at_us = 0;
        let edit = |&(from, length): &(i64, i64)| {
            let edit = Edit { source_us: from * 1000, length_us: length * 1000, at_us, input: 0 };
            at_us += edit.length_us;
            edit
        };
        clips.iter().map(edit).collect()
    }

    /// What comes out of a source whose sample number n is worth n, from `first` until before `last`, in frames of 64; and how often it
    /// was read.
    fn spliced(clips: &[(i64, i64)], first: i64, last: i64) -> (Vec<f64>, u32) {
        let mut splice = Splice::new(&edits(clips), RATE, 2);
        let (mut out, mut passes) = (Vec::new(), 0);
        let mut drain = |splice: &mut Splice| {
            while let Some((at, values)) = splice.next() {
                assert_eq!(at, i64::try_from(out.len()).unwrap(), "samples follow each other");
                assert!(values.chunks(2).all(|both| both[0] == -both[1]), "channels stay apart");
                out.extend(values.chunks(2).map(|both| both[0]));
            }
        };
        loop {
            passes += 1;
            let mut at = first;
            while at < last && !splice.is_full() {
                #[expect(clippy::cast_precision_loss, reason = "small")]
                let values: Vec<f64> = (at..last.min(at + 64)).flat_map(|n| [n as f64, -(n as f64)]).collect();
                splice.feed(at, &values);
                drain(&mut splice);
                at += 64;
            }
            if at >= last {
                splice.end();
            }
            drain(&mut splice);
            if !splice.again() {
                break;
            }
        }
        assert!(splice.is_over());
        (out, passes)
    }

    fn ramp(range: std::ops::Range<i32>) -> Vec<f64> {
        range.map(f64::from).collect()
    }

    #[test]
    fn what_goes_on_in_the_source_goes_on_in_the_film() {
        assert_eq!(spliced(&[(100, 400)], 0, 1000), (ramp(100..500), 1));
        assert_eq!(spliced(&[(100, 150), (250, 50), (300, 200)], 0, 1000), (ramp(100..500), 1), "no fade, no seam");
    }

    #[test]
    fn joins_are_cut_to_the_sample_and_fade_over_five_milliseconds() {
        let (out, passes) = spliced(&[(600, 100), (200, 100), (700, 50)], 0, 1000);
        assert_eq!((out.len(), passes), (250, 2), "it goes back once");
        assert_eq!(out[..95], ramp(600..695));
        assert_eq!(out[105..195], ramp(205..295));
        assert_eq!(out[205..], ramp(705..750), "at the film's ends nothing fades");
        for join in [100, 200] {
            let around = &out[join - 5..join + 5];
            assert!(around[4] < 20.0 && around[5] < 20.0, "{around:?}");
            assert!(around[..5].is_sorted_by(|a, b| a > b) && around[5..].is_sorted(), "{around:?}");
        }
    }

    #[test]
    fn where_the_source_has_no_sound_there_is_silence() {
        let (out, _) = spliced(&[(0, 300)], 100, 200);
        assert_eq!(out, [vec![0.0; 100], ramp(100..200), vec![0.0; 100]].concat());
        let (out, passes) = spliced(&[(900, 50), (5000, 50), (0, 50)], 0, 800);
        assert_eq!((out.len(), passes), (150, 2));
        assert!(out[..100].iter().all(|value| *value == 0.0));
        assert_eq!(spliced(&[(0, 10)], 0, 0).0, [0.0; 10], "not a sample in it");
    }

    #[test]
    fn clips_that_overlap_show_the_same_twice() {
        let (out, passes) = spliced(&[(0, 500), (400, 500)], 0, 1000);
        assert_eq!((out.len(), passes), (1000, 2));
        assert_eq!(out[505..], ramp(405..900));
    }

    /// A sample is no whole number of microseconds.
    #[test]
    fn edges_are_reckoned_from_the_start() {
        let frame = |n: i64| rescale(n, Rational::new(1001, 30_000), MICROSECONDS);
        let edits: Vec<Edit> = (0..1000)
            .map(|n| Edit { source_us: frame(3 * n), length_us: frame(n + 1) - frame(n), at_us: frame(n), input: 0 })
            .collect();
        let splice = Splice::new(&edits, 48_000, 2);
        for (n, cut) in (0i64..).zip(&splice.cuts) {
            assert!((cut.from * 30_000 - 3 * n * 1001 * 48_000).abs() <= 15_000 + 1000, "{cut:?}");
            assert!((cut.at * 30_000 - n * 1001 * 48_000).abs() <= 15_000 + 1000, "{cut:?}");
        }
        assert!(splice.cuts.windows(2).all(|pair| pair[0].at + pair[0].length == pair[1].at));
    }

    #[test]
    fn a_hole_in_the_source_is_heard_as_one_and_what_comes_twice_once() {
        let mut splice = Splice::new(&edits(&[(0, 300)]), RATE, 1);
        splice.feed(0, &[1.0; 100]);
        splice.feed(103, &[2.0; 50]);
        splice.feed(200, &[3.0; 50]);
        splice.feed(230, &[4.0; 80]);
        let mut out = Vec::new();
        while let Some((_, values)) = splice.next() {
            out.extend(values);
        }
        let expected = [(1.0, 100), (2.0, 50), (0.0, 50), (3.0, 50), (4.0, 50)];
        assert_eq!(out, expected.map(|(value, count)| vec![value; count]).concat());
    }
}
