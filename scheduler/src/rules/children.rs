//! Jobs that rules start. A child is known by its request id, `child:PARENT:CLOSE:EFFECT`: so it is started once, is found from both
//! ends after a restart, and what becomes of it when its parent ends is known without its parent.

use std::collections::VecDeque;

use spool_core::engine::Engine;
use spool_core::io::{Blob, Input, NewJob, Refusal, Reply, Token};
use spool_core::job::Job;
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::JobId;
use spool_proto::pool::Hop;
use spool_proto::spec::{JobSpec, RulesSpec, Service};
use spool_proto::time::Timestamp;
use spool_proto::view::JobState;
use spool_rules::effect::{Close, Start};
use spool_rules::instance::Instance;
use spool_rules::value::Value;

use super::registry::Registry;
use super::spec::bad_input;
use super::work::Word;
use super::{Asked, CANCEL, Rules, Wish, freeze, spec};

/// Children that an explanation names.
const SHOWN: usize = 8;

/// Levels of jobs that start jobs.
const DEPTH: usize = 16;

/// Jobs that rules start in a turn at most: one job may start a hundred thousand, and a turn is kept in memory whole. Where the server goes
/// down between, the rest is found to be missing after the restart.
const STARTS: usize = 256;

/// A job that has others to start.
pub(super) struct Starting {
    pub(super) parent: JobId,
    /// Effect, and what.
    left: VecDeque<(String, Start)>,
    /// Of the family, who is to be asked when all are there.
    asked: Vec<JobId>,
}

fn request_id(parent: JobId, effect: &str, close: Close) -> String {
    let close = match close {
        Close::Terminate => 't',
        Close::Cancel => 'c',
        Close::Abandon => 'a',
    };
    format!("child:{parent}:{close}:{effect}")
}

/// The parent, and its effect that the job is for.
pub(super) fn parent_of(request_id: &str) -> Option<(JobId, String)> {
    let (parent, rest) = request_id.strip_prefix("child:")?.split_once(':')?;
    let (_, effect) = rest.split_once(':')?;
    Some((parent.parse().ok()?, effect.to_owned()))
}

/// What its parent calls it.
pub(crate) fn key_of(request_id: &str) -> Option<String> {
    let (_, effect) = parent_of(request_id)?;
    let (_, key) = effect.split_once('/')?;
    // Behind the `#` is which try it is.
    Some(key.split('#').next().unwrap_or(key).to_owned())
}

fn close_of(request_id: &str) -> Close {
    match request_id.split(':').nth(2) {
        Some("c") => Close::Cancel,
        Some("a") => Close::Abandon,
        _ => Close::Terminate,
    }
}

/// Jobs in memory that this one started.
pub(crate) fn children_of(engine: &Engine, parent: JobId) -> Vec<JobId> {
    engine.requests_with(&format!("child:{parent}:")).collect()
}

/// Those that a job waits for and that ended without being done, when it goes on itself.
pub(super) fn retries(engine: &Engine, parent: JobId, instance: &Instance) -> Vec<Wish> {
    let ended =
        |id: &JobId| engine.job(*id).is_some_and(|job| matches!(job.state(), JobState::Failed | JobState::Cancelled));
    let ended = instance.children().filter_map(|effect| child(engine, parent, effect)).filter(ended);
    let retry = |id| {
        let asked = Asked::Signal { from: parent, to: id };
        Wish::Ask(Box::new(move |token| Input::Retry { token, job: id }), asked)
    };
    ended.map(retry).collect()
}

/// Of those that are not over the first few, for people: `j5 (video-encode, running)`.
pub(crate) fn open_children(engine: &Engine, parent: JobId) -> Vec<String> {
    let open = children_of(engine, parent).into_iter().filter_map(|id| engine.job(id));
    let open = open.filter(|job| !job.state().is_final());
    let shown = open.map(|job| format!("{} ({}, {})", job.id(), job.request().service, job.state().name()));
    shown.take(SHOWN).collect()
}

fn child(engine: &Engine, parent: JobId, effect: &str) -> Option<JobId> {
    [Close::Terminate, Close::Cancel, Close::Abandon]
        .into_iter()
        .find_map(|close| engine.find_request(&request_id(parent, effect, close)))
}

/// How a job that is over ended, as its parent is told.
pub(super) fn outcome(job: &Job) -> Result<Value, Failure> {
    match job.state() {
        JobState::Done => {
            let output = job.output().map_or(Ok(Value::Null), |output| serde_json::from_slice(output));
            output.map_err(|e| {
                Failure::new(Class::Internal, "bad_output", format!("the output of job {}: {e}", job.id()))
            })
        }
        JobState::Failed if job.failure().is_some() => Err(job.failure().cloned().expect("just seen")),
        _ => {
            let reason = job.cancel_reason().filter(|reason| !reason.is_empty()).unwrap_or("no reason given");
            Err(Failure::new(Class::Spec, "child_cancelled", format!("job {} was cancelled: {reason}", job.id())))
        }
    }
}

