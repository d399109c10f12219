//! What effects do: to the job's facts at once, to the outside as requests.

use super::*;
use crate::effect::Timer;

impl Instance {
    /// The effects of an action.
    pub(super) fn perform(
        &mut self,
        effects: Vec<Effect>,
        firing: &mut Firing,
        name: &Arc<str>,
        depth: u32,
        turn: &mut Turn<'_>,
    ) -> Result<(), SectionFailure> {
        let mut keys = HashSet::new();
        for (at, effect) in effects.into_iter().enumerate() {
            let key = match &effect {
                Effect::Call(call) => Some(&call.key),
                Effect::Start(start) => Some(&start.key),
                Effect::Timer(timer) => Some(&timer.key),
                Effect::Compensate(compensate) => Some(&compensate.key),
                _ => None,
            };
            let Some(key) = key else {
                self.change(effect, depth, turn)?;
                if matches!(self.status, Status::Ended(_)) {
                    return Ok(());
                }
                continue;
            };
            let key = if key.is_empty() { at.to_string() } else { key.clone() };
            if !keys.insert(key.clone()) {
                let message = format!("two effects have the key {key:?}; keys of one action are to differ");
                return Err(SectionFailure::new("bad_effects", message));
            }
            self.await_one(effect, key, firing, name, turn)?;
        }
        Ok(())
    }

    fn await_one(
        &mut self,
        effect: Effect,
        key: String,
        firing: &mut Firing,
        name: &Arc<str>,
        turn: &mut Turn<'_>,
    ) -> Result<(), SectionFailure> {
        if self.pending >= self.limits.pending_effects {
            let message = format!("more than {} effects would be pending", self.limits.pending_effects);
            return Err(SectionFailure::new("too_many_effects", message));
        }
        let at = firing.awaited.len();
        let mut state = AwaitedState::Pending { task: None };
        let what = match effect {
            Effect::Call(call) => {
                if call.function.is_empty() {
                    return Err(SectionFailure::new("bad_effects", "call() names no function"));
                }
                let call = Arc::new(*call);
                let task = self.request(&call, name, at, &firing.rule, &key, turn);
                state = AwaitedState::Pending { task: Some(task) };
                let total = call.timeouts.total_us;
                if total.0 > 0 {
                    self.alarms.insert((turn.at + total, Alarm::Total { firing: name.clone(), at }));
                }
                What::Call(call)
            }
            Effect::Start(start) => {
                if start.service.is_empty() {
                    return Err(SectionFailure::new("bad_effects", "start() names no service"));
                }
                let start = Arc::new(*start);
                self.begin_child(&start, name, at, &key, turn);
                What::Start(start)
            }
            Effect::Timer(Timer { after_us, .. }) => {
                self.alarms.insert((turn.at + after_us, Alarm::Due { firing: name.clone(), at }));
                What::Timer
            }
            Effect::Compensate(Compensate { .. }) => {
                let calls: Vec<_> = std::mem::take(&mut self.undo).into_iter().rev().collect();
                match calls.first() {
                    Some(first) => {
                        let task = self.request(first, name, at, &firing.rule, &key, turn);
                        state = AwaitedState::Pending { task: Some(task) };
                    }
                    None => state = AwaitedState::Done(Value::Int(0)),
                }
                What::Undo { calls, done: 0 }
            }
            other => unreachable!("{} is not awaited", other.name()),
        };
        if matches!(state, AwaitedState::Pending { .. }) {
            firing.left += 1;
            self.pending += 1;
        }
        firing.awaited.push(Awaited { key, what, state, retries: 0 });
        Ok(())
    }

    /// Asks for a task.
    pub(super) fn request(
        &mut self,
        call: &Arc<Call>,
        firing: &Arc<str>,
        at: usize,
        rule: &Arc<str>,
        key: &str,
        turn: &mut Turn<'_>,
    ) -> u32 {
        let task = self.next_task;
        self.next_task += 1;
        self.tasks.insert(task, (firing.clone(), at));
        let start = call.timeouts.schedule_to_start_us;
        if start.0 > 0 {
            self.alarms.insert((turn.at + start, Alarm::Start { firing: firing.clone(), at, task }));
        }
        let effect = format!("{firing}/{key}");
        turn.requests.push(Request::Call { task, effect, rule: rule.clone(), call: Box::new(call.as_ref().clone()) });
        task
    }

    pub(super) fn begin_child(
        &mut self,
        start: &Arc<Start>,
        firing: &Arc<str>,
        at: usize,
        key: &str,
        turn: &mut Turn<'_>,
    ) {
        let effect = format!("{firing}/{key}");
        self.children.insert(effect.clone(), (firing.clone(), at));
        turn.requests.push(Request::Start { effect, start: Box::new(start.as_ref().clone()) });
    }

    /// The effects of a reaction: nothing that would have to be waited for.
    pub(super) fn conclude(
        &mut self,
        effects: Vec<Effect>,
        firing: &Firing,
        depth: u32,
        turn: &mut Turn<'_>,
    ) -> Result<(), SectionFailure> {
        // What a reaction asserts follows from outside, if the firing had to wait.
        let depth = if firing.awaited.is_empty() { depth } else { 0 };
        for effect in effects {
            self.change(effect, depth, turn)?;
            if matches!(self.status, Status::Ended(_)) {
                break;
            }
        }
        Ok(())
    }

