//! Virtual time, the network between server and workers, clients, and everything that goes wrong.

mod clients;
mod network;
mod pools;
mod reactive;

use std::collections::BTreeMap;

use spool_core::Config;
use spool_core::io::{Blob, Effect, Incarnation, Input, NewJob, Next, TaskRun, ToWorker, Token};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{Fence, JobId, TaskId};
use spool_proto::resources::Resources;
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::{JobState, TaskState};

use crate::rng::Rng;
use crate::server::Server;
use crate::worker::{Ailment, Luck, Worker};

/// Faults and new jobs stop here.
const CALM: Timestamp = Timestamp(120_000_000);
/// By then every job must be final.
const END: Timestamp = Timestamp(7_200_000_000);
const HEARTBEAT: Span = Span::from_secs(5);

enum Event {
    /// To the server, by a connection.
    Up(usize, Input),
    /// To a worker, by a connection.
    Down(usize, ToWorker),
    /// The server notices that a connection is gone.
    Closed(usize),
    /// The worker notices.
    Broken(usize),
    Connect(usize),
    Heartbeat(usize),
    CallEnds {
        worker: usize,
        incarnation: Incarnation,
        task: TaskId,
        fence: Fence,
    },
    /// From a client or a workflow, in the server's life `.0`.
    Local(u64, Input),
    Committed(u64),
    Wakeup(u64),
    ServerStarts,
    WorkerStarts(usize),
    Client,
    Fault,
    Calm,
}

struct Link {
    worker: usize,
    incarnation: Incarnation,
    server_life: u64,
    open: bool,
    last_up: Timestamp,
    last_down: Timestamp,
}

/// What differs between seeds besides chance itself.
struct Weather {
    /// Messages may be lost, doubled and overtake each other one by one; else only connections break.
    wild: bool,
    /// There is more than one pool, and people change them.
    pools: bool,
    latency_ms: u64,
    faults_every_ms: u64,
    luck: Luck,
}

/// Is told everything that happens, a line each.
pub type Trace = Box<dyn FnMut(&str)>;

pub struct World {
    pub now: Timestamp,
    rng: Rng,
    weather: Weather,
    calm: bool,
    pub server: Server,
    life: u64,
    wakeup: Option<Timestamp>,
    workers: Vec<Worker>,
    links: Vec<Link>,
    events: BTreeMap<(Timestamp, u64), Event>,
    sequence: u64,
    plans: BTreeMap<String, Plan>,
    tokens: BTreeMap<Token, String>,
    /// What clients were told.
    accepted: BTreeMap<String, JobId>,
    trace: Option<Trace>,
    /// Of everything that left the server, in order.
    pub fingerprint: u64,
}

struct Plan {
    job: NewJob,
    phases: Vec<Vec<TaskRun>>,
    fails: bool,
}

