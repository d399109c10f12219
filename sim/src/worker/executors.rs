//! Executors of one worker: which stand idle and ready, and for how long.

use std::collections::VecDeque;

use spool_proto::pool::WarmSpec;
use spool_proto::time::{Span, Timestamp};

#[derive(Debug)]
pub(crate) struct Executors {
    /// By key, oldest first: since when they are idle.
    idle: Vec<VecDeque<Timestamp>>,
    targets: Vec<Option<WarmSpec>>,
    /// By key: at work, and on their way up.
    busy: Vec<u32>,
    coming: Vec<u32>,
    /// Differs from what the server was told.
    pub changed: bool,
}

impl Executors {
    pub fn new(keys: usize) -> Executors {
        Executors {
            idle: vec![VecDeque::new(); keys],
            targets: vec![None; keys],
            busy: vec![0; keys],
            coming: vec![0; keys],
            changed: false,
        }
    }

    pub fn clear(&mut self) {
        *self = Executors::new(self.idle.len());
    }

    pub fn idle(&self, key: usize) -> u32 {
        u32::try_from(self.idle[key].len()).unwrap_or(u32::MAX)
    }

    /// For a call. False: none stood ready, one is started for it.
    pub fn take(&mut self, key: usize) -> bool {
        self.busy[key] += 1;
        let warm = self.idle[key].pop_back().is_some();
        self.changed |= warm;
        warm
    }

    /// After a call.
    pub fn give(&mut self, key: usize, now: Timestamp) {
        self.busy[key] = self.busy[key].saturating_sub(1);
        self.idle[key].push_back(now);
        self.changed = true;
    }

    /// It died with its call.
    pub fn lose(&mut self, key: usize) {
        self.busy[key] = self.busy[key].saturating_sub(1);
    }

    pub fn warmed_up(&mut self, key: usize, now: Timestamp) {
        if self.coming[key] > 0 {
            self.coming[key] -= 1;
            self.idle[key].push_back(now);
            self.changed = true;
        }
    }

    pub fn set_targets(&mut self, targets: Vec<Option<WarmSpec>>) {
        self.targets = targets;
    }

    /// Lets go of what stood idle for too long, and says for which keys one must be started: once for each.
    pub fn tend(&mut self, now: Timestamp, unasked: Span) -> Vec<usize> {
        let mut wanted = Vec::new();
        for key in 0..self.idle.len() {
            let target = self.targets[key];
            let (min, most) = target.map_or((0, 0), |target| (target.min, target.most()));
            while let Some(since) = self.idle[key].front() {
                let all = self.idle(key) + self.busy[key];
                let stays = if all > most { unasked } else { target.map_or(unasked, |target| target.idle_timeout) };
                if all <= min || now.since(*since) < stays {
                    break;
                }
                self.idle[key].pop_front();
                self.changed = true;
            }
            while self.idle(key) + self.busy[key] + self.coming[key] < min {
                self.coming[key] += 1;
                wanted.push(key);
            }
        }
        wanted
    }
}
