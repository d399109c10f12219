//! From a line of leases to reports: what fits is handed to lanes, and what becomes of each call is heard.
//!
//! A lane is a task with the room of one call. It has one call, or a batch that an executor runs one after the other; each call
//! of a batch starts, ends and is stopped by itself.

use std::sync::Arc;
use std::time::Duration;

use spool_proto::call::{Answer, Args, Call};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{Fence, JobId, TaskId};
use spool_proto::resources::Resources;
use spool_proto::time::Timestamp;
use spool_proto::wire::v1::{self, report};
use tokio::sync::watch;
use tokio::task::{Id, JoinError};
use tracing::Instrument;

use super::{Agent, Event, Held, Lane, Last, Running};
use crate::batch::{Candidate, Estimates};
use crate::executor::{Advance, Limits, Stops, Unanswered};
use crate::outbox::Key;
use crate::runner::{Start, Tell, Terms, Told, Work, is_alone};

impl Held {
    fn candidate<'a>(&'a self, estimates: &Estimates) -> Candidate<'a> {
        let shares = self.call.as_ref().is_some_and(|call| !is_alone(&call.args));
        let key = self.warm_key.as_ref().filter(|_| shares);
        let told = || self.lease.estimate_us.map(Duration::from_micros);
        Candidate {
            key,
            estimate: key.and_then(|key| estimates.of(key)).or_else(told),
            deadline: self.lease.deadline_us.map(Timestamp),
        }
    }

    /// Of a call that is over at once only the end is told, and that it had to wait for its executor.
    fn is_brief(&self) -> bool {
        matches!(self.call.as_deref(), Some(Call { args: Args::Noop { sleep_us: 0, .. }, .. }))
    }
}

impl Agent {
    pub(super) fn start_what_fits(&mut self) {
        let now = Timestamp::now();
        loop {
            let (batching, estimates) = (self.batching, &self.estimates);
            let together =
                self.slots.admit(|slots, line| batching.size(now, slots, line.map(|held| held.candidate(estimates))));
            let Some((need, calls)) = together else { break };
            let inline_noop = Args::Noop { sleep_us: 0, through_executor: false };
            match calls.first() {
                Some(held) if held.call.as_ref().is_some_and(|call| call.args == inline_noop) => {
                    let now = Timestamp::now().0;
                    let answer = self.noop_answer.clone();
                    let finished =
                        v1::Finished { started_us: now, finished_us: now, answer, ..v1::Finished::default() };
                    self.outbox.push(held.key, report::Kind::Finished(finished));
                    self.slots.release(&need);
                }
                _ => self.start(need, calls),
            }
        }
    }

    fn start(&mut self, need: Resources, calls: Vec<Arc<Held>>) {
        let Some(first) = calls.first() else { return };
        let (stop, stopped) = watch::channel(Stops::NONE);
        let terms = Terms { key: first.warm_key.clone(), stop: stopped, patience: self.batching.patience() };
        let span = tracing::info_span!(
            "call",
            job = %JobId(first.key.job),
            task = %task_id(first.key),
            attempt = first.lease.attempt,
            fence = first.key.fence,
            traceparent = first.lease.traceparent,
            key = first.lease.warm_key,
            calls = calls.len(),
        );
        let keys: Vec<Key> = calls.iter().map(|held| held.key).collect();
        let events = self.tell.clone();
        let tell: Tell = Arc::new(move |position, told| {
            // A closed channel: the agent is gone, and so is this task in a moment.
            drop(events.send(Event { key: keys[position], at: Timestamp::now(), told }));
        });
        let runner = self.runner.clone();
        let progress = self.progress.clone();
        let leases = calls.clone();
        let run = async move {
            let mut work = Vec::with_capacity(leases.len());
            for held in &leases {
                let call = match &held.call {
                    Some(call) => Arc::clone(call),
                    None => match read(&held.lease.payload) {
                        Ok(call) => Arc::new(call),
                        // It came alone: what was not read is in no batch.
                        Err(failure) => return tell(0, Told::Ended { result: Err(failure.into()), busy: None }),
                    },
                };
                let (key, advances) = (held.key, progress.clone());
                work.push(Work {
                    call,
                    fence: Fence(held.key.fence),
                    limits: Limits {
                        timeout: Duration::from_micros(held.lease.timeout_us),
                        no_progress: Duration::from_micros(held.lease.no_progress_us),
                        memory_mib: held.need.memory,
                        scratch_mib: held.need.scratch,
                    },
                    progress: Arc::new(move |advance| advances.try_send((key, advance)).unwrap_or_default()),
                });
            }
            runner.run(work, terms, tell).await;
        };
        let lane = self.lane_tasks.spawn(run.instrument(span)).id();
        for (position, held) in calls.into_iter().enumerate() {
            self.running.insert(held.key, Running { held, lane, position, begun: None, stopping: None });
        }
        self.lanes.insert(lane, Lane { need, stop });
    }

