//! One round of placement: heads of lines meet workers. See the README beside the crate.

use std::collections::BTreeSet;

use spool_proto::ids::{TaskId, WorkerName};
use spool_proto::resources::Resources;
use spool_proto::time::Timestamp;

use crate::engine::Engine;
use crate::io::{Effect, LeaseOrder, Record, Shape, ToWorker};
use crate::queue::Head;
use crate::shapes::ShapeId;
use crate::workers::Worker;

/// Lower wins. The order of the fields is the policy.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Score<'a> {
    /// The task has just failed there.
    failed_here: bool,
    /// No room now: it would lie ready behind what runs.
    prefetched: bool,
    /// Room: what it would leave unused, summed over resources in thousandths of the capacity (best fit).
    /// Prefetch: tasks lying ready per thousand running.
    waste: u64,
    worker: &'a WorkerName,
}

impl Engine {
    /// Leases until no waiting task finds room or a place in line anywhere. Looks only at workers that changed in this turn, and at
    /// all of them for shapes of which something new came.
    pub(crate) fn round(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let touched = std::mem::take(&mut self.state.touched);
        for name in &touched {
            if let Some(worker) = self.state.workers.get_mut(name) {
                worker.promote(&self.state.shapes);
            }
        }
        let mut after = None;
        while let Some(head) = self.state.queue.next_head(after) {
            if touched.is_empty() && !head.open {
                after = Some(head.at);
                continue;
            }
            match self.choose(&head, &touched) {
                Some((worker, prefetched)) => self.lease(now, &head, worker, prefetched, out),
                None => {
                    self.state.queue.close(head.at.1);
                    after = Some(head.at);
                }
            }
        }
        for name in &touched {
            self.balance(name, out);
        }
        // What the round itself touched (nothing frees room in it) needs no other round.
        self.state.touched.clear();
    }

    fn choose(&self, head: &Head, touched: &BTreeSet<WorkerName>) -> Option<(WorkerName, bool)> {
        let (shape, workers) = (head.at.1, &self.state.workers);
        let failed_on = self.state.task(head.task).and_then(|task| task.failed_on());
        let best = if head.open {
            workers.iter().filter_map(|(name, worker)| self.score(name, worker, shape, failed_on)).min()
        } else {
            let known = touched.iter().filter_map(|name| workers.get_key_value(name));
            known.filter_map(|(name, worker)| self.score(name, worker, shape, failed_on)).min()
        };
        best.map(|score| (score.worker.clone(), score.prefetched))
    }

