//! What is kept of a picture: its luma, a few thousand samples of it. Each is an average over an area, so that noise and grain are gone.

/// Samples in a row, and rows. Every picture is brought to this, whatever its shape.
pub const WIDTH: usize = 64;
pub const HEIGHT: usize = 36;
/// Samples.
pub const SIZE: usize = WIDTH * HEIGHT;

/// Sides of the blocks that have a say each.
const BLOCK_WIDTH: usize = 8;
const BLOCK_HEIGHT: usize = 9;
const BLOCK: usize = BLOCK_WIDTH * BLOCK_HEIGHT;
const BLOCKS: usize = SIZE / BLOCK;
/// A block as dark as this on average is black (libavfilter's default for `cropdetect`).
const BLACK: usize = 24;
/// Of a picture that is all but black so many blocks have a say nevertheless: one light in the night is no scene.
const SAY_LEAST: usize = BLOCKS / 4;

/// A picture in small, and the darkest and brightest around each of its samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Small {
    luma: Vec<u8>,
    low: Vec<u8>,
    high: Vec<u8>,
    black: [bool; BLOCKS],
}

impl Small {
    /// Of [`SIZE`] samples, row by row. `None`: they are not as many.
    pub fn new(luma: Vec<u8>) -> Option<Small> {
        if luma.len() != SIZE {
            return None;
        }
        let (low, high) = (around(&luma, u8::min), around(&luma, u8::max));
        let mut sums = [0usize; BLOCKS];
        luma.iter().enumerate().for_each(|(at, luma)| sums[block(at)] += usize::from(*luma));
        let black = sums.map(|sum| sum <= BLACK * BLOCK);
        Some(Small { luma, low, high, black })
    }

    /// How much two pictures differ, 0 to 255.
    ///
    /// Samples differ by how far one is from what the other picture has there or right beside it, so that what moves by less than a sample does
    /// not count as a change. Of the blocks' means it is the median, so that what goes on in less than half the picture does not count either.
    /// Blocks that are black in both pictures, such as bars, have no say.
    pub fn difference(&self, other: &Small) -> f32 {
        let mut sums = [0u32; BLOCKS];
        let outside = |luma: u8, low: u8, high: u8| u32::from(low.saturating_sub(luma).max(luma.saturating_sub(high)));
        for (at, (a, b)) in self.luma.iter().zip(&other.luma).enumerate() {
            sums[block(at)] += outside(*a, other.low[at], other.high[at]) + outside(*b, self.low[at], self.high[at]);
        }
        let blacks = self.black.iter().zip(&other.black).map(|(a, b)| *a && *b);
        let mut seen: Vec<u32> = sums.into_iter().zip(blacks).filter(|(_, black)| !black).map(|(sum, _)| sum).collect();
        seen.resize(seen.len().max(SAY_LEAST), 0);
        seen.sort_unstable();
        #[expect(clippy::cast_precision_loss, reason = "at most 255 for each of a few samples")]
        let mean = seen[seen.len() / 2] as f32 / (2 * BLOCK) as f32;
        mean
    }
}

/// Which block a sample is of.
fn block(at: usize) -> usize {
    at / WIDTH / BLOCK_HEIGHT * (WIDTH / BLOCK_WIDTH) + at % WIDTH / BLOCK_WIDTH
}

/// Of each sample and its eight neighbours, what `choose` keeps.
fn around(luma: &[u8], choose: fn(u8, u8) -> u8) -> Vec<u8> {
    let mut rows = Vec::with_capacity(SIZE);
    for row in luma.chunks_exact(WIDTH) {
        let at = |x: usize| choose(row[x], choose(row[x.saturating_sub(1)], row[(x + 1).min(WIDTH - 1)]));
        rows.extend((0..WIDTH).map(at));
    }
    let at = |n: usize| {
        let (above, below) = (if n < WIDTH { n } else { n - WIDTH }, if n + WIDTH < SIZE { n + WIDTH } else { n });
        choose(rows[n], choose(rows[above], rows[below]))
    };
    (0..SIZE).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(paint: impl Fn(usize, usize) -> u8) -> Small {
        Small::new((0..SIZE).map(|n| paint(n % WIDTH, n / WIDTH)).collect()).unwrap()
    }

    fn squares(dx: usize) -> impl Fn(usize, usize) -> u8 {
        move |x, y| if (x + dx) / 8 % 2 == y / 9 % 2 { 40 } else { 200 }
    }

    #[test]
    fn a_small_move_is_no_difference_and_another_picture_is() {
        let moved = |dx| picture(squares(0)).difference(&picture(squares(dx)));
        assert!(moved(0) < 0.01 && moved(1) < 0.01, "{} {}", moved(0), moved(1));
        assert!(moved(4) > 30.0 && moved(8) > 60.0, "{} {}", moved(4), moved(8));
        let (a, b) = (picture(squares(0)), picture(squares(5)));
        assert_eq!(a.difference(&b).to_bits(), b.difference(&a).to_bits());
        assert_eq!(Small::new(vec![0; SIZE - 1]), None);
    }

    #[test]
    fn what_goes_on_in_a_part_of_the_picture_is_no_difference() {
        let part =
            |width: usize| picture(move |x, y| if x < width { 255 - squares(0)(x, y) } else { squares(0)(x, y) });
        assert!(picture(squares(0)).difference(&part(24)) < 0.01);
        assert!(picture(squares(0)).difference(&part(40)) > 60.0);
    }

    #[test]
    fn bars_have_no_say() {
        let pillar = |dx: usize| picture(move |x, y| if (20..44).contains(&x) { squares(dx)(x, y) } else { 16 });
        assert!(pillar(0).difference(&pillar(8)) > 30.0, "{}", pillar(0).difference(&pillar(8)));
        let light = |level: u8| picture(move |x, y| if x < 8 && y < 9 { level } else { 16 });
        assert!(light(40).difference(&light(220)) < 0.01);
    }
}
