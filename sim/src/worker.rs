//! A simulated worker: takes what it is given in the order of the real one, without the work.

mod executors;

use std::collections::VecDeque;

use spool_core::io::{Advance, Blob, HeldLease, Incarnation, Report, Start, ToWorker, WarmKey};
use spool_core::revoke;
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{Fence, TaskId, WorkerName};
use spool_proto::resources::Resources;
use spool_proto::time::{Span, Timestamp};

use crate::kinds::Amounts;
use crate::load::Fate;
use crate::num::{float, whole};
pub(crate) use executors::Executors;

/// Frames of every chunk: what progress counts.
const FRAMES: u64 = 240;

#[derive(Debug)]
pub(crate) struct Worker {
    pub name: WorkerName,
    pub incarnation: Incarnation,
    pub alive: bool,
    pub leaving: bool,
    pub rack: Option<String>,
    pub speed: f64,
    pub offers: (Resources, Vec<String>),
    pub capacity: Amounts,
    free: Amounts,
    /// What the server sent to run now, and what it sent ahead.
    now: VecDeque<Call>,
    ahead: VecDeque<Call>,
    running: Vec<Call>,
    pub executors: Executors,
    /// While it is a black hole: every call fails after this.
    pub fails_after: Option<Span>,
    /// On their way to it, in order.
    pub mail: VecDeque<ToWorker>,
    pub last_word: Timestamp,
}

#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub task: TaskId,
    pub fence: Fence,
    /// Of the simulation's own jobs.
    pub job: usize,
    pub need: Amounts,
    pub key: usize,
    pub fate: Fate,
    admitted: Timestamp,
    cold: bool,
    started: Option<Timestamp>,
    /// How long this attempt takes here.
    lasts: Span,
    stopping: bool,
}

impl Call {
    pub fn new(task: TaskId, fence: Fence, job: usize, need: Amounts, key: usize, fate: Fate) -> Call {
        Call {
            task,
            fence,
            job,
            need,
            key,
            fate,
            admitted: Timestamp::ZERO,
            cold: false,
            started: None,
            lasts: Span::ZERO,
            stopping: false,
        }
    }
}

/// What an event at a worker leads to.
#[derive(Debug)]
pub(crate) enum Act {
    Say(TaskId, Fence, Report),
    /// A call has its room from now on.
    Admitted {
        job: usize,
        fence: Fence,
    },
    Started {
        job: usize,
        task: TaskId,
        waited: Span,
        cold: bool,
    },
    /// A call has given its room back. `ran`: since it had it.
    Released {
        job: usize,
        ran: Span,
        finished: bool,
    },
    After(Span, Due),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    Start(Fence),
    End(Fence),
    Killed(Fence),
    WarmedUp(usize),
    SelfTested,
}

/// What every worker costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Costs {
    pub cold: Span,
    pub warm: Span,
    pub kill: Span,
    pub idle: Span,
    pub self_test: Span,
}

impl Worker {
    pub fn new(
        name: WorkerName,
        offers: (Resources, Vec<String>),
        capacity: Amounts,
        speed: f64,
        keys: usize,
    ) -> Worker {
        Worker {
            name,
            incarnation: Incarnation(0),
            alive: false,
            leaving: false,
            rack: None,
            speed,
            offers,
            capacity,
            free: capacity,
            now: VecDeque::new(),
            ahead: VecDeque::new(),
            running: Vec::new(),
            executors: Executors::new(keys),
            fails_after: None,
            mail: VecDeque::new(),
            last_word: Timestamp::ZERO,
        }
    }

    /// A fresh process.
    pub fn start(&mut self) {
        self.incarnation = Incarnation(self.incarnation.0 + 1);
        (self.alive, self.leaving, self.free) = (true, false, self.capacity);
    }

    /// All it held is gone without a word.
    pub fn die(&mut self, now: Timestamp, acts: &mut Vec<Act>) {
        self.alive = false;
        self.mail.clear();
        self.now.clear();
        self.ahead.clear();
        self.executors.clear();
        acts.extend(self.running.drain(..).map(|call| released(&call, now, false)));
    }

    pub fn is_empty(&self) -> bool {
        self.running.is_empty() && self.now.is_empty() && self.ahead.is_empty()
    }

    /// Held but not running, running.
    #[cfg(test)]
    fn holds(&self) -> (usize, usize) {
        (self.now.len() + self.ahead.len(), self.running.len())
    }

    pub fn lease(&mut self, now: Timestamp, call: Call, ahead: bool, costs: &Costs, acts: &mut Vec<Act>) {
        if ahead { &mut self.ahead } else { &mut self.now }.push_back(call);
        self.admit(now, costs, acts);
    }

    pub fn revoke(
        &mut self,
        now: Timestamp,
        (task, fence): (TaskId, Fence),
        reason: &'static str,
        costs: &Costs,
        acts: &mut Vec<Act>,
    ) {
        let held = self.now.len() + self.ahead.len();
        self.now.retain(|call| call.fence != fence);
        self.ahead.retain(|call| call.fence != fence);
        if self.now.len() + self.ahead.len() < held {
            acts.push(Act::Say(task, fence, Report::Returned { reason: reason.into() }));
            // The next in line may fit where this one did not.
            return self.admit(now, costs, acts);
        }
        let running = self.running.iter_mut().find(|call| call.fence == fence && !call.stopping);
        if let Some(call) = running.filter(|_| reason != revoke::RETRACTED) {
            call.stopping = true;
            acts.push(Act::After(costs.kill, Due::Killed(fence)));
        }
    }

