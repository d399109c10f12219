//! What goes wrong, and when.

use spool_proto::time::Timestamp;

use super::{Event, World};
use crate::num::{index, millis, seconds};

impl World<'_> {
    pub(super) fn schedule_faults(&mut self) {
        let (faults, time) = (&self.scenario.faults, |s: f64| Timestamp::ZERO + seconds(s));
        for (number, loss) in faults.rack_loss.iter().enumerate() {
            self.at(time(loss.at_s), Event::RackFails(number));
            self.at(time(loss.at_s + loss.for_s), Event::RackReturns(number));
        }
        for (number, hole) in faults.black_hole.iter().enumerate() {
            self.at(time(hole.at_s), Event::HoleOpens(number));
            self.at(time(hole.at_s + hole.for_s), Event::HoleCloses(number));
        }
        for (number, edit) in self.scenario.edits.iter().enumerate() {
            self.at(time(edit.at_s), Event::Edit(number));
        }
    }

    fn in_rack(&self, loss: usize) -> Vec<usize> {
        let rack = Some(&self.scenario.faults.rack_loss[loss].rack);
        (0..self.workers.len()).filter(|worker| self.workers[*worker].rack.as_ref() == rack).collect()
    }

    /// Silently: nobody tells the engine.
    pub(super) fn rack_fails(&mut self, loss: usize) {
        for worker in self.in_rack(loss) {
            if self.workers[worker].alive {
                let amounts = self.workers[worker].capacity;
                self.workers[worker].die(self.now, &mut self.acts);
                self.act(worker);
                self.ledger.fleet_changes(&amounts, false);
            }
        }
    }

    pub(super) fn rack_returns(&mut self, loss: usize) {
        for worker in self.in_rack(loss) {
            self.come(worker);
        }
    }

    pub(super) fn hole(&mut self, number: usize, open: bool) {
        let hole = &self.scenario.faults.black_hole[number];
        let class = self.scenario.fleet.iter().position(|class| class.name == hole.class);
        let Some((first, end)) = class.and_then(|class| self.classes.get(class)).copied() else { return };
        let last = end.min(first + index(u64::from(hole.workers)));
        for worker in &mut self.workers[first..last] {
            worker.fails_after = open.then(|| millis(hole.fails_after_ms));
        }
    }
}
