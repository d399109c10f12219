//! One job's rules at work: an event goes in, rules fire until none is left to, and what the world outside must do comes out.
//!
//! ```text
//! event → facts, results → agenda: the first activation fires → its section answers effects → facts … until the agenda is empty
//!       → an entry for the history, requests for the outside
//! ```
//!
//! [`Instance::step`] asks sections; [`Instance::replay`] does the same with what they answered before. Both run this one piece of code,
//! so a job that is brought back stands where it stood.

mod effects;
mod events;
mod keep;
mod parts;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use spool_proto::failure::{Class, Failure};
use spool_proto::time::Timestamp;

use crate::agenda::{self, Agenda, Budget, Change, Digest, Key};
use crate::effect::{Call, Compensate, Effect, Start};
use crate::fact::{Fact, FactId};
use crate::history::{Entry, Event, Outcome, Section, SectionFailure, SectionRun};
use crate::limits::Limits;
use crate::memory::Memory;
use crate::ruleset::How;
use crate::value::Value;

pub use keep::{Kept, Migration};
pub use parts::*;

#[derive(Debug, Clone)]
pub struct Instance {
    program: Arc<Program>,
    memory: Memory,
    agenda: Agenda,
    /// Numbers changes of facts.
    seq: u64,
    next_fact: u64,
    next_task: u32,
    /// By the name of their activation.
    open: BTreeMap<Arc<str>, Firing>,
    /// Which awaited effect a task is for.
    tasks: HashMap<u32, (Arc<str>, usize)>,
    children: HashMap<String, (Arc<str>, usize)>,
    alarms: BTreeSet<(Timestamp, Alarm)>,
    pending: u64,
    undo: Vec<Arc<Call>>,
    signals: HashSet<String>,
    status: Status,
    limits: Limits,
    /// Times it was told to go on after its end.
    retried: u32,
}

/// What came of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub entry: Entry,
    pub requests: Vec<Request>,
}

/// A history that this rule set and this engine cannot have made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the history does not fit: {0}")]
pub struct Diverged(pub String);

/// One event under way.
pub(crate) struct Turn<'a> {
    at: Timestamp,
    sections: &'a mut dyn Sections,
    ran: Vec<SectionRun>,
    requests: Vec<Request>,
    changes: Vec<Change>,
    fired: BTreeMap<Arc<str>, u64>,
    budget: Budget,
}

impl Instance {
    pub fn new(program: Arc<Program>, limits: Limits) -> Instance {
        Instance {
            memory: Memory::new(&program.net),
            program,
            agenda: Agenda::default(),
            seq: 0,
            next_fact: 1,
            next_task: 0,
            open: BTreeMap::new(),
            tasks: HashMap::new(),
            children: HashMap::new(),
            alarms: BTreeSet::new(),
            pending: 0,
            undo: Vec::new(),
            signals: HashSet::new(),
            status: Status::Running,
            limits,
            retried: 0,
        }
    }

    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Whether a cancel lets rules clean up first.
    pub fn cleans_up(&self) -> bool {
        let mut patterns = self.program.set.rules.iter().flat_map(|rule| &rule.patterns);
        patterns.any(|pattern| pattern.how == How::Fact && pattern.kind.as_ref() == events::CANCEL)
    }

    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    pub fn facts(&self) -> impl Iterator<Item = &Arc<Fact>> {
        self.memory.iter()
    }

    /// Firings that wait for their effects, by the name of their activation.
    pub fn open(&self) -> impl Iterator<Item = (&Arc<str>, &Firing)> {
        self.open.iter()
    }

    /// Tasks it has asked for so far.
    pub fn tasks_asked(&self) -> u32 {
        self.next_task
    }

    /// Times it was told to go on after its end.
    pub fn retried(&self) -> u32 {
        self.retried
    }

    pub fn awaits_task(&self, task: u32) -> bool {
        self.tasks.contains_key(&task)
    }

