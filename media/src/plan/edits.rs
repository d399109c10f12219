//! The edit list of a film made of clips, where there are no pictures to tell it, and why there is none.

use spool_proto::call::{Edit, PlanArgs};
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::EncodeSpec;
use spool_proto::time::Span;

use crate::timeline::Unjoined;

/// Sound alone is cut where it was asked.
///
/// # Errors
/// `clips_unplanned` (class spec) where a clip reaches to the source's end and nobody knows where that is; `no_frames` where it begins
/// behind it.
pub fn without_pictures(args: &PlanArgs) -> Result<Vec<Edit>, Failure> {
    let mut at_us = 0i64;
    let us = |at: Option<Span>| at.map(|at| i64::try_from(at.0).unwrap_or(i64::MAX));
    let edit = |(number, clip): (usize, &spool_proto::spec::Clip)| {
        let source_us = us(clip.start).unwrap_or(0);
        let ends = us(clip.end)
            .map_or(args.source.duration_us, |end| Some(args.source.duration_us.map_or(end, |d| end.min(d))));
        let Some(end) = ends else {
            let message = format!("--clip {clip}: the source does not say how long it is; say where the clip ends");
            return Err(Failure::new(Class::Spec, "clips_unplanned", message));
        };
        if end <= source_us {
            return Err(refused(&args.spec, Unjoined::Empty(number)));
        }
        let edit = Edit { source_us, length_us: end - source_us, at_us, input: 0 };
        at_us = edit.end_us();
        Ok(edit)
    };
    args.spec.clips.iter().enumerate().map(edit).collect()
}

pub fn refused(film: &EncodeSpec, why: Unjoined) -> Failure {
    match why {
        Unjoined::Empty(number) => {
            let clip = film.clips.get(number).map(ToString::to_string).unwrap_or_default();
            let message = format!(
                "--clip {clip} (number {} of {}): the source has no frame that begins there, see `spool probe`",
                number + 1,
                film.clips.len()
            );
            Failure::new(Class::Spec, "no_frames", message)
        }
        Unjoined::TooLong => {
            let message = format!("the {} clips have more than {} frames", film.clips.len(), super::FRAMES_MAX);
            Failure::new(Class::Spec, "too_many_frames", message)
        }
    }
}

/// Only decoding tells the film's frames.
pub fn unplanned(reason: &str) -> Failure {
    let message = format!(
        "--clip: {reason}; so only decoding tells the film's frames, and clips cannot be cut to the frame. Encode the film whole first \
         (with such filters), and take the clips from that"
    );
    Failure::new(Class::Spec, "clips_unplanned", message)
}
