//! Seeded chance and the distributions of loads.

use crate::num::{float, index};

/// `SplitMix64` (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// `stream` keeps what must not disturb each other apart: arrivals of one tenant from those of another.
    pub fn new(seed: u64, stream: u64) -> Rng {
        Rng(mix(seed ^ mix(stream.wrapping_add(0x9e37_79b9_7f4a_7c15))))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Between 0 and 1, neither of them.
    pub fn unit(&mut self) -> f64 {
        (float(self.next() >> 12) + 0.5) / float(1 << 52)
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Between arrivals of a Poisson process.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.unit().ln()
    }

    /// By Box and Muller.
    pub fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        let normal = (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos();
        median * (sigma * normal).exp()
    }

    /// Bounded Pareto: between `min` and `max`, most of them near `min`. `alpha` > 0.
    pub fn pareto(&mut self, min: f64, max: f64, alpha: f64) -> f64 {
        if max <= min {
            return min;
        }
        let (low, high) = (min.powf(-alpha), max.powf(-alpha));
        (low - self.unit() * (low - high)).powf(-1.0 / alpha)
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Popularity by Zipf: the k-th of `count` is chosen in proportion to k^-s.
#[derive(Debug, Clone)]
pub struct Zipf {
    /// Sums so far; the last is the total.
    sums: Vec<f64>,
}

impl Zipf {
    /// Of at least one.
    pub fn new(count: u64, s: f64) -> Zipf {
        let mut sum = 0.0;
        let add = |k| {
            sum += float(k).powf(-s);
            sum
        };
        Zipf { sums: (1..=count.max(1)).map(add).collect() }
    }

    pub fn pick(&self, rng: &mut Rng) -> usize {
        let total = self.sums.last().copied().unwrap_or(1.0);
        let wanted = rng.unit() * total;
        self.sums.partition_point(|sum| *sum < wanted).min(self.sums.len() - 1)
    }
}

/// A stream of its own for everything that is to be the same whenever it is asked for.
pub fn fixed(seed: u64, of: [u64; 3]) -> Rng {
    Rng::new(seed ^ mix(of[0]) ^ mix(of[1] ^ 0x5bd1_e995).rotate_left(17), of[2])
}

/// One of `n`.
pub fn below(rng: &mut Rng, n: usize) -> usize {
    index(rng.next() % crate::num::count(n).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn median(mut draws: Vec<f64>) -> f64 {
        draws.sort_by(f64::total_cmp);
        draws[draws.len() / 2]
    }

    #[test]
    fn distributions_have_their_medians_and_bounds() {
        let mut rng = Rng::new(1, 2);
        let lognormal = median((0..20_000).map(|_| rng.lognormal(20.0, 0.6)).collect());
        assert!((lognormal - 20.0).abs() < 0.5, "{lognormal}");
        let exponential = (0..20_000).map(|_| rng.exponential(3.0)).sum::<f64>() / 20_000.0;
        assert!((exponential - 3.0).abs() < 0.1, "{exponential}");
        let sizes: Vec<f64> = (0..20_000).map(|_| rng.pareto(1.0, 100_000.0, 1.1)).collect();
        assert!(sizes.iter().all(|size| (1.0..=100_000.0).contains(size)));
        assert!(sizes.iter().any(|size| *size > 1_000.0), "the tail is long");
        // Its median solves 1 - x^-1.1 = 1/2.
        assert!((median(sizes) - 2f64.powf(1.0 / 1.1)).abs() < 0.1);
    }

    #[test]
    fn the_first_is_the_most_popular() {
        let (zipf, mut rng) = (Zipf::new(20, 1.1), Rng::new(5, 0));
        let mut seen = [0u32; 20];
        (0..20_000).for_each(|_| seen[zipf.pick(&mut rng)] += 1);
        assert!(seen[0] > seen[1] && seen[1] > seen[5] && seen[5] > seen[19] && seen[19] > 0, "{seen:?}");
    }

    #[test]
    fn what_is_fixed_does_not_depend_on_what_was_asked_before() {
        assert_eq!(fixed(7, [1, 2, 3]).next(), fixed(7, [1, 2, 3]).next());
        assert_ne!(fixed(7, [1, 2, 3]).next(), fixed(7, [2, 1, 3]).next());
        assert_ne!(fixed(7, [1, 2, 3]).next(), fixed(8, [1, 2, 3]).next());
    }
}
