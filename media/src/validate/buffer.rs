//! Does the film keep within the decoder's buffer it was asked to (`-maxrate`, `-bufsize`)? Every packet of the joined film is taken out of it.

use spool_proto::failure::Warning;
use spool_proto::vbv::{BufferCheck, RateBuffer};

use super::Coded;
use crate::assemble::FilmTimeline;

/// A frame is taken out when it is decoded: the n-th one as long before the n-th that is shown as all others.
pub fn check(buffer: &RateBuffer, coded: &[Coded], timeline: &FilmTimeline) -> BufferCheck {
    buffer.check(coded.iter().map(|packet| packet.bytes).zip(timeline.pts.iter().copied()))
}

/// `None`: no frame comes late.
pub fn warning(check: &BufferCheck) -> Option<Warning> {
    if check.late_frames == 0 {
        return None;
    }
    let BufferCheck { maxrate_bps, bufsize_bits, low_bits, low_at_us, late_frames } = check;
    let frames = if *late_frames == 1 { "frame comes" } else { "frames come" };
    let at = low_at_us.unsigned_abs();
    let text = format!(
        "read at -maxrate {maxrate_bps} through -bufsize {bufsize_bits}, {late_frames} {frames} late; at {}.{:03} s {} bits are lacking, \
         where most are. A larger buffer or a lower rate or quality would keep within it",
        at / 1_000_000,
        at / 1000 % 1000,
        low_bits.unsigned_abs()
    );
    Some(Warning { code: "vbv_exceeded".into(), stream: None, text })
}

#[cfg(test)]
mod tests {
    use spool_proto::spec::Rational;

    use super::*;

    fn checked(bytes: &[u64]) -> BufferCheck {
        let buffer = RateBuffer { maxrate_bps: 240_000, bufsize_bits: 100_000, frame_rate: Rational::new(24, 1) };
        let coded: Vec<Coded> =
            bytes.iter().map(|bytes| Coded { pts: 0, dts: None, key: false, bytes: *bytes }).collect();
        let pts = (0i64..).take(bytes.len()).collect();
        check(&buffer, &coded, &FilmTimeline { time_base: Rational::new(1, 24), shift_us: 0, pts })
    }

    #[test]
    fn a_film_within_its_buffer_is_not_warned_of() {
        // 90,000 bits at the start, 10,000 more a frame.
        let film = checked(&[10_000, 1250, 1250, 1250]);
        assert_eq!((film.low_bits, film.late_frames), (10_000, 0));
        assert_eq!(warning(&film), None);
    }

    #[test]
    fn late_frames_are_counted_and_the_worst_is_named() {
        let film = checked(&[10_000, 1250, 5000, 1250, 6250, 1250]);
        // 10,000 are left, 10,000; of 40,000 only 20,000 are there; the next is just in time; then 50,000 of which 10,000 are there.
        assert_eq!((film.low_bits, film.late_frames), (-40_000, 2));
        assert_eq!(film.low_at_us, 166_666);
        let warning = warning(&film).unwrap();
        assert_eq!(warning.code, "vbv_exceeded");
        assert!(warning.text.contains("2 frames come late; at 0.166 s 40000 bits are lacking"), "{}", warning.text);
    }
}
