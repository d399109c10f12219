//! The state of things at even intervals, for charts and fairness; and the end of the books.

use std::time::Instant;

use spool_proto::time::{Span, Timestamp};

use super::{Event, World};
use crate::num::count;
use crate::report::{self, Report, Series};

/// Points of a chart.
const SAMPLES: u64 = 480;

#[derive(Debug)]
pub(crate) struct Samples {
    every: Span,
    at: Vec<Timestamp>,
    capacity: Vec<u64>,
    /// By pool: what runs, what is guaranteed (both of the first kind of resource), what waits.
    pools: Vec<[Vec<u64>; 3]>,
    fairness: Vec<f64>,
}

impl Samples {
    pub fn new(end: Timestamp) -> Samples {
        let every = Span((end.0 / SAMPLES).max(1));
        Samples { every, at: Vec::new(), capacity: Vec::new(), pools: Vec::new(), fairness: Vec::new() }
    }
}

impl World<'_> {
    pub(super) fn sample(&mut self) {
        self.at(self.now + self.samples.every, Event::Sample);
        let (ledger, samples) = (&self.ledger, &mut self.samples);
        samples.at.push(self.now);
        samples.capacity.push(ledger.capacity.0[0]);
        let points = samples.at.len();
        samples.pools.resize_with(ledger.pools.all.len(), || std::array::from_fn(|_| vec![0; points - 1]));
        for (pool, series) in ledger.pools.all.iter().zip(&mut samples.pools) {
            let now = [pool.running.0[0], pool.guarantee.0[0], pool.queued_total];
            series.iter_mut().zip(now).for_each(|(series, now)| series.push(now));
        }
        samples.fairness.extend(ledger.pools.fairness(self.now, &ledger.capacity));
        if self.options.check_invariants {
            self.engine.check_invariants();
        }
    }

    pub(super) fn close(mut self, begun: Instant) -> Report {
        let wall = begun.elapsed();
        self.ledger.time_passes();
        self.compare();
        let oldest = self.ledger.oldest_waits();
        let mut pools = Vec::new();
        let mut series = Vec::new();
        for (at, pool) in self.ledger.pools.all.iter_mut().enumerate() {
            pool.owed.end(self.now);
            pool.owed_room.end(self.now);
            let points = self.samples.pools.get_mut(at).map(std::mem::take).unwrap_or_default();
            pools.push(report::PoolReport::of(pool, oldest[at]));
            let [running, guarantee, queued] = points;
            series.push(Series { pool: pool.name.clone(), leaf: pool.leaf, running, guarantee, queued });
        }
        let ledger = &self.ledger;
        let [done, failed, cancelled, queued, backoff, leased] = ledger.whereabouts();
        let columns = ledger.kinds.names().iter().enumerate();
        let utilisation = columns.map(|(at, name)| (name.clone(), report::rounded(ledger.utilisation(at)))).collect();
        let fairness = &self.samples.fairness;
        let mean = fairness.iter().sum::<f64>() / crate::num::float(count(fairness.len()).max(1));
        let chart = report::Chart {
            resource: ledger.kinds.names().first().cloned().unwrap_or_default(),
            at: self.samples.at.clone(),
            capacity: self.samples.capacity.clone(),
            series,
        };
        let mut report = Report {
            title: self.scenario.title.clone(),
            seed: self.scenario.seed,
            simulated_s: self.scenario.duration_s,
            workers: count(self.workers.len()),
            pools,
            total: report::Total {
                jobs: ledger.pools.all.iter().map(|pool| pool.jobs).sum(),
                tasks: ledger.pools.all.iter().map(|pool| pool.tasks).sum(),
                done,
                failed,
                cancelled,
                queued_end: queued + backoff,
                leased_end: leased,
                utilisation,
                fairness: (!fairness.is_empty()).then(|| report::rounded(mean)),
                preempted: ledger.pools.all.iter().map(|pool| pool.preempted).sum(),
                second_copies: ledger.second_copies,
                self_tests: self.self_tests,
                used_core_s: 0.0,
                wasted_core_s: 0.0,
                wasted_share: 0.0,
                restored_p99_ms: None,
                restored_max_ms: None,
                wait_p99_ms: None,
                leases: ledger.leased,
                task_events: ledger.events,
                violations: count(ledger.wrongs.len()),
            },
            violations: ledger.wrongs.clone(),
            wall: report::Wall::of(wall, self.thinking, ledger.leased, ledger.events),
            missed: Vec::new(),
            chart,
        };
        report.total_up(ledger);
        report.missed = crate::expect::missed(&self.scenario.expect, &report);
        report
    }

    /// The books against the engine's own state: everything accepted is somewhere, and in the same place for both.
    fn compare(&mut self) {
        let accepted: u64 = self.ledger.pools.all.iter().map(|pool| pool.tasks).sum();
        let places = self.ledger.whereabouts();
        let sum: u64 = places.iter().sum();
        self.ledger
            .expect(sum == accepted, || format!("{accepted} tasks were accepted, {sum} are somewhere: {places:?}"));
        let mut waits = 0;
        let mut leased = 0;
        for job in self.engine.jobs().filter(|job| !job.state().is_final()) {
            for task in self.engine.tasks(job) {
                use spool_proto::view::TaskState as S;
                waits += u64::from(matches!(task.state, S::Queued | S::Backoff));
                leased += u64::from(matches!(task.state, S::Prefetched | S::Running));
            }
        }
        let [_, _, _, queued, backoff, held] = places;
        self.ledger.expect(waits == queued + backoff, || {
            format!("the engine has {waits} tasks waiting, by its records there are {queued} and {backoff} in backoff")
        });
        self.ledger.expect(leased == held, || {
            format!("the engine has {leased} tasks leased, by its records there are {held}")
        });
    }
}
