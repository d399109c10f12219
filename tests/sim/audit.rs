//! Reads the journal as it grows and knows the law: who may hold what, and what may happen once only. It shares no code with the
//! engine.

use std::collections::{BTreeMap, BTreeSet};

use spool_core::io::{LeaseOrder, Outcome, Record};
use spool_core::revoke;
use spool_proto::ids::{Fence, JobId, TaskId, WorkerName};
use spool_proto::view::WorkerHealth;

use crate::quota::Quota;

#[derive(Default)]
pub struct Audit {
    /// One of each task, or two on different workers.
    leases: BTreeMap<TaskId, Vec<(Fence, WorkerName)>>,
    /// Failed attempts that count.
    failed: BTreeSet<(TaskId, Fence)>,
    quarantined: BTreeSet<WorkerName>,
    last_fence: Fence,
    quota: Quota,
    finished: BTreeSet<TaskId>,
    /// By a step: not to be leased any more.
    cancelled: BTreeSet<TaskId>,
    reactive: BTreeSet<JobId>,
    /// Ids of signals.
    signals: BTreeSet<(JobId, String)>,
    open: BTreeSet<JobId>,
    ended: BTreeSet<JobId>,
    /// Of those that ended: not to be retried.
    done: BTreeSet<JobId>,
    pub forgotten: BTreeSet<JobId>,
    pub counts: BTreeMap<&'static str, u64>,
}

