//! What events do before anything fires.

use super::*;

/// Facts that the engine itself asserts.
pub(super) const INPUT: &str = "input";
pub(super) const SIGNAL: &str = "signal";
pub(super) const CANCEL: &str = "cancel";

impl Instance {
    pub(super) fn happen(&mut self, event: &Event, turn: &mut Turn<'_>) {
        match event {
            Event::Started { input } => {
                let fields = match input {
                    Value::Map(fields) => fields.as_ref().clone(),
                    other => BTreeMap::from([(Arc::from("value"), other.clone())]),
                };
                self.assert(INPUT.into(), fields, 0, turn);
            }
            Event::TaskDone { task, value } => self.task_done(*task, value, turn),
            Event::TaskFailed { task, failure } => {
                if let Some((firing, at)) = self.tasks.remove(task) {
                    self.failed(&firing, at, failure, turn);
                }
            }
            Event::ChildDone { effect, value } => {
                if let Some((firing, at)) = self.children.remove(effect) {
                    self.done(&firing, at, value.clone(), turn);
                }
            }
            Event::ChildFailed { effect, failure } => {
                if let Some((firing, at)) = self.children.remove(effect) {
                    self.failed(&firing, at, failure, turn);
                }
            }
            Event::Signal { name, payload, dedupe } => {
                if !dedupe.is_empty() && !self.signals.insert(dedupe.clone()) {
                    return;
                }
                let fields = [("name", Value::text(name.as_str())), ("payload", payload.clone())];
                let fields = fields.into_iter().map(|(name, value)| (Arc::from(name), value)).collect();
                self.assert(SIGNAL.into(), fields, 0, turn);
            }
            Event::Cancel { reason } => self.cancel(reason, turn),
            Event::Tick { unstarted } => self.tick(unstarted, turn),
            Event::Resume => self.resume(turn),
            Event::Retried { tasks, next, .. } => {
                self.retried += 1;
                self.next_task = self.next_task.max(*next);
                for task in tasks {
                    if let Some((firing, at)) = self.tasks.remove(task) {
                        self.issue(&firing, at, turn);
                    }
                }
            }
            // The host changes the program before the step; see `keep`.
            Event::Migrated { .. } => {
                if matches!(self.status, Status::Paused(_)) {
                    self.resume(turn);
                }
            }
        }
    }

    fn task_done(&mut self, task: u32, value: &Value, turn: &mut Turn<'_>) {
        // Late, or called off: nobody waits for it.
        let Some((name, at)) = self.tasks.remove(&task) else { return };
        let Some(firing) = self.open.get_mut(&name) else { return };
        let rule = firing.rule.clone();
        let awaited = &mut firing.awaited[at];
        match &mut awaited.what {
            What::Undo { calls, done } => {
                *done += 1;
                let (next, count, key) = (calls.get(*done).cloned(), *done, awaited.key.clone());
                match next {
                    Some(call) => {
                        let task = self.request(&call, &name, at, &rule, &format!("{key}.{count}"), turn);
                        let firing = self.open.get_mut(&name).expect("just seen");
                        firing.awaited[at].state = AwaitedState::Pending { task: Some(task) };
                    }
                    None => {
                        let undone = Value::Int(i64::try_from(count).unwrap_or(i64::MAX));
                        self.done(&name, at, undone, turn);
                    }
                }
            }
            What::Call(call) => {
                if let Some(undo) = &call.undo {
                    // What undoes it is told what it answered.
                    let mut undo = undo.as_ref().clone();
                    if let Value::Map(args) = &undo.args {
                        let mut args = args.as_ref().clone();
                        args.insert("result".into(), value.clone());
                        undo.args = Value::Map(Arc::new(args));
                    }
                    self.undo.push(Arc::new(undo));
                }
                self.done(&name, at, value.clone(), turn);
            }
            What::Start(_) | What::Timer => {}
        }
    }

    fn done(&mut self, name: &Arc<str>, at: usize, value: Value, turn: &mut Turn<'_>) {
        let Some(firing) = self.open.get_mut(name) else { return };
        let awaited = &mut firing.awaited[at];
        if matches!(awaited.state, AwaitedState::Done(_) | AwaitedState::Dropped) {
            return;
        }
        awaited.state = AwaitedState::Done(value);
        firing.left -= 1;
        self.pending = self.pending.saturating_sub(1);
        if firing.left == 0 {
            self.react(name, 0, turn);
        }
    }