    /// Tasks it waits for.
    pub fn waits_for(&self) -> impl Iterator<Item = u32> + '_ {
        self.tasks.keys().copied()
    }

    pub fn children(&self) -> impl Iterator<Item = &str> {
        self.children.keys().map(String::as_str)
    }

    /// The children it waits for and what each was to be, for being started again if that was not seen through.
    pub fn open_starts(&self) -> impl Iterator<Item = (&str, &Arc<Start>)> {
        self.children.iter().filter_map(|(effect, (firing, at))| match &self.open.get(firing)?.awaited.get(*at)?.what {
            What::Start(start) => Some((effect.as_str(), start)),
            _ => None,
        })
    }

    /// Facts it has; bytes they take, about.
    pub fn size(&self) -> (usize, u64) {
        (self.memory.len(), self.memory.bytes)
    }

    /// Activations that wait to fire: none between events, unless the job is paused.
    pub fn waiting(&self) -> usize {
        self.agenda.len()
    }

    /// When a [`Event::Tick`] is due.
    pub fn next_alarm(&self) -> Option<Timestamp> {
        match self.status {
            Status::Ended(_) => None,
            _ => self.alarms.first().map(|(at, _)| *at),
        }
    }

    /// Calls that should have been started by now, for [`Event::Tick`] to say which were not.
    pub fn starts_due(&self, now: Timestamp) -> Vec<u32> {
        let due = self.alarms.iter().take_while(|(at, _)| *at <= now);
        let task = |(_, alarm): &(Timestamp, Alarm)| match alarm {
            Alarm::Start { task, .. } => Some(*task),
            _ => None,
        };
        due.filter_map(task).collect()
    }

    /// Takes an event in and fires what follows.
    pub fn step(&mut self, at: Timestamp, event: Event, sections: &mut dyn Sections) -> Step {
        let mut turn = Turn {
            at,
            sections,
            ran: Vec::new(),
            requests: Vec::new(),
            changes: Vec::new(),
            fired: BTreeMap::new(),
            budget: Budget(self.limits.looks_per_event),
        };
        if !matches!(self.status, Status::Ended(_)) {
            self.happen(&event, &mut turn);
            self.fire_all(&mut turn);
            self.rest(&mut turn);
        }
        Step { entry: Entry { at, event, sections: turn.ran }, requests: turn.requests }
    }

    /// Does again what an entry says; sections are not run. The requests are those of then.
    ///
    /// # Errors
    /// When the entry cannot have come of this state.
    pub fn replay(&mut self, entry: &Entry) -> Result<Vec<Request>, Diverged> {
        let mut recorded = Recorded { left: entry.sections.iter(), diverged: None };
        let step = self.step(entry.at, entry.event.clone(), &mut recorded);
        if let Some(diverged) = recorded.diverged {
            return Err(Diverged(diverged));
        }
        if let Some(more) = recorded.left.next() {
            return Err(Diverged(format!("{} of {} ran then and does not now", more.section.name(), more.rule)));
        }
        Ok(step.requests)
    }

    fn fire_all(&mut self, turn: &mut Turn<'_>) {
        loop {
            self.follow(turn);
            if !matches!(self.status, Status::Running | Status::Cancelling { .. }) {
                return;
            }
            let Some((key, digest)) = self.agenda.first() else { return };
            let key = key.clone();
            if turn.fired.values().sum::<u64>() >= self.limits.firings_per_event {
                return self.pause_loop(turn);
            }
            self.fire(&key, digest, turn);
        }
    }

    /// The agenda follows the facts.
    fn follow(&mut self, turn: &mut Turn<'_>) {
        if turn.changes.is_empty() {
            return;
        }
        let changes = std::mem::take(&mut turn.changes);
        let net = &self.program.net;
        if self.agenda.update(net, &self.memory, &changes, &mut turn.budget).is_err() {
            // What is half done would be wrong for ever: it is made anew when the job goes on.
            self.agenda_is_stale();
            let looks = self.limits.looks_per_event;
            let message = format!(
                "matching looked at more than {looks} combinations of facts for one event; tie the patterns of the rules to each other \
                 by equal fields (var)"
            );
            self.pause(turn.at, "match_too_large", message, None);
        }
    }

    fn agenda_is_stale(&mut self) {
        let mut fresh = Agenda::default();
        for (key, digests) in self.agenda.fired() {
            for digest in digests {
                fresh.remember(&self.program.net, key.clone(), *digest);
            }
        }
        self.agenda = fresh;
    }

    /// One activation: its action runs, its effects are done; if it waits for nothing its reaction follows at once.
    fn fire(&mut self, key: &Key, digest: Digest, turn: &mut Turn<'_>) {
        let program = self.program.clone();
        let rule = &program.set.rules[key.rule];
        let name: Arc<str> = firing_name(&rule.name, digest, key).into();
        let (bindings, depth) = self.bind(key);
        self.agenda.fire(&program.net, key, digest);
        *turn.fired.entry(rule.name.clone()).or_default() += 1;
        let effects = match self.ask((key.rule, Section::Action), &bindings, None, depth, &name, turn) {
            Ok(effects) => effects,
            Err(failure) => {
                // When somebody has mended it, it fires as if it had not.
                self.agenda.forget(key, digest);
                return self.broke(key.rule, Section::Action, &bindings, None, failure, turn);
            }
        };
        let mut firing = Firing { rule: rule.name.clone(), bindings, awaited: Vec::new(), left: 0, at: turn.at };
        self.perform(effects, &mut firing, &name, depth, turn);
        if matches!(self.status, Status::Ended(_)) {
            return;
        }
        let waits = firing.left > 0;
        if waits || rule.has_reaction {
            self.open.insert(name.clone(), firing);
        }
        if !waits {
            self.react(&name, depth, turn);
        }
    }

    /// What the match found, by name; and how deep the facts it makes are.
    fn bind(&self, key: &Key) -> (Vec<(Arc<str>, Value)>, u32) {
        let rule = &self.program.set.rules[key.rule];
        let net = &self.program.net.rules[key.rule];
        let mut bound = vec![None; rule.patterns.len()];
        for (ix, id) in net.facts.iter().zip(&key.facts) {
            bound[*ix] = self.memory.get(*id).cloned();
        }
        let mut bindings = Vec::new();
        let mut depth = bound.iter().flatten().map(|fact| fact.depth).max().unwrap_or(0);
        for (ix, pattern) in rule.patterns.iter().enumerate() {
            let Some(name) = &pattern.name else { continue };
            match pattern.how {
                How::Fact => bindings.extend(bound[ix].as_ref().map(|fact| (name.clone(), fact.value()))),
                How::Collect => {
                    let facts = agenda::collected(&self.program.net, &self.memory, key.rule, ix, &mut bound);
                    depth = facts.iter().map(|fact| fact.depth).fold(depth, u32::max);
                    bindings.push((name.clone(), Value::list(facts.iter().map(|fact| fact.value()))));
                }
                How::None => {}
            }
        }
        (bindings, depth)
    }

    fn ask(
        &mut self,
        (rule, section): (usize, Section),
        bindings: &[(Arc<str>, Value)],
        outcome: Option<&Value>,
        depth: u32,
        firing: &Arc<str>,
        turn: &mut Turn<'_>,
    ) -> Result<Vec<Effect>, SectionFailure> {
        let rules = &self.program.set;
        let ask = Ask { rules, rule, section, bindings, outcome, now: turn.at, firing };
        let answer = turn.sections.run(&ask);
        turn.ran.push(SectionRun {
            rule: rules.rules[rule].name.clone(),
            firing: firing.clone(),
            section,
            outcome: match &answer {
                Ok(effects) => Outcome::Effects(effects.clone()),
                Err(failure) => Outcome::Broke(failure.clone()),
            },
        });
        let effects = answer?;
        self.admit(section, &effects, depth)?;
        Ok(effects)
    }

    /// All effects of a firing are done: its reaction runs, and it is closed.
    fn react(&mut self, name: &Arc<str>, depth: u32, turn: &mut Turn<'_>) {
        if matches!(self.status, Status::Paused(_)) {
            // It stays, all done, until the job goes on.
            return;
        }
        let Some(firing) = self.open.remove(name) else { return };
        let Some(rule) = self.rule(&firing.rule) else { return };
        if !self.program.set.rules[rule].has_reaction {
            return;
        }
        let results = firing.awaited.iter().map(|awaited| match &awaited.state {
            AwaitedState::Done(value) => value.clone(),
            _ => Value::Null,
        });
        let results = Value::list(results);
        // What a reaction asserts follows from outside, if the firing had to wait.
        let depth = if firing.awaited.is_empty() { depth } else { 0 };
        match self.ask((rule, Section::Reaction), &firing.bindings, Some(&results), depth, name, turn) {
            Ok(effects) => self.conclude(effects, depth, turn),
            Err(failure) => {
                self.broke(rule, Section::Reaction, &firing.bindings, Some(&results), failure, turn);
                // When somebody has mended it, its results are still there.
                self.open.insert(name.clone(), firing);
            }
        }
    }

    fn rule(&self, name: &str) -> Option<usize> {
        self.program.set.rules.iter().position(|rule| rule.name.as_ref() == name)
    }

    /// A rule is at fault: the job waits for somebody to look, with all that is needed to see it again.
    fn broke(
        &mut self,
        rule: usize,
        section: Section,
        bindings: &[(Arc<str>, Value)],
        outcome: Option<&Value>,
        failure: SectionFailure,
        turn: &mut Turn<'_>,
    ) {
        let name = self.program.set.rules[rule].name.clone();
        let given = bindings.iter().map(|(name, value)| (name.clone(), value.clone()));
        let of = if section == Section::Error { "err" } else { "results" };
        let given = given.chain(outcome.map(|value| (Arc::from(of), value.clone())));
        let input = Value::map([
            ("rule", Value::Text(name.clone())),
            ("section", Value::text(section.name())),
            ("given", Value::map(given)),
        ]);
        let message = format!("{} of rule {name:?}: {}", section.name(), failure.message);
        self.pause(turn.at, &failure.code, message, Some(input));
    }

    fn pause_loop(&mut self, turn: &Turn<'_>) {
        let mut most: Vec<_> = turn.fired.iter().collect();
        most.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), (*name).clone()));
        let names: Vec<_> = most.iter().take(3).map(|(name, count)| format!("{name} ({count} times)")).collect();
        let message = format!(
            "more than {} firings followed from one event, most of them of {}: they set each other off",
            self.limits.firings_per_event,
            names.join(", ")
        );
        self.pause(turn.at, "too_many_firings", message, None);
    }

    fn pause(&mut self, at: Timestamp, code: &str, message: String, input: Option<Value>) {
        if !matches!(self.status, Status::Ended(_) | Status::Paused(_)) {
            self.status = Status::Paused(Pause { at, code: code.into(), message, input });
        }
    }

    /// The job ends: nothing is waited for any more.
    fn end(&mut self, end: End, turn: &mut Turn<'_>) {
        let open: Vec<Arc<str>> = self.open.keys().cloned().collect();
        for name in open {
            self.drop_firing(&name, turn);
        }
        self.alarms.clear();
        self.status = Status::Ended(end);
    }

    /// When nothing fires any more: is there anything the job still waits for?
    fn rest(&mut self, turn: &mut Turn<'_>) {
        match &self.status {
            Status::Cancelling { reason, .. } if self.open.is_empty() => {
                let reason = reason.clone();
                self.end(End::Cancelled(reason), turn);
            }
            Status::Running if self.open.is_empty() && !self.may_wait() => {
                let message = format!(
                    "service {} has nothing left to do and has given no result: no rule matches and nothing is pending; \
                     `spool rules why-not JOB RULE` says what a rule lacks",
                    self.program.set.service
                );
                self.end(End::Failed(Failure::new(Class::Spec, "nothing_left_to_do", message)), turn);
            }
            _ => {}
        }
    }

    /// Something may come by itself: a signal that a rule looks for, or the job stands for good.
    fn may_wait(&self) -> bool {
        let patterns = || self.program.set.rules.iter().flat_map(|rule| &rule.patterns);
        self.program.set.standing || patterns().any(|pattern| pattern.kind.as_ref() == events::SIGNAL)
    }

    fn put(&mut self, fact: Fact, turn: &mut Turn<'_>) {
        let fact = Arc::new(fact);
        let old = self.memory.put(&self.program.net, fact.clone());
        turn.changes.push(Change { old, new: Some(fact) });
    }

    /// A new fact.
    fn assert(&mut self, kind: Arc<str>, fields: BTreeMap<Arc<str>, Value>, depth: u32, turn: &mut Turn<'_>) -> FactId {
        let id = FactId(self.next_fact);
        self.next_fact += 1;
        self.seq += 1;
        let version = self.seq;
        let fields = fields.into_iter().filter(|(_, value)| *value != Value::Null);
        let fields = fields.map(|(name, value)| (name, crate::fact::Field { value, version })).collect();
        self.put(Fact { id, kind, fields, born: version, depth }, turn);
        id
    }
}

