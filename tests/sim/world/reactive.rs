//! Workflows that are asked after every event, and people who send them signals.

use spool_core::Job;
use spool_core::io::{Blob, Group, Input, Next, Outcome, Step};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::JobId;
use spool_proto::time::Span;
use spool_proto::view::TaskState;

use super::{Event, World};

impl World {
    /// A step at random. What it cancels or starts may be over or started by the time it arrives.
    pub(super) fn react(&mut self, id: JobId) {
        let Some(job) = self.server.engine.job(id) else { return };
        let taken = job.signals().last().map_or(0, |signal| signal.number);
        let (phases, is_idle) = (job.phases().len(), job.counts().open() == 0);
        let open: Vec<u32> = self.open_tasks(job);
        let plan = &self.plans[&*job.request().request_id];
        let (fails, rest) = (plan.fails, plan.phases.get(phases..).unwrap_or_default());
        let mut step = Step::default();
        if !rest.is_empty() && self.rng.percent(60) {
            let most = 1 + self.rng.within(0..2);
            for (number, tasks) in (0..most).zip(rest) {
                step.groups.push(Group { name: format!("group {}", number % 2), tasks: tasks.clone() });
            }
        }
        if self.rng.percent(10) {
            step.cancel.extend(self.rng.pick(&open));
        }
        if self.rng.percent(40) {
            step.log = Some(Blob::from(self.sequence.to_le_bytes().as_slice()));
            step.snapshot = self.rng.percent(10);
        }
        if self.rng.percent(30) {
            step.wake = Some(self.now + Span::from_millis(self.rng.within(0..10_000)));
        }
        if self.rng.percent(70) {
            step.signals_taken = taken;
        }
        // What rests is told of nothing but its time and signals: the same before and after a restart.
        step.rests = is_idle && step.groups.is_empty() && step.signals_taken == taken && self.rng.percent(50);
        let is_over = is_idle && step.groups.is_empty() && (self.calm || self.rng.percent(50));
        if is_over || self.rng.percent(1) {
            step.outcome = Some(if fails {
                Outcome::Failed { failure: Failure::new(Class::Spec, "simulated", "the workflow gives up") }
            } else {
                Outcome::Done { output: Blob::from(&b"{}"[..]) }
            });
        }
        let life = self.life;
        self.after_ms(20, Event::Local(life, Input::Advance { job: id, next: Next::Step(step) }));
    }

    fn open_tasks(&self, job: &Job) -> Vec<u32> {
        let is_open = |state| !matches!(state, TaskState::Done | TaskState::Failed | TaskState::Cancelled);
        let open = self.server.engine.tasks(job).filter(|task| is_open(task.state));
        open.map(|task| task.id.index).collect()
    }

    /// Now and then one that was sent before.
    pub(super) fn signal(&mut self, job: JobId) -> Input {
        let (token, id) = (self.token(), self.rng.within(0..6));
        let dedupe = if id == 0 { String::new() } else { format!("signal {id}") };
        Input::Signal { token, job, name: "go".into(), dedupe, payload: Blob::from(&b"on"[..]) }
    }

    /// Whoever waits for a signal gets one.
    pub(super) fn wake_all(&mut self) {
        let waits = |job: &&Job| job.request().reactive && !job.state().is_final() && job.counts().open() == 0;
        let jobs: Vec<JobId> = self.server.engine.jobs().filter(waits).map(Job::id).collect();
        for job in jobs {
            let token = self.token();
            let (name, dedupe, payload) = ("end".into(), String::new(), Blob::from(&b""[..]));
            self.arrive(Input::Signal { token, job, name, dedupe, payload });
        }
    }
}