    /// Of calls that were stopped before they began nothing is known here any more.
    pub(super) fn hear(&mut self, event: Event) {
        let Event { key, at, told } = event;
        match told {
            Told::Begun(start) => {
                let Some(running) = self.running.get_mut(&key) else { return };
                running.begun = Some(at);
                if running.held.is_brief() && !matches!(start, Start::Cold(_)) {
                    return;
                }
                let cold_us = match start {
                    Start::Cold(took) => Some(u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
                    Start::Inline | Start::Warm => None,
                };
                let started = v1::Started { at_us: at.0, warm: start == Start::Warm, cold_us };
                self.outbox.push(key, report::Kind::Started(started));
            }
            Told::Ended { result, busy } => {
                let Some(running) = self.running.remove(&key) else { return };
                if let (Some(warm_key), Some(busy)) = (&running.held.warm_key, busy) {
                    self.estimates.learn(warm_key, busy);
                }
                self.ended(key, running, at, result);
            }
            Told::Back => {
                let Some(Running { held, .. }) = self.running.remove(&key) else { return };
                if let Some(warm_key) = &held.warm_key {
                    // Whatever is before it takes longer than calls of this key were thought to.
                    self.estimates.learn(warm_key, self.batching.target);
                }
                self.slots.put_back(held.need.clone(), held.lease.prefetched, held);
            }
        }
    }

    fn ended(&mut self, key: Key, running: Running, at: Timestamp, result: Result<(Answer, Advance), Unanswered>) {
        let Running { held, begun, stopping, .. } = running;
        let (task, fence, attempt) = (task_id(key), key.fence, held.lease.attempt);
        match &result {
            Ok(_) => tracing::debug!(%task, fence, attempt, "finished"),
            Err(Unanswered::Stopped) => tracing::debug!(%task, fence, attempt, "stopped"),
            Err(Unanswered::Failed(failure)) => {
                let Failure { class, code, .. } = failure;
                tracing::warn!(%task, fence, attempt, %class, code, "failed: {failure}");
            }
        }
        match (stopping, result) {
            (Some(Last::Nothing), _) => self.outbox.forget(&[key].into()),
            (_, Ok((answer, advance))) => self.finish(key, begun.unwrap_or(at), at, &answer, advance),
            (Some(Last::Returned(reason)), Err(_)) => self.give_back(key, &reason),
            (None, Err(Unanswered::Failed(failure))) => self.fail(key, &failure),
            (None, Err(Unanswered::Stopped)) => self.give_back(key, "leaving"),
        }
    }

    pub(super) fn lane_ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        // What it told last.
        while let Ok(event) = self.events.try_recv() {
            self.hear(event);
        }
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        let Some(Lane { need, .. }) = self.lanes.remove(&id) else { return };
        self.slots.release(&need);
        let Err(error) = ended else { return };
        let mut left: Vec<Running> = self.running.extract_if(|_, running| running.lane == id).map(|(_, r)| r).collect();
        left.sort_by_key(|running| std::cmp::Reverse(running.position));
        for running in left {
            let key = running.held.key;
            // Whose fault it is cannot be known; those that had not begun are none the worse.
            if running.begun.is_none() && running.position > 0 {
                self.slots.put_back(running.held.need.clone(), running.held.lease.prefetched, running.held);
                continue;
            }
            let text = format!("the worker itself failed at the call: {error}");
            let failure = Failure::new(Class::Internal, "worker_panicked", text);
            self.ended(key, running, Timestamp::now(), Err(failure.into()));
        }
    }

    fn finish(&mut self, key: Key, started: Timestamp, finished: Timestamp, answer: &Answer, advance: Advance) {
        match serde_json::to_vec(answer) {
            Ok(answer) => {
                let finished = v1::Finished {
                    started_us: started.0,
                    finished_us: finished.0,
                    answer: answer.into(),
                    frames: advance.frames,
                    bytes: advance.bytes,
                };
                self.outbox.push(key, report::Kind::Finished(finished));
            }
            Err(error) => {
                let text = format!("the answer cannot be written: {error}");
                self.fail(key, &Failure::new(Class::Internal, "bad_answer", text));
            }
        }
    }

    pub(super) fn stop(&mut self, key: Key, last: Last) {
        let Some(running) = self.running.get_mut(&key) else { return };
        if let Some(lane) = self.lanes.get(&running.lane) {
            lane.stop.send_modify(|stops| stops.add(running.position));
        }
        if running.begun.is_none() {
            // Nobody has heard of a start. Should it begin this very moment, nobody will hear of that either.
            self.running.remove(&key);
            if let Last::Returned(reason) = last {
                self.give_back(key, &reason);
            }
            return;
        }
        // The first word stands, except that a lease that is lost needs none at all.
        if running.stopping.is_none() || last == Last::Nothing {
            running.stopping = Some(last);
        }
    }

    pub(super) fn stop_all(&mut self, last: &Last) {
        let keys: Vec<Key> = self.running.keys().copied().collect();
        for key in keys {
            self.stop(key, last.clone());
        }
    }
}

fn task_id(key: Key) -> TaskId {
    TaskId { job: JobId(key.job), index: key.task }
}

pub(super) fn read(payload: &[u8]) -> Result<Call, Failure> {
    serde_json::from_slice(payload).map_err(|error| {
        let text = format!("the call cannot be read: {error}; do server and worker have the same version?");
        Failure::new(Class::Internal, "bad_call", text)
    })
}