    /// An effect has failed for good. The rule's error section says what that means; without one the job fails.
    fn failed(&mut self, name: &Arc<str>, at: usize, failure: &Failure, turn: &mut Turn<'_>) {
        let is_paused = matches!(self.status, Status::Paused(_));
        let Some(firing) = self.open.get_mut(name) else { return };
        firing.awaited[at].state = AwaitedState::Failed(failure.clone());
        if is_paused {
            return;
        }
        let Some(rule) = self.rule(&self.open[name].rule) else { return };
        if !self.program.set.rules[rule].has_error {
            return self.end(End::Failed(failure.clone()), turn);
        }
        let firing = &self.open[name];
        let awaited = &firing.awaited[at];
        let err = Value::map([
            ("key", Value::text(awaited.key.as_str())),
            ("class", Value::text(failure.class.name())),
            // `class` alone is a word of the language, and no name there.
            ("class_", Value::text(failure.class.name())),
            ("code", Value::text(failure.code.as_str())),
            ("message", Value::text(failure.message.as_str())),
            ("retryable", Value::Bool(failure.class.is_retryable())),
            ("retries", Value::Int(awaited.retries.into())),
        ]);
        let bindings = firing.bindings.clone();
        let effects = match self.ask((rule, Section::Error), &bindings, Some(&err), 0, name, turn) {
            Ok(effects) => effects,
            Err(broken) => return self.broke(rule, Section::Error, &bindings, Some(&err), broken, turn),
        };
        let mut handled = false;
        for effect in effects {
            match effect {
                Effect::Retry { after_us } => {
                    handled = true;
                    self.try_again(name, at, after_us, failure, turn);
                }
                Effect::Skip { value } => {
                    handled = true;
                    self.done(name, at, value, turn);
                }
                other => self.change(other, 0, turn),
            }
            if matches!(self.status, Status::Ended(_)) {
                return;
            }
        }
        if !handled {
            self.drop_firing(name, turn);
        }
    }

    fn try_again(
        &mut self,
        name: &Arc<str>,
        at: usize,
        after: spool_proto::time::Span,
        failure: &Failure,
        turn: &mut Turn<'_>,
    ) {
        let limit = self.limits.retries;
        let Some(firing) = self.open.get_mut(name) else { return };
        let awaited = &mut firing.awaited[at];
        awaited.retries += 1;
        if awaited.retries > limit {
            let message =
                format!("its error section had it tried again {limit} times; the last failure: {}", failure.message);
            let failure = Failure::new(failure.class, "too_many_retries", message);
            return self.end(End::Failed(failure), turn);
        }
        awaited.state = AwaitedState::Resting;
        if after.0 > 0 {
            self.alarms.insert((turn.at + after, Alarm::Due { firing: name.clone(), at }));
        } else {
            self.issue(name, at, turn);
        }
    }

    /// Another try of what rested.
    fn issue(&mut self, name: &Arc<str>, at: usize, turn: &mut Turn<'_>) {
        let Some(firing) = self.open.get(name) else { return };
        let (rule, awaited) = (firing.rule.clone(), &firing.awaited[at]);
        let key = format!("{}#{}", awaited.key, awaited.retries);
        let task = match awaited.what.clone() {
            What::Call(call) => Some(self.request(&call, name, at, &rule, &key, turn)),
            What::Undo { calls, done } => calls.get(done).map(|call| self.request(call, name, at, &rule, &key, turn)),
            What::Start(start) => {
                self.begin_child(&start, name, at, &key, turn);
                None
            }
            What::Timer => None,
        };
        let firing = self.open.get_mut(name).expect("just seen");
        firing.awaited[at].state = AwaitedState::Pending { task };
    }

