//! Where a job stands, and what may follow on what.

use spool_proto::failure::Failure;
use spool_proto::view::JobState;

use crate::io::{Blob, Outcome};
use crate::snapshot::LifeSnapshot;

/// Where a job stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Life {
    Queued,
    Running,
    /// It will not go on; workers still hold leases of it.
    Ending(Ending),
    Done {
        output: Blob,
    },
    Failed {
        failure: Box<Failure>,
    },
    Cancelled {
        reason: String,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ending {
    Cancel {
        reason: String,
    },
    Fail {
        failure: Box<Failure>,
    },
    /// By a step of its workflow, which may end it while tasks are open.
    Done {
        output: Blob,
    },
}

impl From<Outcome> for Ending {
    fn from(outcome: Outcome) -> Ending {
        match outcome {
            Outcome::Done { output } => Ending::Done { output },
            Outcome::Failed { failure } => Ending::Fail { failure: failure.into() },
            Outcome::Cancelled { reason } => Ending::Cancel { reason },
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Event {
    Leased,
    CancelAsked {
        reason: String,
    },
    TaskFailed {
        failure: Failure,
    },
    /// Its workflow waits for something else than tasks.
    Begun,
    /// Its workflow has ended it.
    End(Outcome),
    Finish(Outcome),
    Retry,
}

impl Life {
    /// The whole state machine. `Err` names the pair that must not meet.
    pub(crate) fn next(&self, event: Event) -> Result<Life, (&'static str, &'static str)> {
        match (self, event) {
            (Life::Queued | Life::Running, Event::Leased | Event::Begun) => Ok(Life::Running),
            (Life::Queued | Life::Running, Event::CancelAsked { reason }) => {
                Ok(Life::Ending(Ending::Cancel { reason }))
            }
            (Life::Queued | Life::Running, Event::TaskFailed { failure }) => {
                Ok(Life::Ending(Ending::Fail { failure: failure.into() }))
            }
            (Life::Queued | Life::Running, Event::End(outcome)) => Ok(Life::Ending(outcome.into())),
            (
                Life::Queued | Life::Running | Life::Ending(Ending::Done { .. }),
                Event::Finish(Outcome::Done { output }),
            ) => Ok(Life::Done { output }),
            (
                Life::Queued | Life::Running | Life::Ending(Ending::Fail { .. }),
                Event::Finish(Outcome::Failed { failure }),
            ) => Ok(Life::Failed { failure: failure.into() }),
            (Life::Ending(Ending::Cancel { .. }), Event::Finish(Outcome::Cancelled { reason })) => {
                Ok(Life::Cancelled { reason })
            }
            (Life::Failed { .. } | Life::Cancelled { .. }, Event::Retry) => Ok(Life::Queued),
            (life, event) => Err((life.state().name(), event.name())),
        }
    }

    pub(crate) fn state(&self) -> JobState {
        match self {
            Life::Queued => JobState::Queued,
            Life::Running => JobState::Running,
            Life::Ending(_) => JobState::Cancelling,
            Life::Done { .. } => JobState::Done,
            Life::Failed { .. } => JobState::Failed,
            Life::Cancelled { .. } => JobState::Cancelled,
        }
    }

    pub(crate) fn goes_on(&self) -> bool {
        matches!(self, Life::Queued | Life::Running)
    }
}

impl Event {
    fn name(&self) -> &'static str {
        match self {
            Event::Leased => "lease",
            Event::CancelAsked { .. } => "cancel",
            Event::TaskFailed { .. } => "fail",
            Event::Begun => "begin",
            Event::End(_) => "be ended",
            Event::Finish(Outcome::Done { .. }) => "finish as done",
            Event::Finish(Outcome::Failed { .. }) => "finish as failed",
            Event::Finish(Outcome::Cancelled { .. }) => "finish as cancelled",
            Event::Retry => "retry",
        }
    }
}

impl From<Life> for LifeSnapshot {
    fn from(life: Life) -> LifeSnapshot {
        match life {
            Life::Queued => LifeSnapshot::Queued,
            Life::Running => LifeSnapshot::Running,
            Life::Ending(Ending::Cancel { reason }) => LifeSnapshot::Cancelling { reason },
            Life::Ending(Ending::Fail { failure }) => LifeSnapshot::Failing { failure: *failure },
            Life::Ending(Ending::Done { output }) => LifeSnapshot::Finishing { output },
            Life::Done { output } => LifeSnapshot::Done { output },
            Life::Failed { failure } => LifeSnapshot::Failed { failure: *failure },
            Life::Cancelled { reason } => LifeSnapshot::Cancelled { reason },
        }
    }
}

impl From<LifeSnapshot> for Life {
    fn from(snapshot: LifeSnapshot) -> Life {
        match snapshot {
            LifeSnapshot::Queued => Life::Queued,
            LifeSnapshot::Running => Life::Running,
            LifeSnapshot::Cancelling { reason } => Life::Ending(Ending::Cancel { reason }),
            LifeSnapshot::Failing { failure } => Life::Ending(Ending::Fail { failure: failure.into() }),
            LifeSnapshot::Finishing { output } => Life::Ending(Ending::Done { output }),
            LifeSnapshot::Done { output } => Life::Done { output },
            LifeSnapshot::Failed { failure } => Life::Failed { failure: failure.into() },
            LifeSnapshot::Cancelled { reason } => Life::Cancelled { reason },
        }
    }
}
