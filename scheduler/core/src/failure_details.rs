//! What went wrong around a job, for people: a line each.

use spool_proto::ids::TaskId;
use spool_proto::time::Timestamp;
use spool_proto::view::WorkerHealth;

use crate::engine::Engine;
use crate::job::Job;

/// Lines of one kind.
const LINES: usize = 20;

impl Engine {
    /// Second copies, stragglers without one, retries used, and workers that are held back.
    pub(crate) fn failure_details(&self, now: Timestamp, job: &Job) -> Vec<String> {
        let mut lines = Vec::new();
        let tasks = job.current().filter_map(|index| Some((index, job.task(index)?)));
        let copies = tasks.filter_map(|(index, task)| Some((index, task.lease()?, task.copy()?)));
        for (index, first, copy) in copies.take(LINES) {
            let (id, since_s) = (TaskId { job: job.id, index }, now.since(copy.at).as_secs_f64());
            let (on, other) = (&first.worker, &copy.worker);
            lines.push(format!(
                "{id}: slow on {on}, a second copy on {other} since {since_s:.1} s; the first to finish wins"
            ));
        }
        for slow in self.stragglers_of(now, job).into_iter().take(LINES) {
            let id = TaskId { job: job.id, index: slow.index };
            let [ran, left, fresh] = [slow.ran, slow.remaining, slow.fresh].map(|span| span.as_secs_f64());
            lines.push(format!(
                "{id}: slow on {}: {ran:.1} s so far and about {left:.1} s to go, a new run takes about {fresh:.1} s; no second \
                 copy (at most {} in this {}, on another healthy worker with room)",
                slow.worker,
                self.copy_budget(job),
                if job.request().reactive { "job" } else { "phase" },
            ));
        }
        let used = self.retries_used(job);
        if used > 0 {
            lines.push(format!("{used} of {} retries used", self.retry_budget(job)));
        }
        for (worker, health) in self.state.judged.iter().take(LINES) {
            match health {
                WorkerHealth::Healthy => {}
                WorkerHealth::Throttled { reason } => {
                    lines.push(format!("worker {worker} gets one task at a time: {reason}"))
                }
                WorkerHealth::Quarantined { reason, since } => {
                    let since_s = now.since(*since).as_millis() / 1000;
                    let next = self.watchdog.next_test(worker, now).map_or_else(String::new, |wait| {
                        format!("; its next self-test in {} s", wait.as_millis() / 1000)
                    });
                    lines.push(format!("worker {worker} is quarantined since {since_s} s: {reason}{next}"));
                }
            }
        }
        lines
    }
}