    fn tick(&mut self, unstarted: &[u32], turn: &mut Turn<'_>) {
        loop {
            let Some((at, _)) = self.alarms.first() else { return };
            if *at > turn.at || matches!(self.status, Status::Ended(_)) {
                return;
            }
            let (_, alarm) = self.alarms.pop_first().expect("just seen");
            match alarm {
                Alarm::Due { firing, at } => {
                    let awaited = self.open.get(&firing).map(|open| &open.awaited[at]);
                    match awaited.map(|awaited| (&awaited.what, &awaited.state)) {
                        Some((What::Timer, AwaitedState::Pending { .. })) => {
                            let now = Value::Int(i64::try_from(turn.at.0).unwrap_or(i64::MAX));
                            self.done(&firing, at, now, turn);
                        }
                        Some((_, AwaitedState::Resting)) => self.issue(&firing, at, turn),
                        _ => {}
                    }
                }
                Alarm::Start { firing, at, task } => {
                    if unstarted.contains(&task) && self.tasks.contains_key(&task) {
                        self.time_out(&firing, at, "schedule_to_start", turn);
                    }
                }
                Alarm::Total { firing, at } => self.time_out(&firing, at, "total", turn),
                Alarm::Cleanup => {
                    if let Status::Cancelling { reason, .. } = &self.status {
                        let reason = reason.clone();
                        self.end(End::Cancelled(reason), turn);
                    }
                }
            }
        }
    }

    fn time_out(&mut self, name: &Arc<str>, at: usize, which: &str, turn: &mut Turn<'_>) {
        let Some(firing) = self.open.get(name) else { return };
        let awaited = &firing.awaited[at];
        match awaited.state {
            AwaitedState::Pending { task: Some(task) } => {
                self.tasks.remove(&task);
                turn.requests.push(Request::CancelTask { task });
            }
            AwaitedState::Resting => {}
            // It is over already; alarms are not taken back.
            _ => return,
        }
        let message = format!("{} of rule {:?} passed its time-out {which}", awaited.key, firing.rule);
        let failure = Failure::new(Class::Transient, &format!("{which}_timeout"), message);
        self.failed(name, at, &failure, turn);
    }

    /// What is pending is called off; rules that look for the fact `cancel` may clean up for a while.
    fn cancel(&mut self, reason: &str, turn: &mut Turn<'_>) {
        if matches!(self.status, Status::Cancelling { .. }) {
            return;
        }
        let open: Vec<Arc<str>> = self.open.keys().cloned().collect();
        for name in open {
            self.drop_firing(&name, turn);
        }
        self.alarms.clear();
        if !self.cleans_up() || matches!(self.status, Status::Paused(_)) {
            return self.end(End::Cancelled(reason.into()), turn);
        }
        // Only what looks for the cancel fires from here on.
        let until = turn.at + spool_proto::time::Span(self.limits.cleanup_us);
        self.status = Status::Cancelling { reason: reason.into(), until };
        self.alarms.insert((until, Alarm::Cleanup));
        self.assert(CANCEL.into(), BTreeMap::from([(Arc::from("reason"), Value::text(reason))]), 0, turn);
    }

    fn resume(&mut self, turn: &mut Turn<'_>) {
        if !matches!(self.status, Status::Paused(_)) {
            return;
        }
        self.status = Status::Running;
        self.agenda_is_stale();
        turn.changes.clear();
        let program = self.program.clone();
        if self.agenda.rebuild(&program.net, &self.memory, &mut turn.budget).is_err() {
            let message = "matching is still too large".to_owned();
            self.pause(turn.at, "match_too_large", message, None);
            return;
        }
        self.catch_up(turn);
    }

    /// What came while the job was paused, or broke it, is gone on with.
    fn catch_up(&mut self, turn: &mut Turn<'_>) {
        let open: Vec<Arc<str>> = self.open.keys().cloned().collect();
        for name in open {
            let failures: Vec<(usize, Failure)> = self.open.get(&name).map_or_else(Vec::new, |firing| {
                let failed = firing.awaited.iter().enumerate().filter_map(|(at, awaited)| match &awaited.state {
                    AwaitedState::Failed(failure) => Some((at, failure.clone())),
                    _ => None,
                });
                failed.collect()
            });
            for (at, failure) in failures {
                self.failed(&name, at, &failure, turn);
            }
            if self.open.get(&name).is_some_and(|firing| firing.left == 0) {
                self.react(&name, 0, turn);
            }
        }
    }
}
