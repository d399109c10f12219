//! Facts and the activations they make, without anything firing: for tests and benchmarks of matching alone.

use std::sync::Arc;

use crate::agenda::{Agenda, Budget, Change};
use crate::fact::{Fact, FactId, Field};
use crate::instance::Program;
use crate::memory::Memory;
use crate::value::Value;

#[derive(Debug)]
pub struct Matcher {
    program: Arc<Program>,
    memory: Memory,
    agenda: Agenda,
    seq: u64,
    /// Facts looked at so far.
    pub looks: u64,
}

impl Matcher {
    pub fn new(program: Arc<Program>) -> Matcher {
        let memory = Memory::new(&program.net);
        Matcher { program, memory, agenda: Agenda::default(), seq: 0, looks: 0 }
    }

    pub fn assert(&mut self, kind: &str, fields: impl IntoIterator<Item = (&'static str, Value)>) -> FactId {
        self.seq += 1;
        let version = self.seq;
        let id = FactId(version);
        let fields = fields.into_iter().map(|(name, value)| (Arc::from(name), Field { value, version })).collect();
        self.put(Fact { id, kind: kind.into(), fields, born: version, depth: 0 });
        id
    }

    pub fn modify(&mut self, id: FactId, field: &str, value: Value) {
        let Some(fact) = self.memory.get(id) else { return };
        self.seq += 1;
        let mut fact = fact.as_ref().clone();
        fact.fields.insert(field.into(), Field { value, version: self.seq });
        self.put(fact);
    }

    pub fn retract(&mut self, id: FactId) {
        let old = self.memory.remove(&self.program.net, id);
        self.follow(Change { old, new: None });
    }

    pub fn facts(&self) -> impl Iterator<Item = &Arc<Fact>> {
        self.memory.iter()
    }

    /// What would fire, in that order: rule and facts.
    pub fn agenda(&self) -> Vec<(Arc<str>, Vec<FactId>)> {
        let name = |rule: usize| self.program.set.rules[rule].name.clone();
        self.agenda.iter().map(|(key, _)| (name(key.rule), key.facts.to_vec())).collect()
    }

    /// Takes the first activation off the agenda, as if it had fired.
    pub fn fire(&mut self) -> Option<(Arc<str>, Vec<FactId>)> {
        let (key, digest) = self.agenda.first()?;
        let key = key.clone();
        self.agenda.fire(&self.program.net, &key, digest);
        Some((self.program.set.rules[key.rule].name.clone(), key.facts.to_vec()))
    }

    fn put(&mut self, fact: Fact) {
        let fact = Arc::new(fact);
        let old = self.memory.put(&self.program.net, fact.clone());
        self.follow(Change { old, new: Some(fact) });
    }

    fn follow(&mut self, change: Change) {
        let mut budget = Budget(u64::MAX);
        self.agenda.update(&self.program.net, &self.memory, &[change], &mut budget).expect("the budget has no end");
        self.looks += u64::MAX - budget.0;
    }
}
