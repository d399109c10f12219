//! Warm capacity: what pools ask for over the fleet, shared out to workers; and what workers say of it.

use std::collections::BTreeMap;

use spool_proto::ids::WorkerName;
use spool_proto::pool::WarmSpec;
use spool_proto::time::Timestamp;

use crate::engine::Engine;
use crate::io::{Effect, Incarnation, ToWorker, WarmKey, WarmTarget};

impl Engine {
    /// Shares targets out anew if pools or workers have changed, and tells the workers whose part did.
    pub(crate) fn share_warm_out(&mut self, out: &mut Vec<Effect>) {
        if !std::mem::take(&mut self.warm_stale) {
            return;
        }
        let none = self.state.pools_state.tree.pools.values().all(|spec| spec.warm.is_empty());
        if none && !self.warm_asked {
            return;
        }
        self.warm_asked = !none;
        let mut wanted: BTreeMap<WarmKey, WarmSpec> = BTreeMap::new();
        for spec in self.state.pools_state.tree.pools.values() {
            for (key, warm) in &spec.warm {
                let all = wanted.entry(key.as_str().into()).or_insert(WarmSpec {
                    min: 0,
                    max: Some(0),
                    idle_timeout: warm.idle_timeout,
                });
                all.min = all.min.saturating_add(warm.min);
                all.max = all.max.map(|max| max.saturating_add(warm.most()));
                all.idle_timeout = all.idle_timeout.max(warm.idle_timeout);
            }
        }
        let mut parts: BTreeMap<WorkerName, Vec<WarmTarget>> = BTreeMap::new();
        for (key, all) in &wanted {
            let backend = key.split_once('/').map_or("", |(_, backend)| backend);
            let takers: Vec<&WorkerName> = self
                .rooms
                .members()
                .filter(|name| self.state.workers.get(name).is_some_and(|worker| worker.offers(backend)))
                .collect();
            let count = u32::try_from(takers.len()).unwrap_or(u32::MAX);
            for (at, name) in (0..).zip(takers) {
                let part = |total: u32| total / count + u32::from(at < total % count);
                let spec = WarmSpec { min: part(all.min), max: Some(part(all.most())), ..*all };
                if spec.most() > 0 {
                    parts.entry(name.clone()).or_default().push(WarmTarget { key: key.clone(), spec });
                }
            }
        }
        let members: Vec<WorkerName> = self.rooms.members().cloned().collect();
        for name in members {
            let targets = parts.remove(&name).unwrap_or_default();
            let Some(worker) = self.state.workers.get_mut(&name) else { continue };
            if worker.warm_targets != targets {
                worker.warm_targets.clone_from(&targets);
                self.send(&name, ToWorker::Warm { targets }, out);
            }
        }
    }

    pub(crate) fn warm_report(
        &mut self,
        now: Timestamp,
        name: &WorkerName,
        incarnation: Incarnation,
        idle: Vec<(WarmKey, u32)>,
    ) {
        if !self.heard(now, name, incarnation) {
            return;
        }
        let worker = self.state.workers.get_mut(name).expect("just heard");
        let before = std::mem::replace(&mut worker.warm, idle.into_iter().collect());
        self.rooms.set_warm(name, &before, &worker.warm);
    }
}
