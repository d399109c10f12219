//! Workers by name: found by hash, listed in order.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use spool_proto::ids::WorkerName;

use crate::workers::Worker;

/// By name, with a hasher without a seed: the same names are found the same way in every run.
pub(crate) type ByName<T> = HashMap<WorkerName, T, BuildHasherDefault<NameHasher>>;

/// Eight bytes at a time, each word mixed in by a multiplication. A turn looks for the same few names a dozen times. Names come from
/// workers that hold a token: nobody outside can choose them to collide.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
    }

    fn finish(&self) -> u64 {
        // The table takes its bits from both ends; a product's best ones are at the top.
        self.0 ^ (self.0 >> 32)
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Roster {
    seats: ByName<usize>,
    order: BTreeMap<WorkerName, usize>,
    slots: Vec<Option<Worker>>,
    free: Vec<usize>,
}

impl Roster {
    pub(crate) fn get(&self, name: &WorkerName) -> Option<&Worker> {
        self.slots[*self.seats.get(name)?].as_ref()
    }

    pub(crate) fn get_mut(&mut self, name: &WorkerName) -> Option<&mut Worker> {
        self.slots[*self.seats.get(name)?].as_mut()
    }

    pub(crate) fn contains_key(&self, name: &WorkerName) -> bool {
        self.seats.contains_key(name)
    }

    /// The worker, new if it was not known.
    pub(crate) fn or_default(&mut self, name: &WorkerName) -> &mut Worker {
        let seat = match self.seats.get(name) {
            Some(seat) => *seat,
            None => {
                let seat = self.free.pop().unwrap_or_else(|| {
                    self.slots.push(None);
                    self.slots.len() - 1
                });
                self.seats.insert(name.clone(), seat);
                self.order.insert(name.clone(), seat);
                seat
            }
        };
        self.slots[seat].get_or_insert_default()
    }

    pub(crate) fn remove(&mut self, name: &WorkerName) {
        if let Some(seat) = self.seats.remove(name) {
            self.order.remove(name);
            self.slots[seat] = None;
            self.free.push(seat);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// In order of name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&WorkerName, &Worker)> {
        self.order.iter().filter_map(|(name, seat)| Some((name, self.slots[*seat].as_ref()?)))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &WorkerName> {
        self.order.keys()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Worker> {
        self.iter().map(|(_, worker)| worker)
    }
}

impl std::ops::Index<&WorkerName> for Roster {
    type Output = Worker;

    fn index(&self, name: &WorkerName) -> &Worker {
        self.get(name).expect("the worker is known")
    }
}
