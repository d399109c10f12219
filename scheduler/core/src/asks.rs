//! What is asked for: shapes, and whether they may be preempted, as sets.

use crate::shapes::ShapeId;

/// A set of shapes. Its last word is not zero.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ShapeSet(Vec<u64>);

impl ShapeSet {
    pub(crate) fn insert(&mut self, shape: ShapeId) {
        let (word, bit) = (shape.index() / 64, shape.index() % 64);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << bit;
    }

    pub(crate) fn remove(&mut self, shape: ShapeId) {
        if let Some(word) = self.0.get_mut(shape.index() / 64) {
            *word &= !(1 << (shape.index() % 64));
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, shape: ShapeId) -> bool {
        self.0.get(shape.index() / 64).is_some_and(|word| word & (1 << (shape.index() % 64)) != 0)
    }

    /// Whether something in it is in neither of the others.
    fn exceeds(&self, one: &ShapeSet, two: &ShapeSet) -> bool {
        let word = |of: &ShapeSet, at: usize| of.0.get(at).copied().unwrap_or(0);
        self.0.iter().enumerate().any(|(at, mine)| mine & !word(one, at) & !word(two, at) != 0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = ShapeId> {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let bits = (0..64).filter(move |bit| word & (1 << bit) != 0);
            bits.map(move |bit| ShapeId::of(at * 64 + bit))
        })
    }
}

impl Extend<ShapeId> for ShapeSet {
    fn extend<I: IntoIterator<Item = ShapeId>>(&mut self, shapes: I) {
        shapes.into_iter().for_each(|shape| self.insert(shape));
    }
}

/// What a line asks for: lines of one pool or below it that ask alike are admitted alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ask {
    pub(crate) shape: ShapeId,
    /// It must not be preempted.
    pub(crate) fixed: bool,
}

impl Ask {
    pub(crate) fn index(self) -> usize {
        self.shape.index() * 2 + usize::from(self.fixed)
    }
}

/// A set of asks: those that may be preempted, and those that must not.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asks([ShapeSet; 2]);

impl Asks {
    pub(crate) fn set(&mut self, ask: Ask, is_in: bool) {
        let shapes = &mut self.0[usize::from(ask.fixed)];
        if is_in { shapes.insert(ask.shape) } else { shapes.remove(ask.shape) }
    }

    pub(crate) fn contains(&self, ask: Ask) -> bool {
        self.0[usize::from(ask.fixed)].contains(ask.shape)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(ShapeSet::is_empty)
    }

    /// Whether something in it is neither of a closed shape nor refused.
    pub(crate) fn exceeds(&self, closed: &ShapeSet, refused: &Asks) -> bool {
        self.0.iter().zip(&refused.0).any(|(asks, refused)| asks.exceeds(closed, refused))
    }
}