/// Of the children that a job waits for those that are over.
pub(super) fn over(engine: &Engine, parent: JobId, instance: &Instance) -> Vec<(String, Result<Value, Failure>)> {
    let over = instance.children().filter_map(|effect| {
        let job = engine.job(child(engine, parent, effect)?).filter(|job| job.state().is_final())?;
        Some((effect.to_owned(), outcome(job)))
    });
    over.collect()
}

/// Children that a job waits for and that there are not: they were refused, and the server went down before its rules had heard.
pub(super) fn lost(engine: &Engine, parent: JobId, instance: &Instance) -> Vec<(String, Start)> {
    let lost = instance.open_starts().filter(|(effect, _)| child(engine, parent, effect).is_none());
    lost.map(|(effect, start)| (effect.to_owned(), start.as_ref().clone())).collect()
}

/// Ends a child that nobody waits for any more.
pub(super) fn close(engine: &Engine, parent: JobId, effect: &str, close: Close) -> Option<Wish> {
    end(engine, child(engine, parent, effect)?, close)
}

/// A job is over: what becomes of those it started.
pub(super) fn close_all(engine: &Engine, parent: JobId) -> Vec<Wish> {
    let children = children_of(engine, parent).into_iter();
    let close = |child: JobId| end(engine, child, close_of(&engine.job(child)?.request().request_id));
    children.filter_map(close).collect()
}

fn end(engine: &Engine, child: JobId, close: Close) -> Option<Wish> {
    let job = engine.job(child).filter(|job| !job.state().is_final())?;
    let reason = "the job that started it does not wait for it any more".to_owned();
    let asked = Asked::Signal { from: child, to: child };
    match close {
        Close::Abandon => None,
        Close::Cancel if spec(job).is_some() => {
            let payload = serde_json::to_vec(&reason).expect("a text").into();
            Some(Wish::Ask(
                Box::new(move |token| Input::Signal {
                    token,
                    job: child,
                    name: CANCEL.into(),
                    dedupe: CANCEL.into(),
                    payload,
                }),
                asked,
            ))
        }
        Close::Terminate | Close::Cancel => {
            Some(Wish::Ask(Box::new(move |token| Input::Cancel { token, job: child, reason }), asked))
        }
    }
}

/// Who rules mean: `parent` started the job, `parent/KEY` was started by it as well, `child/KEY` by the job itself; else a job's id.
fn addressee(engine: &Engine, from: &Job, name: &str) -> Option<JobId> {
    let parent = || parent_of(&from.request().request_id).map(|(parent, _)| parent);
    let started = |by: JobId, key: &str| {
        let is_it =
            |id: &JobId| engine.job(*id).and_then(|job| key_of(&job.request().request_id)).as_deref() == Some(key);
        children_of(engine, by).into_iter().rfind(is_it)
    };
    match name.split_once('/') {
        None if name == "parent" => parent(),
        None => name.parse().ok(),
        Some(("parent", key)) => started(parent()?, key),
        Some(("child", key)) => started(from.id(), key),
        Some(_) => None,
    }
}

/// A signal that rules send.
pub(super) fn signal(engine: &Engine, from: &Job, word: Word) -> Option<Wish> {
    let Word { job, name, payload, dedupe } = word;
    let Some(to) = addressee(engine, from, &job).filter(|to| engine.job(*to).is_some()) else {
        tracing::warn!(job = %from.id(), "its rules signal {job:?}, and there is no such job");
        return None;
    };
    let from = from.id();
    let payload: Blob = serde_json::to_vec(&payload).expect("a value is plain data with string keys").into();
    Some(Wish::Ask(
        Box::new(move |token| Input::Signal { token, job: to, name, dedupe, payload }),
        Asked::Signal { from, to },
    ))
}

impl Rules {
    /// False: there is nothing to start.
    pub(super) fn start_later(&mut self, parent: JobId, starts: Vec<(String, Start)>) -> bool {
        let is_some = !starts.is_empty();
        if is_some {
            self.starting.push_back(Starting { parent, left: starts.into(), asked: vec![parent] });
        }
        is_some
    }

    /// Its rules are asked when all of its family are there: they may name each other.
    pub(super) fn is_held_back(&mut self, job: &Job) -> bool {
        if self.starting.is_empty() {
            return false;
        }
        let (id, parent) = (job.id(), parent_of(&job.request().request_id).map(|(parent, _)| parent));
        let family = self.starting.iter_mut().find(|family| family.parent == id || Some(family.parent) == parent);
        let Some(family) = family else { return false };
        family.asked.push(id);
        true
    }

    /// Once a turn: starts what there is room for. What a job that has ended meanwhile had to start is not begun any more.
    pub(crate) fn start_some(&mut self, engine: &Engine) {
        let mut room = STARTS;
        while room > 0
            && let Some(family) = self.starting.front_mut()
        {
            let parent = engine.job(family.parent).filter(|job| !job.state().is_final());
            if let Some((parent, (effect, start))) = parent.and_then(|job| Some((job, family.left.pop_front()?))) {
                room -= 1;
                self.start(engine, parent, effect, start);
            } else if let Some(family) = self.starting.pop_front() {
                self.wishes.extend(family.asked.into_iter().map(Wish::AskJob));
            }
        }
    }

