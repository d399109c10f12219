//! What the engine knows of each worker: its room, the leases it holds, and which of them run.
//!
//! A lease is **charged** when the worker runs it or will start it next by its own rule (in the order received, whatever fits);
//! else it **waits** there, prefetched, and costs no capacity.

use std::collections::BTreeMap;

use spool_proto::ids::{Fence, TaskId, WorkerName};
use spool_proto::resources::Resources;
use spool_proto::time::Timestamp;

use crate::io::{Advance, Incarnation, WarmKey, WarmTarget};
use crate::shapes::{ShapeId, Shapes};

#[derive(Debug, Clone, Default)]
pub(crate) struct Worker {
    /// Of the newest process that registered; `None` since a restart of the engine.
    pub(crate) incarnation: Option<Incarnation>,
    pub(crate) connected: bool,
    /// Not heard from for a lease's length.
    pub(crate) silent: bool,
    pub(crate) leaving: bool,
    pub(crate) last_heard: Timestamp,
    /// When its silence is looked at next.
    pub(crate) alarm: Option<Timestamp>,
    pub(crate) capacity: Resources,
    pub(crate) allocated: Resources,
    pub(crate) backends: Vec<String>,
    pub(crate) held: BTreeMap<TaskId, Held>,
    pub(crate) lines: BTreeMap<ShapeId, Line>,
    /// Held leases that wait, over all lines.
    pub(crate) waiting: u32,
    /// Held leases that it was told to let go.
    pub(crate) revoked: u32,
    /// Executors that stand warm and idle there, as it last said.
    pub(crate) warm: BTreeMap<WarmKey, u32>,
    /// What it was last told to keep warm.
    pub(crate) warm_targets: Vec<WarmTarget>,
    /// Tasks other workers were asked to give back because there is room here.
    pub(crate) expecting: BTreeMap<TaskId, ShapeId>,
}

/// The leases of one shape on one worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line {
    pub(crate) charged: u32,
    pub(crate) waiting: BTreeMap<Fence, TaskId>,
}

#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) fence: Fence,
    pub(crate) shape: ShapeId,
    pub(crate) charged: bool,
    /// By the worker's own report and clock.
    pub(crate) started: Option<Timestamp>,
    /// When the engine heard that it started.
    pub(crate) began: Option<Timestamp>,
    /// It was told to let go, and why.
    pub(crate) revoked: Option<&'static str>,
    /// Who has room for it, if it is being taken back for someone.
    pub(crate) taker: Option<WorkerName>,
    pub(crate) advance: Advance,
}

impl Worker {
    /// A new lease; it waits until it is charged.
    pub(crate) fn hold(&mut self, task: TaskId, fence: Fence, shape: ShapeId) {
        let advance = Advance::default();
        let held =
            Held { fence, shape, charged: false, started: None, began: None, revoked: None, taker: None, advance };
        self.held.insert(task, held);
        self.lines.entry(shape).or_default().waiting.insert(fence, task);
        self.waiting += 1;
    }

    pub(crate) fn charge(&mut self, task: TaskId, shapes: &Shapes) {
        let Some(held) = self.held.get_mut(&task).filter(|held| !held.charged) else { return };
        held.charged = true;
        let line = self.lines.get_mut(&held.shape).expect("a held lease has its line");
        line.waiting.remove(&held.fence);
        line.charged += 1;
        self.waiting -= 1;
        self.allocated.add(&shapes.get(held.shape).resources);
    }

    fn uncharge(&mut self, task: TaskId, shapes: &Shapes) {
        let Some(held) = self.held.get_mut(&task).filter(|held| held.charged) else { return };
        held.charged = false;
        let line = self.lines.get_mut(&held.shape).expect("a held lease has its line");
        line.waiting.insert(held.fence, task);
        line.charged -= 1;
        self.waiting += 1;
        self.allocated.sub(&shapes.get(held.shape).resources);
    }

    /// The lease is over.
    pub(crate) fn drop_lease(&mut self, task: TaskId, shapes: &Shapes) -> Option<Held> {
        self.uncharge(task, shapes);
        let held = self.held.remove(&task)?;
        self.revoked -= u32::from(held.revoked.is_some());
        let line = self.lines.get_mut(&held.shape).expect("a held lease has its line");
        line.waiting.remove(&held.fence);
        self.waiting -= 1;
        if line.charged == 0 && line.waiting.is_empty() {
            self.lines.remove(&held.shape);
        }
        Some(held)
    }