    /// Drops what it should not hold. After a fresh start there is nothing.
    pub fn forget(&mut self, held: &[HeldLease]) {
        for line in [&mut self.ahead, &mut self.now] {
            line.retain(|call| held.iter().all(|lease| lease.fence != call.fence));
        }
    }

    /// Starts the next in line for as long as the first of them fits: orders to run now before those sent ahead.
    fn admit(&mut self, now: Timestamp, costs: &Costs, acts: &mut Vec<Act>) {
        loop {
            let line = if self.now.is_empty() { &mut self.ahead } else { &mut self.now };
            if !line.front().is_some_and(|call| call.need.fits_in(&self.free)) {
                return;
            }
            let Some(mut call) = line.pop_front() else { return };
            self.free.sub(&call.need, 1);
            call.admitted = now;
            call.cold = !self.executors.take(call.key);
            acts.push(Act::Admitted { job: call.job, fence: call.fence });
            acts.push(Act::After(if call.cold { costs.cold } else { costs.warm }, Due::Start(call.fence)));
            self.running.push(call);
        }
    }

    /// Something it waited for has come.
    pub fn due(&mut self, now: Timestamp, due: Due, costs: &Costs, acts: &mut Vec<Act>) {
        match due {
            Due::Start(fence) => self.begin(now, fence, acts),
            Due::End(fence) => self.end(now, fence, costs, acts),
            Due::Killed(fence) => {
                if let Some(call) = self.take(fence) {
                    // The executor went with the call.
                    self.executors.lose(call.key);
                    acts.push(released(&call, now, false));
                    let reason = "stopped".into();
                    acts.push(Act::Say(call.task, fence, Report::Returned { reason }));
                    self.admit(now, costs, acts);
                }
            }
            Due::WarmedUp(key) => self.executors.warmed_up(key, now),
            Due::SelfTested => {}
        }
    }

    fn begin(&mut self, now: Timestamp, fence: Fence, acts: &mut Vec<Act>) {
        let (speed, hole) = (self.speed, self.fails_after);
        let Some(call) = self.running.iter_mut().find(|call| call.fence == fence) else { return };
        call.started = Some(now);
        let waited = now.since(call.admitted);
        let start = if call.cold { Start::Cold { took: waited } } else { Start::Warm };
        acts.push(Act::Started { job: call.job, task: call.task, waited, cold: call.cold });
        acts.push(Act::Say(call.task, fence, Report::Started { at: now, start }));
        let run = Span(whole(float(call.fate.run.0) / speed).max(1));
        call.fate.fails_after = hole.or(call.fate.fails_after);
        call.lasts = call.fate.fails_after.map_or(run, |fails| fails.min(run));
        acts.push(Act::After(call.lasts, Due::End(fence)));
    }

    fn end(&mut self, now: Timestamp, fence: Fence, costs: &Costs, acts: &mut Vec<Act>) {
        let Some(call) = self.take(fence) else { return };
        let (key, started) = (call.key, call.started.unwrap_or(now));
        self.executors.give(key, now);
        let failed = call.fate.fails_after.is_some();
        acts.push(released(&call, now, !failed));
        let report = if failed {
            Report::Failed { failure: Failure::new(Class::Internal, "simulated", "it fails, as the scenario says") }
        } else {
            let advance = Advance { frames: FRAMES, bytes: FRAMES, out_time: Span::from_secs(10) };
            Report::Finished { started, finished: now, answer: Blob::from(&b"{}"[..]), advance }
        };
        acts.push(Act::Say(call.task, fence, report));
        self.admit(now, costs, acts);
    }

    fn take(&mut self, fence: Fence) -> Option<Call> {
        let at = self.running.iter().position(|call| call.fence == fence)?;
        let call = self.running.swap_remove(at);
        self.free.add(&call.need, 1);
        Some(call)
    }

    /// How far everything is that runs.
    pub fn progress(&self, now: Timestamp, acts: &mut Vec<Act>) {
        for call in &self.running {
            let Some(started) = call.started else { continue };
            let frames = FRAMES * now.since(started).0 / call.lasts.0.max(1);
            let advance = Advance { frames, bytes: frames, out_time: Span(frames * 41_667) };
            acts.push(Act::Say(call.task, call.fence, Report::Advanced(advance)));
        }
    }

    /// Idle executors by key, as the server wants to hear it.
    pub fn idle(&self, keys: &[WarmKey]) -> Vec<(WarmKey, u32)> {
        let counted = keys.iter().enumerate().map(|(key, name)| (name.clone(), self.executors.idle(key)));
        counted.filter(|(_, idle)| *idle > 0).collect()
    }
}

fn released(call: &Call, now: Timestamp, finished: bool) -> Act {
    Act::Released { job: call.job, ran: now.since(call.admitted), finished }
}

#[cfg(test)]
mod tests;
