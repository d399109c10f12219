//! A simulated worker: what the real one does with leases, without the work.

use spool_core::io::{Advance, Blob, HeldLease, Incarnation, Input, LeaseOrder, Report, Start, ToWorker};
use spool_core::revoke;
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{Fence, TaskId, WorkerName};
use spool_proto::resources::Resources;
use spool_proto::time::{Span, Timestamp};

use crate::rng::Rng;

/// A function that always fails.
pub const POISON: &str = "poison";

pub struct Worker {
    pub name: WorkerName,
    pub incarnation: Incarnation,
    pub alive: bool,
    /// Connection it speaks through.
    pub link: Option<usize>,
    pub capacity: Resources,
    pub backends: Vec<String>,
    /// In the order received.
    pub held: Vec<Call>,
    pub draining: bool,
    /// Starts only the first in line, or whatever fits.
    pub strict: bool,
    pub last_word: Timestamp,
    pub ailment: Ailment,
}

/// What is wrong with a worker, until calm.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ailment {
    None,
    /// Whatever it starts fails at once: a black hole.
    Fails,
    /// Whatever it starts takes much longer than elsewhere.
    Slow,
}

pub struct Call {
    pub task: TaskId,
    pub fence: Fence,
    pub need: Resources,
    /// It fails wherever it goes.
    pub poisonous: bool,
    pub started: Option<Timestamp>,
}

/// What a worker wants of the world after an event.
pub enum Want {
    Report(TaskId, Fence, Report),
    /// The call ends after this time.
    Run(TaskId, Fence, Span),
    SelfTested(Option<Failure>),
    /// The process ends.
    Exit,
}

/// How calls turn out.
#[derive(Clone, Copy)]
pub struct Luck {
    pub fail_percent: u64,
    pub fatal_percent: u64,
    /// Milliseconds; a call takes up to this long.
    pub longest_ms: u64,
}

impl Worker {
    pub fn held(&self) -> Vec<HeldLease> {
        let lease = |c: &Call| HeldLease { task: c.task, fence: c.fence, running: c.started.is_some() };
        self.held.iter().map(lease).collect()
    }

    pub fn register(&self) -> Input {
        Input::Register {
            worker: self.name.clone(),
            incarnation: self.incarnation,
            capacity: self.capacity.clone(),
            backends: self.backends.clone(),
            held: self.held(),
        }
    }

    pub fn die(&mut self) {
        self.alive = false;
        self.link = None;
        self.held.clear();
    }

    pub fn free(&self) -> Resources {
        let mut free = self.capacity.clone();
        self.held.iter().filter(|call| call.started.is_some()).for_each(|call| free.sub(&call.need));
        free
    }

    pub fn receive(&mut self, now: Timestamp, message: ToWorker, rng: &mut Rng, luck: Luck) -> Vec<Want> {
        self.last_word = now;
        let mut wants = Vec::new();
        match message {
            ToWorker::Welcome { forget } => {
                self.held.retain(|call| !forget.iter().any(|f| (f.task, f.fence) == (call.task, call.fence)));
            }
            ToWorker::Lease(LeaseOrder { task, fence, shape, .. }) => {
                if self.held.iter().all(|call| (call.task, call.fence) != (task, fence)) {
                    let (need, poisonous) = (shape.resources.clone(), shape.function == POISON);
                    self.held.push(Call { task, fence, need, poisonous, started: None });
                }
            }
            ToWorker::Revoke { task, fence, reason } => {
                let position = self.held.iter().position(|call| (call.task, call.fence) == (task, fence));
                let too_late = |at: usize| reason == revoke::RETRACTED && self.held[at].started.is_some();
                if let Some(at) = position.filter(|at| !too_late(*at)) {
                    self.held.remove(at);
                    wants.push(Want::Report(task, fence, Report::Returned { reason: reason.into() }));
                }
            }
            ToWorker::Drain { .. } => self.draining = true,
            ToWorker::Warm { .. } => {}
            ToWorker::SelfTest => {
                // Not every fault is found.
                let found = self.ailment == Ailment::Fails && rng.percent(70);
                let failure = found.then(|| Failure::new(Class::Host, "simulated", "the golden encode differs"));
                wants.push(Want::SelfTested(failure));
            }
            ToWorker::Replaced => return vec![Want::Exit],
        }
        self.start_what_fits(now, rng, luck, &mut wants);
        wants
    }

    pub fn start_what_fits(&mut self, now: Timestamp, rng: &mut Rng, luck: Luck, wants: &mut Vec<Want>) {
        let mut free = self.free();
        for call in self.held.iter_mut().filter(|call| call.started.is_none()) {
            if !call.need.fits_in(&free) {
                if self.strict {
                    break;
                }
                continue;
            }
            free.sub(&call.need);
            call.started = Some(now);
            wants.push(Want::Report(call.task, call.fence, Report::Started { at: now, start: Start::Inline }));
            let longest_ms = match self.ailment {
                Ailment::None => luck.longest_ms,
                Ailment::Fails => 4,
                Ailment::Slow => luck.longest_ms * 30,
            };
            let run = Span::from_millis(rng.within(1..longest_ms.max(2)));
            if rng.percent(30) {
                let made = Advance { frames: rng.within(0..12), bytes: 1, out_time: Span(1) };
                wants.push(Want::Report(call.task, call.fence, Report::Advanced(made)));
            }
            wants.push(Want::Run(call.task, call.fence, run));
        }
        if self.draining && self.held.is_empty() {
            wants.push(Want::Exit);
        }
    }

    /// A call has run its time.
    pub fn end(&mut self, now: Timestamp, task: TaskId, fence: Fence, rng: &mut Rng, luck: Luck) -> Vec<Want> {
        let mut wants = Vec::new();
        let Some(at) = self.held.iter().position(|call| (call.task, call.fence) == (task, fence)) else { return wants };
        let Some(started) = self.held[at].started else { return wants };
        let call = self.held.remove(at);
        let fails = call.poisonous || (self.ailment == Ailment::Fails && rng.percent(90));
        let report = if fails || rng.percent(luck.fail_percent) {
            let all = [Class::Transient, Class::Internal, Class::Host, Class::Capacity];
            let again = if call.poisonous { Class::Internal } else { *rng.pick(&all).expect("not empty") };
            let class = if !fails && rng.percent(luck.fatal_percent) { Class::Input } else { again };
            Report::Failed { failure: Failure::new(class, "simulated", "bad luck") }
        } else {
            let advance = Advance { frames: 10, bytes: 100, out_time: Span(1) };
            Report::Finished { started, finished: now, answer: Blob::from(&b"{}"[..]), advance }
        };
        wants.push(Want::Report(task, fence, report));
        self.start_what_fits(now, rng, luck, &mut wants);
        wants
    }
}
