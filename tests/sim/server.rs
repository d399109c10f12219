//! The shell around the real engine: turns, commits, checkpoints, crashes and what is left after them.

use std::collections::BTreeMap;

use spool_core::io::{Effect, Input, Record, ToWorker};
use spool_core::snapshot::{EngineSnapshot, HistoryKey, HistoryPart, JobSnapshot, TaskPart};
use spool_core::{Config, Engine};
use spool_proto::ids::JobId;
use spool_proto::time::Timestamp;

use crate::audit::Audit;

pub struct Server {
    pub engine: Engine,
    pub audit: Audit,
    config: Config,
    /// What has arrived and waits for the next turn.
    pub inbox: Vec<Input>,
    /// Effects that wait for the commit.
    pending: Vec<Effect>,
    pub committing: bool,
    pub up: bool,
    /// Durable.
    journal: Vec<Record>,
    disk: Disk,
}

#[derive(Default)]
struct Disk {
    engine: EngineSnapshot,
    jobs: BTreeMap<JobId, (JobSnapshot, BTreeMap<u32, TaskPart>)>,
    /// Pieces that hold nothing any more stay, as they do in a store.
    history: BTreeMap<JobId, BTreeMap<HistoryKey, HistoryPart>>,
    /// Records of the journal that are in the snapshot.
    folded: usize,
}

type Durable = (EngineSnapshot, Vec<(JobSnapshot, Vec<TaskPart>, Vec<HistoryPart>)>);

impl Server {
    pub fn new(config: Config) -> Server {
        Server {
            engine: Engine::new(config.clone()),
            audit: Audit::default(),
            config,
            inbox: Vec::new(),
            pending: Vec::new(),
            committing: false,
            up: true,
            journal: Vec::new(),
            disk: Disk::default(),
        }
    }

    /// Folds up to `most` inputs and begins their commit.
    pub fn turn(&mut self, now: Timestamp, most: usize) {
        let most = most.min(self.inbox.len());
        for input in self.inbox.drain(..most) {
            self.engine.handle(now, input, &mut self.pending);
            self.engine.check_invariants();
        }
        self.committing = true;
    }

    /// The commit is durable: gives the effects that may now be seen.
    pub fn committed(&mut self) -> Vec<Effect> {
        self.committing = false;
        self.write();
        std::mem::take(&mut self.pending)
    }

    fn write(&mut self) {
        for effect in &self.pending {
            match effect {
                Effect::Record(record) => {
                    self.audit.read(record);
                    self.journal.push(record.clone());
                }
                Effect::Send { message: ToWorker::Lease(order), .. } => self.audit.told(order),
                _ => {}
            }
        }
    }

    /// Writes what is dirty. Between turns only.
    pub fn checkpoint(&mut self) {
        assert!(!self.committing, "a checkpoint in the middle of a turn");
        for job in self.engine.forgotten() {
            self.disk.jobs.remove(job);
            self.disk.history.remove(job);
        }
        for dirty in self.engine.dirty() {
            let header = self.engine.job_snapshot(dirty.job).expect("dirty jobs exist");
            let (job, parts) = self.disk.jobs.entry(dirty.job).or_insert_with(|| (header.clone(), BTreeMap::new()));
            if dirty.header {
                *job = header;
            }
            for key in dirty.history {
                let part = self.engine.history_part(dirty.job, key).expect("dirty parts exist");
                self.disk.history.entry(dirty.job).or_default().insert(key, part);
            }
            for part in dirty.parts {
                parts.insert(part, self.engine.task_part(dirty.job, part).expect("dirty parts exist"));
            }
        }
        self.disk.engine = self.engine.snapshot();
        self.disk.folded = self.journal.len();
        self.engine.checkpointed();
    }

    /// Power fails. A commit under way may have made it or not.
    pub fn crash(&mut self, commit_made_it: bool) {
        if self.committing && commit_made_it {
            self.write();
        }
        (self.up, self.committing) = (false, false);
        self.pending.clear();
        self.inbox.clear();
    }

    /// Starts again from the disk; the turn that resumes is then to be committed.
    pub fn start(&mut self, now: Timestamp) {
        let whole = self.rebuild(false);
        self.engine = self.rebuild(true);
        assert_eq!(durable(&whole), durable(&self.engine), "snapshot and tail differ from the whole journal");
        self.up = true;
        self.engine.resume(now, &mut self.pending);
        self.engine.check_invariants();
        self.committing = true;
    }

    fn rebuild(&self, from_snapshot: bool) -> Engine {
        let mut engine = Engine::new(self.config.clone());
        let mut folded = 0;
        if from_snapshot {
            engine.restore(self.disk.engine.clone());
            for (id, (job, parts)) in &self.disk.jobs {
                let parts = parts.values().cloned().collect();
                let history = self.disk.history.get(id).into_iter().flat_map(BTreeMap::values).cloned().collect();
                engine.restore_job(job.clone(), parts, history).expect("what was written can be read");
            }
            folded = self.disk.folded;
        }
        for record in &self.journal[folded..] {
            engine.replay(record).expect("what was decided can be replayed");
        }
        engine
    }

    /// The live engine is what the journal says. Between turns only.
    pub fn check_replay(&self) {
        assert_eq!(durable(&self.rebuild(false)), durable(&self.engine), "replay differs from the live engine");
        assert_eq!(
            durable(&self.rebuild(true)),
            durable(&self.engine),
            "snapshot and tail differ from the live engine"
        );
    }
}

fn durable(engine: &Engine) -> Durable {
    let job = |job: &spool_core::Job| {
        let parts = (0..).map_while(|part| engine.task_part(job.id(), part)).collect();
        (engine.job_snapshot(job.id()).expect("listed"), parts, engine.history(job.id()))
    };
    (engine.snapshot(), engine.jobs().map(job).collect())
}