    fn score<'a>(
        &self,
        name: &'a WorkerName,
        worker: &Worker,
        id: ShapeId,
        failed_on: Option<&WorkerName>,
    ) -> Option<Score<'a>> {
        let shape = self.state.shapes.get(id);
        if !self.takes_leases(name, worker) || !worker.offers(&shape.backend) {
            return None;
        }
        let failed_here = failed_on == Some(name);
        let free = worker.free();
        if shape.resources.fits_in(&free) {
            let waste = waste(&shape.resources, &free, &worker.capacity);
            return Some(Score { failed_here, prefetched: false, waste, worker: name });
        }
        let line = worker.lines.get(&id).filter(|line| line.charged > 0)?;
        let running = u64::from(line.charged);
        let ready = u64::try_from(line.waiting.len()).expect("a line is bounded");
        if worker.waiting >= self.config.prefetch_cap || ready >= running.saturating_mul(self.depth(id)) {
            return None;
        }
        Some(Score { failed_here, prefetched: true, waste: ready.saturating_mul(1000) / running, worker: name })
    }

    /// Tasks that should lie ready for each running one: one of those that run long, more of short ones.
    fn depth(&self, shape: ShapeId) -> u64 {
        match self.state.shapes.estimate(shape) {
            Some(run) => (self.config.prefetch_target.0 / run.0.max(1)).max(1),
            None => 1,
        }
    }

    pub(crate) fn takes_leases(&self, name: &WorkerName, worker: &Worker) -> bool {
        worker.connected && !worker.silent && !worker.leaving && !self.state.cordons.contains_key(name)
    }

    fn lease(&mut self, now: Timestamp, head: &Head, name: WorkerName, prefetched: bool, out: &mut Vec<Effect>) {
        let task = head.task;
        let fence = spool_proto::ids::Fence(self.state.next_fence);
        self.record(Record::Leased { task, fence, worker: name.clone(), at: now }, out);
        if !prefetched {
            let worker = self.state.workers.get_mut(&name).expect("it was chosen");
            worker.charge(task, &self.state.shapes);
            debug_assert!(worker.allocated.fits_in(&worker.capacity));
        }
        let job = &self.state.jobs[&task.job];
        let run = job.run_of(task.index).expect("it was queued");
        let order = LeaseOrder {
            task,
            fence,
            attempt: job.task(task.index).map_or(1, crate::task::Task::attempt),
            prefetched,
            shape: self.state.shapes.get(run.shape).clone(),
            payload: run.payload.clone(),
            traceparent: job.traceparent.clone(),
            deadline: job.new.deadline,
            estimate: self.state.shapes.estimate(run.shape),
        };
        self.send(&name, ToWorker::Lease(order), out);
        self.changed(task.job);
    }

    /// A worker that is left with room, while tasks it could run lie ready behind others elsewhere, takes them over: the tail of a
    /// job is spread. Only where the wait is worth the messages.
    fn balance(&mut self, taker: &WorkerName, out: &mut Vec<Effect>) {
        while let Some((donor, task, shape)) = self.find_waiting(taker) {
            let held = self.state.workers.get_mut(&donor).and_then(|worker| worker.held.get_mut(&task));
            held.expect("just found").taker = Some(taker.clone());
            let worker = self.state.workers.get_mut(taker).expect("it has room");
            worker.expecting.insert(task, shape);
            self.revoke(&donor, task, crate::revoke::RETRACTED, out);
        }
    }

    /// Workers that can be asked to give something back.
    fn donors(&self) -> impl Iterator<Item = (&WorkerName, &Worker)> {
        self.state.workers.iter().filter(|(_, worker)| worker.waiting > 0 && worker.connected && !worker.silent)
    }

    /// A task that waits elsewhere and fits into what `taker` has left, from the worker that has most of them per running one.
    fn find_waiting(&self, taker: &WorkerName) -> Option<(WorkerName, TaskId, ShapeId)> {
        let worker = self.state.workers.get(taker).filter(|worker| self.takes_leases(taker, worker))?;
        let mut free = worker.free();
        for shape in worker.expecting.values() {
            let need = &self.state.shapes.get(*shape).resources;
            if !need.fits_in(&free) {
                return None;
            }
            free.sub(need);
        }
        let fits = |shape: &Shape| shape.resources.fits_in(&free) && worker.offers(&shape.backend);
        let mut best: Option<(u64, &WorkerName, TaskId, ShapeId)> = None;
        for (name, donor) in self.donors().filter(|(name, _)| *name != taker) {
            for (shape, line) in &donor.lines {
                let running = u64::from(line.charged.max(1));
                let ready = u64::try_from(line.waiting.len()).expect("a line is bounded");
                let load = ready.saturating_mul(1000) / running;
                if ready == 0 || best.as_ref().is_some_and(|(most, ..)| *most >= load) {
                    continue;
                }
                let wait = self.state.shapes.estimate(*shape).map(|run| run.saturating_mul(ready).0 / running);
                if wait.is_some_and(|wait| wait < self.config.prefetch_target.0 / 4)
                    || !fits(self.state.shapes.get(*shape))
                {
                    continue;
                }
                let takeable = |task: &&TaskId| {
                    donor.held[task].revoked.is_none()
                        && self.state.task(**task).and_then(|t| t.failed_on()) != Some(taker)
                };
                if let Some(task) = line.waiting.values().rev().find(takeable) {
                    best = Some((load, name, *task, *shape));
                }
            }
        }
        best.map(|(_, donor, task, shape)| (donor.clone(), task, shape))
    }
}

/// What the task would leave of the free room, in thousandths of each capacity, summed.
fn waste(need: &Resources, free: &Resources, capacity: &Resources) -> u64 {
    let left = |(name, total): (&str, u64)| {
        let left = free.get(name).saturating_sub(need.get(name));
        u64::try_from(u128::from(left) * 1000 / u128::from(total)).unwrap_or(u64::MAX)
    };
    capacity.iter().map(left).fold(0, u64::saturating_add)
}
