//! Workers come, go, are taken over, cordoned and drained.

use std::collections::BTreeMap;

use spool_proto::ids::{TaskId, WorkerName};
use spool_proto::resources::Resources;
use spool_proto::time::Timestamp;

use crate::engine::Engine;
use crate::io::{Effect, HeldLease, Incarnation, Record, Refusal, Reply, ToWorker, Token};
use crate::revoke;

impl Engine {
    /// The newest process of a name counts. What it says it holds is compared with what the engine thinks it holds: both → adopted;
    /// only the engine → back to the queue; only the worker → to be forgotten.
    pub(crate) fn register(
        &mut self,
        now: Timestamp,
        name: WorkerName,
        incarnation: Incarnation,
        offer: (Resources, Vec<String>),
        said: Vec<HeldLease>,
        out: &mut Vec<Effect>,
    ) {
        let worker = self.state.workers.or_default(&name);
        if worker.incarnation.is_some_and(|known| known > incarnation) {
            let message = ToWorker::Replaced;
            return out.push(Effect::Send { worker: name, incarnation, message });
        }
        let same_process = worker.incarnation.is_none_or(|known| known == incarnation);
        let replaced = worker.incarnation.filter(|known| worker.connected && *known < incarnation);
        if !same_process {
            worker.leaving = false;
        }
        worker.incarnation = Some(incarnation);
        (worker.connected, worker.silent, worker.last_heard) = (true, false, now);
        (worker.capacity, worker.backends) = offer;
        worker.expecting.clear();
        worker.warm_targets.clear();
        let warm = std::mem::take(&mut worker.warm);
        self.rooms.set_warm(&name, &warm, &BTreeMap::new());
        self.warm_stale = true;
        self.state.touched.insert(name.clone());
        self.arm(&name, now + self.config.lease);
        if let Some(incarnation) = replaced {
            out.push(Effect::Send { worker: name.clone(), incarnation, message: ToWorker::Replaced });
        }
        self.compare(now, &name, said, same_process, out);
        self.health_at_register(now, &name, same_process, out);
        let drain = self.state.cordons.get(&name).filter(|cordon| cordon.drain && same_process);
        if let Some(reason) = drain.map(|cordon| cordon.reason.clone()) {
            self.send(&name, ToWorker::Drain { reason }, out);
        }
    }

    fn compare(
        &mut self,
        now: Timestamp,
        name: &WorkerName,
        said: Vec<HeldLease>,
        same_process: bool,
        out: &mut Vec<Effect>,
    ) {
        let worker = self.state.workers.get(name).expect("just registered");
        let (adopted, forget): (Vec<_>, Vec<_>) = said
            .into_iter()
            .partition(|lease| worker.held.get(&lease.task).is_some_and(|held| held.fence == lease.fence));
        let adopted: BTreeMap<TaskId, bool> = adopted.into_iter().map(|lease| (lease.task, lease.running)).collect();
        // A lease that never reached the worker says nothing about the task; one that was under way when its process died does.
        let vanished: Vec<_> = (worker.held.iter())
            .filter(|(task, _)| !adopted.contains_key(task))
            .map(|(task, held)| (*task, held.fence, held.started.is_some() || (held.charged && !same_process)))
            .collect();
        self.send(name, ToWorker::Welcome { forget }, out);
        for (task, fence, lost) in vanished {
            let reason = format!("worker {name} came back without it");
            self.let_go(now, task, fence, reason, lost, out);
        }
        for (task, running) in adopted {
            let worker = self.state.workers.get(name).expect("just registered");
            // Gone already if its job ended over one that vanished.
            if !worker.held.contains_key(&task) {
                continue;
            }
            if running {
                self.task_started(now, name, task, now);
            }
            let job = &self.state.jobs[&task.job];
            let ending = crate::state::is_ending(&job.life) || job.reaction.cancelling.contains(&task.index);
            let worker = self.state.workers.get(name).expect("just registered");
            let revoked = worker.held.get(&task).and_then(|held| held.revoked);
            if let Some(reason) = revoked.or(ending.then_some(revoke::CANCELLED)) {
                self.revoke(name, task, reason, out);
            }
            self.changed(task.job);
        }
    }

    pub(crate) fn disconnected(&mut self, name: &WorkerName, incarnation: Incarnation) {
        let Some(worker) = self.state.workers.get_mut(name) else { return };
        if worker.incarnation == Some(incarnation) {
            worker.connected = false;
            worker.expecting.clear();
            self.state.touched.insert(name.clone());
            self.warm_stale = true;
        }
    }

    pub(crate) fn leaving(
        &mut self,
        now: Timestamp,
        name: &WorkerName,
        incarnation: Incarnation,
        out: &mut Vec<Effect>,
    ) {
        if !self.heard(now, name, incarnation) {
            return;
        }
        self.state.workers.get_mut(name).expect("just heard").leaving = true;
        self.warm_stale = true;
        self.state.touched.insert(name.clone());
        self.take_waiting_back(name, out);
    }

    pub(crate) fn cordon(
        &mut self,
        now: Timestamp,
        token: Token,
        worker: WorkerName,
        (cordoned, drain, reason): (bool, bool, String),
        out: &mut Vec<Effect>,
    ) {
        let known = self.state.cordons.get(&worker);
        if known.is_none() && !self.state.workers.contains_key(&worker) {
            return Self::refuse(token, Refusal::NoSuchWorker(worker), out);
        }
        let changes = match known {
            Some(known) => !cordoned || known.drain != drain || known.reason != reason,
            None => cordoned,
        };
        if changes {
            let record = Record::Cordoned { worker: worker.clone(), cordoned, drain, reason: reason.clone(), at: now };
            self.record(record, out);
        }
        if cordoned && drain {
            self.take_waiting_back(&worker, out);
            self.send(&worker, ToWorker::Drain { reason }, out);
        }
        if self.state.workers.contains_key(&worker) {
            self.state.touched.insert(worker);
            self.warm_stale = true;
        }
        Self::reply(token, Reply::Ok, out);
    }

    /// Retracts everything that only lies ready there.
    pub(crate) fn take_waiting_back(&mut self, name: &WorkerName, out: &mut Vec<Effect>) {
        let Some(worker) = self.state.workers.get(name) else { return };
        let waiting = worker.held.iter().filter(|(_, held)| !held.charged && held.revoked.is_none());
        for task in waiting.map(|(task, _)| *task).collect::<Vec<_>>() {
            self.revoke(name, task, revoke::RETRACTED, out);
        }
    }
}
