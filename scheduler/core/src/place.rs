//! One round of placement: whose turn it is meets where there is room. See the README beside the crate.

use std::collections::BTreeSet;

use spool_proto::ids::{Fence, TaskId, WorkerName};
use spool_proto::resources::Resources;
use spool_proto::time::Timestamp;
use spool_proto::view::WorkerHealth;

use crate::engine::Engine;
use crate::io::{Effect, LeaseOrder, Record, ToWorker};
use crate::pools::{Over, Pools};
use crate::queue::{Head, Place};
use crate::rooms::Standing;
use crate::shapes::ShapeId;
use crate::workers::Worker;

impl Engine {
    /// Leases until nothing that may start finds room, or a place to lie ready, anywhere. Looks only at workers that changed in this
    /// turn, and at shapes that are not known to find no room.
    pub(crate) fn round(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let unquoted = self.unquoted();
        self.state.touched.extend(unquoted);
        let mut touched = BTreeSet::new();
        while let Some(name) = self.state.touched.pop_first() {
            self.look_at(now, &name, out);
            touched.insert(name);
        }
        if self.state.fleet != *self.rooms.capacity() {
            self.state.set_fleet(self.rooms.capacity().clone());
        }
        if !self.borrowing_is_off() {
            self.state.queue.let_borrow(&self.state.pools);
        }
        for opportunistic in [false, true] {
            if opportunistic && self.overload() >= 1 {
                break;
            }
            while self.state.queue.has_open(opportunistic, &self.state.closed) {
                self.state.queue.refresh(&self.state.pools);
                let Some(head) = self.state.queue.best(opportunistic, &self.state.closed) else { break };
                self.serve(now, head, out);
            }
        }
        self.opened.clear();
        for name in &touched {
            self.balance(name, out);
        }
        // What the round itself touched (nothing frees room in it) needs no other round.
        self.state.touched.clear();
    }

    /// A worker's room has changed: what lies ready there starts, reservations are honoured, and shapes that fit are open again.
    fn look_at(&mut self, now: Timestamp, name: &WorkerName, out: &mut Vec<Effect>) {
        if let Some(worker) = self.state.workers.get_mut(name) {
            worker.promote(&self.state.shapes);
        }
        self.honour(now, name, out);
        self.file(name);
        self.redeem(now, name, out);
        let mut looked_at = self.state.closed.clone();
        looked_at.extend(self.opened.iter().map(|(shape, _)| *shape));
        for shape in self.takes(name, looked_at.iter()) {
            self.state.closed.remove(shape);
            self.opened.push((shape, name.clone()));
        }
    }

    /// Shapes of which the worker can start one more, or have one more lie ready.
    fn takes(&self, name: &WorkerName, shapes: impl Iterator<Item = ShapeId>) -> Vec<ShapeId> {
        let Some(worker) = self.state.workers.get(name) else { return Vec::new() };
        let Some((free, ready)) = self.rooms.offer(name) else { return Vec::new() };
        if !ready && !self.state.shapes.least().fits_in(free) {
            return Vec::new();
        }
        let taken = shapes.filter(|shape| {
            let wanted = self.state.shapes.get(*shape);
            self.state.queue.waits(*shape)
                && worker.offers(&wanted.backend)
                && (wanted.resources.fits_in(free) || (ready && self.runs_alike(worker, *shape)))
        });
        taken.collect()
    }

    /// The worker has less room than it had: what was opened only for its sake is closed again.
    fn close_again(&mut self, name: &WorkerName) {
        let of_worker = self.opened.iter().filter(|(_, worker)| worker == name).map(|(shape, _)| *shape);
        let still = self.takes(name, of_worker);
        let mut opened = std::mem::take(&mut self.opened);
        let gone = |(shape, worker): &(ShapeId, WorkerName)| worker == name && !still.contains(shape);
        let closing: Vec<ShapeId> = opened.iter().filter(|entry| gone(entry)).map(|(shape, _)| *shape).collect();
        opened.retain(|entry| !gone(entry));
        for shape in closing {
            if !opened.iter().any(|(other, _)| *other == shape) {
                self.state.closed.insert(shape);
            }
        }
        self.opened = opened;
    }

    /// Brings the index of rooms up to date with a worker.
    pub(crate) fn file(&mut self, name: &WorkerName) {
        let worker = self.state.workers.get(name).filter(|worker| self.takes_leases(name, worker));
        let standing = worker.map(|worker| self.standing(name, worker));
        self.rooms.update(name, standing);
    }

