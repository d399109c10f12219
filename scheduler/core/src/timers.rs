//! What time alone brings about: back-offs end, silent workers lose their leases.
//!
//! A worker's alarm is set once and looked at when it rings: if the worker spoke meanwhile it is only set anew, so that messages
//! cost nothing.

use spool_proto::ids::WorkerName;
use spool_proto::time::Timestamp;

use crate::engine::Engine;
use crate::io::{Effect, Incarnation};

impl Engine {
    pub(crate) fn tick(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        while let Some(&(at, task)) = self.state.backoff.first().filter(|(at, _)| *at <= now) {
            self.state.backoff.remove(&(at, task));
            self.state.enqueue(task);
            self.changed(task.job);
        }
        while let Some(&(at, job, alarm)) = self.job_alarms.first().filter(|(at, ..)| *at <= now) {
            self.job_alarms.remove(&(at, job, alarm));
            self.ring_job(now, job, alarm, out);
        }
        while self.alarms.first().is_some_and(|(at, _)| *at <= now) {
            let (_, name) = self.alarms.pop_first().expect("just seen");
            self.ring(now, &name, out);
        }
        self.ring_watchdog(now, out);
        self.look_for_the_short(now, out);
    }

    /// Sets the worker's alarm. It rings once.
    pub(crate) fn arm(&mut self, name: &WorkerName, at: Timestamp) {
        let Some(worker) = self.state.workers.get_mut(name) else { return };
        if let Some(old) = worker.alarm.replace(at) {
            self.alarms.remove(&(old, name.clone()));
        }
        self.alarms.insert((at, name.clone()));
    }

    fn ring(&mut self, now: Timestamp, name: &WorkerName, out: &mut Vec<Effect>) {
        let Some(worker) = self.state.workers.get_mut(name) else { return };
        worker.alarm = None;
        let expires = worker.last_heard + self.config.lease;
        if expires > now {
            return self.arm(name, expires);
        }
        worker.silent = true;
        self.state.touched.insert(name.clone());
        self.warm_stale = true;
        let worker = self.state.workers.get(name).expect("just found");
        let silence_s = now.since(worker.last_heard).as_millis() / 1000;
        let leases: Vec<_> = worker.held.iter().map(|(task, held)| (*task, held.fence, held.charged)).collect();
        for (task, fence, charged) in leases {
            let reason = format!("nothing was heard of worker {name} for {silence_s} s");
            self.let_go(now, task, fence, reason, charged, out);
        }
        let worker = self.state.workers.get(name).expect("nobody removed it");
        let forget = worker.last_heard + self.config.keep_silent_workers;
        if forget > now {
            self.arm(name, forget);
        } else if !worker.connected && !self.state.cordons.contains_key(name) {
            self.forget_conduct(now, name, out);
            self.state.workers.remove(name);
            self.rooms.update(name, None);
            self.state.touched.remove(name);
        }
    }

    /// A word from a worker's process; false if it is not the one that counts.
    pub(crate) fn heard(&mut self, now: Timestamp, name: &WorkerName, incarnation: Incarnation) -> bool {
        let Some(worker) = self.state.workers.get_mut(name) else { return false };
        if worker.incarnation != Some(incarnation) || !worker.connected {
            return false;
        }
        worker.last_heard = worker.last_heard.max(now);
        if worker.silent {
            worker.silent = false;
            self.state.touched.insert(name.clone());
            self.arm(name, now + self.config.lease);
        }
        true
    }
}
