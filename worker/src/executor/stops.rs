//! Which calls of a batch are to stop.

use tokio::sync::watch;

/// Positions in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stops(u64);

impl Stops {
    pub const NONE: Stops = Stops(0);
    pub const ALL: Stops = Stops(u64::MAX);
    /// Calls of a batch at most: each has its bit.
    pub const MOST: usize = u64::BITS as usize;

    /// # Panics
    /// When `position` is not below [`Stops::MOST`].
    pub fn add(&mut self, position: usize) {
        assert!(position < Stops::MOST, "a batch has at most {} calls", Stops::MOST);
        self.0 |= 1 << position;
    }

    pub fn has(self, position: usize) -> bool {
        position < Stops::MOST && self.0 >> position & 1 == 1
    }

    pub(super) fn bits(self) -> u64 {
        self.0
    }
}

/// What is to stop now; [`more`] tells of it all the same. Everything, when nobody is left to say it.
pub fn asked(stop: &watch::Receiver<Stops>) -> Stops {
    match stop.has_changed() {
        Ok(_) => *stop.borrow(),
        Err(_) => Stops::ALL,
    }
}

/// Waits until more is to stop. Cancel safe.
pub async fn more(stop: &mut watch::Receiver<Stops>) -> Stops {
    match stop.changed().await {
        Ok(()) => *stop.borrow_and_update(),
        Err(_) => Stops::ALL,
    }
}

/// Waits until the call at `position` is to stop; [`more`] tells of it all the same. Cancel safe.
pub async fn stopped(stop: &watch::Receiver<Stops>, position: usize) {
    let mut stop = stop.clone();
    drop(stop.wait_for(|stops| stops.has(position)).await);
}