    pub(crate) fn standing<'a>(&self, name: &WorkerName, worker: &'a Worker) -> Standing<'a> {
        let throttled = matches!(self.health(name), WorkerHealth::Throttled { .. });
        let full = throttled && !worker.held.is_empty();
        let free = if full { Resources::ZERO } else { self.reserved.free_beside(name, worker.free()) };
        let charged = worker.charged();
        let load = u64::from(worker.waiting).saturating_mul(1000) / u64::from(charged.max(1));
        let bounded =
            worker.waiting < self.config.prefetch_cap && charged > 0 && !throttled && !self.reserved.any_on(name);
        let ready = (bounded && self.wants_ready(worker, charged)).then_some(load);
        Standing { capacity: &worker.capacity, backends: &worker.backends, free, ready, load }
    }

    /// One should lie ready for each running task; more of short ones, as many as fill the target.
    fn wants_ready(&self, worker: &Worker, charged: u32) -> bool {
        if worker.waiting < charged {
            return true;
        }
        let target = self.config.prefetch_target;
        let ready = worker.lines.iter().fold(0_u64, |sum, (shape, line)| {
            let each = self.state.shapes.estimate(*shape).unwrap_or(target).0.max(1);
            sum.saturating_add(each.saturating_mul(u64::try_from(line.waiting.len()).unwrap_or(u64::MAX)))
        });
        ready < target.0.saturating_mul(u64::from(charged))
    }

    /// Something runs there that leaves room enough for one of the shape when it ends.
    fn runs_alike(&self, worker: &Worker, shape: ShapeId) -> bool {
        let need = &self.state.shapes.get(shape).resources;
        let mut running = worker.lines.iter().filter(|(_, line)| line.charged > 0);
        running.any(|(other, _)| *other == shape || need.fits_in(&self.state.shapes.get(*other).resources))
    }

    /// The best line's first task: leased if there is quota and room; else its line is parked, or its shape closed.
    fn serve(&mut self, now: Timestamp, head: Head, out: &mut Vec<Effect>) {
        if let Err(over) = self.admits(head.place) {
            return self.state.queue.park(&self.state.pools, head.line, over.pool);
        }
        if self.borrowing_is_off() && self.would_borrow(head.place) {
            return self.state.queue.hold_back(&self.state.pools, head.line);
        }
        if let Some(worker) = self.find_room(head.task, head.place.shape) {
            return self.lease(now, head, worker, false, out);
        }
        // Room is being made for the line: what lay ready somewhere else meanwhile would have to be fetched.
        let kept = self.reserved.count(&head.place) > 0;
        match self.find_ready(head.task, head.place.shape).filter(|_| !kept) {
            Some(worker) => self.lease(now, head, worker, true, out),
            None => self.state.closed.insert(head.place.shape),
        }
    }

    /// Whether there is quota for one more of the line.
    pub(crate) fn admits(&self, place: Place) -> Result<(), Over> {
        self.admits_in(&self.state.pools, place)
    }

    /// Whether there is, in a forecast.
    pub(crate) fn admits_in(&self, pools: &Pools, place: Place) -> Result<(), Over> {
        pools.admits_as(place.pool, self.state.shapes.need(place.shape), place.fixed)
    }

    /// Where the task would start best now.
    fn find_room(&self, task: TaskId, shape: ShapeId) -> Option<WorkerName> {
        self.rooms.choose(self.state.shapes.get(shape), self.state.shapes.warm_key(shape), self.avoided(task))
    }

    /// Where it would lie ready best.
    fn find_ready(&self, task: TaskId, shape: ShapeId) -> Option<WorkerName> {
        let alike = |name: &_| self.state.workers.get(name).is_some_and(|worker| self.runs_alike(worker, shape));
        let ready = |avoid| self.rooms.choose_ready(self.state.shapes.get(shape), avoid, alike);
        ready(self.avoided(task)).or_else(|| ready(&[]))
    }

    /// Where it has just failed.
    pub(crate) fn avoided(&self, task: TaskId) -> &[WorkerName] {
        let failed_on = self.state.task(task).and_then(|task| task.failed_on());
        failed_on.map(std::slice::from_ref).unwrap_or_default()
    }

    pub(crate) fn takes_leases(&self, name: &WorkerName, worker: &Worker) -> bool {
        self.is_available(name, worker) && !self.is_quarantined(name)
    }

    /// It would take leases, were it not for its health.
    pub(crate) fn is_available(&self, name: &WorkerName, worker: &Worker) -> bool {
        worker.connected && !worker.silent && !worker.leaving && !self.state.cordons.contains_key(name)
    }

    pub(crate) fn lease(
        &mut self,
        now: Timestamp,
        head: Head,
        name: WorkerName,
        prefetched: bool,
        out: &mut Vec<Effect>,
    ) {
        let task = head.task;
        let fence = Fence(self.state.next_fence);
        self.record(Record::Leased { task, fence, worker: name.clone(), at: now }, out);
        if !prefetched {
            let worker = self.state.workers.get_mut(&name).expect("it was chosen");
            worker.charge(task, &self.state.shapes);
            debug_assert!(worker.allocated.fits_in(&worker.capacity));
        }
        self.file(&name);
        self.close_again(&name);
        if let Some(line) = self.state.queue.get_mut(head.line) {
            (line.short_since, line.stuck_since) = (None, None);
        }
        let order = self.order(task, fence, prefetched);
        let job = &self.state.jobs[&task.job];
        self.tally.leased(now, head.place.pool, job.waiting_since().map_or(now, |since| since.min(now)));
        self.send(&name, ToWorker::Lease(order), out);
        self.changed(task.job);
    }

    /// What the worker is told of a lease.
    pub(crate) fn order(&self, task: TaskId, fence: Fence, prefetched: bool) -> LeaseOrder {
        let job = &self.state.jobs[&task.job];
        let run = job.run_of(task.index).expect("it is leased");
        LeaseOrder {
            task,
            fence,
            attempt: job.task(task.index).map_or(1, crate::task::Task::attempt),
            prefetched,
            shape: self.state.shapes.get(run.shape).clone(),
            payload: run.payload.clone(),
            traceparent: job.new.traceparent.clone(),
            deadline: job.new.deadline,
            estimate: self.state.shapes.estimate(run.shape),
        }
    }

    /// A worker that is left with room, while tasks it could run lie ready behind others elsewhere, takes them over: the tail of a
    /// job is spread. Only where the wait is worth the messages.
    fn balance(&mut self, taker: &WorkerName, out: &mut Vec<Effect>) {
        if *self.health(taker) != WorkerHealth::Healthy {
            return;
        }
        while let Some((donor, task, shape)) = self.find_waiting(taker) {
            let held = self.state.workers.get_mut(&donor).and_then(|worker| worker.held.get_mut(&task));
            held.expect("just found").taker = Some(taker.clone());
            let worker = self.state.workers.get_mut(taker).expect("it has room");
            worker.expecting.insert(task, shape);
            self.revoke(&donor, task, crate::revoke::RETRACTED, out);
        }
    }

    /// A task that waits elsewhere and fits into what `taker` has left, from the worker that has most of them per running one.
    fn find_waiting(&self, taker: &WorkerName) -> Option<(WorkerName, TaskId, ShapeId)> {
        let mut free: Resources = self.rooms.free(taker)?.clone();
        let worker = self.state.workers.get(taker)?;
        for shape in worker.expecting.values() {
            let need = &self.state.shapes.get(*shape).resources;
            if !need.fits_in(&free) {
                return None;
            }
            free.sub(need);
        }
        if !self.state.shapes.least().fits_in(&free) {
            return None;
        }
        self.rooms.loaded().filter(|name| *name != taker).find_map(|name| {
            let donor = &self.state.workers[name];
            donor.lines.iter().find_map(|(shape, line)| {
                let wanted = self.state.shapes.get(*shape);
                if line.waiting.is_empty() || !wanted.resources.fits_in(&free) || !worker.offers(&wanted.backend) {
                    return None;
                }
                let ready = u64::try_from(line.waiting.len()).expect("a line is bounded");
                let running = u64::from(donor.charged().max(1));
                let wait = self.state.shapes.estimate(*shape).map(|run| run.saturating_mul(ready).0 / running);
                if wait.is_some_and(|wait| wait < self.config.prefetch_target.0 / 4) {
                    return None;
                }
                let takeable = |task: &&TaskId| {
                    let known = self.state.task(**task);
                    let twice = known.is_some_and(|task| task.copy().is_some());
                    donor.held[task].revoked.is_none() && !twice && known.and_then(|t| t.failed_on()) != Some(taker)
                };
                let task = line.waiting.values().rev().find(takeable)?;
                Some((name.clone(), *task, *shape))
            })
        })
    }
}
