//! What time does to a job that waits: it ages, hops to another pool, and stops being patient.

use spool_proto::ids::JobId;
use spool_proto::pool::{Class, Hold};
use spool_proto::time::{Span, Timestamp};

use crate::engine::Engine;
use crate::io::{Effect, Record};
use crate::job::Job;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Alarm {
    /// An opportunistic job becomes standard.
    StartBy,
    /// Its first hop is due.
    Hop,
    /// It may have aged.
    Age,
    /// Its workflow wants to be asked.
    Wake,
}

/// A hop that is due while nothing waits is looked at again so often.
const HOP_AGAIN: Span = Span::from_secs(1);

impl Engine {
    /// Sets the alarms of jobs that came, moved or went on.
    pub(crate) fn set_job_alarms(&mut self) {
        for id in std::mem::take(&mut self.state.new_alarms) {
            let Some(job) = self.state.jobs.get(&id).filter(|job| !job.state().is_final()) else { continue };
            if let (true, Class::Opportunistic { start_by }) = (job.opportunistic, job.new.class) {
                self.job_alarms.insert((start_by, id, Alarm::StartBy));
            }
            if let Some(hop) = job.new.hop.first() {
                self.job_alarms.insert((job.submitted + hop.after, id, Alarm::Hop));
            }
            let (wake, set) = (job.reaction.wake, job.reaction.alarm);
            if wake != set {
                set.map(|at| self.job_alarms.remove(&(at, id, Alarm::Wake)));
                self.job_alarms.extend(wake.map(|at| (at, id, Alarm::Wake)));
            }
            if let (false, Some(since)) = (job.age_alarm, waits_since(job)) {
                self.job_alarms.insert((since + self.config.age_step, id, Alarm::Age));
                self.state.jobs.get_mut(&id).expect("just found").age_alarm = true;
            }
            self.state.jobs.get_mut(&id).expect("just found").reaction.alarm = wake;
        }
    }

    pub(crate) fn ring_job(&mut self, now: Timestamp, id: JobId, alarm: Alarm, out: &mut Vec<Effect>) {
        let Some(job) = self.state.jobs.get_mut(&id).filter(|job| !job.state().is_final()) else { return };
        match alarm {
            Alarm::StartBy => self.state.become_standard(id),
            Alarm::Hop => self.hop(now, id, out),
            // One that was set to another time meanwhile was taken out.
            Alarm::Wake => self.settle(now, id, out),
            Alarm::Age => {
                job.age_alarm = false;
                let since = waits_since(job);
                let steps = since.map_or(0, |since| now.since(since).0 / self.config.age_step.0.max(1));
                let aged = u8::try_from(steps).unwrap_or(u8::MAX);
                if job.aged != aged {
                    self.state.stand_anew(id, |job, _| job.aged = aged).expect("it is known");
                }
                if since.is_some() {
                    let next = Span(self.config.age_step.0.saturating_mul(steps + 1));
                    let job = self.state.jobs.get_mut(&id).expect("it is known");
                    job.age_alarm = true;
                    let at = since.map_or(now, |since| since + next);
                    self.job_alarms.insert((at, id, Alarm::Age));
                }
            }
        }
        self.changed(id);
    }

    fn hop(&mut self, now: Timestamp, id: JobId, out: &mut Vec<Effect>) {
        let job = &self.state.jobs[&id];
        let Some(hop) = job.new.hop.first().cloned() else { return };
        let due = job.submitted + hop.after;
        if due > now {
            return;
        }
        if !job.phases.is_empty() && waits_since(job).is_none() {
            self.job_alarms.insert((now + HOP_AGAIN, id, Alarm::Hop));
            return;
        }
        let pools = &self.state.pools;
        let there = pools.find(&hop.pool).filter(|pool| pools.is_leaf(*pool) && pools.hold(*pool) != Hold::Draining);
        // A hop to where nobody can go is spent all the same.
        let (pool, priority) = match there {
            Some(_) => (hop.pool, hop.priority),
            None => (job.new.pool.clone(), None),
        };
        self.record(Record::JobMoved { job: id, pool, priority, hop: true, at: now }, out);
    }
}

/// Since when nothing of it was leased though something waits.
pub(crate) fn waits_since(job: &Job) -> Option<Timestamp> {
    let phase = job.waiting_since()?;
    Some(job.last_lease.map_or(phase, |last| last.max(phase)))
}
