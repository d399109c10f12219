//! A task: its state machine and its history.

use spool_proto::ids::{Fence, WorkerName};
use spool_proto::time::Timestamp;

use crate::io::{Advance, Blob};
pub(crate) use crate::snapshot::Lease;
use crate::snapshot::{AttemptEnd, TaskSnapshot, TaskStateSnapshot};

/// Attempts that came to nothing are remembered up to this many, the latest ones.
pub const HISTORY: usize = 32;

/// Kept small: a job may have a million of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Task {
    pub(crate) state: State,
    pub(crate) history: Vec<AttemptEnd>,
    /// Index of its run in the job.
    pub(crate) run: u32,
    /// Attempts that failed.
    pub(crate) attempts: u16,
    /// Leases lost with their worker.
    pub(crate) losses: u8,
    /// Failures that were held against their worker instead.
    pub(crate) excused: u8,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum State {
    Queued,
    /// Waits until then, and after that for a worker. That the wait is over is not a fact of the journal: time tells.
    Backoff {
        until: Timestamp,
    },
    /// The second is a copy of a straggler; it is never on the worker of the first.
    Leased(Lease, Option<Box<Lease>>),
    Done(Done),
    Failed,
    Cancelled,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Done {
    pub(crate) fence: Fence,
    pub(crate) worker: WorkerName,
    pub(crate) started: Timestamp,
    pub(crate) finished: Timestamp,
    pub(crate) answer: Blob,
    pub(crate) advance: Advance,
}

#[derive(Debug, Clone)]
pub(crate) enum Event {
    Lease(Lease),
    Finish {
        fence: Fence,
        started: Timestamp,
        finished: Timestamp,
        answer: Blob,
        advance: Advance,
    },
    Fail {
        fence: Fence,
        retry_at: Option<Timestamp>,
    },
    /// One lease ended without a verdict. With a copy the other lives on.
    LetGo {
        fence: Fence,
    },
    Cancel,
    Retry,
}

impl State {
    /// The whole state machine. `Err` names the pair that must not meet.
    pub(crate) fn next(&self, event: Event) -> Result<State, (&'static str, &'static str)> {
        match (self, event) {
            (State::Queued | State::Backoff { .. }, Event::Lease(lease)) => Ok(State::Leased(lease, None)),
            (State::Leased(first, None), Event::Lease(copy)) if first.worker != copy.worker => {
                Ok(State::Leased(first.clone(), Some(Box::new(copy))))
            }
            (State::Leased(first, copy), Event::Finish { fence, started, finished, answer, advance })
                if first.fence == fence || copy.as_ref().is_some_and(|copy| copy.fence == fence) =>
            {
                let winner = copy.as_deref().filter(|copy| copy.fence == fence).unwrap_or(first);
                Ok(State::Done(Done { fence, worker: winner.worker.clone(), started, finished, answer, advance }))
            }
            (State::Leased(first, None), Event::Fail { fence, retry_at }) if first.fence == fence => {
                Ok(retry_at.map_or(State::Failed, |until| State::Backoff { until }))
            }
            (State::Leased(first, None), Event::LetGo { fence }) if first.fence == fence => Ok(State::Queued),
            (State::Leased(first, Some(copy)), Event::LetGo { fence }) if first.fence == fence => {
                Ok(State::Leased(copy.as_ref().clone(), None))
            }
            (State::Leased(first, Some(copy)), Event::LetGo { fence }) if copy.fence == fence => {
                Ok(State::Leased(first.clone(), None))
            }
            (State::Queued | State::Backoff { .. } | State::Leased(_, None), Event::Cancel) => Ok(State::Cancelled),
            (State::Failed | State::Cancelled, Event::Retry) => Ok(State::Queued),
            (state, event) => Err((state.name(), event.name())),
        }
    }

    /// Nothing will come of it any more.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, State::Done(_) | State::Failed | State::Cancelled)
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Backoff { .. } => "backoff",
            State::Leased(_, None) => "leased",
            State::Leased(_, Some(_)) => "leased twice",
            State::Done(_) => "done",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        }
    }
}

impl Event {
    /// Of the lease it ends.
    pub(crate) fn fence(&self) -> Option<Fence> {
        match self {
            Event::Finish { fence, .. } | Event::Fail { fence, .. } | Event::LetGo { fence } => Some(*fence),
            Event::Lease(_) | Event::Cancel | Event::Retry => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Event::Lease(_) => "lease",
            Event::Finish { .. } => "finish (under this fence)",
            Event::Fail { .. } => "fail (under this fence)",
            Event::LetGo { .. } => "let go (under this fence)",
            Event::Cancel => "cancel",
            Event::Retry => "retry",
        }
    }
}

impl Task {
    pub(crate) fn new(run: u32) -> Task {
        Task { state: State::Queued, history: Vec::new(), run, attempts: 0, losses: 0, excused: 0 }
    }

