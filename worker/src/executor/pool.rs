//! The executors of a worker: taken for calls, given back after them, replaced when they died or are spent, kept warm for what
//! the server asks.
//!
//! As many live as the worker has slots, and as many more as its targets reserve. [`Executors::keep`] sees to it, in a task of
//! its own: it starts, prepares and ends executors, one at a time and never one that a call has.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use spool_proto::failure::Failure;
use tokio::sync::{Notify, watch};

use super::GOLDEN_WITHIN;
use super::process::{CallOutput, Executor, ExecutorOptions, Job, Unanswered};
use super::sandbox::Walls;
use super::stops::Stops;
use super::warmth::{Target, Targets, WarmKey, Warmth, backend};
use super::watch::Limits;

/// Most kept beyond the slots, and most that linger, over all targets: each holds tens of MiB.
const WARM_MOST: usize = 64;
/// Between two looks whether an idle one has died.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two rounds of keeping, however much happens.
const ROUND_EVERY: Duration = Duration::from_millis(5);
/// After a start failed.
const START_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// After a preparation failed: mostly the backend does not work here, and will not soon.
const PREPARE_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Executors of one worker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Executors {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: ExecutorOptions,
    /// Kept whatever the targets.
    slots: usize,
    state: Mutex<State>,
    /// Something may be to be done.
    wake: Notify,
    /// Idle ones came or went.
    changed: watch::Sender<()>,
    /// A call found none idle, or nobody asks for the key any more: what is being prepared makes way.
    wanted: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    /// In the order in which they became idle.
    idle: Vec<Idle>,
    /// With a call, or being prepared.
    busy: usize,
    targets: Targets,
    preparing: Option<WarmKey>,
}

#[derive(Debug)]
struct Idle {
    executor: Executor,
    warmth: Warmth,
}

impl AsRef<Warmth> for Idle {
    fn as_ref(&self) -> &Warmth {
        &self.warmth
    }
}

/// An executor, out of the pool. Dropped without being given back, it is killed.
#[derive(Debug)]
pub struct Taken {
    /// `None` while it is being started.
    out: Option<Idle>,
    warm: bool,
    given: bool,
    from: Executors,
}

impl Taken {
    pub fn executor(&mut self) -> &mut Executor {
        &mut self.out.as_mut().expect("nobody gets one before it is started").executor
    }

    /// It was ready for the key before it was taken.
    pub fn is_warm(&self) -> bool {
        self.warm
    }

    /// Gives it back, after it ran for `key`.
    pub fn give(mut self, key: Option<&WarmKey>) {
        if let (Some(key), Some(idle)) = (key, &mut self.out) {
            idle.warmth.serve(key, Instant::now());
        }
        self.given = true;
        self.from.take_back(self.out.take());
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if !self.given {
            self.out = None;
            self.from.take_back(None);
        }
    }
}

impl Executors {
    /// Keeps `slots` of them. None is started yet.
    pub fn new(options: ExecutorOptions, slots: usize) -> Executors {
        let shared = Shared {
            options,
            slots,
            state: Mutex::default(),
            wake: Notify::new(),
            changed: watch::Sender::new(()),
            wanted: watch::Sender::new(()),
        };
        Executors { shared: Arc::new(shared) }
    }

    /// Starts executors until there is one for each slot.
    ///
    /// # Errors
    /// Class `host`, code `executor_start_failed`.
    pub async fn fill(&self) -> Result<(), Failure> {
        while self.lock(|state| state.idle.len() + state.busy < self.shared.slots) {
            self.add().await?;
        }
        Ok(())
    }

    /// Replaces what is to be kept warm. At most 64 of all keys together; a line in the log says so when that cuts something.
    pub fn aim(&self, targets: Vec<Target>) {
        let (targets, cut) = Targets::clamped(targets, WARM_MOST);
        if cut {
            tracing::warn!(most = WARM_MOST, ?targets, "asked to keep more executors warm than a worker does");
        }
        let useless = self.lock(|state| {
            state.targets = targets;
            state.preparing.as_ref().is_some_and(|key| !state.targets.has(key))
        });
        if useless {
            self.shared.wanted.send_replace(());
        }
        self.shared.wake.notify_one();
    }

    /// How many stand idle, by what they are warm for.
    pub fn warm(&self) -> BTreeMap<WarmKey, u32> {
        self.lock(|state| {
            let mut counts = BTreeMap::new();
            for key in state.idle.iter().filter_map(|idle| idle.warmth.key()) {
                *counts.entry(Arc::clone(key)).or_default() += 1;
            }
            counts
        })
    }

