//! A pool's share as an exact fraction.

use std::cmp::Ordering;

/// `borrowed / (lendable × weight)`. Infinite where something is borrowed at weight 0.
///
/// Amounts are bounded here to 2⁴⁴ (of memory that is 16 EiB) and weights by the tree's check to 2²⁰; a dead zone takes another 2¹⁰. So a
/// cross product stays below 2¹²⁰ and 128 bits hold it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    borrowed: u64,
    /// Zero: infinite.
    of: u128,
}

const AMOUNT_MAX: u64 = 1 << 44;

impl Share {
    pub(crate) const ZERO: Share = Share { borrowed: 0, of: 1 };

    /// `lendable > 0`.
    pub(crate) fn new(borrowed: u64, lendable: u64, weight: u64) -> Share {
        if borrowed == 0 {
            return Share::ZERO;
        }
        let (borrowed, lendable) = (borrowed.min(AMOUNT_MAX), lendable.clamp(1, AMOUNT_MAX));
        Share { borrowed, of: u128::from(lendable) * u128::from(weight) }
    }

    /// With so many thousandths of everything added.
    pub(crate) fn plus_milli(self, milli: u64) -> Share {
        if self.of == 0 {
            return self;
        }
        let added = self.of.saturating_mul(u128::from(milli));
        let borrowed = u128::from(self.borrowed).saturating_mul(1000).saturating_add(added);
        let bound = u128::from(AMOUNT_MAX) * 1024;
        Share { borrowed: u64::try_from(borrowed.min(bound)).expect("bounded"), of: self.of * 1000 }
    }

    /// Thousandths, rounded; saturates where it is infinite.
    pub(crate) fn milli(self) -> u64 {
        let milli = (u128::from(self.borrowed) * 1000 + self.of / 2).checked_div(self.of);
        milli.and_then(|milli| u64::try_from(milli).ok()).unwrap_or(u64::MAX)
    }
}

impl Ord for Share {
    fn cmp(&self, other: &Share) -> Ordering {
        match (self.of, other.of) {
            (0, 0) => Ordering::Equal,
            (0, _) => Ordering::Greater,
            (_, 0) => Ordering::Less,
            (mine, theirs) => (u128::from(self.borrowed) * theirs).cmp(&(u128::from(other.borrowed) * mine)),
        }
    }
}

impl PartialOrd for Share {
    fn partial_cmp(&self, other: &Share) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Share {
    fn eq(&self, other: &Share) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Share {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_compare_exactly() {
        let third = Share::new(1, 3, 1);
        assert_eq!(third, Share::new(1 << 40, 3 << 40, 1));
        assert!(third < Share::new((1 << 40) + 1, 3 << 40, 1));
        assert!(Share::new(5, 10, 2) < Share::new(5, 10, 1));
        assert!(Share::new(1, 1 << 44, 0) > Share::new(1 << 44, 1, 1));
        assert_eq!(Share::new(0, 10, 0), Share::ZERO);
        assert_eq!((third.milli(), Share::new(1, 3, 0).milli()), (333, u64::MAX));
        assert!(third.plus_milli(100) > Share::new(43, 100, 1));
        assert!(third.plus_milli(100) < Share::new(44, 100, 1));
    }
}