    /// The older of its leases.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Leased(first, _) => Some(first),
            _ => None,
        }
    }

    /// The younger of two leases.
    pub(crate) fn copy(&self) -> Option<&Lease> {
        match &self.state {
            State::Leased(_, copy) => copy.as_deref(),
            _ => None,
        }
    }

    pub(crate) fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.lease().into_iter().chain(self.copy())
    }

    pub(crate) fn lease_on(&self, worker: &WorkerName) -> Option<&Lease> {
        self.leases().find(|lease| lease.worker == *worker)
    }

    /// Number of the current, next or last attempt, from 1.
    pub(crate) fn attempt(&self) -> u32 {
        let failed = u32::from(self.attempts);
        if matches!(self.state, State::Failed) { failed.max(1) } else { failed + 1 }
    }

    pub(crate) fn history(&self) -> &[AttemptEnd] {
        &self.history
    }

    pub(crate) fn remember(&mut self, end: AttemptEnd) {
        if self.history.len() == HISTORY {
            self.history.remove(0);
        }
        self.history.push(end);
    }

    /// The worker the last attempt failed on.
    pub(crate) fn failed_on(&self) -> Option<&WorkerName> {
        self.history().last().map(|end| &end.worker)
    }

    pub(crate) fn snapshot(&self) -> TaskSnapshot {
        let state = match self.state.clone() {
            State::Queued => TaskStateSnapshot::Queued,
            State::Backoff { until } => TaskStateSnapshot::Backoff { until },
            State::Leased(first, copy) => TaskStateSnapshot::Leased { lease: first, copy: copy.map(|copy| *copy) },
            State::Done(Done { fence, worker, started, finished, answer, advance }) => {
                TaskStateSnapshot::Done { fence, worker, started, finished, answer, advance }
            }
            State::Failed => TaskStateSnapshot::Failed,
            State::Cancelled => TaskStateSnapshot::Cancelled,
        };
        TaskSnapshot {
            state,
            attempts: self.attempts,
            losses: self.losses,
            excused: self.excused,
            history: self.history().to_vec(),
        }
    }

    pub(crate) fn restore(run: u32, snapshot: TaskSnapshot) -> Task {
        let state = match snapshot.state {
            TaskStateSnapshot::Queued => State::Queued,
            TaskStateSnapshot::Backoff { until } => State::Backoff { until },
            TaskStateSnapshot::Leased { lease, copy } => State::Leased(lease, copy.map(Box::new)),
            TaskStateSnapshot::Done { fence, worker, started, finished, answer, advance } => {
                State::Done(Done { fence, worker, started, finished, answer, advance })
            }
            TaskStateSnapshot::Failed => State::Failed,
            TaskStateSnapshot::Cancelled => State::Cancelled,
        };
        let TaskSnapshot { attempts, losses, excused, history, .. } = snapshot;
        Task { state, history, run, attempts, losses, excused }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_tasks_fit_in_128_mib() {
        assert!(size_of::<Task>() <= 128, "{}", size_of::<Task>());
    }

    #[test]
    fn a_stale_fence_is_an_illegal_transition() {
        let held = State::Leased(lease(7, "w"), None);
        assert_eq!(held.next(Event::LetGo { fence: Fence(7) }), Ok(State::Queued));
        assert!(held.next(Event::LetGo { fence: Fence(6) }).is_err());
        assert!(State::Cancelled.next(Event::Fail { fence: Fence(7), retry_at: None }).is_err());
        assert!(State::Done(done()).next(Event::Cancel).is_err());
        assert!(State::Done(done()).next(Event::Retry).is_err());
    }

    fn lease(fence: u64, worker: &str) -> Lease {
        Lease { fence: Fence(fence), worker: worker.into(), at: Timestamp(0) }
    }

    #[test]
    fn of_two_leases_one_may_end_and_the_other_decides() {
        let one = State::Leased(lease(7, "a"), None);
        assert!(one.next(Event::Lease(lease(8, "a"))).is_err(), "a copy goes elsewhere");
        let both = one.next(Event::Lease(lease(8, "b"))).unwrap();
        assert!(both.next(Event::Lease(lease(9, "c"))).is_err(), "two are enough");
        assert_eq!(both.next(Event::LetGo { fence: Fence(8) }), Ok(one));
        let copy = both.next(Event::LetGo { fence: Fence(7) }).unwrap();
        assert_eq!(copy, State::Leased(lease(8, "b"), None));
        for event in [Event::Cancel, Event::Fail { fence: Fence(7), retry_at: None }] {
            assert!(both.next(event).is_err(), "the other might still finish");
        }
    }

    fn done() -> Done {
        Done {
            fence: Fence(1),
            worker: "w".into(),
            started: Timestamp(0),
            finished: Timestamp(1),
            answer: Blob::from(&b""[..]),
            advance: Advance::default(),
        }
    }
}