/// Of an activation: unique in its job.
fn firing_name(rule: &str, digest: Digest, key: &Key) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(rule.as_bytes());
    for fact in &key.facts {
        hasher.update(&fact.0.to_le_bytes());
    }
    hasher.update(&digest.to_le_bytes());
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Sections as they answered before.
struct Recorded<'a> {
    left: std::slice::Iter<'a, SectionRun>,
    diverged: Option<String>,
}

impl Sections for Recorded<'_> {
    fn run(&mut self, ask: &Ask<'_>) -> Result<Vec<Effect>, SectionFailure> {
        let rule = &ask.rules.rules[ask.rule].name;
        let now = format!("{} of {rule} ({})", ask.section.name(), ask.firing);
        let diverged = match self.left.next() {
            Some(run) if run.rule == *rule && run.section == ask.section && *run.firing == *ask.firing => {
                return match &run.outcome {
                    Outcome::Effects(effects) => Ok(effects.clone()),
                    Outcome::Broke(failure) => Err(failure.clone()),
                };
            }
            Some(run) => format!("{} of {} ({}) ran then, {now} now", run.section.name(), run.rule, run.firing),
            None => format!("{now} runs now and did not then"),
        };
        self.diverged.get_or_insert(diverged.clone());
        Err(SectionFailure::new("diverged", diverged))
    }
}
