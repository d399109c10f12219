//! What people do, and what goes wrong by itself.

use spool_core::io::{Blob, Input, NewJob, NewTask, Refusal, Reply, Shape, TaskRun, Token};
use spool_proto::ids::JobId;
use spool_proto::pool::PoolName;
use spool_proto::resources::Resources;
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::JobState;

use super::{Event, Plan, World};
use crate::worker::{Ailment, POISON};

impl World {
    pub(super) fn client(&mut self) {
        if self.calm {
            // Whoever was not answered asks again.
            let open: Vec<_> = self.plans.keys().filter(|name| !self.accepted.contains_key(*name)).cloned().collect();
            open.into_iter().for_each(|name| self.submit(name));
            self.wake_all();
            self.ease();
            return self.after_ms(2_000, Event::Client);
        }
        self.after_ms(8_000, Event::Client);
        let jobs: Vec<JobId> = self.server.engine.jobs().map(spool_core::Job::id).collect();
        if self.weather.pools && self.rng.percent(30) {
            return self.administrate(&jobs);
        }
        let token = self.token();
        let input = match (self.rng.within(0..12), self.rng.pick(&jobs).copied()) {
            (10 | 11, Some(job)) => self.signal(job),
            (0, Some(job)) => Input::Cancel { token, job, reason: "simulated".into() },
            (1 | 2, _) => {
                let ended = |job: &JobId| {
                    let state = self.server.engine.job(*job).map(spool_core::Job::state);
                    matches!(state, Some(JobState::Failed | JobState::Cancelled))
                };
                let ended: Vec<JobId> = jobs.into_iter().filter(ended).collect();
                let Some(job) = self.rng.pick(&ended).copied() else { return };
                Input::Retry { token, job }
            }
            (3, Some(job)) => {
                let priority = u8::try_from(self.rng.within(0..100)).expect("below 100");
                Input::SetPriority { token, job, priority }
            }
            (4, _) => {
                let (cordoned, drain) = (self.rng.percent(50), self.rng.percent(30));
                let worker = self.rng.pick(&self.workers).expect("at least one").name.clone();
                Input::Cordon { token, worker, cordoned, drain, reason: "simulated".into() }
            }
            (5, _) if !self.plans.is_empty() => {
                let names: Vec<String> = self.plans.keys().cloned().collect();
                let name = self.rng.pick(&names).expect("not empty").clone();
                return self.submit(name);
            }
            _ => {
                if self.plans.len() >= 8 {
                    return;
                }
                let name = format!("r{}", self.plans.len());
                let plan = self.plan(&name);
                self.plans.insert(name.clone(), plan);
                return self.submit(name);
            }
        };
        self.arrive(input);
    }

    pub(super) fn token(&mut self) -> Token {
        self.sequence += 1;
        Token(self.sequence)
    }

    fn submit(&mut self, name: String) {
        let token = self.token();
        let job = self.plans[&name].job.clone();
        self.tokens.insert(token, name);
        let life = self.life;
        self.after_ms(5, Event::Local(life, Input::Submit { token, job }));
    }

    pub(super) fn replied(&mut self, token: Token, reply: Reply) {
        let Some(name) = self.tokens.remove(&token) else {
            let absurd = matches!(reply, Reply::Submitted { .. });
            return assert!(!absurd, "an answer to a question not asked");
        };
        let (job, existing) = match reply {
            Reply::Submitted { job, existing } => (job, existing),
            // Comes again.
            Reply::Refused(Refusal::PoolDrains { .. } | Refusal::QueueFull { .. }) => return,
            // Its pool has gone since it was written: the next time it names none.
            Reply::Refused(Refusal::NoSuchPool(_) | Refusal::NotALeaf(_)) => {
                let job = &mut self.plans.get_mut(&name).expect("it was submitted").job;
                (job.pool, job.hop) = (PoolName::default(), Vec::new());
                return;
            }
            other => panic!("a submit was answered by {other:?}"),
        };
        if let Some(known) = self.accepted.get(&name) {
            // A job may only be made again once it is forgotten.
            let gone = self.server.audit.forgotten.contains(known);
            assert!((existing && *known == job) || gone, "{name} became {known} and then {job}");
        }
        self.accepted.insert(name, job);
    }