    /// One effect that is done at once.
    pub(super) fn change(&mut self, effect: Effect, depth: u32, turn: &mut Turn<'_>) -> Result<(), SectionFailure> {
        match effect {
            Effect::Assert { kind, fields } => {
                self.check_fields(&kind, &fields)?;
                let depth = depth + 1;
                if depth > self.limits.depth {
                    let limit = self.limits.depth;
                    let message = format!(
                        "a fact {kind:?} would be the end of a chain of more than {limit} facts that follow from each other"
                    );
                    return Err(SectionFailure::new("too_deep", message));
                }
                let facts = u64::try_from(self.memory.len()).unwrap_or(u64::MAX);
                if facts >= self.limits.facts {
                    let message = format!("the job would have more than {} facts", self.limits.facts);
                    return Err(SectionFailure::new("too_many_facts", message));
                }
                self.assert(kind, fields, depth, turn);
                self.check_bytes()
            }
            Effect::Modify { fact: handle, fields } => {
                let Some(fact) = self.memory.get(handle.0).cloned() else {
                    // It was retracted by somebody else: nothing to change.
                    return Ok(());
                };
                self.check_fields(&fact.kind, &fields)?;
                let mut changed = fact.as_ref().clone();
                self.seq += 1;
                let version = self.seq;
                let mut differs = false;
                for (name, value) in fields {
                    if changed.fields.get(&name).map_or(&Value::Null, |field| &field.value) == &value {
                        continue;
                    }
                    differs = true;
                    // A field that is taken out keeps its version in nothing: it counts as of the fact's birth, so it stays, as null.
                    changed.fields.insert(name, crate::fact::Field { value, version });
                }
                if differs {
                    changed.depth = changed.depth.max(depth + 1);
                    if changed.depth > self.limits.depth {
                        changed.depth = depth + 1;
                    }
                    self.put(changed, turn);
                }
                self.check_bytes()
            }
            Effect::Retract { fact } => {
                if let Some(old) = self.memory.remove(&self.program.net, fact.0) {
                    turn.changes.push(Change { old: Some(old), new: None });
                }
                Ok(())
            }
            Effect::Signal { job, name, payload, dedupe } => {
                turn.requests.push(Request::Signal { job, name, payload, dedupe });
                Ok(())
            }
            Effect::Result { value } => {
                self.end(End::Done(value), turn);
                Ok(())
            }
            Effect::Fail { failure } => {
                self.end(End::Failed(failure), turn);
                Ok(())
            }
            other @ (Effect::Call(_) | Effect::Start(_) | Effect::Timer(_) | Effect::Compensate(_)) => {
                let message = format!(
                    "{}() belongs into an action: assert a fact here, and let another rule act on it",
                    other.name()
                );
                Err(SectionFailure::new("bad_effects", message))
            }
            other @ (Effect::Retry { .. } | Effect::Skip { .. }) => {
                let message = format!("{}() belongs into an error section", other.name());
                Err(SectionFailure::new("bad_effects", message))
            }
        }
    }

    fn check_fields(&self, kind: &str, fields: &BTreeMap<Arc<str>, Value>) -> Result<(), SectionFailure> {
        let bad = |message: String| Err(SectionFailure::new("bad_effects", message));
        if kind.is_empty() {
            return bad("a fact needs a type".into());
        }
        if fields.contains_key(crate::ruleset::ID) {
            return bad(format!("fact {kind:?}: the field \"id\" is the engine's own, choose another name"));
        }
        Ok(())
    }

    fn check_bytes(&self) -> Result<(), SectionFailure> {
        if self.memory.bytes <= self.limits.bytes {
            return Ok(());
        }
        let limit = self.limits.bytes;
        let message = format!(
            "the job's facts would take more than {limit} bytes; keep large things in artifacts, and name those"
        );
        Err(SectionFailure::new("too_many_bytes", message))
    }

    /// Nobody waits for a firing any more: what it has under way is called off.
    pub(super) fn drop_firing(&mut self, name: &Arc<str>, turn: &mut Turn<'_>) {
        let Some(mut firing) = self.open.remove(name) else { return };
        for awaited in &mut firing.awaited {
            self.drop_awaited(name, awaited, turn);
        }
    }

    fn drop_awaited(&mut self, name: &Arc<str>, awaited: &mut Awaited, turn: &mut Turn<'_>) {
        let was = std::mem::replace(&mut awaited.state, AwaitedState::Dropped);
        match was {
            AwaitedState::Pending { task } => {
                self.pending = self.pending.saturating_sub(1);
                if let Some(task) = task {
                    self.tasks.remove(&task);
                    turn.requests.push(Request::CancelTask { task });
                }
                if let What::Start(start) = &awaited.what {
                    let effect = format!("{name}/{}", awaited.key);
                    self.children.remove(&effect);
                    turn.requests.push(Request::Close { effect, close: start.close });
                }
            }
            AwaitedState::Resting => self.pending = self.pending.saturating_sub(1),
            done @ AwaitedState::Done(_) => awaited.state = done,
            AwaitedState::Failed(_) => self.pending = self.pending.saturating_sub(1),
            AwaitedState::Dropped => {}
        }
    }
}