impl Audit {
    pub fn read(&mut self, record: &Record) {
        let kind = match record {
            Record::JobSubmitted { job, new, .. } => {
                self.quota.submitted(*job, new);
                if new.reactive {
                    self.reactive.insert(*job);
                }
                assert!(
                    self.open.insert(*job) && !self.ended.contains(job) && !self.forgotten.contains(job),
                    "{job} was submitted twice"
                );
                "submitted"
            }
            Record::PhaseStarted { job, tasks, .. } => {
                self.quota.phase(*job, tasks);
                assert!(self.open.contains(job), "{job} went on after its end");
                assert!(!self.reactive.contains(job), "{job} goes by steps, not by phases");
                "phase"
            }
            Record::Stepped { job, step, .. } => {
                for group in &step.groups {
                    self.quota.phase(*job, &group.tasks);
                }
                assert!(self.open.contains(job) && self.reactive.contains(job), "{job} took a step");
                self.cancelled.extend(step.cancel.iter().map(|index| TaskId { job: *job, index: *index }));
                match &step.outcome {
                    Some(_) if self.leases.keys().any(|task| task.job == *job) => "ended early",
                    Some(_) => "ended",
                    None if !step.cancel.is_empty() => "step that cancels",
                    None if step.snapshot => "log snapshot",
                    None if step.groups.is_empty() => "step",
                    None => "step that starts",
                }
            }
            Record::Signalled { job, dedupe, .. } => {
                assert!(self.open.contains(job) && self.reactive.contains(job), "{job} was sent a signal");
                let is_new = dedupe.is_empty() || self.signals.insert((*job, dedupe.clone()));
                assert!(is_new, "{job}: signal {dedupe} was taken twice");
                "signal"
            }
            Record::Leased { task, fence, worker, .. } => {
                assert!(*fence > self.last_fence, "{task}: fence {fence:?} after {:?}", self.last_fence);
                self.last_fence = *fence;
                assert!(self.open.contains(&task.job), "{task} was leased after its job's end");
                assert!(!self.finished.contains(task), "{task} was leased though it is done");
                assert!(!self.cancelled.contains(task), "{task} was leased though a step had cancelled it");
                assert!(!self.quarantined.contains(worker), "{task} was leased to {worker}, which is quarantined");
                let held = self.leases.entry(*task).or_default();
                assert!(held.iter().all(|(_, other)| other != worker), "{task} was leased twice to {worker}");
                held.push((*fence, worker.clone()));
                let count = held.len();
                let all = self.leases.iter().flat_map(|(task, held)| held.iter().map(|_| *task));
                self.quota.check_lease(*task, all);
                match count {
                    1 => "leased",
                    2 => "copied",
                    more => panic!("{task} was leased {more} times at once"),
                }
            }
            Record::Finished { task, fence, .. } => {
                let held = self.leases.remove(task).unwrap_or_default();
                assert!(held.iter().any(|(one, _)| one == fence), "{task}: {fence:?} finished it, not one of {held:?}");
                assert!(self.finished.insert(*task), "{task} was completed twice");
                "finished"
            }
            Record::AttemptFailed { task, fence, retry_at, counted, failure, .. } => {
                self.release(*task, Some(*fence));
                assert!(!self.leases.contains_key(task), "{task} failed while a copy lives");
                if *counted {
                    self.failed.insert((*task, *fence));
                }
                match (retry_at, counted, failure.code.as_str()) {
                    (Some(_), true, _) => "attempt failed",
                    (Some(_), false, _) => "attempt excused",
                    (None, false, _) => panic!("{task} failed for good by what does not count"),
                    (None, true, "poison") => "poison",
                    (None, true, "retry_budget") => "retry budget",
                    (None, true, _) => "task failed",
                }
            }
            Record::AttemptForgiven { task, fence, .. } => {
                assert!(
                    self.failed.remove(&(*task, *fence)),
                    "{task}: {fence:?} had not failed, or was forgiven before"
                );
                assert!(self.open.contains(&task.job), "{task} was forgiven after its job's end");
                "forgiven"
            }
            Record::LeaseEnded { task, fence, counted, reason, .. } => {
                self.release(*task, Some(*fence));
                match (reason.as_str(), counted) {
                    (revoke::PREEMPTED, true) => panic!("{task} was preempted, and that is held against it"),
                    (revoke::PREEMPTED, false) => {
                        assert!(self.quota.may_be_preempted(*task), "{task} was preempted, and must not be");
                        "preempted"
                    }
                    (_, true) => "lease lost",
                    (_, false) => "lease ended",
                }
            }
            Record::TaskCancelled { task, .. } => {
                self.release(*task, None);
                assert!(!self.leases.contains_key(task), "{task} was cancelled while a copy lives");
                "task cancelled"
            }
            Record::CancelAsked { job, .. } => {
                assert!(self.open.contains(job), "{job} was cancelled after its end");
                "cancel asked"
            }
            Record::JobFinished { job, outcome, .. } => {
                assert!(self.open.remove(job), "{job} ended twice");
                self.ended.insert(*job);
                assert!(self.leases.keys().all(|task| task.job != *job), "{job} ended while leased");
                match outcome {
                    Outcome::Done { .. } => {
                        self.done.insert(*job);
                        "job done"
                    }
                    Outcome::Failed { .. } => "job failed",
                    Outcome::Cancelled { .. } => "job cancelled",
                }
            }
            Record::JobRetried { job, .. } => {
                assert!(!self.done.contains(job), "{job} was retried, and is done");
                assert!(self.ended.remove(job) && self.open.insert(*job), "{job} was retried while open");
                self.quota.retried(*job);
                if self.reactive.contains(job) {
                    "reactive job retried"
                } else {
                    // What had failed for good begins anew.
                    self.failed.retain(|(task, _)| task.job != *job || self.finished.contains(task));
                    "retried"
                }
            }
            Record::PrioritySet { .. } => "priority",
            Record::Cordoned { .. } => "cordon",
            Record::JobMoved { job, pool, hop, .. } => {
                assert!(!self.done.contains(job), "{job} was moved, and is done");
                assert!(!hop || self.open.contains(job), "{job} hopped after its end");
                self.quota.moved(*job, pool);
                if *hop { "hopped" } else { "moved" }
            }
            Record::PoolsApplied { change, .. } => {
                self.quota.applied(&change.tree, self.open.iter().copied());
                "pools"
            }
            Record::PoolHeld { pool, hold, .. } => {
                self.quota.held(pool, *hold);
                "hold"
            }
            Record::WorkerJudged { worker, health, .. } => match health {
                WorkerHealth::Healthy => {
                    self.quarantined.remove(worker);
                    "healthy again"
                }
                WorkerHealth::Throttled { .. } => {
                    self.quarantined.remove(worker);
                    "throttled"
                }
                WorkerHealth::Quarantined { .. } => {
                    self.quarantined.insert(worker.clone());
                    "quarantined"
                }
            },
            Record::JobForgotten { job } => {
                assert!(self.ended.remove(job), "{job} was forgotten before its end");
                self.quota.forgotten(*job);
                self.forgotten.insert(*job);
                "forgotten"
            }
        };
        *self.counts.entry(kind).or_default() += 1;
    }

    /// The worker is told which attempt it is: one more than failed and count. To be preempted, or lost, is not to fail.
    pub fn told(&self, order: &LeaseOrder) {
        let failed = self.failed.range((order.task, Fence(0))..=(order.task, Fence(u64::MAX))).count();
        assert_eq!(usize::try_from(order.attempt), Ok(failed + 1), "{}: attempts", order.task);
    }

    fn release(&mut self, task: TaskId, fence: Option<Fence>) {
        let held = self.leases.get_mut(&task).unwrap_or_else(|| panic!("{task}: the end of a lease nobody held"));
        let at = held.iter().position(|(one, _)| fence.is_none_or(|fence| *one == fence));
        let at = at.unwrap_or_else(|| panic!("{task}: {fence:?} ended one of {held:?}"));
        held.remove(at);
        if held.is_empty() {
            self.leases.remove(&task);
        }
    }

    pub fn all_ended(&self) -> bool {
        self.open.is_empty()
    }

    pub fn open(&self) -> &BTreeSet<JobId> {
        &self.open
    }
}
