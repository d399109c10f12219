//! Admission: what a worker holds waits until it fits beside what runs.

use std::collections::VecDeque;
use std::collections::vec_deque::Iter;
use std::iter::Chain;

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

type Waiting<'a, T> = Iter<'a, (Resources, T)>;

/// What lies in line with the same need as its head.
#[derive(Debug)]
pub struct Line<'a, T> {
    need: &'a Resources,
    /// `None`: what follows differs.
    items: Option<Chain<Waiting<'a, T>, Waiting<'a, T>>>,
}

impl<'a, T> Iterator for Line<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        match self.items.as_mut()?.next() {
            Some((need, work)) if need == self.need => Some(work),
            _ => {
                self.items = None;
                None
            }
        }
    }
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

    /// Takes the next that fits, and its room; with it, in the same room, those behind it that `together` counts. It is given how
    /// many such fit side by side now, and what lies in line from the head as far as the need is the same.
    pub fn admit(&mut self, together: impl FnOnce(usize, Line<'_, T>) -> usize) -> Option<(Resources, Vec<T>)> {
        let (need, _) = self.now.front().or(self.ahead.front())?;
        if !need.fits_in(&self.free) {
            return None;
        }
        let need = need.clone();
        let line = Line { need: &need, items: Some(self.now.iter().chain(&self.ahead)) };
        let size = together(self.side_by_side(&need), line).max(1);
        let mut items = Vec::with_capacity(size);
        while items.len() < size {
            let line = if self.now.is_empty() { &mut self.ahead } else { &mut self.now };
            let Some((_, work)) = line.pop_front() else { break };
            items.push(work);
        }
        self.free.sub(&need);
        Some((need, items))
    }

    /// How many of such a need fit into what is free.
    fn side_by_side(&self, need: &Resources) -> usize {
        let fit = need.iter().map(|(name, amount)| self.free.get(name) / amount).min();
        fit.map_or(usize::MAX, |fit| usize::try_from(fit).unwrap_or(usize::MAX))
    }

    /// Puts back at the head of its line what was admitted and not begun. Its room was another's.
    pub fn put_back(&mut self, need: Resources, ahead: bool, work: T) {
        if ahead { &mut self.ahead } else { &mut self.now }.push_front((need, work));
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
        std::iter::from_fn(|| slots.admit(|_, _| 1)).flat_map(|(_, names)| names).collect()
    }

    #[test]
    fn what_goes_together_takes_the_room_of_one_and_overtakes_nothing() {
        let mut slots = Slots::new(cpu(2000));
        for (need, ahead, name) in
            [(1000, true, "ahead"), (1000, false, "a"), (1000, false, "b"), (500, true, "other"), (1000, true, "last")]
        {
            slots.wait(cpu(need), ahead, name).unwrap();
        }
        let (need, together) = slots
            .admit(|fit, line| {
                assert_eq!(fit, 2);
                line.inspect(|name| assert_ne!(**name, "other", "it needs something else")).count()
            })
            .unwrap();
        assert_eq!((need, together), (cpu(1000), vec!["a", "b", "ahead"]));
        slots.put_back(cpu(1000), true, "ahead");
        slots.put_back(cpu(1000), false, "b");
        let (_, next) = slots.admit(|fit, _| fit).unwrap();
        assert_eq!(next, ["b"], "it has the room of the first no more");
        slots.release(&cpu(1000));
        assert_eq!(admitted(&mut slots), ["ahead"]);
        slots.release(&cpu(1000));
        assert_eq!(admitted(&mut slots), ["other"], "nothing overtakes");
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
        assert!(slots.admit(|_, _| 1).is_none());
    }
}
