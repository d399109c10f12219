//! Decode times of a joined video stream, computed from its presentation times alone.
//!
//! Every chunk's encoder started its own dts below its first pts, so the chunks' own dts overlap at the joins. One encoder over the
//! whole film would have held back `delay` frames throughout: packet i is decoded at the time the frame `delay` places earlier in
//! display order is shown, and the first `delay` packets as much earlier as `delay` frames last. This is how x264 and x265 count,
//! so the joined film starts and ends where theirs does.

/// The dts of a whole stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Presentation times in display order.
    sorted: Vec<i64>,
    delay: usize,
    /// How many of them were shown before the first packet.
    before: usize,
}

/// Two frames at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeated {
    pub pts: i64,
}

impl Schedule {
    /// For packets with the presentation times `coded`, in decode order. `least_delay` is what the encoder says it holds back;
    /// the order of the packets may ask for more.
    ///
    /// # Errors
    /// When a pts comes twice.
    pub fn new(coded: &[i64], least_delay: usize) -> Result<Schedule, Repeated> {
        let mut sorted = coded.to_vec();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Repeated { pts: pair[0] });
        }
        let asked = reorder_depth(coded, &sorted);
        let delay = asked.max(least_delay);
        // A stream shorter than its delay never fills the encoder's queue: it is as if there was none.
        let delay = if delay < sorted.len() { delay } else { asked };
        Ok(Schedule { sorted, delay, before: 0 })
    }

    /// For packets of a stream that was begun: `shown` are the last times before, as many as are held back or all there are. `None`: the
    /// order of the packets asks for more than `delay`.
    ///
    /// # Errors
    /// When a pts comes twice.
    pub fn behind(shown: &[i64], coded: &[i64], delay: usize) -> Result<Option<Schedule>, Repeated> {
        let own = Schedule::new(coded, delay)?;
        if own.delay > delay {
            return Ok(None);
        }
        let sorted = [shown, &own.sorted].concat();
        if shown.len() < delay && sorted.len() <= delay {
            return Ok(None);
        }
        Ok(Some(Schedule { sorted, delay, before: shown.len() }))
    }

    /// Of the packet at `index` in decode order. Strictly rising, never after the packet's pts.
    ///
    /// # Panics
    /// When the stream has no such packet.
    pub fn dts(&self, index: usize) -> i64 {
        let index = index + self.before;
        match index.checked_sub(self.delay) {
            Some(shown) => self.sorted[shown],
            None => self.sorted[index] - (self.sorted[self.delay] - self.sorted[0]),
        }
    }

    /// Presentation times of its packets in display order.
    pub fn pts(&self) -> &[i64] {
        &self.sorted[self.before..]
    }

    /// What is held back where `packets` of it were taken: [`Schedule::behind`] goes on with that.
    pub fn shown(&self, packets: usize) -> &[i64] {
        let end = self.before + packets;
        &self.sorted[end.saturating_sub(self.delay)..end]
    }

    pub fn delay(&self) -> usize {
        self.delay
    }
}

/// The most places a packet stands later in decode order than in display order.
fn reorder_depth(coded: &[i64], sorted: &[i64]) -> usize {
    let rank = |pts: &i64| sorted.binary_search(pts).unwrap_or_else(|place| place);
    coded.iter().enumerate().map(|(index, pts)| index.saturating_sub(rank(pts))).max().unwrap_or(0)
}

/// The delay a chunk's encoder really used, read from the dts it gave: its last packet has the dts of the frame shown `delay` places
/// before the last. `None` where the encoder counts otherwise.
pub fn encoder_delay(coded: &[i64], last_dts: i64) -> Option<usize> {
    let mut sorted = coded.to_vec();
    sorted.sort_unstable();
    let shown = sorted.binary_search(&last_dts).ok()?;
    Some(sorted.len() - 1 - shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dts(coded: &[i64], least: usize) -> Vec<i64> {
        let schedule = Schedule::new(coded, least).unwrap();
        (0..coded.len()).map(|index| schedule.dts(index)).collect()
    }

    proptest! {
        #[test]
        fn a_stream_that_goes_on_keeps_its_times(groups in prop::collection::vec(1..9usize, 2..6), at in any::<prop::sample::Index>()) {
            // Groups that decode alone: the first frame, the last, then those between.
            let mut coded: Vec<i64> = Vec::new();
            let mut starts = Vec::new();
            for length in groups {
                starts.push(coded.len());
                let first = i64::try_from(coded.len()).unwrap();
                let last = first + i64::try_from(length).unwrap() - 1;
                coded.push(first);
                coded.extend((last > first).then_some(last));
                coded.extend(first + 1..last);
            }
            let whole = Schedule::new(&coded, 1).unwrap();
            let from = starts[at.index(starts.len())];
            let rest = Schedule::behind(whole.shown(from), &coded[from..], whole.delay()).unwrap().unwrap();
            for index in from..coded.len() {
                prop_assert_eq!(rest.dts(index - from), whole.dts(index));
            }
            prop_assert_eq!(rest.pts().len(), coded.len() - from);
        }
    }

    #[test]
    fn a_b_pyramid_gets_the_times_x264_gives_it() {
        // Taken from x264 through ffmpeg 5.1: -bf 3 with b-pyramid, 9 frames.
        assert_eq!(dts(&[0, 4, 2, 1, 3, 8, 6, 5, 7], 2), [-2, -1, 0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn without_reordering_dts_is_pts() {
        assert_eq!(dts(&[5, 7, 12], 0), [5, 7, 12]);
    }

    #[test]
    fn an_uneven_rate_keeps_the_first_packets_before_the_first_frame() {
        assert_eq!(dts(&[0, 100, 3, 150], 1), [-3, 0, 3, 100]);
    }

    #[test]
    fn a_stream_shorter_than_the_delay_has_none() {
        assert_eq!(dts(&[9], 2), [9]);
        assert_eq!(dts(&[4, 6], 2), [4, 6]);
        assert_eq!(dts(&[], 2), [0i64; 0]);
    }

    #[test]
    fn a_repeated_pts_is_refused() {
        assert_eq!(Schedule::new(&[0, 2, 2], 0), Err(Repeated { pts: 2 }));
    }

    #[test]
    fn the_encoders_delay_is_read_from_its_last_packet() {
        assert_eq!(encoder_delay(&[0, 4, 2, 1, 3], 2), Some(2));
        assert_eq!(encoder_delay(&[0, 1, 2], 2), Some(0));
        assert_eq!(encoder_delay(&[0, 10, 20], 15), None);
    }

    proptest! {
        #[test]
        fn dts_rises_and_never_passes_pts(
            steps in prop::collection::vec(1i64..50, 1..60),
            swaps in prop::collection::vec((0usize..60, 1usize..4), 0..40),
            least in 0usize..4,
        ) {
            let mut coded: Vec<i64> =
                steps.iter().scan(-100, |at, step| { *at += step; Some(*at) }).collect();
            for (at, by) in swaps {
                let at = at % coded.len();
                let other = (at + by).min(coded.len() - 1);
                coded.swap(at, other);
            }
            let dts = dts(&coded, least);
            prop_assert!(dts.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(dts.iter().zip(&coded).all(|(dts, pts)| dts <= pts));
        }
    }
}