    pub(super) fn start(&mut self, engine: &Engine, parent: &Job, effect: String, start: Start) {
        let id = parent.id();
        // What never ends has no parts: it waits for nobody in order to be done.
        let is_whole = start.close != Close::Abandon && !self.slots.get(&id).is_some_and(|slot| slot.is_standing);
        let new = check_depth(engine, parent).and_then(|()| new_child(&self.registry, parent, &effect, start));
        let new = new.map(|new| NewJob { part_of: is_whole.then_some(id), ..new });
        match new {
            Ok(new) => {
                let asked = Asked::Start { parent: id, effect };
                self.wishes.push(Wish::Ask(Box::new(move |token| Input::Submit { token, job: new }), asked));
            }
            Err(failure) => self.child_ended(engine, id, effect, Err(failure)),
        }
    }

    /// The engine's reply to what rules wished for, if it was one of theirs.
    pub(crate) fn replied(&mut self, engine: &Engine, token: Token, reply: &Reply) -> bool {
        let Some(asked) = self.asked.remove(&token) else { return false };
        match (asked, reply) {
            (Asked::Start { parent, effect }, Reply::Refused(refusal)) => {
                let failure = Failure::new(refusal_class(refusal), "child_refused", refusal.to_string());
                self.child_ended(engine, parent, effect, Err(failure));
            }
            // It was started before; it may be over.
            (Asked::Start { parent, effect }, Reply::Submitted { job, existing: true }) => {
                if let Some(over) = engine.job(*job).filter(|job| job.state().is_final()) {
                    self.child_ended(engine, parent, effect, outcome(over));
                }
            }
            (Asked::Signal { from, to }, Reply::Refused(refusal)) => {
                tracing::warn!(job = %from, %to, "a signal was not taken: {refusal}");
            }
            _ => {}
        }
        true
    }
}

fn refusal_class(refusal: &Refusal) -> Class {
    match refusal {
        Refusal::QueueFull { .. } | Refusal::Overloaded { .. } | Refusal::SignalsFull(_) => Class::Capacity,
        _ => Class::Spec,
    }
}

fn check_depth(engine: &Engine, parent: &Job) -> Result<(), Failure> {
    let above = |job: &Job| parent_of(&job.request().request_id).map(|(parent, _)| parent);
    let mut next = above(parent);
    for _ in 0..DEPTH {
        let Some(job) = next.and_then(|id| engine.job(id)) else { return Ok(()) };
        next = above(job);
    }
    let why = format!("more than {DEPTH} levels of jobs that start jobs");
    Err(Failure::new(Class::Spec, "too_deep", why))
}

/// What a child's parent wants, as a job.
fn new_child(registry: &Registry, parent: &Job, effect: &str, start: Start) -> Result<NewJob, Failure> {
    let (of, now) = (parent.request(), Timestamp::now());
    let input = serde_json::to_value(&start.input).expect("a value is plain data with string keys");
    let (spec, reactive) = match start.service.as_str() {
        own @ ("video-encode" | "title" | "bench") => {
            let serde_json::Value::Object(mut fields) = input else {
                return Err(bad_input(own, &format!("{input} is no dict")));
            };
            fields.insert("service".into(), own.into());
            let track = fields.remove(spec::TRACK);
            let service: Service = serde_json::from_value(serde_json::Value::Object(fields))
                .map_err(|e| bad_input(own, &e.to_string()))?;
            // A track's output is its package's folder; its title was judged.
            if track.is_none() {
                JobSpec::new("", service.clone()).check()?;
            }
            freeze(registry, service, track)?
        }
        name => freeze(registry, Service::Rules(RulesSpec { name: name.into(), version: String::new(), input }), None)?,
    };
    let is_named = start.key.parse::<usize>().is_err() && !start.key.is_empty();
    let name = match (start.name.as_str(), start.key.as_str()) {
        ("", key) if is_named => key.to_owned(),
        ("", _) => format!("{} of {}", start.service, of.name),
        (name, _) => name.to_owned(),
    };
    let pool = if start.pool.is_empty() { of.pool.clone() } else { start.pool.as_str().into() };
    Ok(NewJob {
        request_id: request_id(parent.id(), effect, start.close).into(),
        name,
        priority: start.priority.unwrap_or(of.priority).min(spool_proto::spec::PRIORITY_MAX),
        pool,
        class: match start.opportunistic {
            Some(span) => spool_proto::pool::Class::Opportunistic { start_by: now + span },
            None => of.class,
        },
        preemptible: of.preemptible,
        deadline: of.deadline,
        hop: of
            .hop
            .iter()
            .map(|hop| Hop { after: (parent.submitted() + hop.after).since(now), ..hop.clone() })
            .collect(),
        max_attempts: of.max_attempts,
        reactive,
        traceparent: of.traceparent.clone(),
        ..NewJob::new(start.service, spec)
    })
}