impl World {
    pub fn new(seed: u64, trace: Option<Trace>) -> World {
        let mut rng = Rng::new(seed);
        let weather = Weather {
            wild: rng.percent(30),
            pools: rng.percent(70),
            latency_ms: *rng.pick(&[1, 5, 50, 400]).expect("not empty"),
            faults_every_ms: *rng.pick(&[500, 2_000, 10_000]).expect("not empty"),
            luck: Luck {
                fail_percent: *rng.pick(&[0, 5, 30]).expect("not empty"),
                fatal_percent: *rng.pick(&[0, 10]).expect("not empty"),
                longest_ms: *rng.pick(&[2, 300, 5_000, 20_000]).expect("not empty"),
            },
        };
        let mut workers = Vec::new();
        for index in 0..rng.within(1..5) {
            let backends = if rng.percent(50) { vec!["cpu/a".into()] } else { vec!["cpu/a".into(), "cpu/b".into()] };
            workers.push(Worker {
                name: format!("w{index}").into(),
                incarnation: Incarnation(1),
                alive: true,
                link: None,
                capacity: Resources::cpu_memory(1000 * rng.within(1..5), 4096),
                backends,
                held: Vec::new(),
                draining: false,
                strict: rng.percent(50),
                last_word: Timestamp::ZERO,
                ailment: match rng.within(0..100) {
                    0..15 => Ailment::Fails,
                    15..30 => Ailment::Slow,
                    _ => Ailment::None,
                },
            });
        }
        // Whatever the others offer, the last one can run anything, so that every job can end.
        let last = workers.last_mut().expect("at least one");
        (last.capacity, last.backends) = (Resources::cpu_memory(4000, 8192), vec!["cpu/a".into(), "cpu/b".into()]);
        let mut world = World {
            now: Timestamp::ZERO,
            rng,
            weather,
            calm: false,
            server: Server::new(Config::default()),
            life: 0,
            wakeup: None,
            workers,
            links: Vec::new(),
            events: BTreeMap::new(),
            sequence: 0,
            plans: BTreeMap::new(),
            tokens: BTreeMap::new(),
            accepted: BTreeMap::new(),
            trace,
            fingerprint: 0,
        };
        for worker in 0..world.workers.len() {
            world.after_ms(1000, Event::Connect(worker));
            world.after_ms(5000, Event::Heartbeat(worker));
        }
        world.after_ms(10, Event::Client);
        world.after_ms(1000, Event::Fault);
        world.at(CALM, Event::Calm);
        world
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace(&format!("{:>12.6} {}", Span(self.now.0).as_secs_f64(), line()));
        }
    }

    fn at(&mut self, at: Timestamp, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    /// Some time within the next `most` milliseconds.
    fn after_ms(&mut self, most: u64, event: Event) {
        let wait = Span(self.rng.within(0..most * 1000 + 1));
        self.at(self.now + wait, event);
    }

    /// Runs to the end and checks what must be true there.
    pub fn run(&mut self) {
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            self.step(event);
            if self.calm && self.settled() {
                break;
            }
            assert!(at < END, "jobs {:?} never end: {}", self.server.audit.open(), self.explain());
        }
        assert!(
            self.settled(),
            "nothing happens any more, but {:?} are open: {}",
            self.server.audit.open(),
            self.explain()
        );
        self.server.check_replay();
        for (request, job) in &self.accepted {
            let kept = self.server.engine.find_request(request) == Some(*job);
            let known = self.server.engine.job(*job).is_some_and(|job| job.state().is_final());
            assert!(self.server.audit.forgotten.contains(job) || (kept && known), "{job} was accepted and is lost");
        }
        let orphans = self.server.engine.workers().map(|w| w.running.len() + w.prefetched.len()).sum::<usize>();
        assert_eq!(orphans, 0, "leases outlive their jobs");
        for pool in self.server.engine.pools(self.now) {
            let used = pool.resources.iter().find(|resource| resource.used > 0 || resource.queued > 0);
            assert!(used.is_none() && pool.open_jobs == 0, "{}: {used:?} of jobs that are over", pool.pool);
        }
    }

    fn explain(&self) -> String {
        let open = self.server.audit.open().iter().filter_map(|job| self.server.engine.explain(self.now, *job));
        format!("{:#?} {:#?}", open.collect::<Vec<_>>(), self.server.engine.workers().collect::<Vec<_>>())
    }

    /// Whatever happens there is an answer, and what has not begun does not run.
    fn check_explanations(&self) {
        let engine = &self.server.engine;
        for job in engine.jobs().filter(|job| !job.state().is_final()) {
            let told = engine.explain(self.now, job.id()).expect("it is known");
            let leased = engine.tasks(job).any(|task| matches!(task.state, TaskState::Running | TaskState::Prefetched));
            let waits = engine.tasks(job).any(|task| task.state == TaskState::Queued);
            assert!(!told.text.is_empty(), "{}: {} without a word", job.id(), told.reason);
            let idle = waits && !leased && job.state() != JobState::Cancelling;
            assert!(!(idle && told.reason == "running"), "{} waits, and is told {told:?}", job.id());
        }
        for line in engine.queue(self.now) {
            assert!(!line.text.is_empty() && line.tasks > 0, "{line:?}");
        }
    }

    fn settled(&self) -> bool {
        self.server.up
            && !self.server.committing
            && self.server.inbox.is_empty()
            && self.server.audit.all_ended()
            && self.accepted.len() == self.plans.len()
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Up(link, input) => self.up(link, input),
            Event::Down(link, message) => self.down(link, message),
            Event::Closed(link) => self.closed(link),
            Event::Broken(link) => self.broken(link),
            Event::Connect(worker) => self.connect(worker),
            Event::Heartbeat(worker) => self.heartbeat(worker),
            Event::CallEnds { worker, incarnation, task, fence } => {
                if self.workers[worker].incarnation == incarnation && self.workers[worker].alive {
                    let luck = self.luck();
                    let wants = self.workers[worker].end(self.now, task, fence, &mut self.rng, luck);
                    self.grant(worker, wants);
                }
            }
            Event::Local(life, input) => {
                if life == self.life {
                    self.arrive(input);
                }
            }
            Event::Committed(life) => {
                if life == self.life && self.server.committing {
                    for effect in self.server.committed() {
                        self.effect(effect);
                    }
                    if self.rng.percent(3) {
                        self.server.checkpoint();
                    }
                    self.begin_turn();
                }
            }
            Event::Wakeup(life) => {
                if life == self.life {
                    self.wakeup = None;
                    self.arrive(Input::Tick);
                }
            }
            Event::ServerStarts => {
                self.note(|| "server starts".into());
                self.server.start(self.now);
                self.commit();
            }
            Event::WorkerStarts(worker) => self.worker_starts(worker),
            Event::Client => self.client(),
            Event::Fault => self.fault(),
            Event::Calm => self.becalm(),
        }
    }

    fn luck(&self) -> Luck {
        if self.calm { Luck { fail_percent: 0, ..self.weather.luck } } else { self.weather.luck }
    }

    // ------------------------------------------------------------ the server

    fn arrive(&mut self, input: Input) {
        if !self.server.up {
            return;
        }
        self.server.inbox.push(input);
        if !self.server.committing {
            self.begin_turn();
        }
    }

    fn begin_turn(&mut self) {
        if self.server.inbox.is_empty() {
            return self.arm();
        }
        let most = usize::try_from(self.rng.within(1..20)).expect("small");
        if self.trace.is_some() {
            let inputs: Vec<String> =
                self.server.inbox.iter().take(most).map(|input| format!("  in {input:?}")).collect();
            inputs.into_iter().for_each(|line| self.note(|| line));
        }
        self.server.turn(self.now, most);
        if self.rng.percent(2) {
            self.check_explanations();
        }
        for worker in self.server.engine.workers() {
            // A start that overtakes the end before it looks like too much at once.
            let fits = self.weather.wild || worker.allocated.fits_in(&worker.capacity);
            assert!(fits, "{} is given {} of {}", worker.worker, worker.allocated, worker.capacity);
        }
        self.commit();
    }

    fn commit(&mut self) {
        let life = self.life;
        self.after_ms(4, Event::Committed(life));
    }

    fn arm(&mut self) {
        let Some(at) = self.server.engine.next_wakeup() else { return };
        if self.wakeup.is_none_or(|set| at < set) {
            self.wakeup = Some(at);
            let life = self.life;
            self.at(at.max(self.now), Event::Wakeup(life));
        }
    }

    fn effect(&mut self, effect: Effect) {
        let line = format!("  out {effect:?}");
        for byte in line.bytes() {
            self.fingerprint = (self.fingerprint ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.note(|| line);
        match effect {
            Effect::Record(_) | Effect::Changed { .. } => {}
            Effect::Reply { token, reply } => self.replied(token, reply),
            Effect::Advance { job } => self.workflow(job),
            Effect::Send { worker, incarnation, message } => {
                let to = self.workers.iter().position(|w| w.name == worker).expect("workers keep their names");
                let is_theirs = |link: &Link| link.worker == to && link.incarnation == incarnation && link.open;
                if let Some(link) = self.links.iter().rposition(is_theirs) {
                    self.travel(link, false, Event::Down(link, message));
                }
            }
            Effect::Ended { job } => {
                if self.rng.percent(10) {
                    let life = self.life;
                    self.after_ms(60_000, Event::Local(life, Input::Forget { job }));
                }
            }
        }
    }

    /// What the workflow answers depends on the job alone, so that asking twice does no harm.
    fn workflow(&mut self, id: JobId) {
        let Some(job) = self.server.engine.job(id) else { return };
        let plan = &self.plans[&*job.request().request_id];
        if job.request().reactive {
            return self.react(id);
        }
        let next = match plan.phases.get(job.phases().len()) {
            Some(tasks) => Next::Phase { name: format!("phase {}", job.phases().len()), tasks: tasks.clone() },
            None if plan.fails => {
                Next::Fail { failure: Failure::new(Class::Spec, "simulated", "the workflow gives up") }
            }
            None => Next::Finish { output: Blob::from(&b"{}"[..]) },
        };
        let life = self.life;
        self.after_ms(20, Event::Local(life, Input::Advance { job: id, next }));
    }

    fn crash(&mut self) {
        let made_it = self.rng.percent(50);
        self.note(|| format!("server crashes (commit made it: {made_it})"));
        self.server.crash(made_it);
        self.life += 1;
        self.wakeup = None;
        for link in 0..self.links.len() {
            self.cut(link);
        }
        self.after_ms(20_000, Event::ServerStarts);
    }

    /// For the summary: records by kind.
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.server.audit.counts
    }
}
