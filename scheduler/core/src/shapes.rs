//! Shapes, interned: placement compares small numbers, and every queue, estimate and prefetch line belongs to one.

use std::collections::BTreeMap;
use std::sync::Arc;

use spool_proto::resources::Resources;
use spool_proto::time::Span;

use crate::io::{Shape, WarmKey};
use crate::pools::{Kinds, Need};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ShapeId(u32);

impl ShapeId {
    pub(crate) const FIRST: ShapeId = ShapeId(0);

    pub(crate) fn of(index: usize) -> ShapeId {
        ShapeId(u32::try_from(index).expect("fewer shapes than tasks"))
    }

    pub(crate) fn index(self) -> usize {
        usize::try_from(self.0).expect("32 bits fit in an index")
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Shapes {
    ids: BTreeMap<Arc<Shape>, ShapeId>,
    slots: Vec<Slot>,
    free: Vec<ShapeId>,
    pub(crate) kinds: Kinds,
    /// Of each resource, the least that any shape in use needs.
    least: Resources,
}

#[derive(Debug, Clone)]
struct Slot {
    shape: Arc<Shape>,
    need: Need,
    warm_key: WarmKey,
    /// Runs of tasks that have this shape.
    users: u32,
    /// How long a task runs, a moving average; `None` until one has finished.
    estimate: Option<Span>,
}

impl Shapes {
    /// One more user of the shape; paired with [`Self::release`].
    pub(crate) fn intern(&mut self, shape: &Shape) -> ShapeId {
        if let Some(&id) = self.ids.get(shape) {
            self.slots[id.index()].users += 1;
            return id;
        }
        let shape = Arc::new(shape.clone());
        let need = self.kinds.need(&shape.resources);
        let warm_key = shape.warm_key().into();
        let slot = Slot { shape: shape.clone(), need, warm_key, users: 1, estimate: None };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id.index()] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                ShapeId::of(self.slots.len() - 1)
            }
        };
        self.ids.insert(shape, id);
        self.find_least();
        id
    }

    pub(crate) fn release(&mut self, id: ShapeId) {
        let slot = &mut self.slots[id.index()];
        slot.users -= 1;
        if slot.users == 0 {
            self.ids.remove(&slot.shape);
            self.free.push(id);
            self.find_least();
        }
    }

    fn find_least(&mut self) {
        self.least =
            self.ids.keys().map(|shape| shape.resources.clone()).reduce(|a, b| a.min_of(&b)).unwrap_or_default();
    }

    /// Where less than this is free, nothing fits.
    pub(crate) fn least(&self) -> &Resources {
        &self.least
    }

    pub(crate) fn get(&self, id: ShapeId) -> &Arc<Shape> {
        &self.slots[id.index()].shape
    }

    /// What a task of the shape counts for in quotas.
    pub(crate) fn need(&self, id: ShapeId) -> &Need {
        &self.slots[id.index()].need
    }

    pub(crate) fn warm_key(&self, id: ShapeId) -> &WarmKey {
        &self.slots[id.index()].warm_key
    }

    /// Numbers given out so far are below this.
    pub(crate) fn count(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn estimate(&self, id: ShapeId) -> Option<Span> {
        self.slots[id.index()].estimate
    }

    /// A task of the shape ran for `sample`. The newest run weighs an eighth.
    pub(crate) fn learn(&mut self, id: ShapeId, sample: Span) {
        let estimate = &mut self.slots[id.index()].estimate;
        *estimate = Some(match *estimate {
            None => sample,
            Some(old) => Span((old.saturating_mul(7) + sample).0 / 8),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(function: &str) -> Shape {
        Shape { function: function.into(), ..crate::testing::shape(0) }
    }

    #[test]
    fn a_released_shape_gives_its_number_back() {
        let mut shapes = Shapes::default();
        let a = shapes.intern(&shape("a"));
        assert_eq!(shapes.intern(&shape("a")), a);
        shapes.learn(a, Span(80));
        shapes.release(a);
        assert_eq!(shapes.estimate(a), Some(Span(80)));
        shapes.release(a);
        let b = shapes.intern(&shape("b"));
        assert_eq!((b, shapes.estimate(b)), (a, None));
        assert_eq!(shapes.get(b).function, "b");
    }
}
