//! Text that is drawn into the pictures. Where lines share the picture the renderer has made room for each as it came: a chunk that
//! begins among them is drawn from the first of them on, and what comes before the chunk is thrown away.

use spool_proto::call::CueTimes;
use spool_proto::time::Span;

use crate::timeline::{InputClock, MICROSECOND, TimelineSpec, rescale};

/// Longer than this nothing is drawn to be thrown away: such a film is one chunk.
const LONGEST: Span = Span::from_secs(60);

/// # Errors
/// Why the film must not be split.
pub fn check(lines: &[CueTimes]) -> Result<(), String> {
    let long = lines.iter().find(|group| group.end_us - group.start_us > i64::try_from(LONGEST.0).unwrap_or(i64::MAX));
    long.map_or(Ok(()), |group| {
        let seconds = |us: i64| us as f64 / 1e6;
        Err(format!(
            "lines of the subtitles overlap without a gap from {:.1} s to {:.1} s, and where each stands depends on those before it",
            seconds(group.start_us),
            seconds(group.end_us)
        ))
    })
}

/// Where the frames of a film are among the lines.
pub struct Lines<'a> {
    lines: &'a [CueTimes],
    /// Of each frame, in milliseconds, as the renderer cuts it.
    times: Vec<i64>,
}

impl<'a> Lines<'a> {
    pub fn new(lines: &'a [CueTimes], timeline: &TimelineSpec, frames: &[(i64, i64)]) -> Lines<'a> {
        if lines.is_empty() {
            return Lines { lines, times: Vec::new() };
        }
        let mut clock = InputClock::new(timeline);
        let time = |&(pts, duration): &(i64, i64)| {
            rescale(clock.frame(pts, duration), timeline.time_base, MICROSECOND).div_euclid(1000)
        };
        Lines { lines, times: frames.iter().map(time).collect() }
    }

    /// The frame from which on is drawn so that frame `first` is right.
    pub fn before(&self, first: u64) -> u64 {
        let Some(&time) = usize::try_from(first).ok().and_then(|first| self.times.get(first)) else { return first };
        let among = self.lines.iter().filter(|group| time < group.end_us / 1000);
        let begins = among.map(|group| self.times.partition_point(|time| *time < group.start_us / 1000));
        begins.map(|frame| u64::try_from(frame).unwrap_or(u64::MAX)).min().map_or(first, |frame| frame.min(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_among_lines_is_drawn_from_the_first_of_them() {
        let group = |start_ms: i64, end_ms: i64| CueTimes { start_us: start_ms * 1000, end_us: end_ms * 1000 };
        let groups = [group(400, 1000), group(900, 1200), group(2000, 2001)];
        let lines = Lines { lines: &groups, times: (0..100).map(|n| n * 40).collect() };
        for (first, before) in [(0, 0), (10, 10), (11, 10), (24, 10), (25, 23), (29, 23), (30, 30), (50, 50), (51, 51)]
        {
            assert_eq!(lines.before(first), before, "{first}");
        }
        assert_eq!(check(&groups), Ok(()));
        assert!(check(&[group(0, 60_001)]).is_err_and(|why| why.contains("60.0 s")));
    }
}
