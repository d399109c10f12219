//! Admission: what a worker holds waits until it fits beside what runs.

use std::collections::VecDeque;

use spool_proto::resources::Resources;

/// Waiting work and the room for it.
///
/// In order of arrival, except that what the server sent to run now goes before what it sent ahead: the server has counted
/// the former as running already. Neither overtakes within its own line, so a big one is never starved by small ones.
#[derive(Debug)]
pub struct Slots<T> {
    capacity: Resources,
    free: Resources,
    now: VecDeque<(Resources, T)>,
    ahead: VecDeque<(Resources, T)>,
}

impl<T> Slots<T> {
    pub fn new(capacity: Resources) -> Slots<T> {
        Slots { free: capacity.clone(), capacity, now: VecDeque::new(), ahead: VecDeque::new() }
    }

    pub fn capacity(&self) -> &Resources {
        &self.capacity
    }

    /// Puts work in line.
    ///
    /// # Errors
    /// Gives it back, with the resource it can never have here.
    pub fn wait(&mut self, need: Resources, ahead: bool, work: T) -> Result<(), (T, String)> {
        if let Some(lacking) = need.first_lacking(&self.capacity) {
            let why = format!("{lacking}={} of {}", need.get(lacking), self.capacity.get(lacking));
            return Err((work, why));
        }
        if ahead { &mut self.ahead } else { &mut self.now }.push_back((need, work));
        Ok(())
    }

    /// Takes the next that fits, and its room.
    pub fn admit(&mut self) -> Option<(Resources, T)> {
        let line = if self.now.is_empty() { &mut self.ahead } else { &mut self.now };
        if !line.front()?.0.fits_in(&self.free) {
            return None;
        }
        let (need, work) = line.pop_front()?;
        self.free.sub(&need);
        Some((need, work))
    }

    /// Gives the room of what ended.
    pub fn release(&mut self, need: &Resources) {
        self.free.add(need);
    }

    /// All that waits.
    pub fn waiting(&self) -> impl Iterator<Item = &T> {
        self.now.iter().chain(&self.ahead).map(|(_, work)| work)
    }

    /// Takes out of the line what is meant.
    pub fn withdraw(&mut self, mut meant: impl FnMut(&T) -> bool) -> Option<T> {
        for line in [&mut self.ahead, &mut self.now] {
            if let Some(at) = line.iter().position(|(_, work)| meant(work)) {
                return line.remove(at).map(|(_, work)| work);
            }
        }
        None
    }

    /// Empties the lines.
    pub fn withdraw_all(&mut self) -> Vec<T> {
        self.now.drain(..).chain(self.ahead.drain(..)).map(|(_, work)| work).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(cpu: u64) -> Resources {
        Resources::cpu_memory(cpu, 0)
    }

    fn admitted(slots: &mut Slots<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| slots.admit()).map(|(_, name)| name).collect()
    }

    #[test]
    fn work_starts_in_order_as_room_comes_free() {
        let mut slots = Slots::new(cpu(2000));
        for (need, ahead, name) in
            [(1000, true, "ahead"), (1000, false, "a"), (2000, false, "big"), (500, false, "small")]
        {
            slots.wait(cpu(need), ahead, name).unwrap();
        }
        assert_eq!(admitted(&mut slots), ["a"], "nothing overtakes the big one");
        slots.release(&cpu(1000));
        assert_eq!(admitted(&mut slots), ["big"]);
        slots.release(&cpu(2000));
        assert_eq!(admitted(&mut slots), ["small", "ahead"]);
        assert_eq!(slots.waiting().count(), 0);
    }

    #[test]
    fn what_never_fits_is_refused_with_the_numbers() {
        let mut slots = Slots::new(cpu(1000));
        assert_eq!(slots.wait(cpu(1001), false, "x"), Err(("x", "cpu=1001 of 1000".into())));
    }

    #[test]
    fn what_waits_can_be_withdrawn() {
        let mut slots = Slots::new(cpu(1000));
        for name in ["a", "b", "c"] {
            slots.wait(cpu(1000), name != "a", name).unwrap();
        }
        assert_eq!(slots.withdraw(|name| *name == "b"), Some("b"));
        assert_eq!(slots.withdraw(|name| *name == "b"), None);
        assert_eq!(slots.withdraw_all(), ["a", "c"]);
        assert!(slots.admit().is_none());
    }
}