    /// Told when [`Executors::warm`] may have changed.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.shared.changed.subscribe()
    }

    /// What one of them is locked in with, as it found out itself.
    ///
    /// # Errors
    /// As [`Executor::spawn`].
    pub async fn walls(&self) -> Result<Walls, Failure> {
        let mut taken = self.take(None, None).await?;
        let walls = taken.executor().walls().clone();
        taken.give(None);
        Ok(walls)
    }

    /// How they are started.
    pub fn options(&self) -> &ExecutorOptions {
        &self.shared.options
    }

    /// Runs one call, for no key.
    ///
    /// # Errors
    /// As [`Executor::spawn`] and [`Executor::call`].
    pub async fn call(&self, job: Job<'_>, stop: watch::Receiver<Stops>) -> Result<CallOutput, Unanswered> {
        let room = job.scratch.is_some().then_some(job.limits);
        let mut taken = self.take(None, room).await?;
        let output = taken.executor().call(job, stop).await;
        taken.give(None);
        output
    }

    /// Proves a backend usable, in an executor that may stay.
    ///
    /// # Errors
    /// As [`Executor::spawn`] and [`Executor::golden`].
    pub async fn golden(&self, backend: &str, within: Duration) -> Result<(), Failure> {
        let mut taken = self.take(None, None).await?;
        let proved = taken.executor().golden(backend, within).await;
        if let (Ok(()), Some(out)) = (&proved, &mut taken.out) {
            out.warmth.encode(backend);
        }
        taken.give(None);
        proved
    }

    /// Takes one that is warm for the key, or another, or a new one. `room`: what earlier calls left in its memory must leave
    /// enough for calls with these limits.
    ///
    /// # Errors
    /// As [`Executor::spawn`].
    pub async fn take(&self, key: Option<&WarmKey>, room: Option<Limits>) -> Result<Taken, Failure> {
        while let Some(mut taken) = self.take_idle(key) {
            // One may have died idle.
            if taken.executor().is_usable() && room.is_none_or(|limits| taken.executor().has_room(limits)) {
                return Ok(taken);
            }
        }
        self.shared.wanted.send_replace(());
        self.lock(|state| state.busy += 1);
        self.start().await
    }

    /// A new one, which is counted already.
    async fn start(&self) -> Result<Taken, Failure> {
        let mut taken = Taken { out: None, warm: false, given: false, from: self.clone() };
        let executor = Executor::spawn(&self.shared.options).await?;
        taken.out = Some(Idle { executor, warmth: Warmth::new(Instant::now()) });
        Ok(taken)
    }

    fn take_idle(&self, key: Option<&WarmKey>) -> Option<Taken> {
        let idle = self.lock(|state| {
            let at = state.targets.choose(key, &state.idle)?;
            state.busy += 1;
            Some(state.idle.remove(at))
        })?;
        self.stirred();
        let warm = key.is_some_and(|key| idle.warmth.is_ready_for(key));
        Some(Taken { out: Some(idle), warm, given: false, from: self.clone() })
    }

    /// `None`: it is gone.
    fn take_back(&self, idle: Option<Idle>) {
        let usable = idle.and_then(|mut idle| idle.executor.is_usable().then_some(idle));
        let died = usable.is_none();
        let over = self.lock(|state| {
            state.busy = state.busy.saturating_sub(1);
            state.idle.extend(usable);
            self.take_surplus(state)
        });
        drop(over);
        self.stirred();
        if died {
            self.shared.wake.notify_one();
        }
    }

    /// One too many, if there is one that may go.
    fn take_surplus(&self, state: &mut State) -> Option<Idle> {
        if state.idle.len() + state.busy <= self.shared.slots + state.targets.min() {
            return None;
        }
        let at = state.targets.surplus(&state.idle, Instant::now())?;
        Some(state.idle.remove(at))
    }

    fn stirred(&self) {
        self.shared.changed.send_replace(());
        if self.lock(|state| !state.targets.is_empty()) {
            self.shared.wake.notify_one();
        }
    }

    async fn add(&self) -> Result<(), Failure> {
        let executor = Executor::spawn(&self.shared.options).await?;
        self.lock(|state| state.idle.insert(0, Idle { executor, warmth: Warmth::new(Instant::now()) }));
        self.shared.changed.send_replace(());
        Ok(())
    }

    fn lock<R>(&self, with: impl FnOnce(&mut State) -> R) -> R {
        with(&mut self.shared.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    // ---- keeping ----

    /// Keeps as many as there should be, and warm as they should be, for as long as this is polled.
    pub async fn keep(self) {
        let mut not_before = HashMap::new();
        let mut wanted = self.shared.wanted.subscribe();
        loop {
            // What is wanted from here on makes the next preparation make way.
            wanted.mark_unchanged();
            let pause = match self.next_chore(&mut not_before) {
                Chore::Start => match self.add().await {
                    Ok(()) => ROUND_EVERY,
                    Err(failure) => {
                        tracing::error!(%failure, evidence = failure.evidence, "no executor in place of the last");
                        START_AGAIN_AFTER
                    }
                },
                Chore::End(idle) => {
                    drop(idle);
                    ROUND_EVERY
                }
                Chore::Prepare(key, taken) => {
                    let prepared = self.prepare(&key, taken, &mut wanted).await;
                    self.lock(|state| state.preparing = None);
                    if let Err(failure) = prepared {
                        tracing::warn!(%key, %failure, evidence = failure.evidence, "no executor could be made warm");
                        not_before.insert(key, Instant::now() + PREPARE_AGAIN_AFTER);
                    }
                    ROUND_EVERY
                }
                Chore::Nothing(until) => {
                    let until = until.map(tokio::time::Instant::from_std);
                    tokio::select! {
                        () = self.shared.wake.notified() => {}
                        () = sleep_until(until) => {}
                    }
                    ROUND_EVERY
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn next_chore(&self, not_before: &mut HashMap<WarmKey, Instant>) -> Chore {
        let now = Instant::now();
        not_before.retain(|_, until| *until > now);
        let (chore, dead) = self.lock(|state| {
            let mut dead = Vec::new();
            for at in (0..state.idle.len()).rev() {
                if !state.idle[at].executor.is_usable() {
                    dead.push(state.idle.remove(at));
                }
            }
            (self.chore(state, not_before, now), dead)
        });
        if !dead.is_empty() || matches!(chore, Chore::End(_) | Chore::Prepare(..)) {
            self.shared.changed.send_replace(());
        }
        chore
    }

    fn chore(&self, state: &mut State, not_before: &HashMap<WarmKey, Instant>, now: Instant) -> Chore {
        if state.idle.len() + state.busy < self.shared.slots + state.targets.min() {
            return Chore::Start;
        }
        match state.targets.lacking(&state.idle, now, |key| !not_before.contains_key(key)) {
            Some((key, Some(at))) => {
                state.busy += 1;
                state.preparing = Some(Arc::clone(&key));
                let warm = state.idle[at].warmth.is_ready_for(&key);
                let taken = Taken { out: Some(state.idle.remove(at)), warm, given: false, from: self.clone() };
                return Chore::Prepare(key, Some(Box::new(taken)));
            }
            // All that are idle linger.
            Some((key, None)) if state.idle.len() + state.busy < self.shared.slots + state.targets.max() => {
                state.busy += 1;
                state.preparing = Some(Arc::clone(&key));
                return Chore::Prepare(key, None);
            }
            _ => {}
        }
        if let Some(idle) = self.take_surplus(state) {
            return Chore::End(Box::new(idle));
        }
        let look = (!state.targets.is_empty()).then(|| now + LOOK_EVERY);
        let ends = state.targets.next_end(&state.idle, now);
        Chore::Nothing(look.into_iter().chain(ends).chain(not_before.values().copied()).min())
    }

    /// Makes one ready for the key, unless it is wanted to make way meanwhile.
    async fn prepare(
        &self,
        key: &WarmKey,
        taken: Option<Box<Taken>>,
        wanted: &mut watch::Receiver<()>,
    ) -> Result<(), Failure> {
        let mut taken = match taken {
            Some(taken) => *taken,
            None => self.start().await?,
        };
        if !taken.is_warm()
            && let Some(backend) = backend(key)
        {
            tokio::select! {
                proved = taken.executor().golden(backend, GOLDEN_WITHIN) => proved?,
                // Half-way through an encode there is no stopping but this.
                _ = wanted.changed() => return Ok(()),
            }
        }
        taken.give(Some(key));
        Ok(())
    }
}

enum Chore {
    Start,
    End(Box<Idle>),
    /// `None`: a new one.
    Prepare(WarmKey, Option<Box<Taken>>),
    /// Until then, unless something happens.
    Nothing(Option<Instant>),
}

async fn sleep_until(when: Option<tokio::time::Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
