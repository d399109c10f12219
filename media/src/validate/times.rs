//! Are the film's frames shown when the encodes said?

use spool_proto::failure::Failure;
use spool_proto::spec::Rational;

use super::{invalid, seconds};
use crate::assemble::FilmTimeline;
use crate::av::{MICROSECONDS, rescale};

/// Compares every pts. A container keeps times in its own timebase, so each is rounded to it; and it may move the whole film: Matroska
/// because it has no negative times, MP4 because its edit list counts in milliseconds. The move must be one for all frames, and
/// the one foreseen, to the millisecond.
pub fn compare(timeline: &FilmTimeline, shown: &[i64], time_base: Rational) -> Result<(), Failure> {
    let expected: Vec<i64> = timeline.pts.iter().map(|pts| rescale(*pts, timeline.time_base, time_base)).collect();
    let (Some(first), Some(wanted)) = (shown.first(), expected.first()) else { return Ok(()) };
    let shift = first - wanted;
    let tolerance = rescale(1_000, MICROSECONDS, time_base).max(1);
    let foreseen = rescale(timeline.shift_us, MICROSECONDS, time_base);
    if (shift - foreseen).abs() > tolerance {
        return Err(invalid(format!(
            "the film's first frame is shown at pts {first} ({}), expected {} ({})",
            seconds(*first, time_base),
            wanted + foreseen,
            seconds(wanted + foreseen, time_base)
        )));
    }
    for (frame, (found, wanted)) in shown.iter().zip(&expected).enumerate() {
        if *found != wanted + shift {
            return Err(invalid(format!(
                "frame {frame} is shown at pts {found} ({}), expected {} ({})",
                seconds(*found, time_base),
                wanted + shift,
                seconds(wanted + shift, time_base)
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLIS: Rational = Rational::new(1, 1000);

    fn timeline(shift_us: i64) -> FilmTimeline {
        FilmTimeline { time_base: Rational::new(1001, 24_000), shift_us, pts: (0..4).collect() }
    }

    #[test]
    fn rounding_to_the_containers_timebase_is_no_error() {
        assert!(compare(&timeline(0), &[0, 42, 83, 125], MILLIS).is_ok());
    }

    #[test]
    fn one_frame_moved_by_one_tick_is_found() {
        let error = compare(&timeline(0), &[0, 42, 84, 125], MILLIS).unwrap_err();
        assert_eq!(error.code, "validation_failed");
        assert_eq!(error.message, "frame 2 is shown at pts 84 (0.084000 s), expected 83 (0.083000 s)");
    }

    #[test]
    fn a_move_of_the_whole_film_must_be_the_one_foreseen() {
        assert!(compare(&timeline(7_000), &[7, 49, 90, 132], MILLIS).is_ok());
        assert!(compare(&timeline(0), &[7, 49, 90, 132], MILLIS).is_err());
        assert!(compare(&timeline(7_000), &[0, 42, 83, 125], MILLIS).is_err());
    }
}