    /// It is told to let go.
    pub(crate) fn revoke(&mut self, task: TaskId, reason: &'static str) -> Option<Fence> {
        let held = self.held.get_mut(&task)?;
        self.revoked += u32::from(held.revoked.replace(reason).is_none());
        Some(held.fence)
    }

    /// It started before it heard that nobody needs it back any more.
    pub(crate) fn keep(&mut self, task: TaskId) {
        if let Some(held) = self.held.get_mut(&task) {
            self.revoked -= u32::from(held.revoked.take().is_some());
        }
    }

    /// Held leases that are charged.
    pub(crate) fn charged(&self) -> u32 {
        u32::try_from(self.held.len()).unwrap_or(u32::MAX) - self.waiting
    }

    pub(crate) fn free(&self) -> Resources {
        let mut free = self.capacity.clone();
        free.sub(&self.allocated);
        free
    }

    /// Mirrors what the worker does by itself when room frees: it starts what lies ready, in the order received. Leases under
    /// revocation are no exception, for the worker may start them before it hears.
    pub(crate) fn promote(&mut self, shapes: &Shapes) {
        while self.waiting > 0 {
            let free = self.free();
            let firsts = self.lines.values().filter_map(|line| line.waiting.iter().next());
            let Some((_, task)) = firsts.min() else { return };
            if !shapes.get(self.held[task].shape).resources.fits_in(&free) {
                return;
            }
            self.charge(*task, shapes);
        }
    }

    /// The worker says it runs the task. If that was not foreseen, what was foreseen instead (but is not reported started) goes
    /// back in line, the latest first, until there is room.
    pub(crate) fn start(&mut self, task: TaskId, at: Timestamp, shapes: &Shapes) {
        let Some(held) = self.held.get_mut(&task) else { return };
        held.started.get_or_insert(at);
        if held.charged {
            return;
        }
        let need = shapes.get(held.shape).resources.clone();
        let mut foreseen: Vec<(Fence, TaskId)> = Vec::new();
        if !need.fits_in(&self.free()) {
            let unstarted = self.held.iter().filter(|(_, held)| held.charged && held.started.is_none());
            foreseen.extend(unstarted.map(|(task, held)| (held.fence, *task)));
            foreseen.sort_unstable();
        }
        while let Some((_, other)) = foreseen.pop() {
            if need.fits_in(&self.free()) {
                break;
            }
            self.uncharge(other, shapes);
        }
        self.charge(task, shapes);
    }

    pub(crate) fn offers(&self, backend: &str) -> bool {
        backend.is_empty() || self.backends.iter().any(|b| b == backend)
    }

    pub(crate) fn check_invariants(&self, name: &WorkerName, shapes: &Shapes) {
        let mut allocated = Resources::ZERO;
        let mut waiting = 0;
        for (task, held) in &self.held {
            let line = self.lines.get(&held.shape).unwrap_or_else(|| panic!("worker {name}: no line for {task}"));
            assert_eq!(line.waiting.get(&held.fence) == Some(task), !held.charged, "worker {name}: {task} in its line");
            if held.charged {
                allocated.add(&shapes.get(held.shape).resources);
            } else {
                waiting += 1;
                assert!(held.started.is_none(), "worker {name}: {task} runs uncharged");
            }
        }
        assert!(allocated.iter().eq(self.allocated.iter()), "worker {name}: allocated {}", self.allocated);
        assert_eq!(waiting, self.waiting, "worker {name}: waiting");
        let revoked = self.held.values().filter(|held| held.revoked.is_some()).count();
        assert_eq!(u32::try_from(revoked), Ok(self.revoked), "worker {name}: revoked");
        for line in self.lines.values() {
            assert!(line.charged > 0 || !line.waiting.is_empty(), "worker {name}: an empty line is kept");
        }
        let lined: usize = self.lines.values().map(|l| l.waiting.len()).sum();
        assert_eq!(u32::try_from(lined), Ok(self.waiting), "worker {name}: lines");
    }
}
