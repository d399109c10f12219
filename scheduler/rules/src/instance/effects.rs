//! What effects do: to the job's facts at once, to the outside as requests.

use super::*;
use crate::effect::Timer;

impl Instance {
    /// Judges all effects of a section before any is done, so that a section counts whole or not at all.
    pub(super) fn admit(&self, section: Section, effects: &[Effect], depth: u32) -> Result<(), SectionFailure> {
        let broken = |code: &str, message: String| Err(SectionFailure::new(code, message));
        let bad = |message: String| broken("bad_effects", message);
        let limits = &self.limits;
        let (mut keys, mut facts, mut bytes) = (HashSet::new(), 0, 0);
        for (at, effect) in effects.iter().enumerate() {
            match effect {
                Effect::Call(call) if call.function.is_empty() => return bad("call() names no function".into()),
                Effect::Start(start) if start.service.is_empty() => return bad("start() names no service".into()),
                Effect::Retry { .. } | Effect::Skip { .. } if section != Section::Error => {
                    return bad(format!("{}() belongs into an error section", effect.name()));
                }
                Effect::Assert { kind, fields } => {
                    check_fields(kind, fields)?;
                    facts += 1;
                    bytes += fields.values().map(Value::size).sum::<u64>();
                }
                Effect::Modify { fields, .. } => {
                    check_fields("modify", fields)?;
                    bytes += fields.values().map(Value::size).sum::<u64>();
                }
                _ => {}
            }
            let Some(key) = awaited_key(effect, at) else { continue };
            if section != Section::Action {
                let name = effect.name();
                return bad(format!(
                    "{name}() belongs into an action: assert a fact here, and let another rule act on it"
                ));
            }
            if !keys.insert(key.clone()) {
                return bad(format!("two effects have the key {key:?}; keys of one action are to differ"));
            }
        }
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        if facts > 0 && depth >= limits.depth {
            let limit = limits.depth;
            return broken(
                "too_deep",
                format!("it would go on a chain of more than {limit} facts that follow from each other"),
            );
        }
        if wide(self.memory.len()) + facts > limits.facts {
            return broken("too_many_facts", format!("the job would have more than {} facts", limits.facts));
        }
        if self.memory.bytes + bytes > limits.bytes {
            let limit = limits.bytes;
            let message = format!(
                "the job's facts would take more than {limit} bytes; keep large things in artifacts, and name those"
            );
            return broken("too_many_bytes", message);
        }
        if self.pending + wide(keys.len()) > limits.pending_effects {
            return broken(
                "too_many_effects",
                format!("more than {} effects would be pending", limits.pending_effects),
            );
        }
        Ok(())
    }

    /// The effects of an action, which were admitted.
    pub(super) fn perform(
        &mut self,
        effects: Vec<Effect>,
        firing: &mut Firing,
        name: &Arc<str>,
        depth: u32,
        turn: &mut Turn<'_>,
    ) {
        for (at, effect) in effects.into_iter().enumerate() {
            match awaited_key(&effect, at) {
                Some(key) => self.await_one(effect, key, firing, name, turn),
                None => self.change(effect, depth, turn),
            }
            if matches!(self.status, Status::Ended(_)) {
                return;
            }
        }
    }

    fn await_one(&mut self, effect: Effect, key: String, firing: &mut Firing, name: &Arc<str>, turn: &mut Turn<'_>) {
        let at = firing.awaited.len();
        let mut state = AwaitedState::Pending { task: None };
        let what = match effect {
            Effect::Call(call) => {
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

    /// The effects of a reaction, which were admitted.
    pub(super) fn conclude(&mut self, effects: Vec<Effect>, depth: u32, turn: &mut Turn<'_>) {
        for effect in effects {
            self.change(effect, depth, turn);
            if matches!(self.status, Status::Ended(_)) {
                return;
            }
        }
    }

    /// One effect that is done at once.
    pub(super) fn change(&mut self, effect: Effect, depth: u32, turn: &mut Turn<'_>) {
        match effect {
            Effect::Assert { kind, fields } => drop(self.assert(kind, fields, depth + 1, turn)),
            Effect::Modify { fact: handle, fields } => self.modify(handle.0, fields, depth + 1, turn),
            Effect::Retract { fact } => {
                if let Some(old) = self.memory.remove(&self.program.net, fact.0) {
                    turn.changes.push(Change { old: Some(old), new: None });
                }
            }
            Effect::Signal { job, name, payload, dedupe } => {
                turn.requests.push(Request::Signal { job, name, payload, dedupe });
            }
            Effect::Result { value } => self.end(End::Done(value), turn),
            Effect::Fail { failure } => self.end(End::Failed(failure), turn),
            other => unreachable!("{} was not admitted here", other.name()),
        }
    }

    /// A fact that somebody else has retracted stays so.
    fn modify(&mut self, id: FactId, fields: BTreeMap<Arc<str>, Value>, depth: u32, turn: &mut Turn<'_>) {
        let Some(fact) = self.memory.get(id) else { return };
        let mut changed = fact.as_ref().clone();
        let version = self.seq + 1;
        for (name, value) in fields {
            if changed.fields.get(&name).map_or(&Value::Null, |field| &field.value) != &value {
                // A field that is taken out stays, as null: its version tells that it has changed.
                changed.fields.insert(name, crate::fact::Field { value, version });
            }
        }
        if changed.fields != fact.fields {
            self.seq = version;
            changed.depth = depth;
            self.put(changed, turn);
        }
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
                    let effect = awaited.effect(name);
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

/// The key of an effect that its reaction waits for: its own, or its place.
fn awaited_key(effect: &Effect, at: usize) -> Option<String> {
    let key = match effect {
        Effect::Call(call) => &call.key,
        Effect::Start(start) => &start.key,
        Effect::Timer(timer) => &timer.key,
        Effect::Compensate(compensate) => &compensate.key,
        _ => return None,
    };
    Some(if key.is_empty() { at.to_string() } else { key.clone() })
}

fn check_fields(kind: &str, fields: &BTreeMap<Arc<str>, Value>) -> Result<(), SectionFailure> {
    let bad = |message: String| Err(SectionFailure::new("bad_effects", message));
    if kind.is_empty() {
        return bad("a fact needs a type".into());
    }
    if fields.contains_key(crate::ruleset::ID) {
        return bad(format!("{kind}: the field \"id\" is the engine's own, choose another name"));
    }
    Ok(())
}
