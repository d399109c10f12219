//! A job's state as plain data, for a history to be trimmed behind it; and the way from one rule set to another.

use super::*;

/// An [`Instance`] at rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Hash of its rule set.
    pub rules: Arc<str>,
    seq: u64,
    next_fact: u64,
    next_task: u32,
    facts: Vec<Fact>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fired: Vec<Fired>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    open: BTreeMap<Arc<str>, Firing>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    alarms: Vec<(Timestamp, Alarm)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    undo: Vec<Arc<Call>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    signals: Vec<String>,
    status: Status,
    #[serde(default)]
    retried: u32,
}

/// An activation that has fired, and is not to fire again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Fired {
    rule: Arc<str>,
    facts: Vec<FactId>,
    /// Hex.
    digests: Vec<String>,
}

/// What changes for a job with another rule set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Migration {
    /// Activations that would fire at once: rule and facts.
    pub gained: Vec<(Arc<str>, Vec<FactId>)>,
    /// Firings under way whose rule is gone: what they wait for would be called off.
    pub lost: Vec<(Arc<str>, Arc<str>)>,
}

impl Instance {
    pub fn keep(&self) -> Kept {
        let name = |key: &Key| self.program.set.rules[key.rule].name.clone();
        let fired = self.agenda.fired().map(|(key, digests)| Fired {
            rule: name(key),
            facts: key.facts.to_vec(),
            digests: digests.iter().map(|digest| format!("{digest:032x}")).collect(),
        });
        let mut fired: Vec<_> = fired.collect();
        fired.sort();
        let mut signals: Vec<_> = self.signals.iter().cloned().collect();
        signals.sort();
        Kept {
            rules: self.program.set.hash.clone(),
            seq: self.seq,
            next_fact: self.next_fact,
            next_task: self.next_task,
            facts: self.memory.iter().map(|fact| fact.as_ref().clone()).collect(),
            fired,
            open: self.open.clone(),
            alarms: self.alarms.iter().cloned().collect(),
            undo: self.undo.clone(),
            signals,
            status: self.status.clone(),
            retried: self.retried,
        }
    }

    /// # Errors
    /// When it cannot be matched within the limits; it could before.
    pub fn restore(program: Arc<Program>, limits: Limits, kept: Kept) -> Result<Instance, Diverged> {
        let mut instance = Instance::new(program, limits);
        instance.seq = kept.seq;
        instance.next_fact = kept.next_fact;
        instance.next_task = kept.next_task;
        for fact in kept.facts {
            instance.memory.put(&instance.program.net, Arc::new(fact));
        }
        instance.take_fired(kept.fired);
        for (name, firing) in &kept.open {
            for (at, awaited) in firing.awaited.iter().enumerate() {
                match &awaited.state {
                    AwaitedState::Pending { task } => {
                        instance.pending += 1;
                        if let Some(task) = task {
                            instance.tasks.insert(*task, (name.clone(), at));
                        }
                        if let What::Start(_) = awaited.what {
                            instance.children.insert(awaited.effect(name), (name.clone(), at));
                        }
                    }
                    AwaitedState::Resting | AwaitedState::Failed(_) => instance.pending += 1,
                    AwaitedState::Done(_) | AwaitedState::Dropped => {}
                }
            }
        }
        instance.open = kept.open;
        instance.alarms = kept.alarms.into_iter().collect();
        instance.undo = kept.undo;
        instance.signals = kept.signals.into_iter().collect();
        instance.status = kept.status;
        instance.retried = kept.retried;
        instance.rematch()?;
        Ok(instance)
    }

    fn take_fired(&mut self, fired: Vec<Fired>) {
        for Fired { rule, facts, digests } in fired {
            let Some(rule) = self.rule(&rule) else { continue };
            if self.program.net.rules[rule].facts.len() != facts.len() {
                continue;
            }
            let key = Key { rule, facts: facts.into() };
            for digest in digests.iter().filter_map(|hex| u128::from_str_radix(hex, 16).ok()) {
                self.agenda.remember(&self.program.net, key.clone(), digest);
            }
        }
    }

    fn rematch(&mut self) -> Result<(), Diverged> {
        let mut budget = Budget(u64::MAX);
        let program = self.program.clone();
        self.agenda
            .rebuild(&program.net, &self.memory, &mut budget)
            .map_err(|agenda::TooMuch| Diverged("matching does not end".into()))
    }

    /// Puts the job under another rule set. Nothing fires yet: [`Instance::step`] with [`Event::Migrated`] follows.
    ///
    /// A rule that looks for the same facts in the same way has fired where it had fired; one whose match reads others has not.
    ///
    /// # Errors
    /// When the facts cannot be matched.
    pub fn migrate(&mut self, program: Arc<Program>) -> Result<Migration, Diverged> {
        let kept = self.keep();
        let mut moved = Instance::restore(program, self.limits, kept)?;
        let gone: Vec<Arc<str>> = moved
            .open
            .iter()
            .filter(|(_, firing)| moved.rule(&firing.rule).is_none())
            .map(|(name, _)| name.clone())
            .collect();
        let lost = gone.iter().map(|name| (moved.open[name].rule.clone(), name.clone())).collect();
        let gained =
            moved.agenda.iter().map(|(key, _)| (moved.program.set.rules[key.rule].name.clone(), key.facts.to_vec()));
        let migration = Migration { gained: gained.collect(), lost };
        std::mem::swap(self, &mut moved);
        Ok(migration)
    }
}
