//! Reads the journal as it grows and knows the law: who may hold what, and what may happen once only. It shares no code with the
//! engine.

use std::collections::{BTreeMap, BTreeSet};

use spool_core::io::{Outcome, Record};
use spool_proto::ids::{Fence, JobId, TaskId};

#[derive(Default)]
pub struct Audit {
    leases: BTreeMap<TaskId, Fence>,
    last_fence: Fence,
    finished: BTreeSet<TaskId>,
    open: BTreeSet<JobId>,
    ended: BTreeSet<JobId>,
    pub forgotten: BTreeSet<JobId>,
    pub counts: BTreeMap<&'static str, u64>,
}

impl Audit {
    pub fn read(&mut self, record: &Record) {
        let kind = match record {
            Record::JobSubmitted { job, .. } => {
                assert!(
                    self.open.insert(*job) && !self.ended.contains(job) && !self.forgotten.contains(job),
                    "{job} was submitted twice"
                );
                "submitted"
            }
            Record::PhaseStarted { job, .. } => {
                assert!(self.open.contains(job), "{job} went on after its end");
                "phase"
            }
            Record::Leased { task, fence, .. } => {
                assert!(*fence > self.last_fence, "{task}: fence {fence:?} after {:?}", self.last_fence);
                self.last_fence = *fence;
                assert!(self.open.contains(&task.job), "{task} was leased after its job's end");
                assert!(!self.finished.contains(task), "{task} was leased though it is done");
                assert_eq!(self.leases.insert(*task, *fence), None, "{task} was leased twice at once");
                "leased"
            }
            Record::Finished { task, fence, .. } => {
                self.release(*task, Some(*fence));
                assert!(self.finished.insert(*task), "{task} was completed twice");
                "finished"
            }
            Record::AttemptFailed { task, fence, retry_at, .. } => {
                self.release(*task, Some(*fence));
                if retry_at.is_some() { "attempt failed" } else { "task failed" }
            }
            Record::LeaseEnded { task, fence, counted, .. } => {
                self.release(*task, Some(*fence));
                if *counted { "lease lost" } else { "lease ended" }
            }
            Record::TaskCancelled { task, .. } => {
                self.release(*task, None);
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
                    Outcome::Done { .. } => "job done",
                    Outcome::Failed { .. } => "job failed",
                    Outcome::Cancelled { .. } => "job cancelled",
                }
            }
            Record::JobRetried { job, .. } => {
                assert!(self.ended.remove(job) && self.open.insert(*job), "{job} was retried while open");
                "retried"
            }
            Record::PrioritySet { .. } => "priority",
            Record::Cordoned { .. } => "cordon",
            Record::JobMoved { job, .. } => {
                assert!(self.open.contains(job), "{job} was moved after its end");
                "moved"
            }
            Record::PoolsApplied { .. } => "pools",
            Record::PoolHeld { .. } => "hold",
            Record::JobForgotten { job } => {
                assert!(self.ended.remove(job), "{job} was forgotten before its end");
                self.forgotten.insert(*job);
                "forgotten"
            }
        };
        *self.counts.entry(kind).or_default() += 1;
    }

    fn release(&mut self, task: TaskId, fence: Option<Fence>) {
        let held = self.leases.remove(&task);
        assert!(held.is_some(), "{task}: the end of a lease nobody held");
        assert!(fence.is_none() || fence == held, "{task}: {fence:?} ended the lease of {held:?}");
    }

    pub fn all_ended(&self) -> bool {
        self.open.is_empty()
    }

    pub fn open(&self) -> &BTreeSet<JobId> {
        &self.open
    }
}
