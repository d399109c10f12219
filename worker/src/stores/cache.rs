//! Blocks of inputs, in memory, shared by all that a worker runs. The least recently used goes first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::OnceCell;

/// A block that is there, or that somebody fetches: others wait for the same one.
pub type Cell = Arc<OnceCell<Bytes>>;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// Of an object in one version of it.
    object: Arc<str>,
    block: u64,
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cache {
    blocks: Arc<Mutex<Blocks>>,
}

#[derive(Debug)]
struct Blocks {
    /// Kept at most, besides those in use.
    most: usize,
    /// Rises with every use.
    clock: u64,
    cells: HashMap<Key, (u64, Cell)>,
}

impl Cache {
    /// Keeps so many blocks.
    pub fn new(most: usize) -> Cache {
        Cache { blocks: Arc::new(Mutex::new(Blocks { most, clock: 0, cells: HashMap::new() })) }
    }

    /// Blocks that one reader may have fetched ahead: beyond that they would be gone before they are read.
    pub fn ahead(&self) -> u64 {
        let most = self.blocks.lock().unwrap_or_else(PoisonError::into_inner).most;
        u64::try_from(most / 8).unwrap_or(u64::MAX)
    }

    /// The block's place, made when it is new.
    pub fn cell(&self, object: &Arc<str>, block: u64) -> Cell {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.clock += 1;
        let now = blocks.clock;
        let (used, cell) = blocks.cells.entry(Key { object: Arc::clone(object), block }).or_default();
        *used = now;
        let cell = Arc::clone(cell);
        if blocks.cells.len() > blocks.most {
            blocks.evict();
        }
        cell
    }
}

impl Blocks {
    fn evict(&mut self) {
        // One that somebody holds is in use, or on its way.
        let idle = self.cells.iter().filter(|(_, (_, cell))| Arc::strong_count(cell) == 1);
        let oldest = idle.min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
        if let Some(key) = oldest {
            self.cells.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 8;

    fn is_kept(cache: &Cache, object: &Arc<str>, block: u64) -> bool {
        cache.cell(object, block).initialized()
    }

    #[test]
    fn the_least_recently_used_block_goes_first() {
        let (cache, object) = (Cache::new(MOST), Arc::<str>::from("film"));
        let most = u64::try_from(MOST).unwrap();
        for block in 0..most {
            cache.cell(&object, block).set(Bytes::from_static(b"x")).unwrap();
        }
        assert!(is_kept(&cache, &object, 0), "nothing goes before the cache is full");
        cache.cell(&object, most).set(Bytes::from_static(b"x")).unwrap();
        assert!(is_kept(&cache, &object, 0) && is_kept(&cache, &object, most));
        assert!(!is_kept(&cache, &object, 1));
    }

    #[test]
    fn a_block_in_use_stays() {
        let (cache, object) = (Cache::new(MOST), Arc::<str>::from("film"));
        let held = cache.cell(&object, 0);
        for block in 1..=2 * u64::try_from(MOST).unwrap() {
            cache.cell(&object, block);
        }
        held.set(Bytes::from_static(b"x")).unwrap();
        assert!(is_kept(&cache, &object, 0));
        assert!(cache.blocks.lock().unwrap().cells.len() <= MOST);
    }
}
