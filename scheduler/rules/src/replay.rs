//! A history held against another rule set: which firings would there have been, and which not.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;
use spool_proto::time::Timestamp;

use crate::history::{Entry, Event, Outcome, SectionRun, effective};
use crate::instance::{Diverged, Instance, Kept, Program, Request, Sections, Status};
use crate::limits::Limits;

/// Where another rule set departs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Number of the event, from 1, of those that count ([`effective`]); 0: before the first.
    pub event: usize,
    pub what: Departure,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "departure", rename_all = "snake_case")]
pub enum Departure {
    /// A section ran then and does not now.
    Lost { rule: Arc<str>, section: &'static str },
    /// A section runs now and did not then.
    Gained { rule: Arc<str>, section: &'static str },
    /// It runs in both and answers otherwise.
    Otherwise { rule: Arc<str>, section: &'static str, then: String, now: String },
    /// The answer of a call, or of a child, that the new rules never make.
    Unasked { effect: String },
    /// Where the job stands at the end.
    End { then: Status, now: Status },
}

/// Plays the events of a history, made by `old`, to `new`.
///
/// # Errors
/// When the history is not one of `old`.
pub fn compare(
    history: &[Entry],
    old: &Arc<Program>,
    new: &Arc<Program>,
    sections: &mut dyn Sections,
    limits: Limits,
) -> Result<Vec<Difference>, Diverged> {
    let (then, now) = (Instance::new(old.clone(), limits), Instance::new(new.clone(), limits));
    play(history, then, now, Names::default(), sections)
}

/// As [`compare`], of a history that was trimmed: from what was kept of the job on, which the new rules take over as a migration does. What
/// they fire at once belongs to event 0.
///
/// # Errors
/// When the history is not one of `old`, or the new rules cannot take the job over.
pub fn compare_from(
    kept: Kept,
    history: &[Entry],
    old: &Arc<Program>,
    new: &Arc<Program>,
    sections: &mut dyn Sections,
    limits: Limits,
) -> Result<Vec<Difference>, Diverged> {
    let then = Instance::restore(old.clone(), limits, kept)?;
    let mut now = then.clone();
    now.migrate(new.clone())?;
    let at = history.first().map_or(Timestamp(0), |entry| entry.at);
    let step = now.step(at, Event::Migrated { rules: new.set().hash.clone() }, sections);
    let mut names = Names::default();
    names.carry_over(&then, &now);
    names.now(&step.requests);
    let at_once = departures(&[], &step.entry.sections);
    let mut differences: Vec<_> = at_once.into_iter().map(|what| Difference { event: 0, what }).collect();
    differences.extend(play(history, then, now, names, sections)?);
    Ok(differences)
}

fn play(
    history: &[Entry],
    mut then: Instance,
    mut now: Instance,
    mut names: Names,
    sections: &mut dyn Sections,
) -> Result<Vec<Difference>, Diverged> {
    let mut differences = Vec::new();
    for (number, entry) in (1..).zip(effective(history)) {
        let event = match names.translate(&entry.event) {
            Ok(event) => event,
            Err(effect) => {
                differences.push(Difference { event: number, what: Departure::Unasked { effect } });
                let requests = then.replay(entry)?;
                names.then(&requests);
                continue;
            }
        };
        names.then(&then.replay(entry)?);
        let step = now.step(entry.at, event, sections);
        names.now(&step.requests);
        let departures = departures(&entry.sections, &step.entry.sections);
        differences.extend(departures.into_iter().map(|what| Difference { event: number, what }));
    }
    if then.status() != now.status() {
        let what = Departure::End { then: then.status().clone(), now: now.status().clone() };
        differences.push(Difference { event: history.len(), what });
    }
    Ok(differences)
}

/// Effects are named by their firing, and tasks numbered as they are asked for: both differ between rule sets. What is asked for the same
/// (rule, key, and which time) is the same.
#[derive(Debug, Default)]
struct Names {
    then: Side,
    now: Side,
}

type Asked = (String, String, usize);

#[derive(Debug, Default)]
struct Side {
    counts: HashMap<(String, String), usize>,
    task_of: HashMap<Asked, u32>,
    asked_as: BTreeMap<u32, Asked>,
    child_of: HashMap<Asked, String>,
    started_as: HashMap<String, Asked>,
}

impl Side {
    fn take(&mut self, requests: &[Request]) {
        for request in requests {
            let (effect, rule) = match request {
                Request::Call { effect, rule, .. } => (effect, rule.to_string()),
                Request::Start { effect, start } => (effect, start.service.clone()),
                _ => continue,
            };
            let key = effect.split_once('/').map_or(effect.as_str(), |(_, key)| key).to_owned();
            let count = self.counts.entry((rule.clone(), key.clone())).or_default();
            *count += 1;
            let asked = (rule, key, *count);
            match request {
                Request::Call { task, .. } => {
                    self.task_of.insert(asked.clone(), *task);
                    self.asked_as.insert(*task, asked);
                }
                _ => {
                    self.child_of.insert(asked.clone(), effect.clone());
                    self.started_as.insert(effect.clone(), asked);
                }
            }
        }
    }
}

impl Names {
    /// What both waited for before the first event is called the same in both.
    fn carry_over(&mut self, then: &Instance, now: &Instance) {
        let asked = |of: &str, name: String| (of.to_owned(), name, 0);
        for task in then.waits_for() {
            self.then.asked_as.insert(task, asked("task", task.to_string()));
        }
        for task in now.waits_for() {
            self.now.task_of.insert(asked("task", task.to_string()), task);
        }
        for effect in then.children() {
            self.then.started_as.insert(effect.to_owned(), asked("child", effect.to_owned()));
        }
        for effect in now.children() {
            self.now.child_of.insert(asked("child", effect.to_owned()), effect.to_owned());
        }
    }

    fn then(&mut self, requests: &[Request]) {
        self.then.take(requests);
    }

    fn now(&mut self, requests: &[Request]) {
        self.now.take(requests);
    }

    fn task(&self, task: u32) -> Result<u32, String> {
        let asked = self.then.asked_as.get(&task).ok_or_else(|| format!("task {task}"))?;
        self.now.task_of.get(asked).copied().ok_or_else(|| format!("{}/{}", asked.0, asked.1))
    }

    fn child(&self, effect: &str) -> Result<String, String> {
        let asked = self.then.started_as.get(effect).ok_or_else(|| effect.to_owned())?;
        self.now.child_of.get(asked).cloned().ok_or_else(|| format!("{}/{}", asked.0, asked.1))
    }

    /// The event as the new rules' job would see it; `Err`: it waits for nothing of the kind.
    fn translate(&self, event: &Event) -> Result<Event, String> {
        Ok(match event.clone() {
            Event::TaskDone { task, value } => Event::TaskDone { task: self.task(task)?, value },
            Event::TaskFailed { task, failure } => Event::TaskFailed { task: self.task(task)?, failure },
            Event::ChildDone { effect, value } => Event::ChildDone { effect: self.child(&effect)?, value },
            Event::ChildFailed { effect, failure } => Event::ChildFailed { effect: self.child(&effect)?, failure },
            Event::Tick { unstarted } => {
                Event::Tick { unstarted: unstarted.into_iter().filter_map(|task| self.task(task).ok()).collect() }
            }
            Event::Retried { undo, tasks, .. } => {
                let tasks = tasks.into_iter().filter_map(|task| self.task(task).ok()).collect();
                Event::Retried { undo, tasks, next: 0 }
            }
            other => other,
        })
    }
}

fn departures(then: &[SectionRun], now: &[SectionRun]) -> Vec<Departure> {
    let mut departures = Vec::new();
    let mut met = HashSet::new();
    for run in then {
        let same = |(at, other): &(usize, &SectionRun)| {
            other.rule == run.rule && other.section == run.section && !met.contains(at)
        };
        let Some((at, other)) = now.iter().enumerate().find(same) else {
            departures.push(Departure::Lost { rule: run.rule.clone(), section: run.section.name() });
            continue;
        };
        met.insert(at);
        if run.outcome != other.outcome {
            departures.push(Departure::Otherwise {
                rule: run.rule.clone(),
                section: run.section.name(),
                then: text(&run.outcome),
                now: text(&other.outcome),
            });
        }
    }
    let gained = now.iter().enumerate().filter(|(at, _)| !met.contains(at));
    departures.extend(gained.map(|(_, run)| Departure::Gained { rule: run.rule.clone(), section: run.section.name() }));
    departures
}

fn text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Effects(effects) => serde_json::to_string(effects).unwrap_or_default(),
        Outcome::Broke(failure) => format!("broke: {failure}"),
    }
}