    fn plan(&mut self, name: &str) -> Plan {
        let rng = &mut self.rng;
        let mut phases = Vec::new();
        for _ in 0..rng.within(0..4) {
            let mut tasks = Vec::new();
            for _ in 0..rng.within(0..4) {
                let shape = Shape {
                    function: if rng.percent(3) { POISON.into() } else { "simulated".into() },
                    backend: rng.pick(&["", "cpu/a", "cpu/b"]).expect("not empty").to_string(),
                    resources: Resources::cpu_memory(*rng.pick(&[500, 1000, 1000, 3000]).expect("not empty"), 100),
                    timeout: Span::ZERO,
                    no_progress: Span::ZERO,
                };
                let weight = rng.within(0..3);
                let max_attempts = rng.percent(20).then(|| u8::try_from(rng.within(0..4)).expect("small"));
                let payload = Blob::from(&b"{}"[..]);
                let task = NewTask { shape, label: String::new(), payload, weight, max_attempts };
                let count = *rng.pick(&[1, 1, 2, 5, 20]).expect("not empty");
                tasks.push(TaskRun { count, task });
            }
            phases.push(tasks);
        }
        let job = NewJob {
            request_id: name.into(),
            name: name.into(),
            service: "simulated".into(),
            spec: Blob::from(&b"{}"[..]),
            priority: u8::try_from(rng.within(0..3) * 10).expect("small"),
            deadline: rng.percent(20).then(|| Timestamp(rng.within(0..100))),
            max_attempts: u8::try_from(rng.within(0..6)).expect("small"),
            reactive: rng.percent(40),
            ..NewJob::new("", Blob::from(&b""[..]))
        };
        let fails = rng.percent(5);
        Plan { job: self.placed(job), phases, fails }
    }

    pub(super) fn fault(&mut self) {
        if self.calm {
            return;
        }
        let wait = self.weather.faults_every_ms;
        self.after_ms(wait, Event::Fault);
        let worker = usize::try_from(self.rng.next() % 4).expect("small") % self.workers.len();
        match self.rng.within(0..10) {
            0 => self.kill(worker),
            1 if self.server.up => self.crash(),
            2 => {
                let sick = &self.workers[worker];
                if let Some(link) = sick.link.filter(|_| sick.alive) {
                    self.workers[worker].draining = true;
                    let (name, incarnation) = (self.workers[worker].name.clone(), self.workers[worker].incarnation);
                    self.travel(link, true, Event::Up(link, Input::Leaving { worker: name, incarnation }));
                }
            }
            3..=6 => {
                if let Some(link) = self.workers[worker].link {
                    self.note(|| format!("w{worker} is cut off"));
                    self.cut(link);
                }
            }
            _ => {}
        }
    }

    /// From here on nothing fails and everybody may work.
    pub(super) fn becalm(&mut self) {
        self.note(|| "calm".into());
        self.calm = true;
        // Whatever is still wrong (a lost message, a cordon, a silent drain) ends with a fresh connection and an uncordon.
        for index in 0..self.workers.len() {
            self.workers[index].ailment = Ailment::None;
            if let Some(link) = self.workers[index].link {
                self.cut(link);
            }
        }
        let life = self.life;
        if !self.server.up {
            return self.after_ms(30_000, Event::Calm);
        }
        for index in 0..self.workers.len() {
            let (token, worker) = (self.token(), self.workers[index].name.clone());
            let input = Input::Cordon { token, worker, cordoned: false, drain: false, reason: String::new() };
            self.after_ms(1, Event::Local(life, input));
        }
    }
}
